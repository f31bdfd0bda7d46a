"""FIVO beside IWAE, along its draws, on padded batches, in the engines; what it refuses."""

from typing import Any

import numpy as np
import pytest

from dgm_core.resampling import SCHEMES, check_resampling
from tests.backends import NumPyroBackend, PyroBackend
from tests.sequences.filters import given, hidden_markov, linear_gaussian, part, tables
from tests.sequences.oracle import A1, OTHER, X1
from tests.sequences.particles import OTHER as THREE

RNG = np.random.default_rng(4)
X = RNG.standard_normal((3, 4, 3))
SHIFT = {"shift": np.array([0.2, -0.3])}


@pytest.mark.slow("numpyro")
def test_without_resampling_it_is_iwae(backend: Any, monkeypatch: Any) -> None:
    """The weights of the particles' paths are those that the joints of IWAE find for them, and in
    Pyro, from one table of noise, value and gradient are those of IWAE."""
    losses, rule = backend.losses, part(backend, "sequences.filtering")
    handlers, joints = part(backend, "joints.handlers"), part(backend, "joints")
    step_pair = part(backend, "sequences.pairs").step_pair
    never = check_resampling("never", "multinomial")
    model, guide = linear_gaussian(backend, OTHER, optimal=True)

    def kept(now: Any) -> Any:
        return now.step.values["z"]

    def log_weight(x: Any, path: Any, key: Any = None) -> Any:
        if key is None:
            with handlers.GivenDraws({"z": path}):
                return joints.Joints(model, guide, (x,)).inference().log_w
        own = handlers.GivenDraws(guide, {"z": path})
        return joints.Joints(key, {}, model, own, (x,)).inference().log_w

    def both(x: Any, key: Any = None) -> Any:
        more = {} if key is None else {"key": key}
        if key is None:
            pair = step_pair(model, guide, (x,))
        else:
            from numpyro import handlers as effects

            with effects.seed(rng_seed=key):
                pair = step_pair(model, guide, (x,))
        found, values = rule.filtered(pair, 5, never, kept, **more)
        paths = backend.np.moveaxis(values, 0, -2)  # (particles, batch, time, dim)
        log_w = [log_weight(x, paths[k], key)[0] for k in range(5)]
        return found, backend.np.stack(log_w)

    with backend.double_precision():
        if backend.name == "pyro":
            with backend.torch.no_grad():
                found, log_w = both(backend.array(X))
        else:
            import jax

            found, log_w = jax.jit(both)(backend.array(X), jax.random.key(0))
    found, log_w = np.asarray(found), np.asarray(log_w)
    expected = np.log(np.exp(log_w - log_w.max(0)).mean(0)) + log_w.max(0)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    if backend.name == "pyro":
        monkeypatch.setattr(part(backend, "sequences.walk"), "draw", from_a_table)
        args = (model, guide, X)
        one, other = (
            backend.evaluate(loss, *args, params=SHIFT)
            for loss in (losses.FIVO(5, resample="never"), losses.IWAE(5))
        )
        assert one[0] == pytest.approx(other[0], rel=1e-13)
        np.testing.assert_allclose(one[2]["shift"], other[2]["shift"], rtol=1e-11)


def from_a_table(fn: Any) -> Any:
    """A draw whose noise depends on its shape alone."""
    import torch

    noise = np.random.default_rng(0).standard_normal(fn.shape())
    return fn.mean + (fn.scale_tril @ torch.as_tensor(noise)[..., None])[..., 0]


@pytest.mark.slow("numpyro")
@pytest.mark.long("numpyro residual", "numpyro stratified", "numpyro multinomial")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_gradient_along_the_draws(backend: Any, scheme: str) -> None:
    """At fixed random numbers it is that of the value, resampled or not."""
    loss = backend.losses.FIVO(6, resample=0.4, scheme=scheme)
    pair = linear_gaussian(backend, OTHER, optimal=True)

    def at(shift: np.ndarray) -> Any:
        return backend.evaluate(loss, *pair, X, params={"shift": shift}, seed=2)

    _, terms, gradients = at(SHIFT["shift"])
    assert 0 < terms["FIVO/resampled"] < 3
    assert 1 < terms["FIVO/ESS"] < 6
    for index in range(2):
        step = 1e-6 * np.eye(2)[index]
        slope = (at(SHIFT["shift"] + step)[0] - at(SHIFT["shift"] - step)[0]) / 2e-6
        assert gradients["shift"][index] == pytest.approx(slope, rel=1e-5, abs=1e-6)


LENGTHS = np.array([4, 1, 3, 2])


