"""Adversarial message passing: in place of one critic of the whole joint, one for each factor p(v |
parents of v) of the model's graph.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from pyro.infer.inspect import get_dependencies

from pyro_dgm.conditionals import NoDensityError
from pyro_dgm.losses.adversarial.fgan import FDivergence, JensenShannon
from pyro_dgm.losses.base import Loss

__all__ = ["cliques", "message_passing"]


def cliques(model: Callable, *args: Any, **kwargs: Any) -> tuple[tuple[str, ...], ...]:
    """The sites of each factor p(v | parents) of a model, (*parents, v), in the order in which they
    are drawn.

    Cost:
        one or two runs of the model on `args` and `kwargs`, by the inspection of the library.

    Raises:
        ValueError: for a model with implicit sites that have parents, which are read from
            densities.
    """
    try:
        found = get_dependencies(model, args, kwargs)["prior_dependencies"]
    except NoDensityError as error:
        raise ValueError(
            "The graph is read from the densities of the sites, and the model has implicit ones: "
            "write the sum yourself, as in "
            'JensenShannon("z") + JensenShannon(("z", "x")).'
        ) from error
    order = list(found)
    return tuple(
        (*sorted(set(parents) - {name}, key=order.index), name) for name, parents in found.items()
    )


def message_passing(
    model: Callable,
    *args: Any,
    term: Callable[[tuple[str, ...]], Loss] | None = None,
    separators: bool = False,
    **kwargs: Any,
) -> Loss:
    """sum_v D(q(v, parents), p(v, parents)) over the factors of the model: local critics of few
    variables, in place of one of all.

    The sum is zero only where every clique of the guide's joint is the model's; then the joints are
    equal, if the guide's has the model's independences.  It is no divergence of the joints: what
    two factors share, their separator, counts twice.  With `separators` it is taken off again,

        sum_v KL(q(v, parents), p(v, parents)) - KL(q(parents), p(parents)),

    which is the KL of the joints if the guide's has the model's independences; of estimated terms
    it is no bound.

    Args:
        model: with the `args` and `kwargs` that it takes.
        term: from a tuple of sites to a term that compares them (default JensenShannon, with
            separators the f-divergence "kl"; a function such as
            `lambda sites: Wasserstein(sites, critic_steps=2)` for others).
        separators: whether they are taken off; for a KL, which alone adds up like this.

    Raises:
        ValueError: as `cliques`, and for separators with an f-divergence that is no KL.

    References:
        Karaletsos (2016), arXiv:1612.05048.

    Example:
        >>> from pyro.distributions import Normal
        >>> def chain(x):
        ...     with pyro.plate("data", len(x)):
        ...         z = pyro.sample("z", Normal(0.0, 1.0))
        ...         w = pyro.sample("w", Normal(z, 1.0))
        ...         pyro.sample("x", Normal(w, 1.0), obs=x)
        >>> message_passing(chain, torch.zeros(3))
        JensenShannon('z') + JensenShannon(('z', 'w')) + JensenShannon(('w', 'x'))
        >>> repr(message_passing(chain, torch.zeros(3), separators=True)).split(" + ")[2]
        "-1.0 * FDivergence('w', f='kl')"
    """
    found = Counter(cliques(model, *args, **kwargs))
    if not separators:
        make = term or JensenShannon
        first, *others = (make(sites) for sites in found)
        return sum(others, first)
    make = term or partial(FDivergence, f="kl")
    found.subtract(sites[:-1] for sites in list(found) if len(sites) > 1)
    terms = [count * make(sites) for sites, count in found.items() if count]
    for _, part in (pair for loss in terms for pair in loss.terms):
        if isinstance(part, FDivergence) and part.f.name not in ("kl", "reverse_kl"):
            raise ValueError(
                f"Only a KL adds up over factors and separators, got the term {part!r}: "
                'leave the term out, or take FDivergence(sites, f="kl").'
            )
    return sum(terms[1:], terms[0])
