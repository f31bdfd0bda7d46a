"""A Boltzmann machine of which everything is known, and a classifier that is a density."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dgm_core.annealing.boltzmann import annealed_boltzmann, states
from tests.energies.toys import nothing, numbers, part
from tests.losses.training import build, package

W = np.array([[1, -0.5], [0.5, 0.8], [-1.2, 0.3]])
B, C = np.array([0.1, -0.2, 0.3]), np.array([-0.4, 0.2])
LOG_Z = 3.88045425
P = np.array([0.07658913, 0.08870167, 0.13228509, 0.14197412, 0, 0, 0, 0])
P[4:] = 0.11207230, 0.09538641, 0.19808839, 0.15490288
DATA = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [1, 1, 1]], float)
SLOPE = [[0.13937464, 0.10893041], [-0.0207832, -0.11034893], [0.00301209, 0.00675479]]


def machine(backend: Any, weight: np.ndarray = W, b: np.ndarray = B, c: np.ndarray = C) -> Any:
    rbm = build(backend, package(backend).models.RBM, *weight.shape, num_steps=3)
    values = {"weight": weight, "visible": b, "hidden": c}
    if backend.name == "pyro":
        for name, value in values.items():
            getattr(rbm, name).data = backend.array(value)
        return rbm
    import equinox as eqx

    return eqx.tree_at(
        lambda rbm: [getattr(rbm, name) for name in values],
        rbm,
        [backend.array(value) for value in values.values()],
    )


def slope(backend: Any, function: Callable, rbm: Any) -> tuple[float, np.ndarray]:
    """A number, and its gradient in W."""
    if backend.name == "pyro":
        value = function(rbm)
        return value.item(), backend.torch.autograd.grad(value, rbm.weight)[0].numpy()
    value, gradient = backend.jax.jit(backend.jax.value_and_grad(function))(rbm)
    return float(value), np.asarray(gradient.weight)


def terms_of(backend: Any, loss: Any, model: Callable, *args: Any) -> dict[str, float]:
    """What a loss logs of a model at its own weights."""
    if backend.name == "pyro":
        found = loss.evaluate(model, nothing, args).terms
    else:
        jax, params = backend.jax, backend.parameters(model, *args)

        def run(params: Any) -> Any:
            return loss.evaluate(jax.random.key(0), params, model, nothing, args).terms

        found = jax.jit(run)(params)
    return {name: float(value) for name, value in found.items()}


def test_a_boltzmann_machine(backend: Any) -> None:
    """Exact constants, probabilities and gradients; CD-k by the kernel's own probabilities tends to
    the gradient of the likelihood."""
    rbm, v, x = machine(backend), backend.array(states(3)), backend.array(DATA)
    wide = machine(backend, W.T, C, B)  # the other layer is enumerated
    call = backend.jax.jit if backend.name == "numpyro" else lambda function: function
    found = call(lambda: (rbm.log_z(), wide.log_z(), rbm.log_prob(v)))()
    log_z, other, log_p = map(numbers, found)
    assert log_z == pytest.approx(LOG_Z, abs=5e-9) and other == pytest.approx(LOG_Z, abs=5e-9)
    np.testing.assert_allclose(np.exp(log_p), P, atol=5e-9)
    mean, exact = slope(backend, lambda rbm: rbm.log_prob(x).mean(), rbm)
    assert mean == pytest.approx(-2.02377162, abs=5e-9)
    np.testing.assert_allclose(exact, SLOPE, atol=5e-9)
    h = states(2)
    up = np.prod(np.where(h[None], p_up := sigmoid(C + states(3) @ W)[:, None], 1 - p_up), -1)
    down = np.prod(np.where(states(3), p := sigmoid(B + h @ W.T)[:, None], 1 - p), -1)
    start = np.bincount((DATA @ [4, 2, 1]).astype(int), minlength=8) / 4
    ends = backend.array(start @ np.linalg.matrix_power(up @ down, 10))
    _, cd = slope(backend, lambda r: r.potential(x).mean() - (ends * r.potential(v)).sum(), rbm)
    np.testing.assert_allclose(cd, exact, atol=1e-7)
    many = np.tile(DATA[3], (40_000, 1))
    moved = stepped(backend, rbm, many)
    found = np.bincount((moved @ [4, 2, 1]).astype(int), minlength=8) / len(many)
    np.testing.assert_allclose(found, (up @ down)[7], atol=0.01)


def stepped(backend: Any, rbm: Any, v: np.ndarray) -> np.ndarray:
    """One step of its kernel."""
    mcmc, kernel = part(backend, "mcmc"), rbm().kernel

    def step(v: Any, **key: Any) -> Any:
        state = mcmc.start(rbm.potential, v)
        return kernel(rbm.potential, state, kernel.noise(state, **key))[0].position

    if backend.name == "pyro":
        with backend.torch.no_grad():
            return numbers(step(backend.array(v)))
    key = backend.jax.random.key(0)
    return np.asarray(backend.jax.jit(lambda v: step(v, key=key))(backend.array(v)))


@pytest.mark.parametrize("seed", [1, 2])
def test_an_interval_of_ln_z(seed: int) -> None:
    """Of width below .05, and smaller errors, in numpy for both libraries."""
    settings = {"steps": 500, "chains": 100, "schedule": "linear", "seed": seed}
    bounds = annealed_boltzmann(W, B, C, **settings)
    assert bounds.exact and bounds.lower[0] - 0.01 < LOG_Z < bounds.upper[0] + 0.01
    assert abs(bounds.gap[0]) < 0.05
    strong = annealed_boltzmann(3 * W, B, C, **{**settings, "steps": 4, "chains": 400})
    v = states(3)
    exact = np.logaddexp.reduce(v @ B + np.logaddexp(0, C + v @ (3 * W)).sum(1))
    assert strong["AIS"][0] - 0.2 < exact < strong["reverse AIS"][0] + 0.2
    assert strong.forward.mean() < exact < strong.reverse.mean()


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_a_machine_as_a_model(backend: Any) -> None:
    """Its likelihood where ln Z is stated, its interval, and CD by block Gibbs steps, which after
    30 of them is that of the likelihood up to the noise of the chains."""
    losses, rbm = backend.losses, machine(backend)
    stated = part(backend, "evaluation").normalized(rbm.model, {"x": LOG_Z})
    found = terms_of(backend, losses.NLL(), stated, backend.array(DATA))
    assert found["NLL"] == pytest.approx(2.02377162, abs=2e-8)
    assert abs(rbm.annealed(steps=50, chains=50).lower[0] - LOG_Z) < 0.1
    with pytest.raises(ValueError, match=r"'x' is discrete: an RBM has annealed\(\)"):
        part(backend, "evaluation").annealed_log_z(rbm, steps=2, chains=2, progress=False)
    loss = losses.ContrastiveDivergence("x", steps=30)
    found = terms_of(backend, loss, rbm.model, backend.array(np.tile(DATA, (2000, 1))))
    energy = -(DATA @ B + np.logaddexp(0, C + DATA @ W).sum(1))
    expected = energy.mean() + P @ (states(3) @ B + np.logaddexp(0, C + states(3) @ W).sum(1))
    assert found[loss.name] == pytest.approx(expected, abs=0.06)


def test_a_joint_energy_model(backend: Any) -> None:
    """f(x)_y = log w_y - (x - m_y)^2 / 2 + x^2 / 2 under a standard normal base is a mixture: its
    constant, the probabilities of its labels, and both terms."""
    means, weights = np.array([[1.0, -0.5], [-2.0, 0.3]]), np.array([0.3, 0.7])
    nn = package(backend).nn
    linear = build(backend, nn.Linear, 2, 2)
    bias = np.log(weights) - (means**2).sum(1) / 2
    if backend.name == "pyro":
        linear.weight.data, linear.bias.data = backend.array(means), backend.array(bias)
    else:
        import equinox as eqx

        both = [backend.array(means), backend.array(bias)]
        linear = eqx.tree_at(lambda own: [own.weight, own.bias], linear, both)
    jem = build(backend, package(backend).models.JEM, 2, 2, classifier=linear, num_steps=2)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 2)), np.array([0, 1, 1, 0, 1, 0])
    density = weights * np.exp(-((x[:, None] - means) ** 2).sum(-1) / 2) / (2 * np.pi)
    found = jem.density().unnormalized_log_prob(backend.array(x))
    np.testing.assert_allclose(numbers(found), np.log(density.sum(1)), atol=1e-10)
    expected = density / density.sum(1, keepdims=True)
    np.testing.assert_allclose(numbers(jem.classify(backend.array(x))), expected, atol=1e-10)
    losses, array = backend.losses, backend.array
    loss = losses.ContrastiveDivergence("x") + losses.ConditionalNLL("y")
    labels = backend.np.asarray(y) if backend.name == "numpyro" else backend.torch.as_tensor(y)
    terms = terms_of(backend, loss, jem.model, array(x), labels)
    nll = -np.log(expected[np.arange(6), y]).mean()
    assert terms["ConditionalNLL(y)"] == pytest.approx(nll)
    assert terms["ContrastiveDivergence(x)/data"] == pytest.approx(-np.log(density.sum(1)).mean())
    with pytest.raises(ValueError, match=r"needs a site that the model observes, got 'z'; it obs"):
        terms_of(backend, losses.ConditionalNLL("z"), jem.model, array(x), labels)
    numpyro = backend.name == "numpyro"
    program = backend.numpyro.handlers.seed(jem.model, 0) if numpyro else jem.model
    for wrong, said in ((y + 1, "labels from 0 to 1, got 2"), (y / 2, "integer labels of shape")):
        with pytest.raises(ValueError, match=f"y must be .*{said}"):
            program(array(x), backend.np.asarray(wrong))
