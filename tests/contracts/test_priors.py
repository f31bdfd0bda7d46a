"""Mixtures of the posterior as priors: exact values, one set of weights, blocks of components."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp

import dgm_core.priors
from tests.twins.copying import leaf_at

SCALE = np.sqrt(0.19)
PSEUDO = np.array([[-1.0], [0.0], [0.5], [2.0]])
DATA = np.array([[-1.2], [-0.3], [0.4], [1.5]])


@pytest.fixture(autouse=True)
def double_precision(x64: None) -> None:
    """Everything here runs in float64."""


def with_weights(lib: Any, module: Any, **weights: Any) -> Any:
    """The module with other weights, by path."""
    for path, weight in weights.items():
        if lib.package.__name__ == "pyro_dgm":
            with lib.torch.no_grad():
                leaf_at(path)(module).copy_(lib.array(weight))
        else:
            module = lib.eqx.tree_at(leaf_at(path), module, lib.array(np.asarray(weight)))
    return module


def linear(lib: Any) -> tuple[Any, Any]:
    """q(z | u) = Normal(.9 u, .19) as identity and posterior."""
    floor = 1e-4
    raw = np.log(np.expm1(SCALE - floor)) - np.log(np.expm1(1 - floor))
    posterior = lib.build("conditionals", "DiagonalNormal", 1, context_shape=1)
    weights = {"head.weight": np.array([[0.9], [0.0]]), "head.bias": np.array([0.0, raw])}
    return lib.build("nn", "MLP", 1, ()), with_weights(lib, posterior, **weights)


def networks(lib: Any, kind: str = "DiagonalNormal") -> tuple[Any, Any]:
    encoder = lib.build("nn", "MLP", 3, (5,), activation="tanh")
    package = "flows" if kind == "IAF" else "conditionals"
    posterior = lib.build(package, kind, 2, context_shape=5, seed=1)
    return encoder, lib.shaken(posterior, 0.3)


def scores(lib: Any, prior: Any, z: np.ndarray) -> np.ndarray:
    return lib.numpy(lib.call(lambda: prior().log_prob(lib.array(z))))


def vae(lib: Any, **parts: Any) -> Any:
    return lib.build("models", "VAE", 4, 2, hidden=(6,), **parts)


@pytest.mark.parametrize("learned", [True, False])
def test_the_density_of_four_components(lib: Any, learned: bool) -> None:
    settings = {"learned": learned, "bounds": None}
    prior = lib.build("conditionals", "VampPrior", *linear(lib), pseudo_inputs=PSEUDO, **settings)
    np.testing.assert_allclose(scores(lib, prior, np.array([0.3])), -0.91130839, atol=5e-9)


def test_the_three_terms_under_the_aggregate_posterior(lib: Any) -> None:
    """The average KL to it is the mutual information; to the standard normal it is that and the
    marginal KL."""
    prior = lib.build("conditionals", "VampPrior", *linear(lib), pseudo_inputs=DATA, learned=False)
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    z = 0.9 * DATA + SCALE * points  # (data, points)
    log_q = -0.5 * points**2 - np.log(SCALE) - 0.5 * np.log(2 * np.pi)
    aggregate = scores(lib, prior, z[..., None])
    normal = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    information, to_normal, marginal = (
        (difference @ weights).mean()
        for difference in (log_q - aggregate, log_q - normal, aggregate - normal)
    )
    np.testing.assert_allclose(information, 0.78414169, atol=5e-9)
    np.testing.assert_allclose(to_normal, 0.82429060, atol=5e-9)
    np.testing.assert_allclose(marginal, 0.04014892, atol=5e-9)


@pytest.mark.parametrize("kind", ["DiagonalNormal", "FullRankNormal", "IAF"])
def test_the_data_as_pseudo_inputs_are_the_aggregate_posterior(
    lib: Any, kind: str, rng: np.random.Generator
) -> None:
    encoder, posterior = networks(lib, kind)
    x, z = rng.random((6, 3)), rng.standard_normal((4, 5, 2))
    prior = lib.build(
        "conditionals", "VampPrior", encoder, posterior, pseudo_inputs=x, learned=False
    )
    each = lib.call(lambda: posterior(encoder(lib.array(x))).log_prob(lib.array(z[..., None, :])))
    expected = logsumexp(lib.numpy(each), -1) - np.log(6)
    np.testing.assert_allclose(scores(lib, prior, z), expected, rtol=1e-12, atol=1e-12)


def test_a_datum_is_left_out(lib: Any, rng: np.random.Generator) -> None:
    encoder, posterior = networks(lib)
    x, z, index = rng.random((6, 3)), rng.standard_normal((3, 2)), np.array([5, 0, 2])
    for name, settings in (("VampPrior", {"learned": False}), ("ExemplarPrior", {})):
        first = {"pseudo_inputs": x} if settings else {}
        given = () if settings else (x,)
        prior = lib.build("conditionals", name, *given, dim=2, **first, **settings)
        found = lib.call(
            lambda prior=prior: prior.given(encoder, posterior, without=lib.array(index)).log_prob(
                lib.array(z)
            )
        )
        q = posterior(encoder(lib.array(x)))
        if name == "ExemplarPrior":
            mean = lib.numpy(q.mean)
            each = -0.5 * ((z[:, None] - mean) ** 2).sum(-1) - np.log(2 * np.pi)
        else:
            each = np.array(lib.numpy(q.log_prob(lib.array(z[:, None]))))
        each[np.arange(3), index] = -np.inf
        np.testing.assert_allclose(lib.numpy(found), logsumexp(each, -1) - np.log(5), rtol=1e-10)
    learned = lib.build("conditionals", "VampPrior", encoder, posterior, num_components=3)
    with pytest.raises(ValueError, match="without= leaves out a datum that is a component"):
        learned.given(without=lib.array(index))
    with pytest.raises(ValueError, match=r"without must be labels from 0 to 5, got .*6"):
        prior.given(encoder, posterior, without=lib.array(np.array([6])))
    with pytest.raises(ValueError, match="without must be an array of integers"):
        prior.given(encoder, posterior, without=2)


def test_blocks_of_components_change_nothing(
    lib: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither values nor gradients, also where the last block is shorter."""
    encoder, posterior = networks(lib)
    prior = lib.build(
        "conditionals",
        "VampPrior",
        encoder,
        posterior,
        pseudo_inputs=rng.random((7, 3)),
        learned_weights=True,
    )
    z = lib.array(rng.standard_normal((4, 2)))

    def everything() -> Any:
        return lib.values_and_gradients(lambda prior, z: prior().log_prob(z), prior, z)

    whole = everything()
    monkeypatch.setattr(dgm_core.priors, "_BLOCK", 3 * z.shape[0] * z.shape[1])
    assert dgm_core.priors.block_length(7, 8) == 3
    parts = everything()
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-12)
    for name, gradient in whole[1].items():
        np.testing.assert_allclose(parts[1][name], gradient, rtol=1e-10, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(parts[2][0], whole[2][0], rtol=1e-10)


def test_single_precision_far_from_all_components(lib: Any, rng: np.random.Generator) -> None:
    """Values, and gradients that are finite, where every density is exp(-10^5) and less."""
    encoder, posterior = networks(lib)
    x = rng.random((6, 3))
    prior = lib.build("conditionals", "VampPrior", encoder, posterior, pseudo_inputs=x)
    z = np.concatenate([rng.standard_normal((3, 2)), 1e3 * rng.standard_normal((3, 2))])
    expected = scores(lib, prior, z)
    if lib.package.__name__ == "pyro_dgm":
        prior, value = prior.float(), lib.array(z).float()
    else:
        jnp = lib.jnp
        prior = lib.jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), prior)
        value = jnp.asarray(z, jnp.float32)
    found, gradients, _ = lib.values_and_gradients(lambda prior: prior().log_prob(value), prior)
    assert found.dtype == np.float32 and expected.min() < -1e5
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


