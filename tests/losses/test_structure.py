"""What the plates mean depends on the arguments of a call; what does not fit is refused."""

import gc
import math
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

X, LABELS = np.array([0.3, 1.2, -0.7, 2.0]), np.array([0, 1, 2, 2])


def labeled(b: Any) -> tuple[Callable, Callable]:
    """y ~ Categorical, z ~ Normal(0, 1), x ~ Normal(z + y, 1); the guide draws y where it is not
    given, and z from its posterior: the weights are log p(y, x) / q(y)."""
    d = b.dist

    def model(x: Any, y: Any = None) -> None:
        y = y if y is None else y.long() if b.name == "pyro" else y.astype(int)
        with b.plate("data", len(x)):
            y = b.sample("y", d.Categorical(b.array([0.2, 0.3, 0.5])), obs=y)
            z = b.sample("z", d.Normal(b.array(0.0), b.array(1.0)))
            b.sample("x", d.Normal(z + y, b.array(1.0)), obs=x)

    def guide(x: Any, y: Any = None) -> None:
        with b.plate("data", len(x)):
            if y is None:
                y = b.sample("y", d.Categorical(b.array([0.6, 0.3, 0.1])))
            b.sample("z", d.Normal((x - y) / 2, b.array(math.sqrt(0.5))))

    return model, guide


