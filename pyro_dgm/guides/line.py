"""Latent sites on the real line:  z = f(u) with the bijection f onto the support of the run at
hand, whose bounds may be other sites."""

from collections.abc import Callable
from typing import Any

import torch
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor

from dgm_core.paths import padded
from dgm_core.posterior import unplaced
from pyro_dgm.guides.supports import real_line
from pyro_dgm.joints.reading import observed_mask, total_log_prob
from pyro_dgm.joints.structure import kind_of, step_mask_of, unmasked

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

    def __init__(self, place: Callable[[str, tuple[int, ...]], Tensor | None]) -> None:
        super().__init__()
        self.place = place
        self.log_jacobian: Tensor = torch.zeros(())
        self.log_jacobians: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Message) -> None:
        if kind_of(msg) != "latent" or msg["done"]:
            return
        name, fn = msg["name"], msg["fn"]
        line = line_of(name, fn)
        u = self.place(name, tuple(line.inverse_shape(fn.batch_shape + fn.event_shape)))
        if u is not None:
            msg["value"], msg["done"] = line(u), True
            self.log_jacobians[name] = _log_jacobian(msg, line, u)
            self.log_jacobian = self.log_jacobian + self.log_jacobians[name].sum()


def stated(trace: Trace) -> Tensor:
    """The log-density of all that a run of a model states, as its plates and masks count it."""
    sites = trace.nodes.values()
    scored = [site for site in sites if kind_of(site) not in ("", "deterministic")]
    return sum(map(total_log_prob, scored), torch.zeros(()))


def line_of(name: str, fn: Any) -> Any:
    """The bijection from the real line to the support of a site."""
    try:
        return real_line(fn)
    except NotImplementedError as error:
        raise ValueError(unplaced(name, type(fn.support).__name__)) from error


def seen_entries(site: Message) -> Tensor | None:
    """Which entries (*batch,) of a site are of its density; None where one answer holds for all."""
    if step_mask_of(unmasked(site["fn"])) is not None:
        raise ValueError(padded(site["name"]))
    value, mask = site["value"], observed_mask(site)
    if mask is None or mask.ndim == 0:
        return None
    batch = value.shape[: value.ndim - site["fn"].event_dim]
    return mask.expand(value.shape).reshape(*batch, -1)[..., 0]


def _log_jacobian(msg: Message, line: Any, u: Tensor) -> Tensor:
    batch = msg["value"].shape[: msg["value"].ndim - msg["fn"].event_dim]
    log_jacobian = line.log_abs_det_jacobian(u, msg["value"]).reshape(*batch, -1).sum(-1)
    seen = seen_entries(msg)
    if seen is None:
        return log_jacobian
    return torch.where(seen, log_jacobian, -0.5 * (u**2).reshape(*batch, -1).sum(-1))