def test_gradients_against_differences(lib: Any, rng: np.random.Generator) -> None:
    """Of pseudo-inputs, weights, encoder and posterior, in some direction each."""
    prior = lib.build(
        "conditionals",
        "VampPrior",
        *networks(lib),
        pseudo_inputs=rng.random((4, 3)),
        learned_weights=True,
    )
    z, step = lib.array(rng.standard_normal((3, 2))), 1e-5
    _, gradients, _ = lib.values_and_gradients(lambda prior: prior().log_prob(z), prior)
    assert {"raw_inputs", "logits", "encoder.layers.0.weight", "posterior.head.bias"} <= set(
        gradients
    )
    for name, gradient in gradients.items():
        direction, value = rng.standard_normal(gradient.shape), lib.weights(prior)[name]
        ends = []
        for sign in (1, -1):
            moved = with_weights(lib, prior, **{name: value + sign * step * direction})
            ends.append(scores(lib, moved, lib.numpy(z)).sum())
        with_weights(lib, prior, **{name: value})
        slope = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=1e-6, atol=1e-8)


def test_draws_come_from_the_components(lib: Any) -> None:
    """Far apart, with weights that are not equal; the mean is that of the mixture."""
    encoder, posterior = linear(lib)
    u = np.array([[-40.0], [0.0], [60.0]])
    prior = lib.build(
        "conditionals",
        "VampPrior",
        encoder,
        posterior,
        pseudo_inputs=u,
        learned_weights=True,
        bounds=None,
    )
    weights = np.array([0.2, 0.7, 0.1])
    prior = with_weights(lib, prior, logits=np.log(weights))
    p = prior()
    draws = lib.numpy(p.sample(*lib_shape(lib, 4000)))
    assert draws.shape == (4000, 1)
    nearest = np.abs(draws - 0.9 * u.T).argmin(1)
    frequencies = np.bincount(nearest, minlength=3) / 4000
    np.testing.assert_allclose(frequencies, weights, atol=4 * np.sqrt(0.25 / 4000))
    deviations = draws[:, 0] - 0.9 * u[nearest, 0]
    np.testing.assert_allclose(deviations.std(), SCALE, rtol=0.05)
    np.testing.assert_allclose(lib.numpy(p.mean), 0.9 * weights @ u, rtol=1e-10)


