"""What terms of a loss must give, and the names under which they are logged."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dgm_core.arguments import refuse, shown

__all__ = [
    "Asked",
    "as_asked",
    "check_labels_last",
    "check_observed",
    "check_places",
    "check_sites",
    "check_unmasked",
    "checked_costs",
    "checked_estimate",
    "names_of",
    "no_bound",
    "no_commitment",
    "no_entropy",
    "no_objective",
    "not_observed",
    "nothing_observed",
    "sites_written",
    "unregistered",
    "written",
]


@dataclass(frozen=True)
class Asked:
    """What a term asks of the distributions of a site: what a method of theirs returns for the
    value of the site, one number for each datum, or a dict of such parts.

    site: its name;  method: which is called with the value, in NumPyro also with a `key` where it
    takes one;  options: its other arguments, by name;  whole: whether the answer for a value
    depends on the others of its batch, so that none of them may lie under a mask.

    Example:
        >>> print(Asked("x", "flow_matching", (("coupling", "optimal"),)))
        x.flow_matching(coupling='optimal')
    """

    site: str
    method: str = "objective"
    options: tuple[tuple[str, Any], ...] = ()
    whole: bool = False

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells it from all others: modules that are written alike are not the same."""
        plain = (str, int, float, type(None))
        return str(self), *(id(value) for _, value in self.options if not isinstance(value, plain))

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options)
        return f"{self.site}.{self.method}({options})"


def check_unmasked(asked: Asked, mask: Any) -> None:
    """Raises ValueError where the answer depends on values that may lie under a mask."""
    if asked.whole and mask is not None and mask is not True:
        raise ValueError(
            f"{asked} depends on all values of a batch, and some of them may lie under the mask of "
            f"site '{asked.site}': leave these out of the batch, or take what treats each value by "
            "itself, such as coupling='independent'."
        )


def as_asked(what: str | Asked) -> Asked:
    """A site by its name stands for the `objective` of its distributions."""
    return Asked(what) if isinstance(what, str) else what


def no_entropy(distribution: str) -> str:
    """What to say of a student whose entropy is not known."""
    return (
        f"analytic_entropy=True needs a student with an entropy in closed form, a flow such as "
        f"ParallelWaveNet or a distribution that knows its own, got {distribution}: leave it out."
    )


def checked_costs(asked: Asked, found: Any, batch_ndim: int) -> dict[str, Any]:
    """What the distribution of a site has answered, by name: an array (*batch,), or a dict of
    them.

    Raises:
        ValueError: for arrays with more dimensions than the batch.
    """
    costs = dict(found) if isinstance(found, Mapping) else {asked.method: found}
    for part, cost in costs.items():
        ndim = len(getattr(cost, "shape", (None,) * (batch_ndim + 1)))
        if ndim > batch_ndim:
            raise ValueError(
                f"The {asked.method} of site '{asked.site}' must be one number for each value, an "
                f"array with {batch_ndim} dimensions, got {shown(getattr(cost, 'shape', cost))} as "
                f"'{part}': sum over the event."
            )
    return costs


def no_objective(term: str, asked: Asked, distributions: Sequence[str]) -> str:
    """What to say of a site whose distributions do not have what a term asks for."""
    return (
        f"{term} needs a distribution with a method {asked.method}(value), and those of site "
        f"'{asked.site}' have none: {', '.join(distributions)}."
    )


def not_observed(site: str, observed: Sequence[str]) -> str:
    """What to say of a site that the model does not observe."""
    return (
        f"ConditionalNLL needs a site that the model observes, got '{site}'; it observes "
        f"{sorted(observed)}."
    )


def nothing_observed(term: str) -> str:
    """What to say of a model that observes nothing."""
    return (
        f"{term} needs a model that observes something, and this one has no observed site: on "
        "these data it would be zero whatever the weights are."
    )


def check_labels_last(term: str, num_classes: int, found: int) -> None:
    """Raises ValueError where the last site of a term, whose critic takes one-hot labels behind
    everything else, has another number of entries.

    Example:
        >>> check_labels_last("Hinge(x, y)", 10, 10)
    """
    if found != num_classes:
        raise ValueError(
            f"The critic of {term} takes labels of {num_classes} classes behind all else, and the "
            f"last site of the term has {found} entries: name the site of the labels last, as in "
            '("x", "y"), or take a critic without labels.'
        )


