"""Deep Markov models: padded batches, the twins, exact values, guides exchanged."""

from typing import Any

import numpy as np
import pytest

from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.sequences.building import linear
from tests.sequences.oracle import A2, X2
from tests.twins.copying import copy_weights, shake
from tests.twins.test_conditionals import compare

LENGTHS = np.array([4, 2, 0])
SMALL = {"hidden": 5, "features": 6}


@pytest.fixture(autouse=True)
def double_precision(x64: None) -> None:
    """Twins and batches are compared to 1e-10."""


def data(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sequences (3, 4, 3) of zeros and ones, with anything in the padding; and paths (3, 4, 2)."""
    mask = (np.arange(4) < LENGTHS[:, None])[..., None]
    x = rng.integers(0, 2, (3, 4, 3)).astype(float)
    z = rng.standard_normal((3, 4, 2))
    padding = rng.choice([np.nan, np.inf, 7.0], (3, 4, 1))
    return np.where(mask, x, padding), np.where(mask, z, padding)


def scores(lib: Any) -> Any:
    """log p(x, z) + 3 log q(z | x) of each sequence, as a function of model, latents and data."""

    def run(dmm: Any, z: Any, x: Any, lengths: Any = None) -> Any:
        p = lib.trace(dmm.model, x, lengths, substituted={"z": z})
        q = lib.trace(dmm.guide, x, lengths, substituted={"z": z})
        return p["x"]["log_prob"] + p["z"]["log_prob"] + 3 * q["z"]["log_prob"]

    return run


def posterior(lib: Any, name: str, length: int) -> Any:
    """Guides by name; None for the default."""
    if name == "affine":
        return lib.build("conditionals", "AffineMarkov", (length, 2), context_shape=(length, 6))
    if name == "iaf":
        layers = [lib.build("flows", "Autoregressive", 2, hidden=(4,))]
        base = lib.build("conditionals", "Combiner", 2, 6)
        step = lib.build("flows", "Flow", 2, layers, context_shape=(2, (6,)), base=base)
        return lib.build("conditionals", "Markov", step, length)
    return None


def build(lib: Any, name: str, length: int, seed: int = 0) -> Any:
    guide = posterior(lib, name, length)
    return lib.build("models", "DMM", 3, 2, length, **SMALL, posterior=guide, seed=seed)


@pytest.mark.slow("combiner", "iaf")
@pytest.mark.parametrize("name", ["combiner", "affine", "iaf"])
def test_twins_and_batches(name: str, rng: np.random.Generator) -> None:
    """Values and gradients of the twins, whatever stands in the padding; in Pyro also those of the
    sequences one by one.
    """
    libs = PyroLibrary(), NumPyroLibrary()
    x, z = data(rng)
    ours = shake(build(libs[0], name, 4))
    theirs = copy_weights(ours, build(libs[1], name, 4, seed=1))
    assert repr(ours) == repr(theirs)

    def both(module: Any, z: Any, x: Any) -> Any:
        lib = libs[module is not ours]
        return scores(lib)(module, z, x, lib.array(LENGTHS))

    found, _ = compare(libs, both, (ours, theirs), z, x)
    values = libs[0].numpy(both(ours, *map(libs[0].array, (z, x))))
    alone = {path: np.zeros_like(gradient) for path, gradient in found.items()}
    for row, length in enumerate(LENGTHS):
        if not length:
            assert values[row] == 0
            continue
        single = build(libs[0], name, int(length))
        single.load_state_dict(ours.state_dict())
        arrays = [libs[0].array(part[row : row + 1, :length]) for part in (z, x)]
        cut = libs[0].numpy(scores(libs[0])(ours, *arrays))
        value, gradients, _ = libs[0].values_and_gradients(scores(libs[0]), single, *arrays)
        np.testing.assert_allclose(cut, value, rtol=1e-10)
        np.testing.assert_allclose(values[row], value[0], rtol=1e-10)
        alone = {path: alone[path] + gradients[path] for path in alone}
    for path, gradient in found.items():
        np.testing.assert_allclose(gradient, alone[path], rtol=1e-10, atol=1e-10, err_msg=path)
        assert np.any(gradient != 0), path


def test_a_roll_may_hold_booleans(lib: Any, rng: np.random.Generator) -> None:
    x, gru = lib.array(rng.integers(0, 2, (2, 3, 3))), lib.build("nn", "GRU", 3, 4)
    found, expected = (lib.numpy(gru(roll, lib.array(LENGTHS[1:]))) for roll in (x == 1, x * 1.0))
    np.testing.assert_array_equal(found, expected)


def itself(backend: Any, dim: int) -> Any:
    """A network that returns what it is given."""

    def same(self: Any, x: Any, lengths: Any = None) -> Any:
        return x

    if backend.name == "pyro":
        return type("Same", (backend.torch.nn.Module,), {"out_dim": dim, "forward": same})()
    import equinox as eqx

    return type("Same", (eqx.Module,), {"out_dim": dim, "__call__": same})()


def test_the_exact_guide_of_a_linear_model(backend: Any) -> None:
    """The bound of a batch of unequal lengths is its evidence, without variance; draws are zero in
    the padding.
    """
    from tests.sequences.test_paths import library

    lib = library(backend)
    system = linear(lib, A2, 5)

    dmm = lib.build(
        "models",
        "DMM",
        1,
        2,
        5,
        encoder=itself(backend, 1),
        decoder=itself(backend, 2),
        prior=system.prior,
        posterior=lib.build("conditionals", "KalmanSmoother", system.prior, system.emission),
        likelihood=lib.build("conditionals", "Steps", system.emission, 5),
    )
    if backend.name == "pyro":
        loss, lengths = backend.losses.IWAE(3), backend.torch.tensor([5, 3])
        found = loss.evaluate(dmm.model, dmm.guide, (backend.array(X2), lengths)).loss.item()
        drawn = dmm.model(lengths=lengths)
    else:
        import jax
        import numpyro

        loss, lengths = backend.losses.IWAE(3), backend.np.array([5, 3])

        def run(key: Any, x: Any) -> Any:
            with numpyro.handlers.seed(rng_seed=key):
                drawn = dmm.model(lengths=lengths)
            return loss.evaluate(key, {}, dmm.model, dmm.guide, (x, lengths)).loss, drawn

        found, drawn = jax.jit(run)(jax.random.key(0), backend.array(X2))
    assert found == pytest.approx(7.36617227, abs=1e-7)
    drawn = lib.numpy(drawn)
    assert drawn.shape == (2, 5, 1) and not drawn[1, 3:].any() and drawn[1, :3].all()


def test_what_a_model_refuses(lib: Any) -> None:
    dmm = lib.build("models", "DMM", 3, 2, 4, **SMALL)
    x, lengths = lib.array(np.zeros((2, 4, 3))), lib.array(np.array([4, 1]))
    flow = lib.build("flows", "MAF", 8, hidden=(4,), context_shape=(4, 6))
    flow = lib.build("conditionals", "Reshaped", flow, (4, 2))
    flowing = lib.build("models", "DMM", 3, 2, 4, **SMALL, posterior=flow)
    for program, arguments, message in (
        (dmm.model, (lib.array(np.zeros((2, 5, 3))),), r"x must have shape \(batch, 4, 3\)"),
        (dmm.model, (x, lib.array(np.array([4]))), r"one for each of the 2 sequences"),
        (dmm.guide, (x, lib.array(np.array([4.0, 1.0]))), "lengths must be an array of integers"),
        (dmm.guide, (x, lib.array(np.array([4, 5]))), "integers from 0 to 4, got 5"),
        (dmm.guide, (), "The guide infers z from data"),
        (flowing.guide, (x, lengths), "posterior must be a path, such as Markov"),
    ):
        with pytest.raises(ValueError, match=message):
            lib.trace(program, *arguments)
    wrong = lib.build("conditionals", "AffineMarkov", (4, 3), context_shape=(4, 6))
    with pytest.raises(ValueError, match=r"posterior must give values of shape \(4, 2\)"):
        lib.build("models", "DMM", 3, 2, 4, **SMALL, posterior=wrong)


@pytest.mark.slow("numpyro")
def test_a_joint_guide_does_not_draw_padding(lib: Any) -> None:
    """It is refused where there is some, and draws whole paths."""
    dmm = lib.build("models", "DMM", 3, 2, 4, **SMALL)
    x, lengths = lib.array(np.zeros((2, 4, 3))), lib.array(np.array([4, 1]))
    normal = lib.package.conditionals.FullRankNormal
    joint = lib.package.guides.JointGuide(dmm.model, normal)
    with pytest.raises(ValueError, match=r"'z'.* mask"):
        lib.trace(joint, x, lengths)
    whole = lib.package.guides.JointGuide(dmm.model, normal)
    drawn = lib.shapes(lambda: lib.trace(whole, x)["z"]["value"])
    assert tuple(drawn.shape) == (2, 4, 2)


@pytest.mark.slow("numpyro")
def test_a_few_steps_of_training(lib: Any, rng: np.random.Generator) -> None:
    """Data and lengths go together through minibatches, NaN in the padding, and the bound grows."""
    package = lib.package
    lengths = rng.integers(1, 5, 40)
    x = np.where(np.arange(4) < lengths[:, None], rng.random((40, 4)) < 0.9, np.nan)
    x = lib.array(np.repeat(x[..., None], 3, -1).astype(float))
    dmm = lib.build("models", "DMM", 3, 2, 4, **SMALL)
    fit, adam = package.training.fit, package.nn.Adam(0.02)
    run = fit(
        dmm.model,
        dmm.guide,
        (x, lib.array(lengths)),
        loss=package.losses.ELBO(),
        optim=adam,
        num_epochs=20,
        batch_size=10,
        seed=0,
    )
    losses = run.history.column("loss")
    assert np.isfinite(losses).all()
    assert losses[-3:].mean() < losses[0] - 0.5


def test_the_combiners_loop_in_pyro(rng: np.random.Generator) -> None:
    """Draws and their gradients are those of a loop over the conditional with the same noise."""
    import torch

    lib = PyroLibrary()
    posterior = lib.shaken(build(lib, "combiner", 4).posterior, 0.3)
    features, lengths = lib.array(rng.standard_normal((3, 4, 6))), torch.tensor(LENGTHS)
    torch.manual_seed(0)
    found = posterior(features, lengths).rsample((2,))
    torch.manual_seed(0)
    noise, state, states = torch.randn(2, 3, 4, 2), posterior.start.expand(2, 3, -1), []
    for t in range(4):
        step = posterior.transition((state, features[:, t])).base_dist
        state = step.loc + step.scale * noise[:, :, t]
        states.append(state)
    mask = (torch.arange(4) < lengths[:, None])[..., None]
    looped = torch.stack(states, -2) * mask
    torch.testing.assert_close(found, looped, rtol=1e-10, atol=1e-12)
    parameters = list(posterior.parameters())
    gradients = [torch.autograd.grad(x.sin().sum(), parameters) for x in (found, looped)]
    for ours, theirs in zip(*gradients):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # of forward mode
@pytest.mark.parametrize("reverse", [False, True])
def test_the_loop_of_a_gru_in_pyro(torch_x64: None, reverse: bool) -> None:
    """What torch's own gives, with its gradients and theirs, and under vmap, which torch's own is
    not.
    """
    import torch

    from pyro_dgm.nn import GRU

    gru, stock = GRU(3, 4, reverse=reverse), torch.nn.GRU(3, 4, batch_first=True)
    stock.load_state_dict(gru.state_dict())
    x, slope = torch.randn(2, 5, 3, requires_grad=True), torch.randn(2, 5, 4)

    def found(run: Any, parameters: Any) -> list[Any]:
        value, wanted = run(x), [x, *parameters]
        first = torch.autograd.grad((value * slope).sum(), wanted, create_graph=True)
        once = torch.autograd.grad((run(x) * slope).sum(), wanted)
        return [value, *once, *torch.autograd.grad(sum(g.square().sum() for g in first), wanted)]

    def by_torch(x: Any) -> Any:
        return stock(x.flip(1))[0].flip(1) if reverse else stock(x)[0]

    ours, theirs = found(gru, gru.parameters()), found(by_torch, stock.parameters())
    for one, other in zip(ours, theirs):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(torch.vmap(gru)(x), ours[0], rtol=1e-10, atol=1e-12)
    jacobian = torch.autograd.functional.jacobian
    torch.testing.assert_close(jacobian(gru, x, vectorize=True), jacobian(by_torch, x))
    assert torch.autograd.gradcheck(gru, (x,), fast_mode=True, check_forward_ad=True)


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # of forward mode
def test_gradients_of_the_combiners_loop_in_pyro(torch_x64: None) -> None:
    """Those that are written by hand are torch's; those of gradients are differences of these."""
    import torch

    posterior = build(PyroLibrary(), "combiner", 4).posterior
    features = torch.randn(3, 4, 6, requires_grad=True)

    def draw(features: Any, *_: Any) -> Any:
        torch.manual_seed(0)
        return posterior(features, None).rsample()

    inputs = features, *posterior.parameters()
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(draw, inputs, fast_mode=True)
    assert torch.autograd.gradcheck(draw, (features,), fast_mode=True, check_forward_ad=True)
    by_hand = torch.autograd.grad(draw(features).sin().sum(), features)[0]
    written_out = torch.func.grad(lambda f: draw(f).sin().sum())(features.detach())
    torch.testing.assert_close(written_out, by_hand, rtol=1e-10, atol=1e-12)
