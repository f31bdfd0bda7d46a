"""One vector of all latent sites, mapped to the supports of the run at hand."""

import os
from typing import Any

import numpy as np
import pytest

from tests.guides.programs import LOG_SEEN, PRIORS, ladder, ladder_evidence, schools, seen
from tests.losses.test_any_model import eight_schools
from tests.losses.user_models import MODELS, PARAMS

EVIDENCE = -31.31135  # of eight schools, by quadrature


def drawn(
    b: Any, guide: Any, *args: Any, seed: int = 0, compiled: bool = True
) -> dict[str, np.ndarray]:
    """The sites that a guide draws, in NumPyro compiled as a whole."""
    args = tuple(b.array(a) for a in args)
    if b.name == "pyro":
        b.torch.manual_seed(seed)
        return {name: value.detach().numpy() for name, value in guide(*args).items()}
    seeded = b.numpyro.handlers.seed(guide, seed)
    run = b.jax.jit(seeded) if compiled else seeded
    return {name: np.asarray(value) for name, value in run(*args).items()}


def drawn_often(b: Any, guide: Any, *args: Any, num: int) -> dict[str, np.ndarray]:
    """`num` draws of each site of a guide that has seen its model."""
    if b.name == "pyro":
        draws = [drawn(b, guide, *args, seed=seed) for seed in range(num)]
        return {name: np.stack([draw[name] for draw in draws]) for name in draws[0]}
    args = tuple(b.array(a) for a in args)

    def draw(key: Any) -> Any:
        return b.numpyro.handlers.seed(guide, key)(*args)

    keys = b.jax.random.split(b.jax.random.key(0), num)
    return b.jax.tree.map(np.asarray, b.jax.jit(lambda keys: b.jax.lax.map(draw, keys))(keys))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "matrices" else n for n in PRIORS]
)
def test_density_of_a_guide_on_any_support(backend: Any, name: str) -> None:
    """The mean of p / q is the integral of p, whatever q is: a wrong Jacobian would move it."""
    b = backend
    model = PRIORS[name](b)
    guide = b.guides.JointGuide(model, init_scale=1.3)
    bound = -b.evaluate(b.losses.IWAE(20_000), model, guide)[0]
    assert bound == pytest.approx(LOG_SEEN, abs=0.12)


def test_bounds_that_are_other_sites(backend: Any) -> None:
    b = backend
    model = PRIORS["bounded"](b)
    guide = b.guides.JointGuide(model, init_scale=3.0)
    guide.prepare()
    found = drawn_often(b, guide, num=40)
    assert (found["b"] >= 0).all() and (found["b"] <= 1 - found["a"]).all()
    assert len(found["b"]) == 40


def test_weights_of_eight_schools(backend: Any) -> None:
    b = backend
    model, y = eight_schools(b)
    guide = b.guides.JointGuide(model, init_scale=1.2)
    bound = -b.evaluate(b.losses.IWAE(40_000), model, guide, y, seed=3)[0]
    assert bound == pytest.approx(EVIDENCE, abs=0.08)


@pytest.mark.slow("numpyro")
def test_a_laplace_start_is_exact_for_a_normal_posterior(backend: Any) -> None:
    """Of independent coefficients, in a model that is written for one draw at a time."""
    b = backend
    model, y = ladder(b)
    guide = b.guides.JointGuide(model, b.conditionals.DiagonalNormal, init="laplace")
    guide.prepare(b.array(y))
    loss = b.losses.ELBO(num_particles=4, vectorize=False)
    bound = -b.evaluate(loss, model, guide, y)[0]
    assert bound == pytest.approx(ladder_evidence(), abs=1e-4)


