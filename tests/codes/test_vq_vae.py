"""Autoencoders with a codebook: the bound, training in parts, a prior of the codes afterwards."""

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from dgm_core.diagnostics import code_use
from tests.training.faces import BITS, NumPyroFace, PyroFace

K, POSITIONS = 5, 2


@pytest.fixture(scope="module", params=[PyroFace, NumPyroFace], ids=["pyro", "numpyro"])
def face(request: pytest.FixtureRequest) -> Any:
    """Both libraries in turn."""
    return request.param()


def made(face: Any, module: str, name: str, *sizes: Any, seed: int = 0, **settings: Any) -> Any:
    package = __import__(f"{face.name}_dgm.{module}", fromlist=[name])
    if face.name == "pyro":
        face.torch.manual_seed(seed)
        return getattr(package, name)(*sizes, **settings)
    return getattr(package, name)(*sizes, **settings, key=face.jax.random.key(seed))


def coded(face: Any, folder: Any = None, **changes: Any) -> Any:
    """A run of a small one on vectors of six bits."""
    vae = made(face, "models", "VQVAE", 6, 2, K, positions=POSITIONS, hidden=(8,))
    losses = face.losses
    options = {"loss": losses.ELBO() + 6.0 * losses.Commitment("z"), "batch_size": 12}
    options |= {"optim": face.training.Adam(1e-2), "num_epochs": 3, "checkpoint": folder}
    options |= {"validation": BITS[:12], "average": 0.9}
    return face.quiet(vae.model, vae.guide, BITS, **{**options, **changes})


def interrupt(run: Any) -> None:
    if run.epoch == 2:
        raise KeyboardInterrupt


def codes_of(face: Any, run: Any) -> dict[str, np.ndarray]:
    """What training keeps of the codes."""
    if face.name == "numpyro":
        return {k: np.asarray(v) for k, v in run.mutable_state["quantizer$state"][""].items()}
    names = ("codes", "used", "counts", "steps")
    return {name: run.mutable_state[f"0.quantizer.{name}"].numpy() for name in names}


def evaluation(face: Any) -> Any:
    return __import__(f"{face.name}_dgm.evaluation", fromlist=["fit_prior"])


@pytest.fixture(scope="module")
def run(face: Any) -> Any:
    return coded(face)


@pytest.mark.slow("numpyro")
def test_a_run_in_parts_is_the_run_in_one(face: Any, run: Any, tmp_path: Any) -> None:
    """Codes and counts are part of checkpoints; validation and evaluation do not move them."""
    with pytest.raises(KeyboardInterrupt):
        coded(face, tmp_path, callbacks=[interrupt])
    resumed = coded(face, tmp_path)
    face.assert_equal(resumed, run)
    first, second = codes_of(face, run), codes_of(face, resumed)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])
    assert int(first["steps"]) == 4 * run.best_epoch
    found = evaluation(face).codes(run, BITS)["z"]
    assert found.indices.shape == (len(BITS), POSITIONS) and found.use.num_codes == K
    weights = evaluation(face).log_weights(run, BITS, num_particles=2)
    np.testing.assert_array_equal(codes_of(face, run)["codes"], first["codes"])
    np.testing.assert_allclose(weights[0], weights[1], err_msg="the guide draws nothing")