def lib_shape(lib: Any, number: int) -> tuple[Any, ...]:
    return ((number,),) if lib.package.__name__ == "pyro_dgm" else (lib.key(0), (number,))


def test_where_pseudo_inputs_start(lib: Any, rng: np.random.Generator) -> None:
    x = np.array([[0.0, 1.0, 0.25]])
    prior = lib.build("conditionals", "VampPrior", pseudo_inputs=x, dim=2)
    np.testing.assert_allclose(lib.numpy(prior.pseudo_inputs), 0.01 + 0.98 * x, rtol=1e-10)
    real = lib.build("conditionals", "VampPrior", pseudo_inputs=9 * x, dim=2, bounds=None)
    np.testing.assert_array_equal(lib.numpy(real.pseudo_inputs), 9 * x)
    mean = rng.uniform(-2.0, 4.0, 3)
    options = {"num_components": 4000, "x_shape": 3, "dim": 2}
    around = lib.build("conditionals", "VampPrior", **options, mean=mean, bounds=(-3, 5))
    u = lib.numpy(around.pseudo_inputs)
    assert u.shape == (4000, 3) and u.min() > -3 and u.max() < 5
    np.testing.assert_allclose(np.median(u, 0), -2.92 + 0.98 * (mean + 3), atol=0.2)


