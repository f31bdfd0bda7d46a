"""Discrete latents as particles: which sites are enumerated, and how their values are numbered.

With enumerated sites of C_1, ..., C_m values and S draws, particle t has the values and the draw of
t = (v_1, ..., v_m, s) in mixed radix, the last entry running fastest.  Sites that the guide draws
come first, in its order; then those that are summed out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from dgm_core.structure import Site, Structure

__all__: list[str] = []  # for the package, not for users

MOST = 1024  # values of all enumerated sites together


@dataclass(frozen=True)
class Enumeration:
    """How the particles of a joint with enumerated sites are numbered.

    guided: the sites that the guide draws, with how many values each has;  summed: those that it
    does not draw;  num_draws: S.
    """

    guided: tuple[tuple[str, int], ...]
    summed: tuple[tuple[str, int], ...]
    num_draws: int

    @property
    def sizes(self) -> dict[str, int]:
        """How many values each site has."""
        return dict(self.guided + self.summed)

    @property
    def num_guided(self) -> int:
        """The values of the sites of the guide, together."""
        return prod(size for _, size in self.guided)

    @property
    def num_summed(self) -> int:
        """The values of the other sites, together."""
        return prod(size for _, size in self.summed)

    @property
    def num_particles(self) -> int:
        """Values times draws."""
        return self.num_guided * self.num_summed * self.num_draws

    def values(self, name: str) -> list[int]:
        """Which value of a site each particle has."""
        stride, size = self._strides()[name], self.sizes[name]
        return [t // stride % size for t in range(self.num_particles)]

    def sharing(self, met: Iterable[str]) -> list[int]:
        """The first particle with the same draws, for each: one of equal values at the sites met
        before, and of the same number.
        """
        met, found = set(met), list(range(self.num_particles))
        for name, stride in self._strides().items():
            if name not in met:
                found = [
                    t - value * stride for t, value in zip(found, self.values(name), strict=True)
                ]
        return found

    def copies(self, met: Iterable[str]) -> int:
        """How many values of the guide's sites share one draw."""
        met = set(met)
        return prod(size for name, size in self.guided if name not in met)

    def _strides(self) -> dict[str, int]:
        found, stride = {}, self.num_draws
        for name, size in reversed(self.guided + self.summed):
            found[name] = stride
            stride *= size
        return found


def check_names(names: Any) -> tuple[str, ...]:
    """The names of enumerated sites, one or a tuple of several.

    Example:
        >>> check_names("c"), check_names(("c", "k"))
        (('c',), ('c', 'k'))
    """
    found = (names,) if isinstance(names, str) else names
    strings = isinstance(found, tuple) and all(isinstance(name, str) and name for name in found)
    if not strings or len(set(found)) < len(found):
        raise ValueError(
            "enumerate must be the name of a discrete latent site or a tuple of different names, "
            f"got {names!r}."
        )
    return found


def wanted(name: str, names: Sequence[str]) -> bool:
    """Whether a site is among those to be enumerated, by its name or, of what `obs_mask` leaves out
    of an observation, by that of the whole."""
    return name in names or name.removesuffix("_unobserved") in names


def parts_of_observation(site: str) -> tuple[str, str]:
    """The names of what `obs_mask` makes of a site: what is observed of it, and what is not.

    Example:
        >>> parts_of_observation("y")
        ('y_observed', 'y_unobserved')
    """
    return f"{site}_observed", f"{site}_unobserved"


def is_unobserved_part(name: str) -> bool:
    """Whether a site is what `obs_mask` leaves out of an observation."""
    return name.endswith("_unobserved")


def enumeration_of(
    names: Sequence[str],
    sizes: Mapping[str, int],
    structure: Structure,
    sites: tuple[Mapping[str, Site], Mapping[str, Site]],
    standing: Sequence[str],
    num_draws: int,
) -> Enumeration:
    """How sites are enumerated, from what one run of guide and model has met.

    Args:
        names: as the loss has them.
        sizes: the latent sites among them, with how many values each has.
        structure, sites: of this run, the sites of model and guide, the guide with stand-ins for
            those that it does not draw, `standing`.

    Raises:
        ValueError: for sites that are no latents of each datum, for what may depend on them outside
            the data plates, and for too many values.
    """
    model, guide = sites
    known = [*model, *(name.removesuffix("_unobserved") for name in model)]
    if unknown := [name for name in names if name not in known]:
        latents = sorted(name for name, site in model.items() if site.kind == "latent")
        raise ValueError(
            f"enumerate names {unknown}, which the model does not have; its latent sites are "
            f"{latents}."
        )
    outer = [name for name in sizes if name not in standing and _is_outer(name, structure, model)]
    if outer and len(outer) < len(sizes):
        raise ValueError(
            f"The sites {outer} lie outside all plates, and {sorted(sizes.keys() - set(outer))} do "
            "not: enumerate the ones or the others."
        )
    for name in (name for name in sizes if name not in outer):
        _check_place(name, structure, model[name])
        _check_uncoupled(name, structure, [list(model), list(guide)])
    if prod(sizes.values()) > MOST:
        raise ValueError(
            f"The enumerated sites {dict(sizes)} have {prod(sizes.values())} values together, "
            f"each of them a particle, of which {MOST} are the most: enumerate fewer sites, and "
            "leave the others to the score function."
        )
    guided = tuple((name, sizes[name]) for name in guide if name in sizes and name not in standing)
    return Enumeration(guided, tuple((name, sizes[name]) for name in standing), num_draws)


