"""Local sites from an encoder's features, beside global sites and each other."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from tests.guides.test_joint import drawn
from tests.losses.training import package
from tests.losses.user_models import MODELS, PARAMS, Y


class Identity:
    """An encoder that hands on what it reads."""

    def __call__(self, x: Any) -> Any:
        return x


def key(b: Any, number: int = 0) -> dict[str, Any]:
    """The argument that draws weights in NumPyro."""
    return {} if b.name == "pyro" else {"key": b.jax.random.key(number)}


def network(b: Any, *sizes: Any, **settings: Any) -> Any:
    if b.name == "pyro":
        from pyro_dgm.nn import MLP
    else:
        from numpyro_dgm.nn import MLP
    return MLP(*sizes, **settings, **key(b))


def chain(b: Any) -> Callable:
    """z1 -> z2 -> x, all of variance one: the posterior's precision is [[2, -1], [-1, 2]]."""
    d = b.dist

    def model(x: Any) -> None:
        with b.plate("data", len(x)):
            z1 = b.sample("z1", d.Normal(b.array(0.0), b.array(1.0)))
            z2 = b.sample("z2", d.Normal(z1, b.array(1.0)))
            b.sample("x", d.Normal(z2, b.array(1.0)), obs=x)

    return model


def levels(b: Any, size: int, subsample_size: int | None = None) -> Callable:
    """A global mean and scale, a level of each datum."""
    d = b.dist

    def model(y: Any, mask: Any = None) -> None:
        mu = b.sample("mu", d.Normal(b.array(0.0), b.array(2.0)))
        tau = b.sample("tau", d.Gamma(b.array(3.0), b.array(3.0)))
        with b.plate("data", size, subsample_size=subsample_size):
            theta = b.sample("theta", d.Normal(mu, tau))
            b.sample("y", d.Normal(theta, b.array(0.5)), obs=y)

    return model


def log_evidence_of_chain(x: np.ndarray) -> float:
    return float(np.mean(-0.5 * x**2 / 3 - 0.5 * np.log(2 * np.pi * 3)))


def fitted(
    b: Any,
    model: Callable,
    guide: Any,
    *data: np.ndarray,
    steps: int,
    lr: float,
    num_particles: int = 4,
    draws: int = 4000,
    seed: int = 0,
) -> float:
    """The bound after some steps of the library's own engine, from many draws."""
    data = tuple(b.array(x) for x in data)
    loss, final = b.losses.ELBO(num_particles=num_particles), b.losses.ELBO(num_particles=draws)
    if b.name == "pyro":
        optim = b.pyro.optim.ClippedAdam({"lr": lr, "lrd": 0.01 ** (1 / steps)})
        svi = b.pyro.infer.SVI(model, guide, optim, loss)
        for _ in range(steps):
            svi.step(*data)
        with b.torch.no_grad():
            return -float(final(model, guide, *data))
    import optax

    rate = optax.exponential_decay(lr, steps, 0.01)
    svi = b.numpyro.infer.SVI(model, guide, optax.adam(rate), loss)
    params = svi.run(b.jax.random.key(seed), steps, *data, progress_bar=False).params
    return -float(final.loss(b.jax.random.key(99), params, model, guide, *data))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(int(os.environ.get("SEEDS", "1"))))
@pytest.mark.parametrize("family", ["diagonal", "chain", "full rank"])
def test_gap_of_a_chain(backend: Any, family: str, seed: int) -> None:
    """Independent normals miss ln(4/3) / 2 nat per datum, a chain and a full rank nothing."""
    b, c = backend, backend.conditionals
    x = 1.5 * np.random.default_rng(seed).standard_normal(20)
    if b.name == "pyro":
        b.torch.manual_seed(seed)
    families = {
        "diagonal": c.DiagonalNormal,
        "chain": {"z1": c.DiagonalNormal, "z2": c.DiagonalNormal},
        "full rank": c.FullRankNormal,
    }
    model = chain(b)
    guide = b.guides.AmortizedGuide(model, Identity(), families[family], **key(b, seed))
    gap = (
        log_evidence_of_chain(x)
        - fitted(b, model, guide, x, steps=1500, lr=0.03, draws=100_000, seed=seed) / 20
    )
    exact = 0.5 * np.log(4 / 3) if family == "diagonal" else 0.0
    assert gap == pytest.approx(exact, abs=0.002)


