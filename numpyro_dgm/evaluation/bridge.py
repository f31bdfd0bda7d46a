"""Chains between what a guide draws from and the posterior:  f_b(u) = q(u)^(1 - b) p(x, u)^b  of
all that the guide draws, on the real line.

A guide of further draws, or of draws that others follow from, is annealed in these: with e all that
it draws and w(e) its importance weight, f_b(e) = q(e) w(e)^b, whose integral for b = 1 is the
evidence.
"""

from collections.abc import Mapping
from copy import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dgm_core.annealing.passes import Moving, Path
from dgm_core.annealing.places import Places
from dgm_core.annealing.starting import (
    check_inside,
    check_on_line,
    check_reversible,
    spread_over,
)
from dgm_core.posterior import in_scan
from numpyro_dgm.compat import is_scanned
from numpyro_dgm.evaluation.calls import Batch, Call, as_numpy
from numpyro_dgm.evaluation.weights import looked_at, splits
from numpyro_dgm.guides.line import OnLine, line_of, seen_entries
from numpyro_dgm.joints.structure import Site, Trace, draws_nothing, kind_of
from numpyro_dgm.mcmc import State

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
        self._compiled = jax.jit(self._advance)
        self._weights = jax.jit(lambda u, batch: self.densities(u, batch)[1])

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
            for name, site in _drawn(call.guide(values)).items():
                line = line_of(name, site["fn"])
                found[name, "u"] = u = line.inv(site["value"])
                found[name, "inside"] = _inside(site, line(u))
                seen = seen_entries(site)
                found[name, "seen"] = jnp.asarray(True) if seen is None else seen
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
            with _Placed(self.places, given["u"], self.places.sizes):
                sites = _drawn(call.guide())
            return {name: site["value"] for name, site in sites.items()}

        return self.call.repeat(drawn, len(position), {"u": position})

    def densities(self, u: Array, batch: Batch) -> tuple[Array, Array]:
        """log q and log w at u (chains, num_data, width), each (chains, num_data)."""
        if self.call.vectorize is False:
            return jax.lax.map(lambda own: self._densities(own, batch), u)
        return jax.vmap(lambda own: self._densities(own, batch))(u)

    def weights(self, position: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        """log w at positions (chains, num_data, width), (chains, num_data)."""
        return as_numpy(self._weights(jnp.asarray(position), self.call.batch(rows)))

    def mixed(self, u: Array, beta: Array, batch: Batch) -> tuple[Array, Array]:
        """log f_b and log w at u."""
        log_q, log_w = self.densities(u, batch)
        return jnp.where(beta == 0, log_q, log_q + beta * log_w), log_w

    def advance(
        self, moving: Moving, path: Path, rows: np.ndarray | None, first: int, last: int
    ) -> Moving:
        """Steps first + 1, ..., last of the chains of some data."""
        seeds = path.seeds
        path = Path(*(np.asarray(x, moving.position.dtype) for x in path))._replace(seeds=seeds)
        moved = self._compiled(moving, path, self.call.batch(rows), first + 1, last + 1)
        return Moving(*map(as_numpy, moved))

    def _advance(self, moving: Moving, path: Path, batch: Batch, first: Any, last: Any) -> Moving:
        def step(k: Array, moving: Moving) -> Moving:
            beta, difference = path.betas[k], path.betas[k] - path.betas[k - 1]

            def total(u: Array) -> tuple[Array, tuple[Array, Array]]:
                value, ratio = self.mixed(u, beta, batch)
                return value.sum(), (value, ratio)

            def log_density(u: Array) -> Array:
                return self.mixed(u, beta, batch)[0]

            both = jax.value_and_grad(total, has_aux=True)
            (_, (value, ratio)), gradient = both(moving.position)
            log_step = path.log_steps[k] + moving.log_step
            kernel = at_temperature(self.kernel, beta, jnp.exp(log_step)[:, None])
            state, key = State(moving.position, value, gradient), jax.random.key(path.seeds[k])
            state, info = kernel(log_density, state, kernel.noise(state, key=key))
            accepted = info.acceptance.mean(0)
            collected = jnp.where(difference == 0, 0.0, difference * ratio)
            return Moving(
                state.position,
                moving.log_w + collected,
                moving.log_step + path.rates[k] * (accepted - path.target),
                moving.log_steps.at[k].set(log_step),
                moving.acceptance.at[k].set(accepted.mean()),
                moving.spread.at[k].set(_variance(ratio).mean()),
            )

        return jax.lax.fori_loop(first, last, step, Moving(*map(jnp.asarray, moving)))

    def _densities(self, u: Array, batch: Batch) -> tuple[Array, Array]:
        """The same, of one chain (num_data, width)."""
        plates = self.places.sizes
        sizes = (u.shape[0],) if len(plates) == 1 else plates
        placed = _Placed(self.places, u, sizes)
        with placed:
            joint = self.call.joint_on(1, batch)
        log_q: Any = 0.0
        for name in self.places.names:
            log_jacobian = placed.log_jacobians[name]
            log_q = log_q + self._reduced(joint.log_posterior_of(name))
            log_q = log_q + self.places.flat(name, log_jacobian[None], jnp.transpose)[0].sum(-1)
        log_w = self._reduced(joint.log_w)
        log_w = log_w + joint.global_log_w.reshape(-1) if self.whole else log_w
        return log_q, jnp.broadcast_to(log_w, log_q.shape)

    def _reduced(self, log_prob: Array) -> Array:
        """(1, *sizes) or (1, 1, ..., 1) as (num_data,)."""
        return log_prob.sum().reshape(1) if self.whole else log_prob.reshape(-1)

    def _found_places(self) -> Places:
        structure = self.structure
        places = Places(() if self.whole else structure.sizes)
        for name, site in _drawn(self.call.guide()).items():
            if is_scanned(site):
                raise ValueError(in_scan(name))
            fn = site["fn"]
            shape = tuple(line_of(name, fn).inverse_shape(fn.batch_shape + fn.event_shape))
            batch, event = shape[: len(fn.batch_shape)], shape[len(fn.batch_shape) :]
            dims = () if self.whole else structure.plates.values()
            places.add(name, batch, event, [len(batch) + dim for dim in dims])
            self.dtype = as_numpy(site["value"]).dtype
        return places


class _Placed(OnLine):
    """Hands the guide its draws at places on the real line."""

    def __init__(self, places: Places, u: Array, sizes: tuple[int, ...]) -> None:
        super().__init__(lambda name, shape: places.site(name, u[None], sizes, jnp.transpose)[0])

    def process_message(self, msg: Site) -> None:
        """Of a site that is drawn its value at its place."""
        if msg["type"] == "sample" and not draws_nothing(msg["fn"]):
            super().process_message(msg)


def _inside(site: dict[str, Any], back: Array) -> Array:
    """Whether a value (*batch,) is in the support of its site, up to rounding: `back` is where its
    place on the real line is."""
    value, support = site["value"], site["fn"].support
    near = jnp.isclose(back, value, rtol=1e-4, atol=0.0, equal_nan=True)
    batch = value.shape[: value.ndim - site["fn"].event_dim]
    return jnp.broadcast_to(support(value), batch) | near.reshape(*batch, -1).all(-1)


def at_temperature(kernel: Any, beta: Array, scale: Array) -> Any:
    """The kernel of a temperature, its step sizes multiplied."""
    own = kernel if hasattr(kernel, "noise") else kernel(beta)
    if hasattr(own, "step_size"):
        own = copy(own)
        own.step_size = own.step_size * scale
    return own


def _variance(ratio: Array) -> Array:
    """Over the chains; 0 of a single one."""
    return jnp.var(ratio, 0, ddof=1) if len(ratio) > 1 else jnp.zeros(ratio.shape[1])


def _drawn(trace: Trace) -> dict[str, Site]:
    """The sites at which a run of a guide draws something."""
    latent = {name: site for name, site in trace.items() if kind_of(site) == "latent"}
    return {name: site for name, site in latent.items() if not draws_nothing(site["fn"])}