@pytest.mark.slow("numpyro")
def test_a_prior_of_the_codes_afterwards(face: Any, run: Any, tmp_path: Any) -> None:
    """Of independent positions, the frequencies: the bound gains by ln K less the entropy of each,
    whatever the shape in which a conditional has the numbers; samples follow it.
    """
    before = evaluation(face).log_weights(run, BITS, num_particles=1)[0]
    settings = {"num_epochs": 400, "optim": face.training.Adam(0.3), "progress": False}
    settings["lr_schedule"] = lambda step: 1 / (1 + step / 100)
    prior = made(face, "conditionals", "Categorical", (1, POSITIONS), K)
    better = evaluation(face).fit_prior(run, BITS, prior, **settings)
    after = evaluation(face).log_weights(better, BITS, num_particles=1)[0]
    drawn = evaluation(face).generate(better, size=4000, seed=1)["z"]
    codes = codes_of(face, run)["codes"]
    index = np.abs(np.moveaxis(np.asarray(drawn), 1, -1)[..., None, :] - codes).sum(-1)
    assert index.min(-1).max() < 1e-5, "samples are codes"
    found = evaluation(face).codes(run, BITS)["z"].indices
    for numbers in (found, index.argmin(-1)):  # of the data, and of the samples
        use = [code_use(numbers[:, i], K) for i in range(POSITIONS)]
        gain = sum(np.log(K) - np.log(u.perplexity) for u in use)
        assert (after - before).mean() == pytest.approx(gain, abs=0.05)
    assert gain > 0.02
    wrong = made(face, "conditionals", "Categorical", POSITIONS, K + 1)
    with pytest.raises(ValueError, match=r"numbers of its codes, 2 integers 0, ..., 4"):
        evaluation(face).fit_prior(run, BITS, wrong, **settings)


@pytest.mark.slow
@pytest.mark.long("numpyro")
def test_a_lower_prior_sees_the_upper_codes(face: Any) -> None:
    """Of two levels: each prior in one call, the lower one given the upper codes, of which each has
    four below it. Upper codes this close to each other are hard to tell apart: it gains more than
    the frequencies of the lower codes do, and no more than a logistic regression on those above."""
    rng = np.random.default_rng(0)
    x = np.repeat(np.repeat(rng.integers(0, 2, (64, 1, 2, 2)), 4, 2), 4, 3).astype(np.float32)
    vae = made(face, "models", "VQVAE2", (1, 8, 8), 3, 4, hidden=(8,), pixel_features=2)
    losses = face.losses
    loss = losses.ELBO() + 64.0 * (losses.Commitment("z_top") + losses.Commitment("z_bottom"))
    options = {"loss": loss, "optim": face.training.Adam(1e-2), "num_epochs": 20, "batch_size": 16}
    run = face.quiet(vae.model, vae.guide, x, **options)
    bottom = evaluation(face).codes(run, x)["z_bottom"].indices.reshape(-1)
    top = evaluation(face).sample_posterior(run, x, num_draws=1)["z_top"].reshape(64, 3, 2, 2)
    top = np.repeat(np.repeat(top, 2, 2), 2, 3).transpose(0, 2, 3, 1).reshape(-1, 3)
    assert len(np.unique(top, axis=0)) > 1
    top = (top - top.mean(0)) / top.std(0)
    best = LogisticRegression(C=1e6, max_iter=1000).fit(top, bottom)
    known = 16 * (np.log(4) - log_loss(bottom, best.predict_proba(top)))
    often = np.bincount(bottom)[np.unique(bottom)] / bottom.size
    least = 16 * (np.log(4) + (often * np.log(often)).sum())
    first = evaluation(face).log_weights(run, x, num_particles=1).mean()
    settings = {"num_epochs": 200, "optim": face.training.Adam(1.0), "progress": False}
    settings["lr_schedule"] = lambda step: 1 / (1 + step / 100)
    prior = made(face, "conditionals", "Categorical", (1, 4, 4), 4, context_shape=(3, 4, 4))
    better = evaluation(face).fit_prior(run, x, prior, site="z_bottom", given="z_top", **settings)
    second = evaluation(face).log_weights(better, x, num_particles=1).mean()
    assert least < second - first < known + 0.01
    upper = made(face, "conditionals", "Categorical", (2, 2), 4)
    both = evaluation(face).fit_prior(better, x, upper, site="z_top", **settings)
    assert evaluation(face).log_weights(both, x, num_particles=1).mean() > second
    assert evaluation(face).generate(both, size=3)["x"].shape == (3, 1, 8, 8)
