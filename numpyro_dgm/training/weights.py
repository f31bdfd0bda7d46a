"""The weights of a run, apart from those of its model and guide, and put in force for a while."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["held_by_networks", "in_force"]


def held_by_networks(networks: Sequence[Any]) -> dict[str, Any]:
    """Copies of all that networks hold, parameters and running statistics, by the number of the
    network and the path inside it; empty in NumPyro, where networks hold nothing that changes.
    """
    return {}


@contextmanager
def in_force(run: Any) -> Iterator[dict[str, Any]]:
    """Inside this block model and guide of a run have the run's weights; afterwards the networks
    and the parameter store are as they were before, also after an error.

    An object without weights of its own (a model) keeps those that it has. In NumPyro, gives the
    values of the parameter sites, which whoever runs the model hands out.

    Raises:
        ValueError: the networks are no longer those of the run.
    """
    yield {**getattr(run, "params", {}), **getattr(run, "mutable_state", {})}
