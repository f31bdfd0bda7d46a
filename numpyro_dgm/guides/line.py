"""Latent sites on the real line:  z = f(u) with the bijection f onto the support of the run at
hand, whose bounds may be other sites."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array
from numpyro.primitives import Messenger

from dgm_core.paths import padded
from dgm_core.posterior import unplaced
from numpyro_dgm.compat import mask_of
from numpyro_dgm.guides.supports import real_line
from numpyro_dgm.joints.structure import Site, Trace, kind_of, step_mask_of

__all__: list[str] = []  # for the package, not for users


class OnLine(Messenger):
    """Puts the latent sites of a program at places on the real line.

    Entries that a mask takes out are of no posterior: they are standard normal there.

    Args:
        place: the u of a site, from its name and the shape of u; None leaves the site as it is.

    Attributes:
        log_jacobian: the sum of log |dz/du| over the sites placed so far.
        log_jacobians: of each of them, (*batch,).
    """

    def __init__(self, place: Callable[[str, tuple[int, ...]], Array | None]) -> None:
        super().__init__()
        self.place = place
        self.log_jacobian: Array = jnp.zeros(())
        self.log_jacobians: dict[str, Array] = {}

    def process_message(self, msg: Site) -> None:
        """Of a latent site its value at its place."""
        if kind_of(msg) != "latent" or msg["value"] is not None:
            return
        name, fn = msg["name"], msg["fn"]
        line = line_of(name, fn)
        u = self.place(name, tuple(line.inverse_shape(fn.batch_shape + fn.event_shape)))
        if u is not None:
            msg["value"] = line(u)
            self.log_jacobians[name] = _log_jacobian(msg, line, u)
            self.log_jacobian = self.log_jacobian + self.log_jacobians[name].sum()


def stated(trace: Trace) -> Array:
    """The log-density of all that a run of a model states, as its plates and masks count it."""
    scored = [site for site in trace.values() if kind_of(site) not in ("", "deterministic")]
    return sum(map(_score, scored), jnp.zeros(()))


def line_of(name: str, fn: Any) -> Any:
    """The bijection from the real line to the support of a site."""
    try:
        return real_line(fn)
    except NotImplementedError as error:
        raise ValueError(unplaced(name, type(fn.support).__name__)) from error


def _score(site: Site) -> Array:
    scale = 1.0 if site["scale"] is None else site["scale"]
    return (scale * site["fn"].log_prob(site["value"])).sum()


def seen_entries(site: Site) -> Array | None:
    """Which entries (*batch,) of a site are of its density; None where one answer holds for all."""
    fn, found = site["fn"], None
    batch = site["value"].shape[: site["value"].ndim - fn.event_dim]
    while fn is not None:
        if step_mask_of(fn) is not None:
            raise ValueError(padded(site["name"]))
        mask = mask_of(fn)
        if mask is not None and jnp.ndim(mask):
            mask = jnp.asarray(mask)
            mask = mask.reshape(mask.shape + (1,) * fn.event_dim)
            mask = jnp.broadcast_to(mask, jnp.broadcast_shapes(mask.shape, fn.shape()))
            mask = mask.reshape(*batch, -1)[..., 0]
            found = mask if found is None else found & mask
        fn = getattr(fn, "base_dist", None)
    return found


def _log_jacobian(msg: Site, line: Any, u: Array) -> Array:
    value, fn = msg["value"], msg["fn"]
    batch = value.shape[: value.ndim - fn.event_dim]
    log_jacobian = line.log_abs_det_jacobian(u, value).reshape(*batch, -1).sum(-1)
    seen = seen_entries(msg)
    if seen is None:
        return log_jacobian
    return jnp.where(seen, log_jacobian, -0.5 * (u**2).reshape(*batch, -1).sum(-1))