@pytest.mark.parametrize("name", MODELS)
def test_models_of_users(backend: Any, name: str) -> None:
    """A bound on any of them, or a refusal that says what is missing."""
    b, c, g = backend, backend.conditionals, backend.guides
    build, y = MODELS[name]
    model, _ = build(b)

    def bound(encoder: Callable, family: Any, **settings: Any) -> float:
        guide = g.AmortizedGuide(model, encoder, family, **settings, **key(b))
        loss = b.losses.ELBO(num_particles=3)
        value, _, gradients = b.evaluate(loss, model, guide, y, params=PARAMS)
        assert all(np.isfinite(gradient).all() for gradient in gradients.values())
        return value

    if name in ("crossed", "two likelihoods"):
        with pytest.raises(ValueError, match="name the plate by plate="):
            bound(Identity(), c.DiagonalNormal)
    if name == "crossed":
        rows = lambda y: y.reshape(4, 6)  # noqa: E731
        assert np.isfinite(bound(Identity(), c.FullRankNormal, plate="students", inputs=rows))
        columns = lambda y: b.np.moveaxis(y.reshape(4, 6), 0, 1)  # noqa: E731
        assert np.isfinite(bound(Identity(), c.FullRankNormal, plate="items", inputs=columns))
    elif name == "nested":
        members = lambda y: y.reshape(3, 8, 1)  # noqa: E731
        family = {"v": c.DiagonalNormal}
        assert np.isfinite(bound(Identity(), family, inputs=members))
        with pytest.raises(ValueError, match=r"site 'u' lies outside the subsampled plate \['memb"):
            bound(Identity(), {"u": c.DiagonalNormal}, inputs=lambda y: y.reshape(3, 8))
        with pytest.raises(ValueError, match="features of 24 data for site 'v'"):
            bound(Identity(), family)
    elif name != "two likelihoods":
        inputs = (lambda y: y.reshape(4, 6)) if name == "masked" else None
        family = g.Prior() if name == "partly observed" else c.DiagonalNormal
        assert np.isfinite(bound(Identity(), family, inputs=inputs))


def test_features_of_a_minibatch_stay_inside_its_plate(backend: Any) -> None:
    """The bound of a q(mu | minibatch) would lie above the evidence."""
    b = backend
    model = levels(b, 100, 5)
    guide = b.guides.AmortizedGuide(
        model, Identity(), {"mu": b.conditionals.DiagonalNormal}, **key(b)
    )
    with pytest.raises(ValueError, match="'mu' lies outside the subsampled plate"):
        b.evaluate(b.losses.ELBO(), model, guide, Y[:5])


def test_rows_that_the_model_draws_itself(backend: Any) -> None:
    """A model that subsamples all its data: the features of the rows it has drawn."""
    b, d = backend, backend.dist
    y = np.arange(10.0)

    def model(y: Any) -> None:
        with b.plate("data", 10, subsample_size=3) as rows:
            z = b.sample("z", d.Normal(b.array(0.0), b.array(1.0)))
            b.sample("y", d.Normal(z, b.array(1.0)), obs=y[rows])

    guide = b.guides.AmortizedGuide(model, Identity(), b.conditionals.DiagonalNormal, **key(b))
    guide.prepare(b.array(y))
    head = guide.parts[0].families[0].head
    weight, bias = np.array([[1.0], [0.0]]), np.array([0.0, -20.0])
    if b.name == "pyro":
        with b.torch.no_grad():
            head.weight.copy_(b.array(weight))
            head.bias.copy_(b.array(bias))
        joints = b.joints.Joints(model, guide, (b.array(y),))
    else:
        import equinox as eqx

        guide.parts = eqx.tree_at(
            lambda parts: (parts[0].families[0].head.weight, parts[0].families[0].head.bias),
            guide.parts,
            (b.array(weight), b.array(bias)),
        )
        joints = b.joints.Joints(b.jax.random.key(0), {}, model, guide, (b.array(y),))
    model_trace, _ = joints.traces()
    nodes = model_trace.nodes if b.name == "pyro" else model_trace
    rows = np.asarray(nodes["data"]["value"])
    assert len(rows) == 3
    z = nodes["z"]["value"]
    z = z.detach().numpy() if b.name == "pyro" else np.asarray(z)
    np.testing.assert_allclose(z, y[rows], atol=0.01)


@pytest.mark.parametrize("num", [7, 31])
def test_new_data_of_any_number(backend: Any, num: int) -> None:
    b = backend

    def model(y: Any) -> None:
        levels(b, len(y))(y)

    guide = b.guides.AmortizedGuide(model, Identity(), b.conditionals.DiagonalNormal, **key(b))
    drawn(b, guide, np.zeros(20))
    found = drawn(b, guide, np.zeros(num))
    assert found["theta"].shape == (num,) and found["mu"].shape == ()
    assert sorted(guide.sites) == ["mu", "tau", "theta"]