def padded(backend: Any, scheme: str, *, alone: bool) -> list[Any]:
    """FIVO on a padded batch, and on its sequences one by one (alone), at the same draws."""
    rng = np.random.default_rng(7)
    x = rng.integers(0, 2, (4, 4))
    x[np.arange(4)[None] >= LENGTHS[:, None]] = 9  # no class at all
    z = rng.integers(0, 3, (4, 3, 4))
    points = rng.uniform(size=(4, 1 if scheme == "systematic" else 3, 4))
    loss = backend.losses.FIVO(3, resample=0.8, scheme=scheme)
    pair, params, found = hidden_markov(backend, informed=False), tables(THREE), []
    for rows in (slice(None), *(slice(n, n + 1) for n in range(4 * alone))):
        length = None if rows == slice(None) else LENGTHS[rows][0]
        lengths = backend.np.asarray(LENGTHS) if length is None else None
        data = backend.np.asarray(x[rows, :length])
        with pytest.MonkeyPatch.context() as patch:
            given(patch, backend, {"z": z[:length, :, rows]}, points[:length, :, rows])
            found.append(backend.evaluate(loss, *pair, data, lengths, params=params))
            if backend.name == "numpyro":  # compiled, where values are not known
                beyond = backend.evaluate(loss, *pair, data, lengths + 1, params=params)
                assert np.isnan(beyond[0])
    return found


@pytest.mark.slow("stratified", "systematic", "residual")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_padded_batches_and_twins(scheme: str) -> None:
    """A batch has the values and the gradients of its sequences one by one, whatever stands in the
    padding; so it has in the other library."""
    ours, theirs = PyroBackend(), NumPyroBackend()
    with ours.double_precision():
        whole, *parts = padded(ours, scheme, alone=True)
    with theirs.double_precision():
        (twin,) = padded(theirs, scheme, alone=False)
    assert whole[0] == pytest.approx(sum(own[0] for own in parts), rel=1e-10)
    assert whole[1]["FIVO/resampled"] == np.mean([own[1]["FIVO/resampled"] for own in parts])
    assert 0 < whole[1]["FIVO/resampled"] < (LENGTHS - 1).mean()
    steps = sum(length * own[1]["FIVO/ESS"] for length, own in zip(LENGTHS, parts, strict=True))
    assert whole[1]["FIVO/ESS"] == pytest.approx(steps / LENGTHS.sum(), rel=1e-10)
    assert whole[0] == pytest.approx(twin[0], rel=1e-10)
    assert whole[1] == pytest.approx(twin[1], rel=1e-10)
    for name, gradient in whole[2].items():
        np.testing.assert_allclose(gradient, sum(own[2][name] for own in parts), atol=1e-10)
        np.testing.assert_allclose(gradient, twin[2][name], rtol=1e-10, atol=1e-12)


def test_a_dmm_by_its_steps(torch_x64: None) -> None:
    """The networks of a DMM, whose path is one site, as steps: the same weights of the same paths,
    NaN in the padding."""
    import pyro
    import torch

    from pyro_dgm.joints import Joints
    from pyro_dgm.joints.handlers import GivenDraws
    from pyro_dgm.models import DMM
    from pyro_dgm.nn import without_padding
    from pyro_dgm.sequences import unroll
    from pyro_dgm.sequences.filtering import filtered
    from pyro_dgm.sequences.pairs import step_pair

    dmm = DMM(3, 2, 4, hidden=8, features=8)
    prior, posterior, emission = dmm.prior, dmm.posterior, dmm.likelihood.conditional

    def model(x: Any, lengths: Any) -> None:
        def step(z: Any, inputs: Any, x_t: Any) -> Any:
            z = pyro.sample("z", prior.after(z, None))
            pyro.sample("x", emission(dmm.decoder(z)), obs=x_t)
            return z

        with pyro.plate("data", len(x)):
            unroll(step, prior.start, x, lengths=lengths)

    def guide(x: Any, lengths: Any) -> None:
        def step(z: Any, features: Any, x_t: Any) -> Any:
            return pyro.sample("z", posterior.after(z, features))

        features = dmm.encoder(without_padding(x, lengths), lengths)
        with pyro.plate("data", len(x)):
            unroll(step, posterior.start, x, inputs=features, lengths=lengths)

    x, lengths = torch.bernoulli(torch.full((4, 4, 3), 0.4)), torch.as_tensor(LENGTHS)
    x[1, 1:] = torch.nan
    with torch.no_grad():
        never = check_resampling("never", "multinomial")
        pair = step_pair(model, guide, (x, lengths))
        found, z = filtered(pair, 3, never, lambda now: now.step.values["z"])
        log_w = []
        for path in z.movedim(0, -2):  # of one particle
            with GivenDraws({"z": path}):
                log_w.append(Joints(dmm.model, dmm.guide, (x, lengths)).inference().log_w[0])
    expected = torch.logsumexp(torch.stack(log_w), 0) - np.log(3)
    np.testing.assert_allclose(found, expected, rtol=1e-11)


