"""What every network promises, and how networks are registered in models and switched to
evaluation.
"""

from functools import partial
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.cases import NETWORKS
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.kinds import Network

EACH = [pytest.param(case, id=name) for name, case in NETWORKS.items()]
PYRO = pytest.mark.parametrize("lib", ["pyro"], indirect=True)
NUMPYRO = pytest.mark.parametrize("lib", ["numpyro"], indirect=True)


@pytest.mark.parametrize("case", EACH)
def test_any_leading_dimensions(lib: Any, case: Network, rng: np.random.Generator) -> None:
    network = lib.network(case)
    for batch in ((), (5,), (3, 5)):
        if "batch" in case.name.lower() or case.settings.get("batch_norm"):
            batch = (4, *batch)  # statistics need several values
        x = lib.array(rng.standard_normal((*batch, *case.in_shape)))
        out = lib.shapes(lambda x=x: lib.evaluate_network(network, x))
        assert tuple(out.shape) == (*batch, *np.atleast_1d(case.out))
    if case.name not in ("Linear", "BatchNorm", "LayerNorm", "GRU"):
        assert (
            getattr(network, "out_shape", None) or getattr(network, "out_dim", None)
        ) == case.out


@pytest.mark.parametrize("case", EACH)
def test_every_parameter_gets_a_gradient(lib: Any, case: Network, rng: np.random.Generator) -> None:
    network = lib.network(case)
    x = lib.array(rng.standard_normal((6, *case.in_shape)))
    gradients, (by_input,) = lib.gradients(lambda network, x: network(x) ** 3, network, x)
    assert gradients
    for path, gradient in [*gradients.items(), ("x", by_input)]:
        assert np.isfinite(gradient).all(), path
        assert np.any(gradient != 0), path


@pytest.mark.parametrize("case", EACH)
def test_weights_are_saved_and_start_as_in_torch(
    lib: Any, case: Network, rng: np.random.Generator, tmp_path: Path
) -> None:
    network, other = lib.network(case, seed=1), lib.network(case, seed=2)
    lib.save(network, tmp_path / "weights")
    restored = lib.load(other, tmp_path / "weights")
    x = lib.array(rng.standard_normal((6, *case.in_shape)))
    with lib.package.nn.evaluation_mode(network, restored):
        ours, theirs = lib.call(lambda: (network(x), restored(x)))
    np.testing.assert_allclose(lib.numpy(ours), lib.numpy(theirs), rtol=1e-5, atol=1e-6)
    for path, weight in lib.weights(network).items():
        if weight.ndim > 1:  # U(-a, a) with a = 1 / sqrt(number of inputs)
            limit = np.prod(weight.shape[1:]) ** -0.5
            assert 0.6 * limit < abs(weight).max() <= limit, path


@pytest.mark.parametrize("case", EACH)
def test_wrong_inputs_are_refused(lib: Any, case: Network) -> None:
    if case.name == "Linear":
        return
    with pytest.raises(ValueError, match="expects"):
        lib.network(case)(lib.array(np.zeros((6, *case.in_shape[:-1], case.in_shape[-1] + 1))))


def test_parts_side_by_side_are_one_vector(lib: Any, rng: np.random.Generator) -> None:
    """What an MLP makes of parts whose batches broadcast is what it makes of them as one vector,
    and so is the gradient of its first layer; sizes that do not add up are refused."""
    mlp = lib.build("nn", "MLP", 5, (6,), 2, activation="tanh")
    one, two = rng.standard_normal((4, 3)), rng.standard_normal((2, 4, 2))
    whole = np.concatenate([np.broadcast_to(one, (2, 4, 3)), two], -1)

    def parted(network: Any, x: Any) -> Any:
        return network(lib.array(one), x)

    (ours, by_two), (theirs, by_whole) = (
        lib.gradients(lambda network, x, f=f: f(network, x) ** 2, mlp, lib.array(x))
        for f, x in ((parted, two), (lambda network, x: network(x), whole))
    )
    for path, gradient in ours.items():
        np.testing.assert_allclose(gradient, theirs[path], rtol=2e-4, atol=1e-5, err_msg=path)
    np.testing.assert_allclose(by_two[0], by_whole[0][..., 3:], rtol=2e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"dimension of 5, got shape .* and"):
        mlp(lib.array(one), lib.array(two[..., :1]))