def check_sites(sites: Sequence[str], known: Iterable[str]) -> None:
    """Raises ValueError for sites that a model has not."""
    known = sorted(known)
    if unknown := [name for name in sites if name not in known]:
        raise ValueError(f"The model has no sample site {unknown}; it has {known}.")


def no_bound(site: str, distribution: str) -> str:
    """What to say of a site whose distribution has no bound of its own."""
    return (
        f"DenoisingELBO needs a diffusion at site '{site}', whose distribution has a method "
        f"bound(value), got {distribution}: name the site of a Diffusion."
    )


def no_commitment(site: str, distributions: Sequence[str]) -> str:
    """What to say of a site that no quantizer has drawn."""
    return (
        f"Commitment needs a site that the guide draws from a quantizer, and '{site}' is drawn "
        f"from {', '.join(distributions)}: give the name of a site of a VectorQuantizer."
    )


def names_of(terms: Sequence[Any]) -> list[str]:
    """The name of each term, with a number where one occurs again.

    Example:
        >>> from types import SimpleNamespace
        >>> names_of([SimpleNamespace(name="KL"), SimpleNamespace(name="KL")])
        ['KL', 'KL (2)']
    """
    for term in terms:
        if not hasattr(term, "name"):
            raise TypeError(
                f"{type(term).__name__} must have a name, a class attribute under which its "
                "quantity is logged, got none."
            )
    names = [term.name for term in terms]
    return [
        name if names.index(name) == i else f"{name} ({names[: i + 1].count(name)})"
        for i, name in enumerate(names)
    ]


def check_places(value: Any) -> dict[str, int | str]:
    """{observed site: position or name of the argument that it observes}, a copy; {} of None.

    Example:
        >>> check_places({"x": 0})
        {'x': 0}
    """
    found = {} if value is None else value
    usable = isinstance(found, Mapping) and all(
        isinstance(site, str) and isinstance(place, int | str) and not isinstance(place, bool)
        for site, place in found.items()
    )
    if not usable:
        refuse("arguments", "{observed site: position or name of an argument}", value)
    return dict(found)


def check_observed(arguments: Iterable[str], observed: Iterable[str]) -> None:
    """Raises ValueError for sites among `arguments` that the model does not observe."""
    if unknown := sorted(set(arguments) - set(observed)):
        raise ValueError(
            f"arguments names {unknown}, which the model does not observe; it observes "
            f"{sorted(observed)}."
        )


def checked_estimate(term: Any, answer: Any) -> tuple[Any, dict[str, Any]]:
    """The quantity that a term has estimated and its details, in the order in which it names them.

    Raises TypeError for anything else.
    """
    is_pair = isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], Mapping)
    if not is_pair or set(answer[1]) != set(term.details):
        raise TypeError(
            f"estimate of {type(term).__name__} must return its quantity and a dict of the details "
            f"{list(term.details)}, got {shown(answer)}."
        )
    return answer[0], {name: answer[1][name] for name in term.details}


def written(made: Any, *first: str, **defaults: Any) -> str:
    """How an object is written: `Name(first, argument=value)`, with the arguments that differ from
    their defaults.

    Example:
        >>> from types import SimpleNamespace
        >>> written(SimpleNamespace(beta=0.5, steps=1), "'z'", beta=1.0, steps=1)
        "SimpleNamespace('z', beta=0.5)"
    """
    values = {name: getattr(made, name) for name in defaults}
    changed = [
        f"{name}={shown(value) if hasattr(value, 'shape') else repr(value)}"
        for name, value in values.items()
        if hasattr(value, "shape") or value != defaults[name]
    ]
    return f"{type(made).__name__}({', '.join([*first, *changed])})"


def sites_written(sites: tuple[str, ...]) -> str:
    """The sites of a term as they are given: one name, or a tuple of several.

    Example:
        >>> sites_written(("z",)), sites_written(("x", "z"))
        ("'z'", "('x', 'z')")
    """
    return repr(sites[0]) if len(sites) == 1 else repr(sites)


def unregistered(name: str, known: Collection[str]) -> str:
    """What to say of a network that a term asks for.

    Example:
        >>> unregistered("decoder", ["prior", "generator"])
        "No network is registered as 'decoder': model and guide register ['generator', 'prior']."
    """
    return f"No network is registered as '{name}': model and guide register {sorted(known)}."
