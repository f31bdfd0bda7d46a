"""Images drawn from what a model says of them and what a linear operator lets through."""

from copy import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyro
import torch
from pyro.distributions import MultivariateNormal, Normal
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor

from dgm_core.annealing.passes import Passes, resampled
from dgm_core.annealing.starting import check_kernel, checked_plan
from dgm_core.annealing.store import Store
from dgm_core.arguments import check_count, check_flag, check_number
from dgm_core.posterior import run_of
from dgm_core.restoration.sampled import (
    Restored,
    as_restored,
    last_site,
    linear_parts,
    no_density_of,
)
from dgm_core.training.progress import Progress
from dgm_core.training.threads import one_at_a_time
from pyro_dgm.conditionals.diffusion.distribution import DiffusionDistribution
from pyro_dgm.evaluation.bridge import Bridge
from pyro_dgm.evaluation.calls import Call, calling, weight_like
from pyro_dgm.evaluation.draws import mean_of
from pyro_dgm.guides import Guide
from pyro_dgm.joints.entries import entries_of
from pyro_dgm.joints.handlers import Drawable
from pyro_dgm.joints.structure import kind_of, random_sites
from pyro_dgm.joints.values import base_of
from pyro_dgm.mcmc import HMC, Langevin

__all__ = ["restore"]

X_NOISE, Y_NOISE = "noise of x", "noise of y"


@one_at_a_time
def restore(
    run: Any,
    y: Any,
    operator: Any,
    scale: float,
    /,
    *args: Any,
    site: str | None = None,
    num_draws: int = 100,
    steps: int = 200,
    kernel: Any = None,
    target_accept: float = 0.65,
    progress: bool = False,
    seed: int = 0,
    **kwargs: Any,
) -> Restored:
    """Draws of images x given y = A x + e, e ~ Normal(0, scale^2), with a trained model as their
    prior: inpainting, deblurring, super-resolution without training for any of them.

    Chains go from draws of the model to p(x, z | y) through p(x, z) p(y | x)^b with b from 0 to 1,
    and are drawn again by their weights (annealed importance sampling): exact as num_draws grows.

    What x is depends on its site. Normal given z: p(y | z) is Normal(A m, A S A' + scale^2), and x
    is drawn given z and y. With a density, and no latents or no mean (a flow, an energy with its
    constant): chains move x itself. All else (a generator, bits, classes): x = E[x | z].

    Args:
        run: what `fit` returns, any object with .model and .guide, or a model.
        y: what was seen, (num, ...), flattened.
        operator: A, (outputs, inputs), (num, outputs, inputs) with one for each image, such as a
            mask, or a linear function of images as `dgm_core.restoration.operator_matrix` takes it.
        scale: the standard deviation of the noise.
        args, kwargs: what makes the model draw num images: size=num, labels, or data, of which only
            the number counts at the site of x.
        site: of the images; None: the last of the model.
        num_draws: chains of each image, all at once.
        steps: transitions of each.
        kernel, target_accept: see `ais`.
        progress: one line of progress.
        seed: of all random numbers.

    Returns:
        `Restored`: draws {site: (num_draws, num, ...)}, ln p(y), effective draws of each image.

    Cost:
        (num_steps of the kernel + 1) (steps + 120) gradients of num_draws num images; where x is
        normal and outputs see several entries each, a Cholesky factor (outputs, outputs) in each.

    Raises:
        ValueError: for bad arguments, discrete latents, and where a diffusion is the prior.

    References:
        Bora et al. (2017), Compressed sensing using generative models, arXiv:1703.03208; Neal
        (2001), Annealed importance sampling, Statistics and Computing 11.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae, seen = VAE(4, 2, hidden=(8,)), np.eye(4)[:2]
        >>> restore(vae, np.ones((3, 2)), seen, 1.0, size=3, num_draws=9, steps=9)["x"].shape
        (9, 3, 4)
    """
    num_draws, progress = check_count("num_draws", num_draws), check_flag("progress", progress)
    scale = check_number("scale", scale, above=0)
    kernel = HMC(0.1, 10) if kernel is None else kernel
    plan = checked_plan(
        steps=steps,
        schedule="sigmoid",
        chains=num_draws,
        adapts=check_kernel(kernel, Langevin),
        target_accept=target_accept,
        reverse=False,
        chunk_size=1,
        seed=seed,
    ).undivided()
    with calling(run_of(run), args, seed=seed, more=kwargs, settle=False) as call, Drawable():
        seen = _Seen(call, y, operator, scale, site)
        call.run = SimpleNamespace(model=seen.model, guide=Guide(seen.model, name="prior"))
        bridge = Bridge(call, num_draws, kernel)
        with Progress(steps + 120, enabled=progress) as bar:
            passes = Passes(bridge, plan, Store(None, {}), bar)
            moving = passes.arrived(bridge.starts(seed=seed))
        rng = np.random.default_rng((seed % 2**64, 5))
        values = bridge.values(resampled(moving, rng)) | seen.noise(num_draws, seed)
        draws = call.repeat(seen.drawn, num_draws, values)
    log_w = moving.log_w.astype(np.float64)
    return as_restored(draws, log_w, float(moving.acceptance[1 : steps + 1].mean()))