def test_both_forms_are_one_set_of_weights(lib: Any) -> None:
    """A prior without encoder is given the model's; a model without encoder takes the prior's."""
    alone = vae(lib, prior=lib.build("conditionals", "VampPrior", num_components=3))
    encoder = lib.build("nn", "MLP", 4, (6,))
    posterior = lib.build("conditionals", "DiagonalNormal", 2, context_shape=6)
    prior = lib.build("conditionals", "VampPrior", encoder, posterior, num_components=3)
    joint = vae(lib, prior=prior)
    assert joint.encoder is encoder and joint.posterior is posterior
    plain = lib.weights(vae(lib))
    for model in (alone, joint):
        found = lib.weights(model)
        assert found.keys() - plain.keys() == {"prior.raw_inputs"}
        assert found["prior.raw_inputs"].shape == (3, 4)
        assert repr(model.prior) == "VampPrior(2, num_components=3)"
    np.testing.assert_array_equal(
        lib.weights(joint)["prior.raw_inputs"], lib.weights(prior)["raw_inputs"]
    )
    with pytest.raises(ValueError, match="The encoder of a VampPrior is that of the guide"):
        vae(lib, prior=prior, encoder=lib.build("nn", "MLP", 4, (6,)))
    with pytest.raises(ValueError, match="has no encoder and posterior yet: a model such as VAE"):
        alone.prior()


def test_what_does_not_fit_is_refused(lib: Any) -> None:
    def make(*args: Any, **settings: Any) -> Any:
        return lib.build("conditionals", "VampPrior", *args, **settings)

    encoder, posterior = networks(lib)
    with pytest.raises(ValueError, match="the posterior is missing"):
        make(encoder)
    with pytest.raises(ValueError, match="context_shape=5, got DiagonalNormal"):
        make(encoder, lib.build("conditionals", "DiagonalNormal", 2, context_shape=4))
    with pytest.raises(ValueError, match=r"pseudo_inputs must lie in bounds=\(0.0, 1.0\)"):
        make(pseudo_inputs=PSEUDO)
    with pytest.raises(ValueError, match=r"pseudo_inputs must be .* where learned=False, got None"):
        make(learned=False)
    with pytest.raises(
        ValueError, match=r"bounds=\(-1\.0, 1\.0\) say where pseudo-inputs are learned"
    ):
        make(pseudo_inputs=DATA, learned=False, bounds=(-1, 1))
    with pytest.raises(ValueError, match="leave out num_components, got 3"):
        make(num_components=3, pseudo_inputs=DATA, bounds=None)
    with pytest.raises(ValueError, match="mean must be a number or an array of shape"):
        make(encoder, posterior, mean=np.full(4, 0.5))
    with pytest.raises(ValueError, match="Pseudo-inputs must have the shape of a datum, got"):
        vae(lib, prior=make(pseudo_inputs=np.zeros((2, 3))))
    with pytest.raises(ValueError, match=r"The prior must give values of shape \(2,\), got Vamp"):
        vae(lib, prior=make(dim=3))
    normed = lib.build("nn", "MLP", 3, (5,), batch_norm=True)
    with pytest.raises(ValueError, match="Pseudo-inputs must not meet batch normalization"):
        make(normed, posterior, num_components=2)()
    flow = networks(lib, "IAF")
    with pytest.raises(ValueError, match="An ExemplarPrior is made of the means of the posterior"):
        lib.build("conditionals", "ExemplarPrior", np.zeros((2, 3)), *flow)().log_prob(
            lib.array(np.zeros(2))
        )


X = (np.random.default_rng(1).random((16, 4)) < 0.4).astype(float)


