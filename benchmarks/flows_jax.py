"""The libraries on JAX that `flows.py` measures: library -> task -> what to time."""

import importlib.util
from collections.abc import Callable
from typing import Any


def jax_libraries(
    dim: int, hidden: tuple[int, ...], batch: int
) -> dict[str, dict[str, Callable[[], Any]]]:
    """The same for JAX; every task is jitted."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    key = jax.random.key(0)
    x = jax.random.normal(key, (batch, dim))
    found: dict[str, dict[str, Callable[[], Any]]] = {}

    def add(
        name: str, params: Any, log_prob: Callable[[Any], Any], sample: Callable[[Any], Any]
    ) -> None:
        leaves, structure = jax.tree.flatten(params)

        def task(run: Callable) -> Callable[[], Any]:
            jitted = jax.jit(run)

            def call() -> Any:
                return jax.block_until_ready(jitted(leaves))

            call.compiled = lambda: jitted.lower(leaves).compile()  # type: ignore[attr-defined]
            return call

        def gradient(run: Callable) -> Callable[[], Any]:
            return task(jax.grad(lambda leaves: run(leaves).mean()))

        log_prob, sample = (
            lambda leaves, run=run: run(jax.tree.unflatten(structure, leaves))
            for run in (log_prob, sample)
        )
        found[name] = {
            "log_prob": task(log_prob),
            "sample": task(sample),
            "log_prob+grad": gradient(log_prob),
            "sample+grad": gradient(sample),
        }

    from numpyro_dgm.flows import IAF, MAF

    for name, cls in (("numpyro_dgm MAF", MAF), ("numpyro_dgm IAF", IAF)):
        params, static = eqx.partition(
            cls(dim, num_layers=1, hidden=hidden, key=key), eqx.is_inexact_array
        )

        def score(params: Any, static: Any = static) -> Any:
            return eqx.combine(params, static)().log_prob(x)

        def draw(params: Any, static: Any = static) -> Any:
            return eqx.combine(params, static)().sample(key, (batch,))

        add(name, params, *((score, draw) if cls is MAF else (draw, score)))
    if importlib.util.find_spec("flowjax"):
        import paramax
        from flowjax.distributions import StandardNormal
        from flowjax.flows import masked_autoregressive_flow

        flow = masked_autoregressive_flow(
            key,
            base_dist=StandardNormal((dim,)),
            flow_layers=1,
            nn_width=hidden[0],
            nn_depth=len(hidden),
        )
        params, static = eqx.partition(
            flow, eqx.is_inexact_array, is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable)
        )
        add(
            "FlowJAX",
            params,
            lambda params: eqx.combine(params, static).log_prob(x),
            lambda params: eqx.combine(params, static).sample(key, (batch,)),
        )
    import numpyro.distributions as dist
    from numpyro.distributions.flows import InverseAutoregressiveTransform
    from numpyro.nn.auto_reg_nn import AutoregressiveNN

    init, network = AutoregressiveNN(dim, list(hidden))
    _, params = init(key, (batch, dim))

    def density(params: Any) -> Any:
        transform = InverseAutoregressiveTransform(lambda x: network(params, x))
        return dist.TransformedDistribution(
            dist.Normal(jnp.zeros(dim), 1.0).to_event(1), [transform.inv]
        )

    add(
        "NumPyro",
        params,
        lambda params: density(params).log_prob(x),
        lambda params: density(params).sample(key, (batch,)),
    )
    return found
