"""The algebra of losses: weighted sums of terms, whatever the terms compute with."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, Generic, TypeVar

from dgm_core.arguments import check_instance, check_weight, refuse, shown
from dgm_core.latex import latex
from dgm_core.schedules import product
from dgm_core.terms import names_of

__all__ = ["WeightedSum", "check_terms"]

L = TypeVar("L")


class WeightedSum(Generic[L]):
    """A weighted sum of terms, pairs of a weight (a number, or a function of the step) and a term;
    a term is itself a sum, of which it is the only part. The class L that derives from this one is
    made of such pairs.

    Raises:
        TypeError: for anything but a number, a schedule or a sum as operand.
    """

    terms: tuple[tuple[Any, Any], ...]

    def _sum(self, terms: tuple[tuple[Any, Any], ...]) -> L:
        """The loss of these terms, which is no term."""
        loss: Any = next(made for made in type(self).__mro__ if WeightedSum in made.__bases__)
        return loss(terms)

    @property
    def stateful(self) -> dict[str, Any]:
        """The terms that keep something from step to step, each once, under the name of
        its state.
        """
        found: dict[str, Any] = {}
        for (_, term), name in zip(self.terms, self.names, strict=True):
            if term.has_state and term not in found.values():
                found[name] = term
        return found

    @property
    def needs_guide(self) -> bool:
        """Whether a term of this sum makes no sense without a guide."""
        return any(term.guided for _, term in self.terms)

    @property
    def enumerated(self) -> tuple[str, ...]:
        """The sites whose values some term enumerates, so that the guide need not draw them."""
        return tuple(dict.fromkeys(name for _, term in self.terms for name in term.enumerate))

    @property
    def schedules(self) -> list[tuple[str, Callable[[Any], Any], float]]:
        """The weights in this sum that are functions of the step, each with its name in words and
        the least that it may be.
        """
        found: list[tuple[str, Any, float]] = []
        for weight, term in self.terms:
            found += [(f"the weight of {term.name}", weight, -math.inf)]
            found += [(f"a weight inside {term.name}", inner, 0.0) for inner in term.weights()]
        return [one for one in found if callable(one[1])]

    @property
    def has_schedules(self) -> bool:
        """Whether a weight in this sum changes from step to step."""
        return bool(self.schedules)

    @property
    def names(self) -> list[str]:
        """The name of each term, with a number where one occurs again."""
        return names_of([term for _, term in self.terms])

    @property
    def term_names(self) -> tuple[str, ...]:
        """The names under which quantities are logged, in the order of `Evaluation.terms`."""
        return tuple(
            full
            for (_, term), name in zip(self.terms, self.names, strict=True)
            for full in (name, *(f"{name}/{key}" for key in term.details))
        )

    __array_ufunc__ = None  # an array of numbers times a loss is refused as any other weight

    def __add__(self, other: WeightedSum[L]) -> L:
        if not isinstance(other, WeightedSum):
            raise TypeError(f"A loss is a sum of losses, got {self!r} + {shown(other)}.")
        return self._sum(self.terms + other.terms)

    def __radd__(self, other: Any) -> L:
        if isinstance(other, Real) and other == 0:  # as `sum` begins
            own: Any = self
            return own
        raise TypeError(f"A loss is a sum of losses, got {shown(other)} + {self!r}.")

    def __mul__(self, weight: float | Callable[[Any], Any]) -> L:
        check_weight("The weight of a loss", weight)
        return self._sum(tuple((product(weight, own), term) for own, term in self.terms))

    __rmul__ = __mul__

    def _repr_latex_(self) -> str:
        """The formula of what is minimized, as notebooks show it; see `dgm_core.latex`."""
        return f"${latex(self)}$"

    def __repr__(self) -> str:
        return " + ".join(
            repr(term) if weight == 1.0 else f"{weight!r} * {term!r}" for weight, term in self.terms
        )


def check_terms(terms: Any, kind: type) -> tuple[tuple[Any, Any], ...]:
    """The terms of a sum, after a check of weights and terms."""
    if not isinstance(terms, tuple) or not terms:
        refuse("terms", "pairs of a weight and a term", terms)
    for weight, term in terms:
        check_weight("The weight of a loss", weight)
        check_instance("term", term, kind, "a term such as ELBO()")
    _check_critics([term for _, term in terms])
    return terms


def _check_critics(terms: list[Any]) -> None:
    """Raises ValueError where two terms hold one critic, which each of them would train."""
    owners: dict[int, Any] = {}
    for term in terms:
        critic = getattr(term, "critic", None)
        other = term if critic is None else owners.setdefault(id(critic), term)
        if other is not term:
            raise ValueError(
                f"{other.name} and {term.name} share one critic, and each term trains its own: "
                "give each a critic of its own, or use one term twice."
            )
