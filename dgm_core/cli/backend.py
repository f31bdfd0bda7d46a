"""What the command line needs of a backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Backend:
    """The parts of a backend, put together in its `__main__`. Both have the same names, so the rest
    is shared.

    Args:
        name: "pyro_dgm" or "numpyro_dgm".
        libraries: the distributions whose versions `config.json` records.
        models, conditionals, flows, losses: the modules of these names. Used of them: `VAE`,
            `ConvVAE`; `StandardNormal`, `DiagonalNormal`, `FullRankNormal`, `LowRankNormal`,
            `MixturePrior`; `IAF`, `MAF`, `Householder`, `Planar`, `Sylvester`; all conditionals on
            numbers; `ELBO`, `IWAE`.
        fit, Adam, binarize: of `training`; `binarize` is a `transform` for `fit`.
        log_weights: (run, x, num_particles=, seed=) -> (num_particles, num_data).
        to_arviz: (run, x, num_draws=, seed=) -> arviz.InferenceData.
        generate: (run, size=, seed=, means=) -> {"x": (size, ...)}.
        reconstruct: (run, x, seed=) -> {"x": means shaped as x}.
        latents: (run, x, num_draws=, seed=) -> {"z": (num_draws, num_data, z_dim)}; with means=True
            {"z": (num_data, z_dim)}.
        maker: seed -> make, where make(cls, *args, **kwargs) builds a module with its own random
            weights and leaves the user's random state alone.
    """

    name: str
    libraries: Sequence[str]
    models: Any
    conditionals: Any
    flows: Any
    losses: Any
    fit: Callable[..., Any]
    Adam: Callable[..., Any]
    binarize: Callable[..., Any]
    log_weights: Callable[..., Any]
    to_arviz: Callable[..., Any]
    generate: Callable[..., Any]
    reconstruct: Callable[..., Any]
    latents: Callable[..., Any]
    maker: Callable[[int], Callable[..., Any]]

    def conditional(self, name: str) -> Callable[..., Any]:
        """The class of a prior or posterior."""
        return getattr(self.conditionals, name, None) or getattr(self.flows, name)
