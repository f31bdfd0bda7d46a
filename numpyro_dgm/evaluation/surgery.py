"""What the bound of a run is made of."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dgm_core.arguments import check_count
from dgm_core.diagnostics import point_mass_message
from dgm_core.surgery import ELBOSurgery, RateDistortion
from dgm_core.surgery.aggregate import blocks_of, check_aggregate
from dgm_core.surgery.checks import (
    check_local,
    check_one_prior,
    check_runs,
    check_unweighted,
    missing_entries,
    moved_parts,
    same_densities,
)
from dgm_core.surgery.parts import parts_of
from dgm_core.surgery.scoring import check_rows, scores_of
from dgm_core.training.threads import one_at_a_time
from numpyro_dgm.evaluation.calls import Call, as_numpy, calling
from numpyro_dgm.joints.entries import entries_of, log_density, other_values
from numpyro_dgm.joints.points import point_masses
from numpyro_dgm.joints.structure import random_sites, unmasked

__all__ = ["elbo_surgery", "rate_distortion"]


@one_at_a_time
def elbo_surgery(
    run: Any,
    *data: Any,
    aggregate: str = "exact",
    batch_size: int | None = None,
    num_draws: int = 1,
    rows: Any = None,
    seed: int = 0,
) -> ELBOSurgery:
    """What a run's bound is made of: the reconstruction, and the KL taken apart into the mutual
    information of data and codes, the total correlation of the codes' entries and the mismatch of
    each entry with its prior (see `dgm_core.surgery.elbo_surgery`).

    mean KL = I(x; z) + KL(q(z), p(z)),  KL(q(z), p(z)) = TC + sum_d KL(q(z_d), p(z_d)), where q(z)
    = mean_m q(z | x_m) over the data. Total correlation and dimension-wise KL need a guide whose
    entries are independent given x, the latter also such a prior; the result's `notes` say where
    they are missing.

    Args:
        run, data, rows: as `log_weights` takes them.
        aggregate: how q(z) is estimated at a draw. "exact": under all data, no bias. "stratified":
            under a minibatch, its own datum with weight 1 / N; unbiased for q(z), whose logarithm
            comes out too small on average, so that the mutual information is too large (but at
            most log N) and the marginal KL too small by as much. "weighted": every datum of the
            minibatch with weight 1 / (N B); both are off by up to log N nats, wherever codes of
            different data overlap.
        batch_size: B, of the minibatches.
        num_draws: of all latents for each datum.
        seed: of the draws and minibatches.

    Cost:
        exact num_draws N^2 log-densities of the guide, in minibatches num_draws N B; a few million
        are held at once. Where one latent site depends on another, a call of the guide for each
        draw.

    Raises:
        ValueError: for models with global latents, more than one batch dimension, point masses,
            latents under a scale or a mask, and a prior that differs from datum to datum;
            NoDensityError for a guide or prior without a density (whose mismatch
            `dgm_core.surgery.ratio_kl` estimates from draws).

    References:
        Hoffman and Johnson (2016), ELBO surgery; Chen et al. (2018), arXiv:1802.04942.

    Example:
        >>> from numpyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,), key=jax.random.key(0))
        >>> found = elbo_surgery(vae, np.ones((3, 4)))
        >>> abs(found.mutual_information) < 1e-6  # of three equal data
        True
    """
    aggregate, batch_size = check_aggregate(aggregate, batch_size)
    num_draws = check_count("num_draws", num_draws)
    with calling(run, data, seed=seed, rows=rows) as call:
        check_local((sketch := call.sketch()).structure)
        if names := point_masses(*call.traces()):
            raise ValueError(point_mass_message(names))
        num_data = sketch.sizes[0]
        if batch_size is not None:
            check_rows(call.num_rows, num_data)
        rng, scores = np.random.default_rng(seed % 2**64), []
        notes: tuple[str, ...] = ()
        for _ in range(num_draws):
            for block in blocks_of(num_data, batch_size, rng):
                codes = _Codes(call if batch_size is None else call.part(block))
                scores.append(scores_of(codes, block, num_data, aggregate))
                notes = notes or codes.notes
    return parts_of(scores, num_data, aggregate, notes)


def rate_distortion(
    runs: Mapping[Any, Any],
    *data: Any,
    aggregate: str = "exact",
    batch_size: int | None = None,
    num_draws: int = 1,
    rows: Any = None,
    seed: int = 0,
) -> RateDistortion:
    """Rate, distortion, mutual information and marginal KL of several runs on the same data: of one
    model trained with several weights of the KL, or of several models.

    Args:
        runs: label -> run; a label may be the weight itself.
        data, aggregate, batch_size, num_draws, rows, seed: as `elbo_surgery` takes them.

    Returns:
        `RateDistortion`: a table, and with `plot()` a picture.

    Cost:
        `elbo_surgery` for each run.

    Raises:
        ValueError: for what is no dict of runs, and as `elbo_surgery`.

    References:
        Alemi et al. (2018), Fixing a broken ELBO, arXiv:1711.00464.

    Example:
        >>> from numpyro_dgm import VAE
        >>> runs = {width: VAE(4, 2, hidden=(width,), key=jax.random.key(0)) for width in (8, 16)}
        >>> rate_distortion(runs, np.ones((3, 4))).column("rate").shape
        (2,)
    """
    options: dict[str, Any] = {"aggregate": aggregate, "batch_size": batch_size}
    options |= {"num_draws": num_draws, "rows": rows, "seed": seed}
    return RateDistortion(
        {label: elbo_surgery(run, *data, **options) for label, run in check_runs(runs).items()}
    )


class _Codes:
    """See `dgm_core.surgery.scoring.Codes`."""

    def __init__(self, call: Call) -> None:
        joint = call.joint()
        self.call, self.names = call, joint.latent_sites
        self.drawn = {name: joint.values(name)[0] for name in self.names}
        self.guide, self.model = self._guide(self.drawn), self._model(self.drawn)
        own, self.log_p = _total(self.guide, self.drawn), _total(self.model, self.drawn)
        check_unweighted("guide", as_numpy(joint.log_posterior).reshape(-1), own)
        check_unweighted("model", as_numpy(joint.log_prior).reshape(-1), self.log_p)
        self.log_likelihood = as_numpy(joint.log_likelihood).reshape(-1)
        self.num_entries = sum(x[0].size for x in self.drawn.values())
        rolled = {name: jnp.roll(x, 1, 0) for name, x in self.drawn.items()}
        check_one_prior(_total(self._model(rolled), rolled), self.log_p)
        moved = self._moved()
        self.following = _following(self.guide, map(self._guide, moved), self.drawn)
        joined = {*self.following, *_joined(self.guide)}
        self.joined = tuple(name for name in self.names if name in joined)
        followed = _following(self.model, map(self._model, moved), self.drawn)
        joined = {*followed, *_joined(self.model)}
        self.joined_prior = tuple(name for name in self.names if name in joined)
        self._rows = jax.jit(partial(jax.lax.map, self._row))

    @property
    def notes(self) -> tuple[str, ...]:
        """Why parts are missing."""
        return missing_entries(self.joined, self.joined_prior)

    @property
    def log_p_entries(self) -> np.ndarray | None:
        """log p(z_nd), (num_data, entries)."""
        if self.joined or self.joined_prior:
            return None
        return _by_entry(self.model, self.drawn, 1)

    def pairs(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The draws from start to stop under all data."""
        if self.following:
            chunk = {name: x[start:stop] for name, x in self.drawn.items()}
            return as_numpy(self._rows(chunk)), None
        under_all = {
            name: jnp.broadcast_to(x[start:stop, None], (stop - start, *x.shape))
            for name, x in self.drawn.items()
        }
        if self.joined:
            return _total(self.guide, under_all), None
        each = _by_entry(self.guide, under_all, 2)
        return each.sum(-1, dtype=np.float64), each

    def _row(self, draw: Mapping[str, Array]) -> Array:
        """One draw under all data."""
        values = {name: jnp.broadcast_to(x, self.drawn[name].shape) for name, x in draw.items()}
        return _log_prob(self._guide(values), values)

    def _moved(self) -> list[dict[str, Array]]:
        """Other values of some of the draws; none of a single site, which follows from no other."""
        if len(self.names) == 1:
            return []
        shapes, others = {}, {}
        for name, x in self.drawn.items():
            fn = self.guide[name]
            alone = entries_of(fn) is not None
            shapes[name] = tuple(x.shape) if alone else (len(x),) + (1,) * (x.ndim - 1)
            others[name] = other_values(fn, x)
        return [
            {
                name: jnp.where(part, others[name], x)
                for (name, x), part in zip(self.drawn.items(), parts.values(), strict=True)
            }
            for parts in moved_parts(shapes)
        ]

    def _guide(self, values: Mapping[str, Array]) -> dict[str, Any]:
        return self._distributions(self.call.guide(values))

    def _model(self, values: Mapping[str, Array]) -> dict[str, Any]:
        return self._distributions(self.call.model(values))

    def _distributions(self, trace: Any) -> dict[str, Any]:
        sites = random_sites(trace)
        return {name: unmasked(sites[name]["fn"]) for name in self.names if name in sites}