def test_an_empty_mlp_is_the_identity(lib: Any, rng: np.random.Generator) -> None:
    network = lib.build("nn", "MLP", 3, ())
    x = rng.standard_normal((4, 3)).astype(np.float32)
    np.testing.assert_array_equal(lib.numpy(network(lib.array(x))), x)
    assert network.out_dim == 3


def test_drop_out_keeps_the_mean(lib: Any) -> None:
    layer = lib.build("nn", "Dropout", 0.25)
    ones = lib.array(np.ones((100, 100)))
    out = lib.numpy(lib.call(lambda: layer(ones)))
    assert set(np.unique(out.round(4))) == {0.0, np.float32(1.3333)}
    assert abs((out == 0).mean() - 0.25) < 0.03
    with lib.package.nn.evaluation_mode(layer):
        np.testing.assert_array_equal(lib.numpy(lib.call(lambda: layer(ones))), 1.0)
    assert (lib.numpy(lib.call(lambda: layer(ones))) == 0).any()


def test_batch_norm_refuses_a_single_value_in_training(lib: Any) -> None:
    layer = lib.build("nn", "BatchNorm", 3)
    with pytest.raises(ValueError, match="at least two values in training"):
        layer(lib.array(np.zeros((1, 3))))
    with lib.package.nn.evaluation_mode(layer):
        assert tuple(layer(lib.array(np.zeros((1, 3)))).shape) == (1, 3)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_bad_drop_out_rates_are_refused(lib: Any, rate: float) -> None:
    with pytest.raises(ValueError, match=rf"must be a number in \[0, 1\), got {rate}"):
        lib.build("nn", "Dropout", rate)


def test_batch_norm_refuses_no_features(lib: Any) -> None:
    with pytest.raises(ValueError, match="dim must be an integer of at least 1"):
        lib.build("nn", "BatchNorm", 0)


@NUMPYRO
def test_drop_out_without_a_key_says_so(lib: NumPyroLibrary) -> None:
    layer = lib.build("nn", "Dropout", 0.5)
    with lib.numpyro.handlers.trace(), pytest.raises(ValueError, match=r"numpyro\.handlers\.seed"):
        layer(lib.array(np.ones(3)))


@NUMPYRO
def test_registered_sites(lib: NumPyroLibrary) -> None:
    """One parameter site for a network, one mutable one where it has running statistics, none where
    it has neither.
    """
    register = lib.package.nn.register
    plain, normed = lib.network(NETWORKS["MLP"]), lib.network(NETWORKS["MLP-batch-norm"])

    def program() -> None:
        register("plain", plain)(lib.array(np.ones((4, 5))))
        register("normed", normed)(lib.array(np.ones((4, 5))))
        prior = lib.build("conditionals", "StandardNormal", 2)
        assert register("prior", prior) is prior

    sites = lib.trace(program)
    assert set(sites) == {"plain$params", "normed$params", "normed$state"}
    state = sites["normed$state"]["param"]
    assert set(state) == {"norms.0", "norms.1"}
    assert state["norms.0"]["running_mean"].shape == (7,)
    assert np.any(lib.numpy(state["norms.0"]["running_mean"]) != 0)
    with lib.package.nn.evaluation_mode():
        still = lib.trace(program)["normed$state"]["param"]
    assert not np.any(lib.numpy(still["norms.0"]["running_mean"]))


