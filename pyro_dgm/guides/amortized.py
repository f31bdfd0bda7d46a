"""Local sites from an encoder's features, global sites beside them:

features = encoder(inputs);  q(z_1 | features, globals) q(z_2 | features, globals, z_1) ...
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pyro
import torch
from pyro.distributions import Bernoulli, Categorical, Independent
from torch import Tensor, nn

from dgm_core.amortized import (
    Group,
    Inputs,
    check_inputs,
    groups_of,
    inputs_of,
    local_plates,
    local_sites,
    place_of,
    rows_error,
    takes_all,
)
from dgm_core.arguments import check_callable, check_flag
from dgm_core.guides import LatentSite, Outline
from dgm_core.vectors import check_together, check_unmasked, places
from pyro_dgm.conditionals import Conditional, DiagonalNormal, FullRankNormal
from pyro_dgm.guides.base import Guide, Part
from pyro_dgm.guides.joint import JointVector, built_conditional, joint_part
from pyro_dgm.guides.program import Call, aside
from pyro_dgm.guides.supports import beside, determined
from pyro_dgm.joints.values import base_of

__all__ = ["AmortizedGuide", "Merged", "Prior"]


class Prior:
    """As the family of a site: the model's own conditional, of weight 1.

    Example:
        >>> Prior()
        Prior()
    """

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Merged:
    """As the family of a normal site: the model's own conditional times a normal of the features,

    q(z | parents, x) ~ p(z | parents) Normal(z; m(x), s(x)),

    which is the exact form of the posterior where the likelihood is normal.

    Example:
        >>> Merged()
        Merged()
    """

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class LocalSites(Part):
    """The sites that an encoder's features answer."""

    def __init__(
        self,
        name: str,
        groups: list[Group],
        families: list[Conditional],
        encoder: Callable,
        plates: dict[str, int],
        inputs: Inputs,
        sees_globals: bool,
    ) -> None:
        super().__init__()
        self.name, self.groups, self.plates = name, tuple(groups), plates
        self.inputs, self.sees_globals = inputs, sees_globals
        self.answers = tuple(site.name for group in groups for site in group.sites)
        self.encoder, self.families = encoder, nn.ModuleList(families)

    def begin(self, call: Call) -> None:
        """Computes the features."""
        for name in self.answers:
            call.outline.check_features(name)
        if self.name not in call.features:
            call.features[self.name] = features_of(self.encoder, self.inputs, call, self.plates)

    def answer(self, call: Call, site: LatentSite, fn: Any) -> Any:
        """The site's own distribution, or its part of the vector of its group."""
        index = next(i for i, group in enumerate(self.groups) if site.name in group.names)
        group, family = self.groups[index], self.families[index]
        if group.merged:
            return _merged(fn, family(self.features(call, site, fn)))
        if group.direct:
            return self.distribution(call, index, site, fn)
        if len(group.sites) > 1:
            check_unmasked(site.name, call.masked)
        if (self.name, index) not in call.kept:
            check_together(group.names, call.outline.sites)
            own = self.distribution(call, index, site, fn)
            drawn = call.sample_beside(f"{self.name}.{group.name}", own, site.name)
            call.kept[self.name, index] = drawn
        vector = call.kept[self.name, index]
        u = vector[..., places(group.sites, events=True)[site.name]]
        return determined(fn, u.reshape((*u.shape[:-1], *(site.unconstrained or ()))))

    def distribution(self, call: Call, index: int, site: LatentSite, fn: Any) -> Any:
        """What the vector of a group is drawn from, at its first site."""
        context = self.context(call, self.groups[index], site, fn)
        return expanded(self.families[index](context), site, fn)

    def context(self, call: Call, group: Group, site: LatentSite, fn: Any) -> Tensor:
        """What the family of a group is given at a site: features, globals, the sites before."""
        parts = [self.features(call, site, fn)]
        if self.sees_globals:
            parts += call.kept.get("standard", ())
        parts += [call.vector(name) for name in group.sees]
        return beside(parts)

    def features(self, call: Call, site: LatentSite, fn: Any) -> Tensor:
        """The features of a site, with their sizes in the dimensions of its plates."""
        found = call.features[self.name]
        features = found[site.name] if isinstance(found, Mapping) else found
        shape = [1] * max((-dim for dim in site.dims.values()), default=0)
        for axis, (plate, dim) in enumerate(place_of(site, tuple(features.shape), self.plates)):
            shape[dim] = size = fn.batch_shape[dim]
            if features.shape[axis] != size:
                rows = call.rows.get(plate)
                full = next(p.full_size for p in site.plates if p.name == plate)
                if rows is None or features.shape[axis] != full:
                    raise ValueError(rows_error(site.name, features.shape[axis], plate, size))
                features = features.index_select(axis, torch.as_tensor(rows))
        return features.reshape((*shape, features.shape[-1]))


