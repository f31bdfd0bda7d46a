"""Mixtures of joint guides, whose components are told apart exactly by what they drew:

k ~ Categorical(w);  x ~ q_k;  r(k | x) = w_k q_k(x) / sum_j w_j q_j(x),

so that the bound is that of the mixture, log p(z) - log sum_k w_k q_k(z).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import log
from typing import Any, ClassVar

import torch
from pyro.distributions import Categorical, TorchDistribution
from torch import Tensor, nn

from dgm_core.arguments import check_number
from dgm_core.guides import LatentSite, Outline, check_families
from dgm_core.training.recipes import Recipe
from dgm_core.vectors import chosen_sites, jointly
from pyro_dgm.guides.base import Guide
from pyro_dgm.guides.joint import JointVector, built_conditional
from pyro_dgm.guides.program import Call
from pyro_dgm.guides.starts import far_apart, start_of

__all__ = ["MixtureGuide"]


class Chosen(TorchDistribution):
    """x = places_k + exp(log_scales_k) e, e ~ fns_k, for a component k of each draw: all are drawn
    and one is taken, so that the gradient passes through it.

    Args:
        fns: distributions of vectors (D,).
        places, log_scales: (K, D).
        k: (*batch,) integers.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, fns: Sequence[Any], places: Tensor, log_scales: Tensor, k: Tensor) -> None:
        super().__init__(k.shape, places.shape[-1:], validate_args=False)
        self.fns, self.places, self.log_scales, self.k = fns, places, log_scales, k
        self.has_rsample = all(fn.has_rsample for fn in fns)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Chosen":
        """The same with a larger batch shape."""
        return Chosen(
            self.fns, self.places, self.log_scales, self.k.expand(torch.Size(batch_shape))
        )

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """(*sample_shape, *batch, D)."""
        shape = torch.Size(sample_shape) + self.batch_shape
        drawn = [
            place + log_scale.exp() * (fn.rsample(shape) if self.has_rsample else fn.sample(shape))
            for fn, place, log_scale in zip(self.fns, self.places, self.log_scales, strict=True)
        ]
        return self._taken(torch.stack(drawn), shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """log q_k."""
        scores = self.log_densities(value)
        shape = torch.broadcast_shapes(scores.shape[1:], self.batch_shape)
        return self._taken(scores.expand(len(scores), *shape)[..., None], shape)[..., 0]

    def log_densities(self, value: Tensor) -> Tensor:
        """log q_j of all components, (K, *batch)."""
        return torch.stack(
            [
                fn.log_prob((value - place) * (-log_scale).exp()) - log_scale.sum(-1)
                for fn, place, log_scale in zip(self.fns, self.places, self.log_scales, strict=True)
            ]
        )

    def _taken(self, x: Tensor, shape: Any) -> Tensor:
        """The entries (K, *shape, D) of the components, (*shape, D)."""
        index = self.k.expand(shape)[None, ..., None].expand(1, *shape, x.shape[-1])
        return x.gather(0, index)[0]


class MixtureVector(JointVector):
    """A joint vector from one of several families."""

    reverses = True

    def __init__(
        self, name: str, sites: tuple[LatentSite, ...], families: Any, start: Any, scale: float
    ) -> None:
        base, places = start
        listed: Any = nn.ModuleList(families)
        super().__init__(name, sites, listed, base, 1.0)
        self.components = nn.Parameter(places)
        self.log_scales = nn.Parameter(torch.full_like(places, log(scale)))
        self.logits = nn.Parameter(places.new_zeros(len(places)))

    def distribution(self, call: Call) -> Any:
        """Of x given the component, which is drawn here."""
        fn = Categorical(logits=self.logits)
        return self._chosen(call.sample(f"{self.name}.component", fn, reverse=True))

    def reverse(self, call: Call, site: LatentSite | None) -> None:
        """The responsibilities of the components for x, after the model."""
        if site is None:
            x = self.noise(call)
            k = torch.zeros(x.shape[:-1], dtype=torch.long, device=x.device)
            log_q = self._chosen(k).log_densities(x).movedim(0, -1)
            fn = Categorical(logits=self.logits.log_softmax(-1) + log_q)
            call.sample(f"{self.name}.component", fn, reverse=True)

    def _chosen(self, k: Tensor) -> Chosen:
        families: Any = self.family
        fns = [family() for family in families]
        return Chosen(fns, self.components, self.log_scales, k)


def mixture_part(
    guide: Guide,
    outline: Outline,
    args: tuple,
    kwargs: Mapping[str, Any],
    *,
    families: Sequence[Any],
    sites: Iterable[str] | None,
    starts: Sequence[Mapping[str, Any]] | None,
    init_scale: float,
) -> MixtureVector:
    """The vector of a `MixtureGuide`."""
    names = chosen_sites(outline.sites, sites)
    latents = jointly((outline.sites[n] for n in names), type(guide).__name__)
    if not latents:
        raise ValueError("The model has no latent sites that a joint vector could answer.")
    size, what = sum(site.size for site in latents), f"the sites {names}"
    made = [built_conditional(family, size, 0, what) for family in families]
    program = guide.model, args, kwargs, outline, latents
    base = start_of(*program, "prior", correlated=False)
    if starts is None:
        places = far_apart(*program, len(families))
    else:
        places = torch.stack([start_of(*program, own, correlated=False).place for own in starts])
    start = base, (places - base.place) / base.spread
    return MixtureVector(f"{guide.name}.vector", latents, made, start, init_scale)


class MixtureGuide(Guide):
    """All latent sites jointly, from a mixture of several families:

    k ~ Categorical(w);  x ~ q_k;  u = start + spread x;  z = f(u),

    scored as one density sum_k w_k q_k.  The model is extended by the exact responsibilities
    r(k | z) = w_k q_k / sum_j w_j q_j, so that every bound is that of the mixture.  The components
    have pathwise gradients, the weights w that of the score function, or none of its noise with
    `ELBO(enumerate="<name>.vector.component")`, which runs every component (stratified draws).

    A component finds the mode that it starts near: start them apart.

    Args:
        model: any callable of sample statements.
        families: one of each component, as for `JointGuide`: `[FullRankNormal] * 2`.
        sites: as for `JointGuide`.
        starts: where the components start, {site: value} each; None: at prior draws that lie far
            apart.
        init_scale: their first standard deviations, as a multiple of the spread of prior draws.
        name: of its parameters; k is the site "<name>.vector.component".

    Attributes:
        recipe: how `fit` trains it where nothing is said.

    Cost:
        a draw and a density of every family, and one run of the program.

    Raises:
        ValueError: for bad arguments, and as `JointGuide`.

    References:
        Jaakkola and Jordan (1998), Improving the mean field approximation via the use of mixture
        distributions; Miller, Foti and Adams (2017), arXiv:1611.06585.

    Example:
        >>> from pyro_dgm.conditionals import FullRankNormal
        >>> def model(y):
        ...     z = pyro.sample("z", pyro.distributions.Normal(0.0, 2.0))
        ...     with pyro.plate("data", len(y)):
        ...         pyro.sample("y", pyro.distributions.Normal(z**2, 1.0), obs=y)
        >>> guide = MixtureGuide(model, [FullRankNormal] * 2, starts=[{"z": -1.0}, {"z": 1.0}])
        >>> guide(torch.ones(3))["z"].shape
        torch.Size([])
    """

    recipe = Recipe()

    def __init__(
        self,
        model: Callable,
        families: Sequence[Any],
        *,
        sites: Iterable[str] | None = None,
        starts: Sequence[Mapping[str, Any]] | None = None,
        init_scale: float = 0.1,
        name: str = "mixture",
    ) -> None:
        check_families(families, starts)
        part = partial(
            mixture_part,
            families=tuple(families),
            sites=sites,
            starts=starts,
            init_scale=check_number("init_scale", init_scale, above=0),
        )
        super().__init__(model, [part], name=name)