@PYRO
def test_a_new_instance_replaces_a_stale_one(lib: PyroLibrary) -> None:
    """Two networks under one name, one after the other and in turns: each trains its
    own weights.
    """
    store = lib.pyro.get_param_store()
    first, second = (lib.network(NETWORKS["MLP-linear"], seed=seed) for seed in (1, 2))
    for network in (first, second, first):
        assert lib.package.nn.register("net", network) is network
        assert set(store.keys()) == {"net$$$layers.0.weight", "net$$$layers.0.bias"}
        assert store["net$$$layers.0.weight"] is network.layers[0].weight
    optimizer = lib.pyro.optim.Adam({"lr": 0.1})
    svis = []
    for network in (first, second):

        def model(network: Any = network) -> None:
            y = lib.package.nn.register("net", network)(lib.array(np.ones((1, 5))))
            lib.sample("y", lib.dist.Normal(y, 1.0).to_event(2), obs=lib.array(np.ones((1, 2))))

        svis.append(lib.pyro.infer.SVI(model, lambda: None, optimizer, lib.pyro.infer.Trace_ELBO()))
    for _ in range(3):
        for network, svi in zip((first, second), svis):
            before = lib.weights(network)
            svi.step()
            assert all(
                (before[path] != weight).any() for path, weight in lib.weights(network).items()
            )


@PYRO
def test_frozen_parameters_are_not_registered(lib: PyroLibrary, no_warnings: None) -> None:
    network = lib.network(NETWORKS["MLP-linear"])
    network.layers[0].bias.requires_grad_(False)
    lib.package.nn.register("net", network)
    assert set(lib.pyro.get_param_store().keys()) == {"net$$$layers.0.weight"}


GLOBAL: dict[str, Any] = {}


def program_with_a_global(x: Any) -> Any:
    return [GLOBAL["network"](x) for _ in range(1)]


class Holder:
    """A user's class that is no module."""

    def __init__(self, network: Any) -> None:
        self.parts = SimpleNamespace(networks=[network])

    def model(self, x: Any) -> Any:
        return self.parts.networks[0](x)


@PYRO
def test_evaluation_mode_finds_the_networks_of_a_program(lib: PyroLibrary) -> None:
    """When it calls or registers them, and before where it is bound to them."""
    network = lib.network(NETWORKS["MLP-dropout"])
    network.dropout.eval()  # the user's choice, to be kept
    GLOBAL["network"] = network
    x = lib.torch.ones(1, 5)

    def closure(x: Any) -> Any:
        return (lambda: network)()(x)

    def registering(x: Any) -> Any:
        lib.pyro.module("net", network)
        return network.layers

    owning = (network, network.forward, partial(lambda a, x: a(x), network))
    for program in (
        *owning,
        closure,
        registering,
        partial(lambda x, b: b[0](x), b=[network]),
        Holder(network).model,
        program_with_a_global,
        lib.pyro.poutine.scale(closure, scale=2.0),
        lib.pyro.poutine.block(lib.pyro.poutine.mask(closure, mask=True), hide=["z"]),
    ):
        with lib.package.nn.evaluation_mode(program):
            assert network.training == (program not in owning)
            with lib.package.nn.evaluation_mode(program):
                program(x)
                assert not network.training
            program(x)
            assert not any(part.training for part in network.modules()), program
        assert network.training
        assert network.layers.training
        assert not network.dropout.training
    with pytest.raises(ValueError, match="last dimension"), lib.package.nn.evaluation_mode(closure):
        closure(x[:, 1:])
    assert network.training
    with lib.package.nn.evaluation_mode(lambda: network):
        other = Thread(target=network, args=(x,))  # whose mode is its own business
        other.start()
        other.join()
        assert network.training


@NUMPYRO
def test_evaluation_mode_is_for_the_whole_block(lib: NumPyroLibrary) -> None:
    layer, x = lib.build("nn", "Dropout", 0.5), lib.array(np.ones(3))
    with lib.package.nn.evaluation_mode():
        with lib.package.nn.evaluation_mode(layer):
            pass
        assert layer(x) is x
    with pytest.raises(KeyError), lib.package.nn.evaluation_mode():
        raise KeyError
    assert tuple(lib.call(lambda: layer(x)).shape) == (3,)
