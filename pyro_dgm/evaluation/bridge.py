"""Chains between what a guide draws from and the posterior:  f_b(u) = q(u)^(1 - b) p(x, u)^b  of
all that the guide draws, on the real line.

A guide of further draws, or of draws that others follow from, is annealed in these: with e all that
it draws and w(e) its importance weight, f_b(e) = q(e) w(e)^b, whose integral for b = 1 is the
evidence.
"""

from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

import numpy as np
import pyro
import torch
from pyro.poutine.runtime import Message
from torch import Tensor

from dgm_core.annealing.passes import Moving, Path
from dgm_core.annealing.places import Places
from dgm_core.annealing.starting import (
    check_inside,
    check_on_line,
    check_reversible,
    spread_over,
)
from pyro_dgm.compat import seed_noise
from pyro_dgm.evaluation.calls import Call, as_numpy
from pyro_dgm.evaluation.posterior import Scored, graph_of
from pyro_dgm.evaluation.weights import looked_at, splits
from pyro_dgm.guides.line import OnLine, line_of, seen_entries
from pyro_dgm.joints.structure import draws_nothing, kind_of
from pyro_dgm.mcmc import State
from pyro_dgm.nn.register import unwatched

__all__: list[str] = []  # for the package, not for users


class Bridge:
    """The chains of a run on its data.

    Args:
        call: a run, whose guide draws where chains start, on its data.
        num_chains: of each datum.
        kernel: see `ais`.

    Attributes:
        whole: whether the chains are those of the whole data rather than of each datum.
        num_data: how many data have chains of their own;  notes, what weights must not hide.

    Raises:
        ValueError: where there are no weights (see `log_weights`), and for draws that are not
            mapped to the real line.
    """

    def __init__(self, call: Call, num_chains: int, kernel: Any) -> None:
        self.call, self.num_chains, self.kernel = call, num_chains, kernel
        self.structure = call.sketch().structure
        self.whole, self.notes = looked_at(call, self.structure)
        self.places = self._found_places().checked()
        self.num_data = self.places.num_data
        self._at_once: dict[Any, int] = {}
        self._graphs: dict[Any, Callable] = {}

    def splits(self, most: int) -> bool:
        """Whether there are more data than `most`, and some at a time can have chains."""
        return not self.whole and splits(self.call, self.structure.sizes, most)

    def starts(self, given: Mapping[str, Any] | None = None, *, seed: int = 0) -> np.ndarray:
        """Draws of the guide, (chains, num_data, width); or where it would have drawn the values
        given (num_draws, ...) of the model's sites, over which the chains are spread."""
        values = None
        if given is not None:
            check_reversible(self.places.names, given)
            values = spread_over(given, self.num_chains)
            values = {n: x.astype(self.dtype) for n, x in values.items() if n in self.places.names}

        def draw(call: Call, values: dict[str, Any]) -> dict[Any, Any]:
            found: dict[Any, Any] = {}
            for name, site in _drawn(call.guide(values).nodes).items():
                line = line_of(name, site["fn"])
                found[name, "u"] = u = line.inv(site["value"])
                found[name, "inside"] = _inside(site, line(u))
                seen = seen_entries(site)
                found[name, "seen"] = torch.tensor(True) if seen is None else seen
            return found

        found = self.call.repeat(draw, self.num_chains, values)
        rng = np.random.default_rng(seed % 2**64)
        parts = []
        for name in self.places.names:
            u, seen, inside = (found[name, what] for what in ("u", "seen", "inside"))
            hidden = ~seen.reshape(seen.shape + (1,) * (inside.ndim - seen.ndim))
            if seen.ndim > 1:  # what a mask takes out is standard normal
                seen = seen.reshape(seen.shape + (1,) * (u.ndim - seen.ndim))
                u = np.where(seen, u, rng.normal(size=u.shape)).astype(u.dtype)
            if given is not None:
                check_inside(name, inside | hidden)
            check_on_line(name, u)
            parts.append(self.places.flat(name, u, np.transpose))
        return np.concatenate(parts, -1)

    def values(self, position: np.ndarray) -> dict[Any, np.ndarray]:
        """What the guide draws at positions (chains, num_data, width), {site: (chains, ...)}."""

        def drawn(call: Call, given: dict[str, Any]) -> dict[Any, Any]:
            u = torch.as_tensor(given["u"], device=call.device)[None]
            with _Placed(self, u, None):
                sites = _drawn(call.guide().nodes)
            return {name: site["value"] for name, site in sites.items()}

        return self.call.repeat(drawn, len(position), {"u": position})

    def densities(self, u: Tensor, rows: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """log q and log w at u (chains, num_data, width), each (chains, num_data)."""
        parts = [self._densities(part, rows) for part in u.split(self._chains_at_once(rows))]
        log_q, log_w = zip(*parts, strict=True)
        return torch.cat(log_q), torch.cat(log_w)

    def weights(self, position: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        """log w at positions (chains, num_data, width), (chains, num_data)."""
        with pyro.validation_enabled(False):
            u = torch.as_tensor(position, device=self.call.device)
            return as_numpy(self.densities(u, rows)[1])

    def mixed(self, rows: np.ndarray | None = None) -> Callable[[Tensor, Tensor], tuple]:
        """What gives log f_b, log w and the gradient of log f_b at u, for b."""

        def both(u: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            with torch.enable_grad():
                u = u.detach().requires_grad_()
                log_q, log_w = self.densities(u, rows)
                value = torch.where(beta == 0, log_q, log_q + beta * log_w)
                (gradient,) = torch.autograd.grad(value.sum(), u)
                return value.detach(), log_w.detach(), gradient

        return both

    def advance(
        self, moving: Moving, path: Path, rows: np.ndarray | None, first: int, last: int
    ) -> Moving:
        """Steps first + 1, ..., last of the chains of some data."""
        position = torch.as_tensor(moving.position, device=self.call.device)

        def tensor(x: np.ndarray) -> Tensor:
            return torch.tensor(x).to(position)

        log_w, log_step = tensor(moving.log_w), tensor(moving.log_step)
        noted = [tensor(x) for x in moving[3:]]
        betas, log_steps = tensor(path.betas), tensor(path.log_steps)
        with pyro.validation_enabled(False), unwatched(), torch.random.fork_rng():
            both = self._graph(rows, position)
            for k in range(first + 1, last + 1):
                seed_noise(int(path.seeds[k]))
                value, ratio, gradient = both(position, betas[k])
                difference = betas[k] - betas[k - 1]
                log_w = log_w + torch.where(difference == 0, 0.0, difference * ratio)
                scale = (log_steps[k] + log_step).exp()[:, None]
                kernel = at_temperature(self.kernel, betas[k], scale)
                log_density = _density(both, betas[k])
                state = State(position, value, gradient)
                state, info = kernel(log_density, state, kernel.noise(state))
                position, accepted = state.position.detach(), info.acceptance.mean(0)
                noted[0][k], noted[1][k] = log_steps[k] + log_step, accepted.mean()
                noted[2][k] = ratio.var(0).mean() if len(ratio) > 1 else 0.0
                log_step = log_step + float(path.rates[k]) * (accepted - float(path.target))
        arrays = (position, log_w, log_step, *noted)
        return Moving(*(x.numpy(force=True) for x in arrays))

    def _densities(self, u: Tensor, rows: np.ndarray | None) -> tuple[Tensor, Tensor]:
        """The same, of as many chains as run at once."""
        placed = _Placed(self, u, rows)
        with placed:
            joint = self.call.joint(len(u), rows)
        total = torch.zeros((), dtype=u.dtype, device=u.device)
        for name in self.places.names:
            log_jacobian = placed.log_jacobians[name]
            total = total + self._reduced(joint.log_posterior_of(name))
            total = total + self._of_datum(name, log_jacobian, len(u))
        log_w = self._reduced(joint.log_w)
        log_w = log_w + joint.global_log_w.reshape(-1, 1) if self.whole else log_w
        return total, log_w.expand(total.shape)

    def _reduced(self, log_prob: Tensor) -> Tensor:
        """(num or 1, *sizes) or (num or 1, 1, ..., 1) as (num or 1, num_data)."""
        flat = log_prob.reshape(log_prob.shape[0], -1)
        return flat.sum(1, keepdim=True) if self.whole else flat

    def _of_datum(self, name: str, log_jacobian: Tensor, num: int) -> Tensor:
        """(num, ones, *batch) as (num, num_data)."""
        batch = log_jacobian.shape[log_jacobian.ndim - self.places.depth(name) :]
        return self.places.flat(name, log_jacobian.reshape(num, *batch), Tensor.permute).sum(-1)

    def _found_places(self) -> Places:
        structure = self.structure
        places = Places(() if self.whole else structure.sizes)
        for name, site in _drawn(self.call.guide().nodes).items():
            fn = site["fn"]
            shape = tuple(line_of(name, fn).inverse_shape(fn.batch_shape + fn.event_shape))
            batch, event = shape[: len(fn.batch_shape)], shape[len(fn.batch_shape) :]
            dims = () if self.whole else structure.plates.values()
            places.add(name, batch, event, [len(batch) + dim for dim in dims])
            self.dtype = as_numpy(site["value"]).dtype
        return places

    def _chains_at_once(self, rows: np.ndarray | None) -> int:
        """All chains, or one after the other where the model does not broadcast over them."""
        key = None if rows is None else len(rows)
        if key not in self._at_once:
            alone = self.num_chains == 1 or len(self.call.joint(self.num_chains, rows).runs) > 1
            self._at_once[key] = 1 if alone else self.num_chains
        return self._at_once[key]

    def _graph(self, rows: np.ndarray | None, position: Tensor) -> Callable:
        """The density of some data, as a graph where it has one; that of the last data is kept."""
        key = None if rows is None else rows.tobytes()
        if key not in self._graphs:
            self._chains_at_once(rows)
            examples = [(position, position.new_tensor(beta)) for beta in (0.3, 1.0)]
            self._graphs = {key: graph_of(self.mixed(rows), examples)}
        return self._graphs[key]


class _Placed(OnLine):
    """Hands the guide its draws at places on the real line."""

    def __init__(self, bridge: Bridge, u: Tensor, rows: np.ndarray | None) -> None:
        super().__init__(self._part)
        self.bridge, self.u = bridge, u
        self.sizes = bridge.places.sizes if rows is None else (len(rows),)

    def _pyro_sample(self, msg: Message) -> None:
        if not draws_nothing(msg["fn"]):
            super()._pyro_sample(msg)

    def _part(self, name: str, shape: tuple[int, ...]) -> Tensor:
        places = self.bridge.places
        part = places.site(name, self.u, self.sizes, Tensor.permute)
        if len(self.u) == 1:
            return part[0]
        ones = [1] * (self.bridge.structure.batch_ndim - places.depth(name))
        return part.reshape(len(part), *ones, *part.shape[1:])


def _inside(site: Message, back: Tensor) -> Tensor:
    """Whether a value (*batch,) is in the support of its site, up to rounding: `back` is where its
    place on the real line is."""
    value, support = site["value"], site["fn"].support
    near = torch.isclose(back, value, rtol=1e-4, atol=0.0, equal_nan=True)
    batch = value.shape[: value.ndim - site["fn"].event_dim]
    return support.check(value).expand(batch) | near.reshape(*batch, -1).all(-1)


def at_temperature(kernel: Any, beta: Tensor, scale: Tensor) -> Any:
    """The kernel of a temperature, its step sizes multiplied."""
    own = kernel if hasattr(kernel, "noise") else kernel(beta)
    if hasattr(own, "step_size"):
        own = copy(own)
        own.step_size = own.step_size * scale
    return own


def _density(both: Callable, beta: Tensor) -> Callable[[Tensor], Tensor]:
    """log f_b for a kernel."""

    def pair(u: Tensor) -> tuple[Tensor, Tensor]:
        value, _, gradient = both(u, beta)
        return value, gradient

    return lambda u: Scored.apply(u, pair)


def _drawn(nodes: Mapping[str, Message]) -> dict[str, Message]:
    """The sites at which a run of a guide draws something."""
    latent = {name: site for name, site in nodes.items() if kind_of(site) == "latent"}
    return {name: site for name, site in latent.items() if not draws_nothing(site["fn"])}