def features_of(encoder: Callable, inputs: Inputs, call: Call, plates: Mapping[str, int]) -> Any:
    """The encoder's output for the arguments of a call."""
    names, values = inputs_of(inputs, call.model, call.args, call.kwargs)
    if not names:
        return encoder(*values)
    masks = [x for x in values if isinstance(x, Tensor) and x.dtype == torch.bool]
    numbers = [_seen(torch.as_tensor(x), masks) for x in values]
    if takes_all(encoder, len(names)):
        return encoder(*numbers)
    numbers = [x[..., None] if x.ndim == len(plates) else x for x in numbers]
    return encoder(numbers[0] if len(numbers) == 1 else torch.cat(numbers, -1))


def _seen(x: Tensor, masks: list[Tensor]) -> Tensor:
    """Numbers, those beneath a mask zero."""
    if not x.is_floating_point():
        return x.to(torch.get_default_dtype())
    for mask in masks:
        if x.shape[: mask.ndim] == mask.shape:
            seen = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
            x = torch.where(seen, x, torch.zeros_like(x))
    return x


def expanded(own: Any, site: LatentSite, fn: Any) -> Any:
    """A distribution at the batch shape of its site; of a single class, without the dimension."""
    base = base_of(own)
    if site.discrete and not fn.event_shape and own.event_shape == (1,):
        logits = base.logits[..., 0, :] if isinstance(base, Categorical) else base.logits[..., 0]
        own = (Categorical if isinstance(base, Categorical) else Bernoulli)(logits=logits)
    batch = fn.batch_shape[len(fn.batch_shape) - len(site.batch_shape) :]
    batch = torch.broadcast_shapes(batch, own.batch_shape)
    return own if batch == own.batch_shape else own.expand(batch)


def _merged(fn: Any, own: Any) -> Any:
    """p(z | parents) Normal(z; m, s), of a site of normal entries."""
    prior, seen = base_of(fn), base_of(own)
    if not isinstance(prior, pyro.distributions.Normal):
        raise ValueError(
            f"Merged() multiplies normal distributions, but the model draws {type(prior).__name__}."
        )
    shape = seen.loc.shape[:-1] + fn.event_shape
    precision = prior.scale**-2 + seen.scale.reshape(shape) ** -2
    loc = prior.loc * prior.scale**-2 + (seen.loc / seen.scale**2).reshape(shape)
    merged = pyro.distributions.Normal(loc / precision, precision**-0.5)
    return Independent(merged, fn.event_dim) if fn.event_dim else merged


def local_part(
    guide: Guide,
    outline: Outline,
    args: tuple,
    kwargs: Mapping[str, Any],
    *,
    encoder: Callable,
    family: Any,
    inputs: Inputs,
    sees_globals: bool,
    plate: str | Iterable[str] | None,
    build: Callable[..., Any] = built_conditional,
    kind: type[LocalSites] = LocalSites,
    sites: Iterable[str] | None = None,
) -> LocalSites | None:
    """The local sites of a guide, or those of them that are named: see `AmortizedGuide` and
    `joint_part`."""
    if sites is not None:
        kept = {name: site for name, site in outline.sites.items() if name in set(sites)}
        outline = replace(outline, sites=kept)
    plates = {} if isinstance(family, Mapping) and plate is None else local_plates(outline, plate)
    plates = plates or dict(outline.structure.plates)
    groups, factories = groups_of(outline, plates, family, Prior, Merged)
    if not groups:
        return None
    with aside(guide.model, encoder):
        features = features_of(encoder, inputs, Call(guide.model, outline, args, kwargs), plates)
    vectors = [part for part in guide.parts if isinstance(part, JointVector)]
    num_globals = sum(len(part.shift) for part in vectors) if sees_globals else 0
    families = []
    for group, factory in zip(groups, factories, strict=True):
        site = group.sites[0]
        own = features[site.name] if isinstance(features, Mapping) else features
        place_of(site, tuple(own.shape), plates)
        seen = sum(outline.sites[name].num_seen for name in group.sees)
        size = own.shape[-1] + (0 if group.merged else num_globals + seen)
        factory = DiagonalNormal if group.merged else factory
        what = f"the sites {[site.name for site in group.sites]}"
        families.append(build(factory, group.width, size, what))
    before = sum(isinstance(part, LocalSites) for part in guide.parts)
    name = f"{guide.name}{before or ''}"
    return kind(name, groups, families, encoder, plates, inputs, sees_globals)


