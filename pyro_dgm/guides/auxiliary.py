"""Auxiliary variables: q(z | x) as a mixture over a, scored in a model that is extended by
r(a | z, x)."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from torch import Tensor, nn

from dgm_core.amortized import Inputs, check_inputs
from dgm_core.arguments import check_callable, check_count, check_flag, check_number, check_sizes
from dgm_core.guides import LatentSite, built, check_auxiliary_family, check_known, check_unused
from dgm_core.training.recipes import Recipe
from pyro_dgm.conditionals import Conditional, DiagonalNormal, FullRankNormal, StandardNormal
from pyro_dgm.guides.amortized import LocalSites, expanded, features_of, global_part, local_part
from pyro_dgm.guides.base import Guide, Part
from pyro_dgm.guides.joint import JointVector, joint_part
from pyro_dgm.guides.program import Call
from pyro_dgm.guides.reverse import Lifted, Reverse, without_head
from pyro_dgm.guides.starts import Init, check_init
from pyro_dgm.guides.supports import beside
from pyro_dgm.nn import evaluation_mode

__all__ = ["AuxiliaryGuide"]


class AuxiliaryFamily(nn.Module):
    """q(a | c), q(z | c, a) and r(a | c, z)."""

    def __init__(
        self,
        family: Any,
        dim: int,
        context: int,
        what: str,
        *,
        aux_dim: int,
        reverse: Any,
        hidden: tuple[int, ...],
    ) -> None:
        super().__init__()
        prior = DiagonalNormal(aux_dim, context_shape=context) if context else None
        self.prior = without_head(prior) if prior else StandardNormal(aux_dim)
        self.network = Lifted(context + aux_dim, hidden)
        self.family = built(family, dim, self.network.out_dim, Conditional, what)
        self.reverse = Reverse(reverse, aux_dim, context + dim, hidden)

    def forward(self, context: Tensor) -> Any:
        """q(z | c, a) at (c, a) side by side."""
        return self.family(self.network(context))


class AuxiliaryVector(JointVector):
    """A joint vector given auxiliary variables."""

    reverses = True

    def distribution(self, call: Call) -> Any:
        """Of x given a, which is drawn here."""
        family: Any = self.family
        a = call.sample(f"{self.name}.a", family.prior(), reverse=True)
        return family(a)

    def reverse(self, call: Call, site: LatentSite | None) -> None:
        """r(a | x), after the model."""
        if site is None:
            family: Any = self.family
            call.sample(f"{self.name}.a", family.reverse(self.noise(call)), reverse=True)


class AuxiliarySites(LocalSites):
    """Local sites given auxiliary variables of each datum."""

    reverses = True

    def distribution(self, call: Call, index: int, site: LatentSite, fn: Any) -> Any:
        """Of z given a, which is drawn here."""
        family: Any = self.families[index]
        context = self.context(call, self.groups[index], site, fn)
        own = expanded(family.prior(context), site, fn)
        a = call.sample_beside(f"{self.name}.a", own, site.name, reverse=True)
        return expanded(family(beside([context, a])), site, fn)

    def reverse(self, call: Call, site: LatentSite | None) -> None:
        """r(a | z, c), at the last site."""
        if site is None or site.name != self.answers[-1]:
            return
        family: Any = self.families[0]
        with evaluation_mode(self.encoder):  # statistics move once, where the guide runs
            call.features[self.name] = features_of(self.encoder, self.inputs, call, self.plates)
        vectors = [part for part in call.parts if isinstance(part, JointVector)]
        if self.sees_globals:
            check_known(site.name, call.values, [n for part in vectors for n in part.answers])
            call.kept["standard"] = [part.standard(call) for part in vectors]
        fn = call.fns[site.name]
        parts = [self.context(call, self.groups[0], site, fn), *map(call.vector, self.answers)]
        own = expanded(family.reverse(beside(parts)), site, fn)
        call.sample_beside(f"{self.name}.a", own, site.name, reverse=True)


class AuxiliaryGuide(Guide):
    """Latent sites whose distribution is a mixture over auxiliary variables a:

    a ~ q(a | x);  z ~ q(z | a, x);  the model is extended by r(a | z, x),

    so that a simple family of z given a becomes a rich one: the bound is
    E [log p(x, z) + log r(a | z, x) - log q(a | x) - log q(z | a, x)], below the ELBO of the
    marginal q(z | x) by E KL(q(a | z, x), r(a | z, x)).

    Without an encoder all latents are one vector as in `JointGuide` and q(a) is a standard normal;
    with one the local latents are as in `AmortizedGuide`, given the features c of x, q(a | c) is
    normal, and all other latents are a joint vector of `global_family`.  r sees z and c, the
    encoder then in evaluation mode; it is what a term trains, as everything else.

    Args:
        model: any callable of sample statements.
        encoder: None, or a network as for `AmortizedGuide`.
        family: of z given a, `family(dim, context_shape=...)`, or a conditional that fits.
        aux_dim: the entries of a.
        reverse: the family of r; None: a normal, with all covariances up to 32 entries.
        hidden: layers of the networks between a and the family, and between (z, c) and r; what they
            read goes on beside what they make of it.
        inputs, global_family, sees_globals, plate: with an encoder, as for `AmortizedGuide`.
        sites, init, init_scale: without one, as for `JointGuide`.
        name: of its parameters and auxiliary sites; a is the site "<name>.vector.a" or "<name>.a".

    Attributes:
        recipe: how `fit` trains it where nothing is said; None with an encoder.

    Cost:
        that of the guide without a, and three networks; with an encoder, twice the encoder.

    Raises:
        ValueError: for bad arguments, and as `JointGuide` or `AmortizedGuide`.

    References:
        Maaloe et al. (2016), Auxiliary deep generative models, arXiv:1602.05473; Ranganath, Tran
        and Blei (2016), Hierarchical variational models, arXiv:1511.02386.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> guide = AuxiliaryGuide(vae.model, vae.encoder)
        >>> guide(torch.ones(3, 4))["z"].shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        model: Callable,
        encoder: Callable | None = None,
        family: Any = FullRankNormal,
        *,
        aux_dim: int = 2,
        reverse: Any = None,
        hidden: Iterable[int] = (32,),
        inputs: Inputs = None,
        global_family: Any = FullRankNormal,
        sees_globals: bool = True,
        plate: str | Iterable[str] | None = None,
        sites: Iterable[str] | None = None,
        init: Init = None,
        init_scale: float | None = None,
        name: str = "auxiliary",
    ) -> None:
        own = self.part(
            encoder,
            family,
            aux_dim=aux_dim,
            reverse=reverse,
            hidden=hidden,
            inputs=inputs,
            sees_globals=sees_globals,
            plate=plate,
            sites=sites,
            init=init,
            init_scale=init_scale,
        )
        if encoder is None:
            other_family = None if global_family is FullRankNormal else global_family
            check_unused(global_family=other_family, without="an encoder")
        others = partial(global_part, family=family, global_family=global_family, plate=plate)
        parts: list[Callable[..., Any]] = [own] if encoder is None else [others, own]
        super().__init__(model, parts, name=name)
        self.recipe = Recipe() if encoder is None else None

    @staticmethod
    def part(
        encoder: Callable | None = None,
        family: Any = FullRankNormal,
        *,
        aux_dim: int = 2,
        reverse: Any = None,
        hidden: Iterable[int] = (32,),
        inputs: Inputs = None,
        sees_globals: bool = True,
        plate: str | Iterable[str] | None = None,
        sites: Iterable[str] | None = None,
        init: Init = None,
        init_scale: float | None = None,
    ) -> Callable[..., Part | None]:
        """The same, without the other latents, as a part of a `Guide`."""
        check_auxiliary_family(family)
        build = partial(
            AuxiliaryFamily,
            aux_dim=check_count("aux_dim", aux_dim),
            reverse=reverse,
            hidden=check_sizes("hidden", hidden),
        )
        if encoder is None:
            check_init(init)
            seen = None if check_flag("sees_globals", sees_globals) else sees_globals
            check_unused(inputs=inputs, sees_globals=seen, plate=plate, without="an encoder")
            if init_scale is not None:
                init_scale = check_number("init_scale", init_scale, above=0)
            return partial(
                joint_part,
                family=family,
                sites=sites,
                init=init,
                init_scale=init_scale,
                build=build,
                kind=AuxiliaryVector,
            )
        check_unused(
            sites=sites,
            init=init,
            init_scale=init_scale,
            without="a joint vector (encoder=None)",
        )
        return partial(
            local_part,
            encoder=check_callable("encoder", encoder, "a network"),
            family=family,
            inputs=check_inputs(inputs),
            sees_globals=check_flag("sees_globals", sees_globals),
            plate=plate,
            build=build,
            kind=AuxiliarySites,
        )
