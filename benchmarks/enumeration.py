"""Cost of an enumerated step: M2 beside the same bound written by hand, in both libraries.

    python benchmarks/enumeration.py [--hidden 500] [--rounds 60]

Protocol: M2(784, 50, 10) with one hidden layer, 100 data of which 10 have labels, ELBO(enumerate=
"y") + 20 NLL("y"), value and gradient of all parameters, one thread, validation off; in Pyro not
compiled, in NumPyro compiled. By hand are the same networks: "stacked" calls encoder and decoder
once on data and labels side by side, ten times the batch; "split" multiplies what does not depend
on the label once, as the library's MLP does by itself. Steps take turns; recorded is the least and
the median of processor time, in milliseconds, and the values, which differ by their draws only.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.results import format_table

BATCH, CODES, CLASSES, WEIGHT = 100, 50, 10, 20.0


def data() -> tuple[np.ndarray, np.ndarray]:
    """Images of independent pixels, a tenth of them with labels."""
    rng = np.random.default_rng(0)
    x = (rng.random((BATCH, 784)) < 0.2).astype("float32")
    return x, np.where(np.arange(BATCH) < BATCH // 10, rng.integers(0, CLASSES, BATCH), -1)


def steps_pyro(hidden: int) -> dict[str, Callable]:
    """Steps that return the loss and have found its gradient."""
    import pyro
    import torch
    import torch.nn.functional as F

    from pyro_dgm import M2
    from pyro_dgm.losses import ELBO, NLL

    torch.set_num_threads(1)
    pyro.enable_validation(False)
    torch.manual_seed(0)
    m2 = M2(784, CODES, CLASSES, hidden=(hidden,))
    x, y = map(torch.as_tensor, data())
    loss, parameters = ELBO(enumerate="y") + WEIGHT * NLL("y"), list(m2.parameters())
    eye = torch.eye(CLASSES)[:, None].expand(-1, BATCH, -1)

    def library() -> torch.Tensor:
        return loss.evaluate(m2.model, m2.guide, (x, y)).per_datum

    def by_hand(split: bool) -> torch.Tensor:
        def run(network: Any, part: torch.Tensor) -> torch.Tensor:
            layer, size = network.layers[0], part.shape[-1]
            if not split:
                return torch.relu(layer(torch.cat([part.expand(CLASSES, BATCH, size), eye], -1)))
            of_label = layer.weight[:, size:].T[:, None]
            return torch.relu(F.linear(part, layer.weight[:, :size], layer.bias) + of_label)

        loc, raw = m2.posterior.head(run(m2.encoder, x)).chunk(2, -1)
        scale = m2.posterior.positive(raw)
        noise = torch.randn_like(loc)
        logits = m2.likelihood.head(run(m2.decoder, loc + scale * noise))
        fit = (x * logits - F.softplus(logits)).sum(-1)
        kl = (0.5 * ((loc + scale * noise) ** 2 - noise**2) - scale.log()).sum(-1)
        bound = fit - kl - np.log(CLASSES)  # (classes, batch)
        log_q = m2.classes.head(torch.relu(m2.classifier.layers[0](x))).log_softmax(-1).T
        labeled, label = y >= 0, y.clamp(min=0)[None]
        missing = (log_q.exp() * (bound - log_q)).sum(0)
        value = torch.where(labeled, bound.gather(0, label)[0], missing)
        return -(value + WEIGHT * torch.where(labeled, log_q.gather(0, label)[0], 0.0)).mean()

    def step(value: Callable) -> float:
        found = value()
        torch.autograd.grad(found, parameters)
        return found.item()

    ways = {"library": library, "stacked": partial(by_hand, False), "split": partial(by_hand, True)}
    return {name: partial(step, way) for name, way in ways.items()}


def steps_numpyro(hidden: int) -> dict[str, Callable]:
    """Steps that return the loss and have found its gradient."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import numpyro

    from numpyro_dgm import M2
    from numpyro_dgm.losses import ELBO, NLL

    numpyro.enable_validation(False)
    m2 = M2(784, CODES, CLASSES, hidden=(hidden,), key=jax.random.key(0))
    x, y = map(jnp.asarray, data())
    loss = ELBO(enumerate="y") + WEIGHT * NLL("y")
    key = jax.random.key(1)
    arrays, rest = eqx.partition(m2, eqx.is_inexact_array)
    eye = jnp.broadcast_to(jnp.eye(CLASSES)[:, None], (CLASSES, BATCH, CLASSES))
    with numpyro.handlers.seed(rng_seed=0):
        trace = numpyro.handlers.trace(m2.guide).get_trace(x, y)
        trace = {**trace, **numpyro.handlers.trace(m2.model).get_trace(x, y)}
    params = {name: site["value"] for name, site in trace.items() if site["type"] == "param"}

    def library(params: Any, key: Any) -> Any:
        return loss.evaluate(key, params, m2.model, m2.guide, (x, y)).per_datum

    def by_hand(split: bool, arrays: Any, key: Any) -> Any:
        own = eqx.combine(arrays, rest)

        def run(network: Any, part: Any) -> Any:
            layer, size = network.layers[0], part.shape[-1]
            if not split:
                wide = jnp.broadcast_to(part, (CLASSES, BATCH, size))
                return jax.nn.relu(layer(jnp.concatenate([wide, eye], -1)))
            of_label = layer.weight[:, size:].T[:, None]
            return jax.nn.relu(part @ layer.weight[:, :size].T + layer.bias + of_label)

        loc, raw = jnp.split(own.posterior.head(run(own.encoder, x)), 2, -1)
        scale = own.posterior.positive(raw)
        noise = jax.random.normal(key, (CLASSES, BATCH, CODES))
        logits = own.likelihood.head(run(own.decoder, loc + scale * noise))
        fit = (x * logits - jax.nn.softplus(logits)).sum(-1)
        kl = (0.5 * ((loc + scale * noise) ** 2 - noise**2) - jnp.log(scale)).sum(-1)
        bound = fit - kl - np.log(CLASSES)  # (classes, batch)
        hidden = jax.nn.relu(own.classifier.layers[0](x))
        log_q = jax.nn.log_softmax(own.classes.head(hidden), -1).T
        labeled, label = y >= 0, y.clip(0)[None]
        missing = (jnp.exp(log_q) * (bound - log_q)).sum(0)
        value = jnp.where(labeled, jnp.take_along_axis(bound, label, 0)[0], missing)
        right = jnp.take_along_axis(log_q, label, 0)[0]
        return -(value + WEIGHT * jnp.where(labeled, right, 0.0)).mean()

    def step(value: Callable, arguments: Any) -> float:
        return float(jax.block_until_ready(value(arguments, key))[0])

    ways = {
        "library": (library, params),
        "stacked": (partial(by_hand, False), arrays),
        "split": (partial(by_hand, True), arrays),
    }
    return {
        name: partial(step, jax.jit(jax.value_and_grad(way)), own)
        for name, (way, own) in ways.items()
    }


