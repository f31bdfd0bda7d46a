"""The density of flat values that NUTS samples, by one face."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np


def density(
    b: Any, model: Callable, data: Any, e: np.ndarray, *, guide: Callable | None = None
) -> tuple[float, np.ndarray, dict[str, np.ndarray]]:
    """Log-density at e, its gradient, and the values of the sites; e may be longer than needed."""
    run = SimpleNamespace(model=model, guide=guide or model)
    if b.name == "pyro":
        from pyro_dgm.evaluation.calls import calling
        from pyro_dgm.evaluation.posterior import Posterior

        with calling(run, data, settle=False) as call:
            posterior = Posterior(call, through=guide is not None)
            with b.torch.enable_grad():
                at = b.array(e[: posterior.size]).requires_grad_()
                value = posterior.log_density(at)
                (gradient,) = b.torch.autograd.grad(value, at)
            values = {n: np.asarray(x.detach()) for n, x in posterior.values(at).items()}
            return value.item(), gradient.numpy(), values
    from numpyro_dgm.evaluation.calls import calling
    from numpyro_dgm.evaluation.posterior import Posterior

    with calling(run, data, settle=False) as call:
        posterior = Posterior(call, through=guide is not None)
        at = b.array(e[: posterior.size])

        @b.jax.jit
        def all_of(at: Any) -> Any:
            return b.jax.value_and_grad(posterior.log_density)(at), posterior.values(at)

        (value, gradient), values = all_of(at)
        return float(value), np.asarray(gradient), {n: np.asarray(x) for n, x in values.items()}
