"""The engine's own NUTS on the posterior of any model, started and transported by a guide."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import torch
from pyro.infer import MCMC, NUTS
from torch import Tensor

from dgm_core.arguments import check_count, check_counts, check_number, check_seed
from dgm_core.chains import NUM_STARTS, Chains, Surroundings
from dgm_core.evaluation import check_no_nan
from dgm_core.posterior import weighted
from dgm_core.training.threads import one_at_a_time
from pyro_dgm.evaluation.arviz import axes_of
from pyro_dgm.evaluation.calls import Call, as_numpy, calling
from pyro_dgm.evaluation.draws import read_values
from pyro_dgm.evaluation.posterior import (
    Posterior,
    Scored,
    graph_of,
    model_sites,
    unconstrained,
)
from pyro_dgm.nn.register import unwatched

__all__ = ["nuts"]


@one_at_a_time
def nuts(
    model: Any,
    *args: Any,
    start: Any = None,
    through: Any = None,
    num_draws: int = 1000,
    num_warmup: int = 1000,
    num_chains: int = 4,
    target_accept: float = 0.8,
    seed: int = 0,
    **kwargs: Any,
) -> Chains:
    """Draws from the posterior of a model by the engine's No-U-Turn sampler.

    All latents are mapped to the real line site by site, in the run at hand, so that bounds may
    depend on other sites; factors, masks and scales count as the model states them.

    Args:
        model: a model, with the weights that it has; or a run, with its weights.
        args, kwargs: the arguments of the model, in any form that `fit` takes.
        start: a run: chains start from draws of its guide, and its draws' mean and covariance
            (their variances, above 200 dimensions) are where the mass matrix starts from.
        through: a run: its guide is a transport map. The sampler sees the standard normal noise
            that the guide makes its draws from, under which a good guide's posterior is normal.
            For guides that draw from normals under known maps: joint automatic guides, flows,
            hierarchies and amortized guides of normals.
        num_draws, num_warmup: of each chain; four draws at least, of which split R-hat is made.
        num_chains: one after the other in Pyro, at once in NumPyro.
        target_accept: the acceptance probability that the step size is adapted to.
        seed: of all random numbers.

    Returns:
        `Chains`: {site: (num_chains, num_draws, ...)}, latent and deterministic sites in the
        model's order, with `diverging`, `rhat()` and `to_arviz()`.

    Cost:
        per draw 1 to 1023 gradients of the log-density, some 10 to 30 in practice; 1 to 2 ms each
        in Pyro, which runs step by step.

    Raises:
        ValueError: for bad arguments, discrete latents, a plate that holds a part of its data,
            sites inside a scan (NumPyro), start and through at once, and chains that are NaN.

    References:
        Hoffman and Gelman (2014), The No-U-Turn sampler, JMLR 15; Parno and Marzouk (2018),
        Transport map accelerated MCMC, SIAM/ASA J. UQ 6; Hoffman et al. (2019), NeuTra-lizing bad
        geometry, arXiv:1903.03704.

    Example:
        >>> def model(x):
        ...     mu = pyro.sample("mu", pyro.distributions.Normal(0.0, 10.0))
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("x", pyro.distributions.Normal(mu, 1.0), obs=x)
        >>> chains = nuts(model, np.array([3.0, 4.0, 5.0]), num_draws=20, num_chains=1)
        >>> chains["mu"].shape
        (1, 20)
    """
    num_draws = check_count("num_draws", num_draws, 4)
    num_warmup, num_chains = check_counts(num_warmup=num_warmup, num_chains=num_chains)
    target_accept = check_number("target_accept", target_accept, above=0, below=1)
    seed = check_seed("seed", seed)
    run = weighted(model, start, through)
    with calling(run, args, seed=seed, more=kwargs, settle=False) as call:
        posterior = Posterior(call, through=through is not None)
        around = Surroundings(posterior.size, None if start is None else _draws(call), seed)

        def log_density(e: Tensor) -> Tensor:
            shift, scale = (torch.as_tensor(x, dtype=e.dtype).to(e) for x in around.affine)
            return posterior.log_density(shift + scale @ e)

        with pyro.validation_enabled(False):  # what is not finite is no place to start from
            starts = around.starts(lambda e: float(log_density(_tensor(call, e))), num_chains)
        draws, diverging = _sample(
            log_density,
            [_tensor(call, e) for e in starts],
            num_draws=num_draws,
            num_warmup=num_warmup,
            target_accept=target_accept,
            seed=seed,
        )
        check_no_nan({"all latents": draws}, "A chain")
        placed = {"e": around.moved(draws).reshape(num_chains * num_draws, -1)}
        values = call.repeat(
            lambda _, given: posterior.values(_tensor(call, given["e"])), len(placed["e"]), placed
        )
        last = posterior.trace(_tensor(call, placed["e"][-1]))
        dims = {name: axes_of(name, site, {}) for name, site in model_sites(last).items()}
    shape = (num_chains, num_draws)
    chains = {name: x.reshape(*shape, *x.shape[1:]) for name, x in values.items()}
    return Chains(chains, diverging=diverging, dims=dims)


def _draws(call: Call) -> np.ndarray:
    """Draws of the guide on the real line."""
    drawn = read_values(call, NUM_STARTS)
    return call.repeat(lambda c, z: {"u": unconstrained(c.model(z))}, NUM_STARTS, drawn)["u"]


def _sample(
    log_density: Callable[[Tensor], Tensor],
    starts: list[Tensor],
    *,
    num_draws: int,
    num_warmup: int,
    target_accept: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws (num_chains, num_draws, size) and which of them diverged."""
    draws, diverging = [], np.zeros((len(starts), num_draws), bool)
    with torch.enable_grad(), pyro.validation_enabled(False), unwatched():
        gradient = graph_of(_with_gradient(log_density), [(e,) for e in starts])
        for chain, e in enumerate(starts):
            torch.manual_seed(seed % 2**62 + chain)
            kernel = NUTS(
                potential_fn=lambda z: -Scored.apply(z["e"], gradient),
                target_accept_prob=target_accept,
            )
            options = {"initial_params": {"e": e}, "disable_progbar": True}
            sampler = MCMC(kernel, num_draws, num_warmup, **options)
            sampler.run()
            draws.append(as_numpy(sampler.get_samples()["e"]))
            diverging[chain, sampler.diagnostics()["divergences"]["chain 0"]] = True
    return np.stack(draws), diverging


def _with_gradient(
    log_density: Callable[[Tensor], Tensor],
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Value and gradient."""

    def both(e: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            e = e.detach().requires_grad_()
            value = log_density(e)
            return value.detach(), torch.autograd.grad(value, e)[0]

    return both


def _tensor(call: Call, e: np.ndarray) -> Tensor:
    return torch.as_tensor(e, dtype=torch.get_default_dtype(), device=call.device)
