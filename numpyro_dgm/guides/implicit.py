"""A guide without a density:  u = start + spread exp(log_scale) (shift + g(eps)), or
z = g(eps, features)."""

from collections.abc import Callable, Iterable
from typing import Any

from jax import Array

from dgm_core.amortized import Inputs
from dgm_core.guides import check_unused
from numpyro_dgm.conditionals import Generator
from numpyro_dgm.guides.amortized import AmortizedGuide
from numpyro_dgm.guides.base import Guide
from numpyro_dgm.guides.joint import JointGuide
from numpyro_dgm.guides.starts import Init

__all__ = ["ImplicitGuide"]


class ImplicitGuide(Guide):
    """A guide that can be drawn from but not scored: a network of noise draws the latent sites.

    Train it by `RatioELBO`, whose critic stands in for log q; ELBO, IWAE and importance weights
    refuse it, `sample_posterior` and all that only draws takes it.

    Args:
        model: any callable of sample statements.
        encoder: as for `AmortizedGuide`, then the local sites are drawn from noise and features;
            None: all sites jointly from noise, mapped to their supports as by `JointGuide`.
        generator: what builds an implicit conditional, `generator(dim, context_shape=...)`.
        inputs, plate: what the encoder reads and which sites are local, as for `AmortizedGuide`.
        sites, init, init_scale: as for `JointGuide`, without an encoder.
        name: of its parameters and auxiliary sites.

    Raises:
        ValueError: as both of these; for arguments of the one with the other.
        NoDensityError: a ValueError, from whatever asks for its density.

    References:
        Mescheder, Nowozin and Geiger (2017), arXiv:1701.04722; Huszar (2017), arXiv:1702.08235.

    Example:
        >>> def model(x):
        ...     w = numpyro.sample("w", numpyro.distributions.Normal(jnp.zeros(2), 1.0).to_event(1))
        ...     with numpyro.plate("data", len(x)):
        ...         numpyro.sample("x", numpyro.distributions.Normal(w.prod(-1), 1.0), obs=x)
        >>> guide = ImplicitGuide(model, key=jax.random.key(0))
        >>> numpyro.handlers.seed(guide, 0)(jnp.ones(4))["w"].shape
        (2,)
    """

    def __init__(
        self,
        model: Callable,
        encoder: Callable | None = None,
        generator: Any = Generator,
        *,
        inputs: Inputs = None,
        plate: str | Iterable[str] | None = None,
        sites: Iterable[str] | None = None,
        init: Init = None,
        init_scale: float | None = None,
        name: str = "implicit",
        key: Array | None = None,
    ) -> None:
        part: Any
        if encoder is None:
            check_unused(inputs=inputs, plate=plate, without="an encoder")
            part = JointGuide.part(generator, sites=sites, init=init, init_scale=init_scale)
        else:
            unused = {"sites": sites, "init": init, "init_scale": init_scale}
            check_unused(**unused, without="a joint vector (encoder=None)")
            part = AmortizedGuide.part(encoder, generator, inputs=inputs, plate=plate)
        super().__init__(model, [part], name=name, key=key)