def test_merged_is_exact_for_a_normal_likelihood(backend: Any) -> None:
    """q = p(theta | mu) Normal(theta; y, sigma) is the posterior: no draw changes the bound."""
    b, d = backend, backend.dist

    def model(y: Any) -> None:
        with b.plate("data", 6):
            theta = b.sample("theta", d.Normal(b.array(0.5), b.array(2.0)))
            b.sample("y", d.Normal(theta, b.array(1.0)), obs=y)

    y = Y[:6]
    guide = b.guides.AmortizedGuide(model, Identity(), {"theta": b.guides.Merged()}, **key(b))
    guide.prepare(b.array(y))
    weight, bias = b.array([[1.0], [0.0]]), b.array([0.0, 0.0])
    if b.name == "pyro":
        head = guide.parts[0].families[0].head
        with b.torch.no_grad():
            head.weight.copy_(weight)
            head.bias.copy_(bias)
    else:
        import equinox as eqx

        guide.parts = eqx.tree_at(
            lambda parts: (parts[0].families[0].head.weight, parts[0].families[0].head.bias),
            guide.parts,
            (weight, bias),
        )
    exact = np.sum(-0.5 * (y - 0.5) ** 2 / 5 - 0.5 * np.log(2 * np.pi * 5))
    for seed in (0, 1):
        found = -b.evaluate(b.losses.ELBO(), model, guide, y, seed=seed)[0]
        assert found == pytest.approx(exact, abs=1e-9)


def test_groups_of_unequal_size(backend: Any) -> None:
    """Pooled features do not depend on what lies beneath the mask, NaN included."""
    b, d = backend, backend.dist
    if b.name == "pyro":
        from pyro_dgm.nn import Pooled
    else:
        from numpyro_dgm.nn import Pooled
    y = np.sin(np.arange(12.0)).reshape(4, 3)
    mask = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0]], dtype=bool)

    def model(y: Any, mask: Any) -> None:
        mu = b.sample("mu", d.Normal(b.array(0.0), b.array(1.0)))
        with b.plate("groups", 4, dim=-2):
            theta = b.sample("theta", d.Normal(mu, b.array(1.0)))
            with b.plate("rows", 3, dim=-1), b.mask(mask):
                b.sample("y", d.Normal(theta, b.array(1.0)), obs=y)

    encoder = Pooled(network(b, 1, (4,)), network(b, 9, (5,)))
    guide = b.guides.AmortizedGuide(
        model, encoder, {"theta": b.guides.Merged()}, inputs=("y", "mask"), **key(b)
    )
    mask = b.np.asarray(mask)
    guide.prepare(b.array(y), mask)
    values = []
    for filling in (7.0, np.nan):
        data = b.array(np.where(np.asarray(mask), y, filling))
        values.append(b.evaluate(b.losses.ELBO(), model, guide, data, mask)[0])
    assert np.isfinite(values).all() and values[0] == pytest.approx(values[1], abs=1e-12)


def test_missing_numbers_side_by_side(backend: Any) -> None:
    """The encoder sees zeros and the mask where numbers are missing."""
    b, d = backend, backend.dist
    x = np.array([[1.0, np.nan], [0.5, 2.0], [np.nan, -1.0]])
    mask = b.np.asarray(~np.isnan(x))

    def model(x: Any, mask: Any) -> None:
        with b.plate("data", 3):
            z = b.sample("z", d.Normal(b.array(0.0), b.array(1.0)))
            one = d.Normal(z[..., None] + b.array(np.zeros(2)), b.array(1.0))
            b.sample("x", one.mask(mask).to_event(1), obs=x)

    encoder = network(b, 4, (3,))
    guide = b.guides.AmortizedGuide(
        model, encoder, b.conditionals.DiagonalNormal, inputs=("x", "mask"), **key(b)
    )
    guide.prepare(b.array(x), mask)
    assert np.isfinite(b.evaluate(b.losses.ELBO(), model, guide, b.array(x), mask)[0])


