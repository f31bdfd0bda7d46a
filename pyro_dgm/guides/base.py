"""A guide runs the model's own program down to its last latent site and answers each latent
statement on the way.

Plates, subsamples, scales, masks, sizes and supports are therefore those of the program, in this
very run; nothing of it is built again.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from dgm_core.arguments import check_callable, check_name
from dgm_core.guides import FORMS, LatentSite, Outline, form_of
from pyro_dgm.guides.program import Call, outline_of, run_program
from pyro_dgm.nn import register

__all__ = ["Guide"]


class Part(nn.Module):
    """What answers some of the latent sites of a guide.

    Attributes:
        answers: the names of these sites.
    """

    answers: tuple[str, ...]

    def begin(self, call: Call) -> None:
        """What is drawn and computed before the program runs."""

    def answer(self, call: Call, site: LatentSite, fn: Any) -> Any:
        """The distribution of a site that the model draws from fn; None: fn itself."""
        return None


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
        extended: the model that it is a guide of.

    Raises:
        ValueError: for a bad name, and where parts answer the same site.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> guide = Guide(vae.model)
        >>> guide(torch.ones(3, 4))["z"].shape
        torch.Size([3, 2])
    """

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
        return self.model

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
        outline = self._outline(args, kwargs)
        call = Call(self.model, outline, args, kwargs)
        parts: Any = register(self.name, self.parts)
        owner = {name: part for part in parts for name in part.answers}
        for part in parts:
            part.begin(call)

        def answer(site: LatentSite, fn: Any) -> Any:
            part = owner.get(site.name)
            return None if part is None else part.answer(call, site, fn)

        run_program(self.model, call, answer)
        return {name: call.values[name] for name in outline.sites if name in call.values}

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