def global_part(
    guide: Guide,
    outline: Outline,
    args: tuple,
    kwargs: Mapping[str, Any],
    *,
    family: Any,
    global_family: Any,
    plate: str | Iterable[str] | None,
) -> JointVector | None:
    """A vector of all sites that no encoder answers."""
    if isinstance(global_family, Prior):
        return None
    if isinstance(family, Mapping):
        plates = local_plates(outline, plate) if plate else dict(outline.structure.plates)
    else:
        plates = local_plates(outline, plate)
    inside = {site.name for site in local_sites(outline, plates)} if plates else set()
    named = set(family) if isinstance(family, Mapping) else set()
    names = [n for n, s in outline.sites.items() if n not in inside | named and not s.imputed]
    if not names:
        return None
    return joint_part(guide, outline, args, kwargs, family=global_family, sites=names)


class AmortizedGuide(Guide):
    """Local sites from the features of an encoder, global sites by one joint vector beside them.

    The local sites are those inside the data plates (or `plate`); all others are drawn before the
    program, jointly.  Plates, sizes and subsamples are the program's own, so that a trained guide
    infers new data of any number.  Features flow into sites alone whose plates enclose every
    subsampled plate of the data.

    Args:
        model: any callable of sample statements.
        encoder: a network whose output has the shape (*sizes of a site's plates, F); or
            {site: such features} where sites lie at different depths.
        family: what builds a conditional, `family(dim, context_shape=...)`, or one that fits.  One
            for the vector of all local sites; or {site: family}, one after the other in the
            model's order, each of which also sees the sites before.  A site that is left out, or
            `Prior()`: the model's own conditional; `Merged()`: that times a normal of the features.
        inputs: what the encoder reads.  None: the first argument of the model; names of arguments,
            which it takes one by one, or side by side where it takes a single array, what lies
            beneath a boolean one of them set to zero; or a function of all arguments.
        global_family: of the vector of the other sites, as for `JointGuide`; Prior(): the model's.
        sees_globals: whether the local families see that vector.
        plate: the name of the plate, or the names, whose inside is local.
        name: of its parameters and auxiliary sites.

    Cost:
        the encoder, and the program down to its last latent site.

    Raises:
        ValueError: for bad arguments; for families that do not fit; where features of a minibatch
            would flow into a site outside its plate; for features of another number of data.

    References:
        Kingma and Welling (2014), arXiv:1312.6114; Agrawal and Domke (2021), arXiv:2111.03144.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> guide = AmortizedGuide(vae.model, vae.encoder, FullRankNormal)
        >>> guide(torch.ones(3, 4))["z"].shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        model: Callable,
        encoder: Callable,
        family: Any,
        *,
        inputs: Inputs = None,
        global_family: Any = FullRankNormal,
        sees_globals: bool = True,
        plate: str | Iterable[str] | None = None,
        name: str = "amortized",
    ) -> None:
        local = self.part(encoder, family, inputs=inputs, sees_globals=sees_globals, plate=plate)
        others = partial(global_part, family=family, global_family=global_family, plate=plate)
        super().__init__(model, [others, local], name=name)

    @staticmethod
    def part(
        encoder: Callable,
        family: Any,
        *,
        inputs: Inputs = None,
        sees_globals: bool = True,
        plate: str | Iterable[str] | None = None,
    ) -> Callable[..., LocalSites | None]:
        """The same without global sites, as a part of a `Guide`."""
        return partial(
            local_part,
            encoder=check_callable("encoder", encoder, "a network"),
            family=family,
            inputs=check_inputs(inputs),
            sees_globals=check_flag("sees_globals", sees_globals),
            plate=plate,
            sites=None,
        )
