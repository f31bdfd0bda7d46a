"""Where a run takes place: one device, or several that share every batch."""

import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from numpyro_dgm.compat import jax_is_running

__all__: list[str] = []  # for the package, not for users


class Placement:
    """One device, or several: then every device holds all parameters and data, and computes its
    part of each batch.

    Args:
        device: None, where the parameters are; a jax.Device or a name such as "cpu", "gpu" or
            "gpu:1"; a list of them, or "all".

    Raises:
        ValueError: for a device that there is not.

    Example:
        >>> Placement("cpu").num_devices
        1
    """

    def __init__(self, device: Any = None) -> None:
        if device == "all":
            device = jax.devices()
        several = isinstance(device, Sequence) and not isinstance(device, str)
        devices = (
            [_find(one) for one in device] if several else [] if device is None else [_find(device)]
        )
        if several and not devices:
            raise ValueError("device must name at least one device, got an empty list.")
        self.num_devices = max(1, len(devices))
        self.first = devices[0] if devices else None
        self._everywhere: Any = self.first
        if self.num_devices > 1:
            mesh = Mesh(np.array(devices), ("data",))
            self._everywhere, self._split = (
                NamedSharding(mesh, PartitionSpec()),
                NamedSharding(mesh, PartitionSpec("data")),
            )

    def check(self, batch_size: int) -> None:
        """Raises ValueError where batches cannot be shared out evenly."""
        if batch_size % self.num_devices:
            raise ValueError(
                f"batch_size must be a multiple of the {self.num_devices} devices that share "
                "it, "
                f"got {batch_size}."
            )

    def put(self, tree: Any) -> Any:
        """Arrays onto the device, or onto each of them."""
        return jax.device_put(tree, self._everywhere)

    def spread(self, batch: Any) -> Any:
        """Share the rows of a batch among the devices; a batch whose size does not allow it is
        computed by each.
        """
        if self.num_devices == 1:
            return batch
        return jax.tree.map(
            lambda x: (
                x if len(x) % self.num_devices else jax.lax.with_sharding_constraint(x, self._split)
            ),
            batch,
        )

    def gather(self, tree: Any) -> Any:
        """Arrays onto the first device alone."""
        return tree if self.num_devices == 1 else jax.device_put(tree, self.first)


def refuse_after_fork() -> None:
    """Raises RuntimeError in a process forked from one that had used JAX: it would hang."""
    if _fork["of JAX"]:
        raise RuntimeError(
            "This process was forked from one that had used JAX, whose threads are missing here, "
            "so that it would hang: start it anew, with "
            'multiprocessing.get_context("spawn") or "forkserver".'
        )


_fork = {"used": False, "of JAX": False}


def _before_fork() -> None:
    _fork["used"] = jax_is_running()


def _after_fork() -> None:
    _fork["of JAX"] = _fork["used"]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


def _find(device: Any) -> jax.Device:
    if isinstance(device, jax.Device):
        return device
    kind, _, index = str(device).partition(":")
    try:
        return jax.devices(kind)[int(index or 0)]
    except (RuntimeError, IndexError, ValueError):
        raise ValueError(
            f"device must be a jax.Device, one of {[str(d) for d in jax.devices()]}, a list of "
            f'them or "all", got {device!r}.'
        ) from None