def main() -> None:
    """Times both libraries and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=60)
    arguments, rows = parser.parse_args(), []
    for backend, make in (("pyro", steps_pyro), ("numpyro", steps_numpyro)):
        steps = make(arguments.hidden)
        times: dict[str, list[float]] = {name: [] for name in steps}
        values: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(arguments.rounds):
            for name, step in steps.items():
                start = time.process_time()
                values[name].append(step())
                times[name].append(1e3 * (time.process_time() - start))
        for name, own in times.items():
            row: dict[str, Any] = {"library": backend, "step": name, "hidden": arguments.hidden}
            for label, of in (("least", np.min), ("median", np.median)):
                row[label] = f"{of(own[3:]):.2f}"
                row[f"of {label}, stacked"] = f"{of(own[3:]) / of(times['stacked'][3:]):.2f}"
            rows.append({**row, "loss": f"{np.mean(values[name]):.2f}"})
    protocol = __doc__[__doc__.index("Protocol") :]
    text = f"# Enumerated steps\n\n```\n{format_table(rows)}\n```\n\n{protocol}"
    path = Path(__file__).parent / "results" / "enumeration.md"
    path.write_text(f"{text}\nHardware: 2 shared CPU cores, x86_64.\n")
    print(text)


if __name__ == "__main__":
    main()