def test_classes_by_their_own_family(backend: Any) -> None:
    """A mixture of three normals: the mean weight of q(k | x) is the density of the mixture."""
    b, d, c = backend, backend.dist, backend.conditionals
    probs, means = np.array([0.5, 0.3, 0.2]), np.array([-2.0, 0.0, 3.0])
    x = np.array([-1.0, 0.5, 2.0, 4.0])

    def model(x: Any) -> None:
        with b.plate("data", 4):
            k = b.sample("k", d.Categorical(probs=b.array(probs)))
            b.sample("x", d.Normal(b.array(means)[k], b.array(1.0)), obs=x)
            b.sample("m", d.Normal(b.array(means)[k], b.array(0.5)))

    families = {"k": partial(c.Categorical, num_classes=3)}
    guide = b.guides.AmortizedGuide(
        model, Identity(), families, inputs=lambda x: 0.2 * x[:, None], **key(b)
    )
    guide.prepare(b.array(x))
    log_w = package(b).log_weights(b.run(model, guide), b.array(x), num_particles=40_000)
    density = probs * np.exp(-0.5 * (x[:, None] - means) ** 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(np.exp(log_w).mean(0), density.sum(1), rtol=0.05)
    later = b.guides.AmortizedGuide(
        model, Identity(), {**families, "m": c.DiagonalNormal}, name="later", **key(b)
    )
    later.prepare(b.array(x))
    assert later.parts[0].families[1].context_shape == (1 + 3,)  # classes are one-hot


def test_a_decoder_is_normalized_once(backend: Any) -> None:
    """The run of the guide ends before the decoder: its statistics move once in a step."""
    b, d = backend, backend.dist
    x = np.sin(np.arange(24.0)).reshape(6, 4)
    decoder = network(b, 2, (3,), 4, batch_norm=True)
    if b.name == "pyro":
        from pyro_dgm.nn import register
    else:
        from numpyro_dgm.nn import register

    def model(x: Any) -> None:
        net = register("decoder", decoder)
        with b.plate("data", 6):
            z = b.sample("z", d.Normal(b.array(np.zeros(2)), b.array(1e-9)).to_event(1))
            b.sample("x", d.Normal(net(z), b.array(1.0)).to_event(1), obs=x)

    guide = b.guides.AmortizedGuide(model, network(b, 4, (5,)), b.guides.Prior())
    if b.name == "pyro":
        decoder.double()
        b.evaluate(b.losses.ELBO(), model, guide, x)
        mean = decoder.norms[0].running_mean.numpy()
        bias = decoder.layers[0].bias.detach().numpy()
    else:
        out = b.losses.ELBO().evaluate(b.jax.random.key(0), {}, model, guide, (b.array(x),), {})
        state = out.mutable_state["decoder$state"]
        mean = np.asarray(next(iter(state.values()))["running_mean"])
        bias = np.asarray(decoder.layers[0].bias)
    np.testing.assert_allclose(mean, 0.1 * bias, atol=1e-6)


def test_refusals(backend: Any) -> None:
    b, c, g = backend, backend.conditionals, backend.guides
    model = levels(b, 5)
    y = b.array(Y[:5])

    def built(family: Any, encoder: Any = None, **settings: Any) -> None:
        g.AmortizedGuide(model, encoder or Identity(), family, **settings, **key(b)).prepare(y)

    for family, settings, match in (
        ({"nu": c.DiagonalNormal}, {}, r"family names \['nu'\]"),
        (c.DiagonalNormal, {"inputs": "z"}, r"no argument \['z'\]"),
        (c.DiagonalNormal, {"inputs": 3}, "inputs must be"),
        (c.DiagonalNormal, {"plate": "rows"}, r"No latent site lies in a plate \['rows'\]"),
        (3.0, {}, "must be a conditional or a factory"),
        ({"mu": c.DiagonalNormal}, {}, "features of shape"),
        (c.DiagonalNormal, {"sees_globals": 1}, "sees_globals"),
        (c.DiagonalNormal, {"inputs": "mask"}, r"\['mask'\] is None"),
    ):
        with pytest.raises(ValueError, match=match):
            built(family, **settings)
    first = lambda y: y[:3, None]  # noqa: E731
    short = g.AmortizedGuide(model, Identity(), c.DiagonalNormal, inputs=first, **key(b))
    with pytest.raises(ValueError, match="features of 3 data for site 'theta'"):
        drawn(b, short, Y[:5])
    with pytest.raises(ValueError, match="encoder must be"):
        g.AmortizedGuide(model, 3, c.DiagonalNormal)


def test_importance_weights_of_a_minibatch(backend: Any) -> None:
    """Global latents are drawn once for all particles; both estimators have one value."""
    b = backend
    model = levels(b, 12, 4)
    guide = b.guides.AmortizedGuide(model, Identity(), b.conditionals.DiagonalNormal, **key(b))
    guide.prepare(b.array(Y[:4]))
    values = [
        b.evaluate(b.losses.IWAE(3, estimator=estimator), model, guide, Y[:4])[0]
        for estimator in ("reparam", "dreg")
    ]
    assert np.isfinite(values).all() and values[0] == pytest.approx(values[1], abs=1e-9)