def log_joint(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    prior = np.log([0.2, 0.3, 0.5])[y]
    return prior - (x - y) ** 2 / 4 - 0.5 * math.log(4 * math.pi)


@pytest.mark.parametrize("given_first", [True, False])
def test_a_site_that_is_observed_in_some_calls(backend: Any, given_first: bool) -> None:
    """One loss, labels given and not: exact either way, in both orders."""
    model, guide = labeled(backend)
    loss = backend.losses.IWAE(num_particles=1000)
    evidence = np.log(np.exp(log_joint(X[:, None], np.arange(3))).sum(1)).mean()
    assert evidence == pytest.approx(-1.6707864)
    expected = {True: log_joint(X, LABELS).mean(), False: evidence}
    for given in (given_first, not given_first):
        args = (X, LABELS) if given else (X,)
        found = []
        for seed in range(1 if given else 4):
            total, _, _ = backend.evaluate(loss, model, guide, *args, seed=seed)
            found.append(-total / 4)
        tolerance = 1e-6 if given else 0.05
        assert np.mean(found) == pytest.approx(expected[given], abs=tolerance)


def shared(b: Any) -> tuple[Callable, Callable]:
    """A global latent that the guide draws from what it is given, z from its posterior given it."""
    d = b.dist

    def model(x: Any, size: int) -> None:
        w = b.sample("w", d.Normal(b.array(0.0), b.array(1.0)))
        with b.plate("data", size, subsample_size=len(x)):
            z = b.sample("z", d.Normal(w, b.array(1.0)))
            b.sample("x", d.Normal(z, b.array(1.0)), obs=x)

    def guide(x: Any, size: int) -> None:
        w = b.sample("w", d.Normal(b.array(0.4), b.array(0.5)))
        with b.plate("data", size, subsample_size=len(x)):
            b.sample("z", d.Normal((w + x) / 2, b.array(math.sqrt(0.5))))

    return model, guide


def test_all_data_and_then_a_minibatch(backend: Any) -> None:
    """Global latents are shared by the particles of a minibatch, whatever was evaluated before."""
    model, guide = shared(backend)
    x = np.linspace(-1.0, 3.0, 20)
    used, fresh = backend.losses.IWAE(8), backend.losses.IWAE(8)
    backend.evaluate(used, model, guide, x, size=20)
    for seed in range(2):
        values = [
            backend.evaluate(loss, model, guide, x[:5], seed=seed, size=20)[0]
            for loss in (used, fresh)
        ]
        assert values[0] == pytest.approx(values[1], rel=1e-12)
    # given w the weights are constant: the bound is that of w, exact in expectation
    totals = [-backend.evaluate(used, model, guide, x, seed=s, size=20)[0] for s in range(20)]
    cov = np.ones((20, 20)) + 2 * np.eye(20)
    exact = -0.5 * (x @ np.linalg.solve(cov, x) + np.linalg.slogdet(2 * math.pi * cov)[1])
    assert np.mean(totals) < exact + 0.3
    assert np.mean(totals) > exact - 1.5


def test_a_loss_keeps_no_model_alive(backend: Any) -> None:
    loss = backend.losses.ELBO(num_particles=3)
    gone = []
    for _ in range(2):
        model, guide = labeled(backend)
        args = (backend.array(X),)
        if backend.name == "pyro":
            loss.evaluate(model, guide, args)
        else:
            loss.evaluate(backend.jax.random.key(0), {}, model, guide, args)
        gone.append(weakref.ref(model))
        del model, guide
    gc.collect()
    assert gone[0]() is None


def pair(b: Any, model_fn: Callable, guide_fn: Callable) -> tuple[Callable, Callable]:
    """One latent z in a plate of four data, drawn from what the two functions give."""

    def model(x: Any) -> None:
        with b.plate("data", 4):
            z = b.sample("z", model_fn())
            z = z[..., 0] if np.ndim(z) > np.ndim(x) and z.shape[-1] == 1 else z
            b.sample("x", b.dist.Normal(z, b.array(1.0)), obs=x)

    def guide(x: Any) -> None:
        with b.plate("data", 4):
            b.sample("z", guide_fn())

    return model, guide


def refused(b: Any, model: Callable, guide: Callable, match: str, *args: Any) -> None:
    for num_particles in (1, 3):
        with pytest.raises(ValueError, match=match):
            b.evaluate(b.losses.ELBO(num_particles=num_particles), model, guide, *(args or (X,)))


def test_event_dims_that_disagree(backend: Any) -> None:
    d, one = backend.dist, backend.array(1.0)
    scalar = lambda: d.Normal(backend.array(0.0), one)  # noqa: E731
    vector = lambda: d.Normal(backend.array(np.zeros((4, 1))), one).to_event(1)  # noqa: E731
    match = r"event dims disagree at site 'z': .*\(4,\) and event shape"
    refused(backend, *pair(backend, scalar, vector), match)
    refused(backend, *pair(backend, vector, scalar), match)


def test_shapes_that_disagree(backend: Any) -> None:
    d, one = backend.dist, backend.array(1.0)

    def model(x: Any) -> None:
        w = backend.sample("w", d.Normal(backend.array(0.0), one))
        with backend.plate("data", 4):
            backend.sample("x", d.Normal(w, one), obs=x)

    def guide(x: Any) -> None:
        with backend.plate("other", 4):
            backend.sample("w", d.Normal(backend.array(0.0), one))

    refused(backend, model, guide, "shapes disagree at site 'w'")


def test_a_batch_dimension_that_is_no_plate(backend: Any) -> None:
    """Seven draws of one's own beside the plate would be summed as if they were data."""
    d, one = backend.dist, backend.array(1.0)

    def model(x: Any) -> None:
        w = backend.sample("w", d.Normal(backend.array(np.zeros((7, 1))), one).to_event(2))
        with backend.plate("data", 4):
            backend.sample("x", d.Normal(w * backend.array(np.ones((7, 1))), one), obs=x)

    def guide(x: Any) -> None:
        backend.sample("w", d.Normal(backend.array(np.zeros((7, 1))), one).to_event(2))

    with pytest.raises(ValueError, match=r"'x' has log-densities of shape \(7, 4\), but no plate"):
        backend.evaluate(backend.losses.ELBO(), model, guide, X)
    loss = backend.losses.ELBO(num_particles=3, vectorize=False)
    with pytest.raises(ValueError, match="'x' has log-densities of shape"):
        backend.evaluate(loss, model, guide, X)


def test_values_broader_than_their_distribution(backend: Any) -> None:
    """(4, 1) against (4,) would count every pair of data."""
    d, one = backend.dist, backend.array(1.0)

    def model(x: Any) -> None:
        w = backend.sample("w", d.Normal(backend.array(0.0), one))
        with backend.plate("data", 4, dim=-2):
            backend.sample("x", d.Normal(w * backend.array(np.ones((4, 1))), one), obs=x)

    def guide(x: Any) -> None:
        backend.sample("w", d.Normal(backend.array(0.0), one))

    refused(backend, model, guide, r"'x' has log-densities of shape \(4, 4\)")


def test_guides_that_observe(backend: Any) -> None:
    """A site that is scored on both sides; model and guide in the wrong order."""
    model, guide = shared(backend)

    def observing(x: Any, size: int) -> None:
        guide(x, size)
        with backend.plate("again", len(x)):
            fn = backend.dist.Normal(backend.array(0.0), backend.array(1.0))
            backend.sample("x", fn, obs=x, infer={"is_auxiliary": True})

    for pair_ in ((model, observing), (guide, model)):
        with pytest.raises(ValueError, match=r"The guide observes \['x'\], but a guide only draws"):
            backend.evaluate(backend.losses.ELBO(), *pair_, X, size=4)


@pytest.mark.parametrize("side", ["model", "guide"])
def test_enumeration_is_refused(backend: Any, side: str) -> None:
    d = backend.dist

    def draws(x: Any, infer: dict | None) -> Any:
        return backend.sample("y", d.Categorical(backend.array([0.2, 0.8])), infer=infer or {})

    enumerated = {"enumerate": "parallel"}

    def model(x: Any) -> None:
        with backend.plate("data", 4):
            y = draws(x, enumerated if side == "model" else None)
            backend.sample("x", d.Normal(1.0 * y, backend.array(1.0)), obs=x)

    def guide(x: Any) -> None:
        if side == "guide":
            with backend.plate("data", 4):
                draws(x, enumerated)

    refused(backend, model, guide, r"\['y'\] ask to be enumerated")


def test_a_guide_of_another_size(backend: Any) -> None:
    """What a minibatch asks of a guide is said in words."""
    model, _ = shared(backend)
    d = backend.dist

    def guide(x: Any, size: int) -> None:
        backend.sample("w", d.Normal(backend.array(0.0), backend.array(1.0)))
        backend.sample("z", d.Normal(backend.array(np.zeros(4)), backend.array(1.0)))

    match = r"'z' lies in the subsampled plate .* automatic guide of all latents jointly"
    with pytest.raises(ValueError, match=match):
        backend.evaluate(backend.losses.ELBO(), model, guide, X, size=20)


def test_a_prior_that_cannot_be_drawn_from_is_named(backend: Any) -> None:
    """A term that compares what the model draws, over a flat prior."""
    improper = backend.dist.ImproperUniform(backend.dist.constraints.real, (), ())

    def model(x: Any) -> None:
        level = backend.sample("level", improper)
        with backend.plate("data", len(x)):
            backend.sample("x", backend.dist.Normal(level, 0.7), obs=x)

    def guide(x: Any) -> None:
        backend.sample("level", backend.dist.Normal(backend.array(0.3), 0.2))

    x = np.linspace(-1.0, 2.0, 6)
    assert np.isfinite(backend.evaluate(backend.losses.ELBO(), model, guide, x)[0])
    with pytest.raises(ValueError, match="Site 'level' has a ImproperUniform distribution"):
        backend.evaluate(backend.losses.MMD("x"), model, guide, x)
