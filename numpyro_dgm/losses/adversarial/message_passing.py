"""Adversarial message passing: in place of one critic of the whole joint, one for each factor p(v |
parents of v) of the model's graph.
"""

from collections.abc import Callable
from typing import Any

from numpyro.infer.inspect import get_dependencies

from numpyro_dgm.conditionals import NoDensityError
from numpyro_dgm.losses.adversarial.fgan import JensenShannon
from numpyro_dgm.losses.base import Loss

__all__ = ["cliques", "message_passing"]


def cliques(model: Callable, *args: Any, **kwargs: Any) -> tuple[tuple[str, ...], ...]:
    """The sites of each factor p(v | parents) of a model, (*parents, v), in the order in which they
    are drawn.

    Cost: one or two runs of the model on `args` and `kwargs`, by the inspection of the library.
    Raises: ValueError for a model with implicit sites that have parents, which are read from
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
    **kwargs: Any,
) -> Loss:
    """sum_v D(q(v, parents), p(v, parents)) over the factors of the model: local critics of few
    variables, in place of one of all.

    The sum is zero only where every clique of the guide's joint is the model's; then the joints are
    equal, if the guide's has the model's independences.

    Args: model, with the `args` and `kwargs` that it takes; term, from a tuple of sites to a term
        that compares them (default JensenShannon; a function such as
        `lambda sites: Wasserstein(sites, critic_steps=2)` for others).
    Raises: ValueError as `cliques`.
    Reference: Karaletsos (2016), arXiv:1612.05048.

    >>> from numpyro.distributions import Normal
    >>> def chain(x):
    ...     with numpyro.plate("data", len(x)):
    ...         z = numpyro.sample("z", Normal(0.0, 1.0))
    ...         w = numpyro.sample("w", Normal(z, 1.0))
    ...         numpyro.sample("x", Normal(w, 1.0), obs=x)
    >>> message_passing(chain, jnp.zeros(3))
    JensenShannon('z') + JensenShannon(('z', 'w')) + JensenShannon(('w', 'x'))
    """
    first, *others = ((term or JensenShannon)(sites) for sites in cliques(model, *args, **kwargs))
    return sum(others, first)