class _Seen:
    """A model of which y is seen in place of x.

    Attributes:
        model: with the same arguments.
    """

    def __init__(self, call: Call, y: Any, operator: Any, scale: float, site: Any) -> None:
        self.run, self.scale = call.run, scale
        sites = random_sites(call.forward())
        self.site = last_site(site, list(sites))
        for name, entry in sites.items():
            if isinstance(base_of(entry["fn"]), DiffusionDistribution):
                raise ValueError(no_density_of(name))
        fn = sites[self.site]["fn"]
        batch, self.event_shape = tuple(fn.batch_shape), tuple(fn.event_shape)
        num = batch[0] if len(batch) == 1 else 1
        y, matrix, self.apart = linear_parts(y, operator, self.event_shape, num)
        like = weight_like(call.run)
        self.y, self.matrix = (torch.as_tensor(x).to(like) for x in (y, matrix))
        alone = all(name == self.site or kind_of(s) == "observed" for name, s in sites.items())
        self.moved = alone or mean_of(fn) is None  # chains move x itself
        self.normal = isinstance(entries_of(fn), Normal)

    def model(self, *args: Any, **kwargs: Any) -> Any:
        """The original, with y seen."""
        with _Replaced(self):
            return self.run.model(*args, **kwargs)

    def looked_at(self, fn: Any, x: Tensor | None) -> Any:
        """p(y | z), or p(y | x) where x is drawn."""
        noise = self.scale**2
        if x is not None or not self.normal:
            return Normal(self.applied(fn.mean if x is None else x), self.scale).to_event(1)
        mean, variance = self.applied(fn.mean), self.flat(fn.variance)
        if self.apart:
            spread = self.times(self.matrix**2, variance) + noise
            return Normal(mean, spread.sqrt()).to_event(1)
        return MultivariateNormal(mean, self.covariance(variance))

    def noise(self, num_draws: int, seed: int) -> dict[str, np.ndarray]:
        """What images are drawn from, given latents."""
        rng = np.random.default_rng((seed % 2**64, 6))
        sizes = {X_NOISE: self.matrix.shape[2], Y_NOISE: self.matrix.shape[1]}
        shape = num_draws, len(self.y)
        return {name: rng.standard_normal((*shape, size)) for name, size in sizes.items()}

    def drawn(self, call: Call, given: dict[str, Any]) -> dict[Any, Any]:
        """All latents and the images, at values of those that chains move, from noise."""
        values = {name: x for name, x in given.items() if name not in (X_NOISE, Y_NOISE)}
        if self.moved:
            return values
        own = copy(call)
        own.run = self.run
        fn = random_sites(own.model(values))[self.site]["fn"]
        return values | {self.site: self.given(fn, given) if self.normal else fn.mean}

    def given(self, fn: Any, given: dict[str, Any]) -> Tensor:
        """A draw of a normal x given y: a draw of both, and what y says of the difference."""
        variance = self.flat(fn.variance)
        x_noise, y_noise = (torch.as_tensor(given[name]).to(self.y) for name in (X_NOISE, Y_NOISE))
        x = self.flat(fn.mean) + variance.sqrt() * x_noise
        y = self.times(self.matrix, x) + self.scale * y_noise
        if self.apart:
            own = self.times(self.matrix**2, variance) + self.scale**2
            weighted = (self.y - y) / own
        else:
            left = (self.y - y)[..., None]
            weighted = torch.linalg.solve(self.covariance(variance), left)[..., 0]
        x = x + variance * self.times(self.matrix.mT, weighted)
        return x.reshape(*x.shape[:-1], *self.event_shape)

    def covariance(self, variance: Tensor) -> Tensor:
        """A S A' + scale^2, (*batch, outputs, outputs)."""
        eye = torch.eye(self.matrix.shape[1], dtype=variance.dtype, device=variance.device)
        return (self.matrix * variance[..., None, :]) @ self.matrix.mT + self.scale**2 * eye

    def applied(self, x: Tensor) -> Tensor:
        """A x."""
        return self.times(self.matrix, self.flat(x))

    def flat(self, x: Tensor) -> Tensor:
        """(*batch, *event) -> (*batch, inputs)."""
        return x.reshape(*x.shape[: x.ndim - len(self.event_shape)], -1)

    def times(self, matrix: Tensor, x: Tensor) -> Tensor:
        """A matrix for each of x (*batch, inputs)."""
        return (matrix @ x[..., None])[..., 0]


class _Replaced(Messenger):
    """At the site of x, y is seen by what the distribution of x says of it; where chains move x,
    y is seen behind it.
    """

    def __init__(self, seen: _Seen) -> None:
        super().__init__()
        self.seen = seen

    def _pyro_sample(self, msg: Message) -> None:
        if msg["name"] != self.seen.site:
            return
        if self.seen.moved:
            msg["is_observed"], msg["value"] = False, None
        else:
            msg["is_observed"], msg["value"] = True, self.seen.y
            msg["fn"] = self.seen.looked_at(msg["fn"], None)

    def _pyro_post_sample(self, msg: Message) -> None:
        if msg["name"] == self.seen.site and self.seen.moved:
            fn = self.seen.looked_at(None, msg["value"])
            pyro.sample(f"{msg['name']} seen", fn, obs=self.seen.y)