def _check_place(name: str, structure: Structure, site: Site) -> None:
    if not structure.plates or site.dims != structure.plates:
        raise ValueError(
            f"Site '{name}' is enumerated datum by datum and must lie in the data plates "
            f"{sorted(structure.plates)}, which enclose all observed sites, and in no other, but "
            f"lies in {sorted(site.dims)}: leave it to the score function, or sum it out in the "
            "model. (Data of which some are labeled go into one plate, with obs_mask.)"
        )


def _is_outer(name: str, structure: Structure, model: Mapping[str, Site]) -> bool:
    return name in structure.global_sites and not model[name].dims


def _check_uncoupled(name: str, structure: Structure, orders: Sequence[Sequence[str]]) -> None:
    """Raises ValueError for what may depend on an enumerated site of several data at once."""
    outside = {*structure.global_sites, *structure.global_factors}
    for order in (order for order in orders if name in order):
        after = order[list(order).index(name) :]
        if late := [other for other in after if other in outside]:
            raise ValueError(
                f"'{late[0]}' lies outside the data plates and comes after the enumerated site "
                f"'{name}', so that the data do not factorize over its values: move it before "
                "the plates, or leave the site to the score function."
            )


def unlisted(name: str, family: str) -> str:
    """What to say of a site whose values cannot be listed."""
    return (
        f"Site '{name}' cannot be enumerated: the values of {family} cannot be listed. Enumerate "
        "sites with one discrete value per datum (Categorical, Bernoulli, Binomial with one "
        "total_count)."
    )


def other_values(name: str, ours: int, theirs: int) -> str:
    """What to say where model and guide give a site different values."""
    return (
        f"The enumerated site '{name}' has {theirs} values in the model and {ours} in the guide: "
        "give both the same classes."
    )


def check_unscaled(name: str, scale: Any) -> None:
    """Raises ValueError for a scale at a site that is summed out, where it has no meaning."""
    if abs(float(scale) - 1) > 1e-6:
        raise ValueError(
            f"Site '{name}' is summed out, but a handler scales its density by {float(scale):g}, "
            "and a sum over values of a power of their probability is not its power: remove the "
            "scale, or let the guide draw the site."
        )


def check_followers(name: str, own: Iterable[str]) -> None:
    """Raises ValueError for latents that keep the model's own distribution after a site that is
    summed out, given which they are drawn."""
    if own := sorted(own):
        raise ValueError(
            f"Site '{name}' is summed out, as the guide leaves it to the model, but the guide also "
            f"leaves {own} to it, which are drawn after '{name}': give them a family, or give "
            f"'{name}' one."
        )


def mixed_orders(sites: Iterable[str], enumerated: Iterable[str]) -> str:
    """What to say of a doubly reparameterized gradient through draws that some values share."""
    return (
        f"estimator='dreg' needs a guide that draws {sorted(sites)} all before the enumerated "
        f"sites {sorted(enumerated)}, or all after them: use estimator='reparam'."
    )


def mixture_prior(summed: str, other: str) -> str:
    """What to say of a KL part in closed form whose prior is a sum over values."""
    return (
        f"analytic_kl=True needs the prior of '{other}' in closed form, but the model draws it "
        f"after '{summed}', which is summed out, so that its prior is a mixture: use "
        f"analytic_kl=False, or let the guide draw '{summed}'."
    )


def not_summed(name: str) -> str:
    """What to say of weights in which a site outside all plates is to be summed out."""
    return (
        f"Site '{name}' lies outside all plates: ELBO takes the expectation over its values, but "
        "no weights of the data are a sum over them. Enumerate it in ELBO alone."
    )


def no_score(name: str, enumerated: str) -> str:
    """What to say of a score function outside the plates beside enumerated sites there."""
    return (
        f"Site '{name}' is not reparameterized and lies outside the data plates, as the enumerated "
        f"site '{enumerated}' does: enumerate both, or none."
    )


def no_labels(site: str, latents: Iterable[str], observed: Iterable[str]) -> str:
    """What to say of a term on the labels of a site that has none, or no classifier."""
    return (
        f"NLL('{site}') scores observed values of '{site}' by the guide: it needs a model that "
        f"observes it in part, sample('{site}', ..., obs=..., obs_mask=...), a guide that draws "
        f"'{site}_unobserved'; but the latent sites are {sorted(latents)} and the observed ones "
        f"{sorted(observed)}."
    )


def is_labeled(site: str, number: int) -> str:
    """What to say of data whose classes are asked for, and known."""
    return (
        f"class_probabilities infers '{site}' of data where it is not known, but {number} of these "
        "data have it: leave the labels out, or pass -1 for each."
    )


def not_one_plate(site: str, number: int) -> str:
    """What to say of classes of data in no plate, or in several that cross."""
    return (
        f"class_probabilities infers '{site}' for each datum of one plate, got {number} plates "
        "of the data: ask sample_posterior for draws."
    )