def test_stock_engines_train_one_set(lib: Any) -> None:
    """What model and guide state is what the model is made of, once each."""
    model = vae(lib, prior=lib.build("conditionals", "VampPrior", num_components=3))
    x, names = lib.array(X), {"prior": 1, "encoder": 2, "posterior": 2}
    if lib.package.__name__ == "pyro_dgm":
        lib.pyro.clear_param_store()
        optim = lib.pyro.optim.Adam({"lr": 0.05})
        svi = lib.pyro.infer.SVI(model.model, model.guide, optim, lib.package.ELBO())
        losses = [svi.step(x) for _ in range(30)]
        found = [name.split("$$$")[0] for name in lib.pyro.get_param_store()]
        assert {name: found.count(name) for name in names} == names
        lib.pyro.clear_param_store()
    else:
        optim = lib.numpyro.optim.Adam(0.05)
        svi = lib.numpyro.infer.SVI(model.model, model.guide, optim, lib.package.ELBO())
        raw = X.astype(np.float32)  # numpy's arrays are constants of the compiled loop
        result = svi.run(lib.jax.random.key(0), 30, raw, progress_bar=False)
        losses = list(np.asarray(result.losses))
        found = {n: len(lib.jax.tree.leaves(v)) for n, v in result.params.items()}
        assert {name: found[f"{name}$params"] for name in names} == names
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 2


@pytest.mark.slow("numpyro")
def test_a_run_is_saved_read_and_resumed(lib: Any, tmp_path: Path) -> None:
    """Two epochs at once, or one after the other, or from a file: the same weights."""
    package = lib.package

    def fitted(num_epochs: int, **settings: Any) -> tuple[Any, Any]:
        model = vae(lib, prior=lib.build("conditionals", "VampPrior", num_components=3))
        options = {"batch_size": 8, "progress": False, **settings}
        return model, package.fit(model.model, model.guide, X, num_epochs=num_epochs, **options)

    model, once = fitted(2)
    fitted(1, checkpoint=tmp_path / "run")
    _, twice = fitted(2, checkpoint=tmp_path / "run")
    expected = package.log_weights(once, X, num_particles=2)
    np.testing.assert_allclose(package.log_weights(twice, X, num_particles=2), expected)
    once.save(tmp_path / "file")
    read = package.load_run(tmp_path / "file", model.model, model.guide)
    np.testing.assert_array_equal(package.log_weights(read, X, num_particles=2), expected)


@pytest.mark.parametrize(
    ("package", "name", "settings"),
    [
        ("conditionals", "MixturePrior", {}),
        ("flows", "MAF", {"num_layers": 1, "hidden": (5,)}),
        ("flows", "MAFMoG", {"num_layers": 1, "hidden": (5,)}),
        ("flows", "NSF", {"num_layers": 1, "hidden": (5,)}),
    ],
)
@pytest.mark.slow("numpyro")
def test_other_priors_learn_in_a_vae(
    lib: Any, package: str, name: str, settings: dict[str, Any]
) -> None:
    model = vae(lib, prior=lib.build(package, name, 2, **settings))
    before = lib.weights(model)
    run = lib.package.fit(model.model, model.guide, X, num_epochs=3, progress=False)
    assert np.isfinite(run.history.last["loss"])
    drawn = lib.package.generate(run, size=5)
    assert drawn["z"].shape == (5, 2)
    params = lib.jax.tree.leaves(run.params["prior$params"]) if hasattr(lib, "jax") else []
    after = params or [value for name, value in run.params.items() if name.startswith("prior")]
    moved = [lib.numpy(x) for x in after]
    old = [value for path, value in before.items() if path.startswith("prior.")]
    assert max(abs(x - y).max() for x, y in zip(moved, old, strict=True)) > 1e-4


@pytest.mark.long("[numpyro")
@pytest.mark.slow("numpyro")
def test_a_mixture_is_a_prior_that_guides_can_map(lib: Any) -> None:
    """A guide of all latents asks for the support of the prior."""
    for prior in (
        lib.build("conditionals", "MixturePrior", 2, 3),
        lib.build("conditionals", "VampPrior", num_components=3),
    ):
        model = vae(lib, prior=prior)
        guide = lib.build("guides", "JointGuide", model.model)
        run = lib.package.fit(model.model, guide, X, num_steps=3, progress=False)
        assert lib.package.log_weights(run, X, num_particles=2).shape[0] == 2