def _log_prob(fns: Mapping[str, Any], values: Mapping[str, Array]) -> Array:
    """The log-density of all sites, (num_data,) or (draws, num_data)."""
    scores: list[Any] = [log_density(fn, values[name]) for name, fn in fns.items()]
    return sum(scores)


def _total(fns: Mapping[str, Any], values: Mapping[str, Array]) -> np.ndarray:
    return as_numpy(_log_prob(fns, values))


def _by_entry(fns: Mapping[str, Any], values: Mapping[str, Array], batch_ndim: int) -> np.ndarray:
    """The log-density of every entry of all sites, side by side."""
    parts = [as_numpy(log_density(entries_of(fn), values[name])) for name, fn in fns.items()]
    return np.concatenate([part.reshape(*part.shape[:batch_ndim], -1) for part in parts], -1)


def _following(
    fns: Mapping[str, Any], moved: Iterable[Mapping[str, Any]], values: Mapping[str, Array]
) -> tuple[str, ...]:
    """The sites that depend on others, whose distributions move when those take other values;
    of a single datum nothing is known."""
    found: set[str] = set()
    for others in moved:
        for name in fns.keys() - found:
            own, other = (as_numpy(log_density(fn[name], values[name])) for fn in (fns, others))
            if len(own) == 1 or not same_densities(own, other):
                found.add(name)
    return tuple(name for name in fns if name in found)


def _joined(fns: Mapping[str, Any]) -> tuple[str, ...]:
    """The sites whose entries are not independent of each other."""
    return tuple(name for name, fn in fns.items() if entries_of(fn) is None)