def test_starts_at_values_and_at_the_mode(backend: Any) -> None:
    b = backend
    model, y = ladder(b)
    values = {"beta": np.array([3.0, -4.0])}
    guide = b.guides.JointGuide(model, init=values, init_scale=1e-6)
    np.testing.assert_allclose(drawn(b, guide, y)["beta"], [3.0, -4.0], atol=1e-4)
    guide = b.guides.JointGuide(model, init="map", init_scale=1e-6, name="mode")
    guide.prepare(b.array(y))
    np.testing.assert_allclose(drawn(b, guide, y)["beta"], [20 / 22, 20 / 11], atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_models_of_users(backend: Any, name: str) -> None:
    """A bound on any of them, or a refusal that names the site."""
    b = backend
    build, y = MODELS[name]
    model, _ = build(b)
    guide = b.guides.JointGuide(model)
    if name == "nested":
        with pytest.raises(ValueError, match="site 'v' lies in the subsampled plate"):
            b.evaluate(b.losses.ELBO(), model, guide, y, params=PARAMS)
        return
    value, _, gradients = b.evaluate(b.losses.ELBO(num_particles=3), model, guide, y, params=PARAMS)
    assert np.isfinite(value)
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    latent = set(guide.sites)
    assert latent and not latent & {"y", "y1", "y2"}
    if name == "partly observed":  # imputed by the model's own conditional
        assert guide.parts[0].answers == ("w",)


def test_explicit_subsamples_are_kept(backend: Any) -> None:
    """The rows [7, 2, 5] of ten, in guide and model, with the scale 10 / 3."""
    b, d = backend, backend.dist
    rows = np.array([7, 2, 5])
    y = np.arange(10.0)

    def model(y: Any) -> None:
        w = b.sample("w", d.Normal(b.array(0.0), b.array(1.0)))
        if b.name == "pyro":
            plate = b.pyro.plate("data", 10, subsample=b.torch.as_tensor(rows))
        else:
            plate = b.plate("data", 10, subsample_size=3)
        with plate as index:
            z = b.sample("z", d.Normal(w, b.array(1.0)))
            b.sample("y", d.Normal(z, b.array(1.0)), obs=y[index])

    if b.name == "numpyro":
        handed = b.numpyro.handlers.substitute(model, data={"data": b.np.asarray(rows)})
    else:
        handed = model
    guide = b.guides.JointGuide(handed, sites=["w"])
    if b.name == "pyro":
        joints = b.joints.Joints(handed, guide, (b.array(y),))
    else:
        joints = b.joints.Joints(b.jax.random.key(0), {}, handed, guide, (b.array(y),))
    joint = joints.inference()
    model_trace, guide_trace = joints.traces()
    nodes = [t.nodes if b.name == "pyro" else t for t in (model_trace, guide_trace)]
    for trace in nodes:
        np.testing.assert_array_equal(np.asarray(trace["data"]["value"]), rows)
        assert float(trace["z"]["scale"]) == pytest.approx(10 / 3)
    assert joint.data_scale == pytest.approx(10 / 3)


def test_refusals(backend: Any) -> None:
    b, d = backend, backend.dist
    g = b.guides

    def discrete() -> None:
        b.sample("k", d.Bernoulli(b.array(0.5)))

    def masked() -> None:
        b.sample("a", d.Normal(b.array(0.0), b.array(1.0)))
        with b.mask(b.np.asarray(np.array([True, False]))), b.plate("data", 2):
            b.sample("z", d.Normal(b.array(0.0), b.array(1.0)))

    cases = [
        (g.JointGuide(discrete), "site 'k' is discrete"),
        (g.JointGuide(discrete, sites=["m"]), r"no latent site \['m'\]"),
        (g.JointGuide(masked, sites=["z"]), "site 'z' lies under a mask"),
        (
            g.JointGuide(masked, b.conditionals.DiagonalNormal(3), sites=["a"]),
            r"must give values of shape \(1,\)",
        ),
        (g.JointGuide(masked, sites=["a"], init={"b": 1.0}), r"init names \['b'\]"),
        (
            g.JointGuide(masked, sites=["a"], init={"a": np.ones(2)}),
            r"init gives site 'a' values of shape \(2,\), but the site has shape \(\)",
        ),
    ]
    for guide, match in cases:
        with pytest.raises(ValueError, match=match):
            guide.prepare()
    for build, match in (
        (lambda: g.JointGuide(masked, init="mean"), "init must be one of"),
        (lambda: g.JointGuide(masked, init_scale=0.0), "init_scale"),
        (lambda: g.JointGuide(masked).sites, "has not seen the model's sites"),
        (lambda: g.JointGuide(3), "model must be"),
    ):
        with pytest.raises(ValueError, match=match):
            build()


def test_another_size_of_a_plate_is_refused(backend: Any) -> None:
    b, d = backend, backend.dist

    def model(y: Any) -> None:
        with b.plate("data", len(y)):
            b.sample("z", d.Normal(b.array(0.0), b.array(1.0)))

    guide = b.guides.JointGuide(model)
    drawn(b, guide, np.zeros(5))
    with pytest.raises(
        ValueError, match=r"batch shape \(7,\), but this guide was built for \(5,\)"
    ):
        drawn(b, guide, np.zeros(7))


def test_a_batch_dimension_at_the_wrong_place_is_refused(backend: Any) -> None:
    """A guide that draws ten values where the model has one would count them all."""
    b, d = backend, backend.dist

    def model() -> None:
        b.sample("w", d.Normal(b.array(0.0), b.array(1.0)))
        seen_in_plate = b.plate("data", 3)
        with seen_in_plate:
            b.sample("y", d.Normal(b.array(0.0), b.array(1.0)), obs=b.array(np.zeros(3)))

    def guide() -> None:
        b.sample("w", d.Normal(b.array(np.zeros(10)), b.array(1.0)))

    with pytest.raises(ValueError, match="'w'"):
        b.evaluate(b.losses.ELBO(), model, guide)


def test_the_first_call_may_be_compiled() -> None:
    """Parameters made while a function is compiled are those of every later call."""
    import jax
    import jax.numpy as jnp

    from tests.backends import NumPyroBackend

    b = NumPyroBackend()
    with b.double_precision():
        model, y = eight_schools(b)
        guide = b.guides.JointGuide(model)
        loss = b.losses.ELBO()

        def total(y: Any) -> Any:
            return loss.evaluate(jax.random.key(0), {}, model, guide, (y,), {}).loss

        first = jax.jit(total)(jnp.asarray(y))
        assert not isinstance(guide.parts[0].start.value, jax.core.Tracer)
        np.testing.assert_allclose(first, total(jnp.asarray(y)), rtol=1e-12)
        eager = b.guides.JointGuide(model)
        eager.prepare(jnp.asarray(y))
        np.testing.assert_allclose(eager.parts[0].start.value, guide.parts[0].start.value)
        late = jax.jit(b.guides.JointGuide(model, init="map").prepare)
        with pytest.raises(ValueError, match="while a function is compiled"):
            late(jnp.asarray(y))


@pytest.mark.slow
@pytest.mark.long("[pyro")
@pytest.mark.parametrize("seed", range(int(os.environ.get("SEEDS", "1"))))
@pytest.mark.parametrize(
    ("centered", "best"),
    [
        (False, -31.597),
        (True, -33.404),
    ],
)
def test_the_best_bounds_of_eight_schools(
    backend: Any, centered: bool, best: float, seed: int
) -> None:
    """The optimum of mean field, at the default start; `SEEDS=3 make test-slow` tries three (full
    rank is in test_recipes.py).
    """
    from tests.guides.test_amortized import fitted

    b = backend
    model, y = schools(b) if centered else eight_schools(b)
    guide = b.guides.JointGuide(model, b.conditionals.DiagonalNormal)
    if b.name == "pyro":
        b.torch.manual_seed(seed)
    steps, draws = (3000, 16) if centered else (1500, 8)
    bound = fitted(
        b, model, guide, y, steps=steps, lr=0.03, num_particles=draws, draws=40_000, seed=seed
    )
    assert bound == pytest.approx(best, abs=0.02)


class Shop:
    """What a user hands to a model beside arrays."""

    def __init__(self, seen: bool) -> None:
        self.seen = seen


@pytest.mark.parametrize("kind", ["joint", "stock"])
def test_a_scale_weighs_the_model_alone(backend: Any, kind: str) -> None:
    """Around sites that have the density one it changes no bound: a vector of all sites is drawn
    outside of it, and counts once in log q."""
    b, values = backend, []
    infer = getattr(b, b.name).infer

    def model(factor: float) -> None:
        with b.scale(factor):
            b.sample("u", b.dist.Uniform(b.array(0.0), b.array(1.0)))
            with b.plate("rows", 3):
                b.sample("v", b.dist.Uniform(b.array(-0.5), b.array(0.5)))
        seen(b)

    for factor in (1.0, 0.25):
        if kind == "joint":
            guide = b.guides.JointGuide(model)
        else:
            parts = {("u", "v"): infer.autoguide.AutoDiagonalNormal}
            guide = b.guides.CompositeGuide(model, parts)
        values.append(b.evaluate(b.losses.ELBO(num_particles=4), model, guide, factor)[0])
    assert values[1] == pytest.approx(values[0], rel=1e-9)


def test_an_object_among_the_arguments_decides_the_sites(backend: Any) -> None:
    """Two of a kind may give other latent sites; forms that are many are not all kept."""
    b, d = backend, backend.dist

    def model(y: Any, shop: Shop, temperature: float = 1.0) -> None:
        w = b.sample("w", d.Normal(b.array(0.0), b.array(1.0)))
        if not shop.seen:
            w = w + b.sample("shop", d.Normal(b.array(0.0), b.array(2.0)))
        with b.plate("data", 3):
            b.sample("y", d.Normal(w, b.array(0.5)), obs=y)

    guide = b.guides.JointGuide(model, sites=["w"])
    y = np.array([0.5, -1.0, 2.0])
    known, other = Shop(seen=False), Shop(seen=True)
    for shop in (known, other, known):
        found = drawn(b, lambda *args, shop=shop: guide(*args, shop), y)
        assert set(found) == ({"w"} if shop.seen else {"w", "shop"})
    for index in range(70):
        drawn(b, lambda *args, index=index: guide(*args, known, 1.0 + index), y, compiled=False)
    assert len(guide._outlines) <= 64 and set(guide.sites) == {"w", "shop"}
    both = b.guides.JointGuide(model, name="both")
    drawn(b, lambda *args: both(*args, known), y)
    with pytest.raises(ValueError, match=r"The sites \['shop'\] are not drawn in this call"):
        drawn(b, lambda *args: both(*args, other), y)


def test_a_flat_prior_and_missing_numbers(backend: Any) -> None:
    """mu ~ flat, y ~ Normal(mu, 1.3) with a NaN beneath a mask: the Laplace start is exact, and the
    mean of two numbers with the sd 1.3 / sqrt(2)."""
    b, d = backend, backend.dist
    y = np.array([1.0, np.nan, 2.5])
    mask = b.np.asarray(~np.isnan(y))

    def model(y: Any) -> None:
        mu = b.sample("mu", d.ImproperUniform(d.constraints.real, (), ()))
        with b.plate("data", 3), b.mask(mask):
            b.sample("y", d.Normal(mu, b.array(1.3)), obs=y)

    guide = b.guides.JointGuide(model, init="laplace")
    guide.prepare(b.array(y))
    bound = -b.evaluate(b.losses.ELBO(num_particles=3), model, guide, y)[0]
    exact = -0.5 * (1.5**2 / (2 * 1.69)) - 0.5 * np.log(2 * np.pi * 1.69) - 0.5 * np.log(2)
    assert bound == pytest.approx(exact, abs=1e-5)
    draws = drawn_often(b, guide, y, num=200)["mu"]
    assert draws.shape == (200,) and draws.mean() == pytest.approx(1.75, abs=0.25)

    def unmasked(y: Any) -> None:
        mu = b.sample("mu", d.Normal(b.array(0.0), b.array(1.0)))
        with b.plate("data", 3):
            b.sample("y", d.Normal(mu, b.array(1.3)), obs=y)

    engine = getattr(b, b.name)
    with (
        engine.validation_enabled(False),
        pytest.raises(ValueError, match="found no mode at finite values"),
    ):
        b.guides.JointGuide(unmasked, init="map", name="unmasked").prepare(b.array(y))
