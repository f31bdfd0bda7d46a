"""A guide runs the model's own program down to its last latent site and answers each latent
statement on the way.

Plates, subsamples, scales, masks, sizes and supports are therefore those of the program, in this
very run; nothing of it is built again.  What is drawn before the program, as a joint vector, counts
once in log q whatever scale is around its sites, as with the library's automatic guides.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from dgm_core.arguments import check_callable, check_name
from dgm_core.guides import FORMS, LatentSite, Outline, form_of
from dgm_core.training.recipes import Recipe
from pyro_dgm.guides.extended import Extended
from pyro_dgm.guides.program import Call, outline_of, run_program
from pyro_dgm.nn import register

__all__ = ["Guide"]


class Part(nn.Module):
    """What answers some of the latent sites of a guide.

    A part that draws more than the model has, by `call.sample(name, q, reverse=True)`, sets
    `reverses` and states in `reverse` how the extended model scores it: r under the same name, by
    `call.sample(name, r, reverse=True)` outside all plates (in `begin`, and with no site after the
    model), or by `call.sample_beside(name, r, site, reverse=True)` in the plates of a site.

    Attributes:
        answers: the names of these sites.
        reverses: whether it states something in `reverse`.
    """

    answers: tuple[str, ...]
    reverses: bool = False

    def begin(self, call: Call) -> None:
        """What is drawn and computed before the program runs."""

    def answer(self, call: Call, site: LatentSite, fn: Any) -> Any:
        """The distribution of a site that the model draws from fn; None: fn itself."""
        return None

    def reverse(self, call: Call, site: LatentSite | None) -> None:
        """In the extended model, after each latent site and, with None, after the model: states
        what is scored there.  `call.values` and `call.vector` hold the sites so far."""


class Guide(nn.Module):
    """A guide that runs the user's program and answers its latent statements.

    What it does not answer keeps the model's own conditional.  Observed and deterministic
    statements are hidden, and the run ends after the last latent one, so that what follows, such
    as a decoder, does not run twice.  `JointGuide` and `AmortizedGuide` are guides with parts; here
    parts are put together, `Guide(model, [JointGuide.part(...), AmortizedGuide.part(...)])`.

    Args:
        model: any callable of sample statements.
        parts: what answers disjoint sites, as `JointGuide.part` and `AmortizedGuide.part` make it;
            an amortized part sees the joint vectors before it.
        name: of its parameters and auxiliary sites; different for guides of one process.

    Attributes:
        sites: the latent sites of the model, by name, once the guide was prepared.
        recipe: how `fit` trains it where nothing is said; None: as networks.
        extended: the model that it is a guide of, with the density of what the guide draws beyond
            it: for the library's own `SVI(guide.extended, guide, ...)`; `fit`, the losses and
            evaluation find it themselves.

    Raises:
        ValueError: for a bad name, and where parts answer the same site.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> guide = Guide(vae.model)
        >>> guide(torch.ones(3, 4))["z"].shape
        torch.Size([3, 2])
    """

    recipe: Recipe | None = None

    def __init__(
        self,
        model: Callable,
        parts: Sequence[Callable[..., Part | None]] = (),
        *,
        name: str = "guide",
    ) -> None:
        super().__init__()
        self._model = (check_callable("model", model),)  # kept out of the submodules
        self.name = check_name("name", name)
        self._factories = tuple(parts)
        self._outlines: dict[Hashable, Outline] = {}
        self.parts = nn.ModuleList()

    @property
    def model(self) -> Callable:
        """The model."""
        return self._model[0]

    @property
    def extended(self) -> Callable:
        """The model that this is a guide of, with what the guide draws beyond it."""
        return self.extension(self.model)

    def extension(self, model: Callable) -> Callable:
        """A model with the reverse statements of this guide; itself where there are none."""
        if self._outlines and not any(part.reverses for part in self.parts):
            return model
        if isinstance(model, Extended) and model.guide is self:
            return model
        return Extended(self, model)

    @property
    def sites(self) -> Mapping[str, LatentSite]:
        """The latent sites of the model."""
        if not self._outlines:
            raise ValueError(
                "The guide has not seen the model's sites yet: call guide.prepare(*args) with the "
                "model's arguments, or the guide itself."
            )
        return next(iter(self._outlines.values())).sites

    def prepare(self, *args: Any, **kwargs: Any) -> "Guide":
        """Builds the guide's parameters for a model that is called with these arguments; without
        it the first call does.

        Returns:
            the guide.
        """
        self._outline(args, kwargs)
        return self

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Draws the latent sites of the model, by name."""
        call = self.called(args, kwargs)
        run_program(self.model, call, call.answers())
        return {name: call.values[name] for name in call.outline.sites if name in call.values}

    def called(self, args: tuple, kwargs: Mapping[str, Any]) -> Call:
        """A call with these arguments, before anything is drawn."""
        call = Call(self.model, self._outline(args, kwargs), args, kwargs)
        parts: Any = register(self.name, self.parts)
        call.parts = tuple(parts)
        return call

    def _outline(self, args: tuple, kwargs: Mapping[str, Any]) -> Outline:
        form = form_of((args, kwargs))
        if form not in self._outlines:
            outline = outline_of(self.model, args, kwargs)
            if not self._outlines:
                self._build(outline, args, kwargs)
            self._outlines[form] = outline
            if len(self._outlines) > FORMS:  # the first one says what the sites are
                del self._outlines[list(self._outlines)[1]]
        return self._outlines[form]

    def _build(self, outline: Outline, args: tuple, kwargs: Mapping[str, Any]) -> None:
        taken: dict[str, Part] = {}
        for factory in self._factories:
            part = factory(self, outline, args, kwargs)
            if part is None:
                continue
            if twice := [name for name in part.answers if name in taken]:
                raise ValueError(f"Two parts of the guide answer the sites {twice}.")
            taken |= dict.fromkeys(part.answers, part)
            self.parts.append(part)