@pytest.mark.slow("numpyro")
@pytest.mark.long("numpyro")
def test_engines(backend: Any) -> None:
    """`fit`, on minibatches, and the stock engine take a guide that is off nearer the posterior."""
    x = np.tile(X, (4, 1, 1))
    loss = backend.losses.FIVO(6, resample=0.5, scheme="systematic")
    model, guide = linear_gaussian(backend, OTHER, optimal=True, start=1.5)
    with backend.double_precision():
        training, nn = part(backend, "training"), part(backend, "nn")
        run = training.fit(
            model,
            guide,
            x,
            loss=loss,
            optim=nn.Adam(0.1),
            num_epochs=10,
            batch_size=4,
            seed=0,
            progress=False,
        )
        bounds = run.history.column("FIVO")
        assert run.history.column("FIVO/ESS")[-1] > run.history.column("FIVO/ESS")[0]
        data = backend.array(x)
        if backend.name == "pyro":
            backend.pyro.clear_param_store()
            optim = backend.pyro.optim.Adam({"lr": 0.1})
            svi = backend.pyro.infer.SVI(model, guide, optim, loss)
            totals = [svi.step(data) for _ in range(20)]
        else:
            svi = backend.numpyro.infer.SVI(
                model, loss.attach(guide), backend.numpyro.optim.Adam(0.1), loss
            )
            result = svi.run(backend.jax.random.key(0), 20, data, progress_bar=False)
            totals = np.asarray(result.losses)
    evidence = np.mean([OTHER.evidence(own) for own in x])
    for found in (bounds, -np.array(totals) / len(x)):
        assert found[0] + 1 < found[-4:].mean() < evidence


@pytest.mark.slow("numpyro")
def test_impossible_data(backend: Any) -> None:
    """Of data that no particle can have come by the bound is -inf, not NaN, and evaluation says
    where; NaN comes through, and is named."""
    params = {"moves": np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), "emits": np.eye(2)}
    model, guide = hidden_markov(backend, informed=False)
    x = np.array([[0, 0, 0], [0, 1, 0]])
    loss = backend.losses.FIVO(3)
    value, terms, _ = backend.evaluate(loss, model, guide, backend.np.asarray(x), params=params)
    assert value == np.inf
    assert terms["FIVO"] == -np.inf
    particle_filter = backend.evaluation.particle_filter
    with backend.double_precision():
        run = backend.run(model, guide, params)
        found = particle_filter(run, x[:1], num_particles=5)
        assert found.log_likelihood == pytest.approx(0.0, abs=1e-6)
        with pytest.raises(ValueError, match="No particle of sequence 1 has a weight at step 1"):
            particle_filter(run, x, num_particles=5)
        model, guide = linear_gaussian(backend, OTHER, optimal=False)
        run = backend.run(model, guide, {"shift": np.array([np.nan, 0.0])})
        with pytest.raises(ValueError, match=r"(15 of 15)|(found invalid)"):
            particle_filter(run, X, num_particles=5)


def test_refusals(backend: Any) -> None:
    """In one sentence each."""
    fivo, arrays = backend.losses.FIVO, backend.array
    for settings, sentence in (
        ({"num_particles": 0}, "num_particles must be an integer of at least 1, got 0"),
        ({"resample": "often"}, "resample must be 'always', 'never' or a share"),
        ({"resample": 0.0}, "resample must be 'always', 'never' or a share"),
        ({"resample": True}, "resample must be 'always', 'never' or a share"),
        ({"resample": float("nan")}, "resample must be 'always', 'never' or a share"),
        ({"scheme": "bootstrap"}, "scheme must be one of"),
        ({"estimator": "dreg"}, "estimator must be one of"),
        ({"estimator": "unbiased"}, "needs resample='always'"),
        (
            {"estimator": "unbiased", "resample": "always", "scheme": "residual"},
            "by scheme='multinomial' alone",
        ),
    ):
        with pytest.raises(ValueError, match=sentence):
            fivo(**settings)
    model, guide = linear_gaussian(backend, A1, optimal=False)
    loss, x = fivo(2), X1[None]

    def with_global(x: Any) -> None:
        backend.sample("w", backend.dist.Normal(arrays(0.0), arrays(1.0)))
        model(x)

    def alone(x: Any) -> None:
        with backend.plate("data", len(x)):
            backend.sample("z", backend.dist.Normal(arrays(0.0), arrays(1.0)))

    def masked(x: Any) -> None:
        with backend.mask(backend.np.asarray(True)):
            model(x)

    def scaled(x: Any) -> None:
        with backend.scale(0.5):
            guide(x)

    def tilted(x: Any) -> None:
        model(x)
        backend.factor("tilt", arrays(0.3))

    for program, own, sentence in (
        (with_global, guide, r"the model also has \['w'\]: move them into the step"),
        (tilted, guide, r"the model also has \['tilt'\]: move them into the step"),
        (alone, alone, "call unroll once, but the model calls it 0 times"),
        (masked, guide, "has a mask around unroll: give unroll the lengths"),
        (model, scaled, "a scale around unroll changes"),
    ):
        with pytest.raises(ValueError, match=sentence):
            backend.evaluate(loss, program, own, x)
    loss.vectorize = False
    with pytest.raises(ValueError, match="so they run at once: leave vectorize=False out"):
        backend.evaluate(loss, model, guide, x)
