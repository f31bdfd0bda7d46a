"""Values of the bounds against exact ones: the conjugate normal toy, subsampling, global latents,
masks and scales.
"""

import math
from typing import Any

import numpy as np
import pytest

from tests.losses.toys import ELBO_AT_Q, IWAE_AT_Q, LOG_EVIDENCE, Q, conjugate, ones

NUM = 20_000


def test_elbo_and_its_parts(backend: Any) -> None:
    model, guide = conjugate(backend)
    loss, terms, _ = backend.evaluate(backend.losses.ELBO(), model, guide, ones(NUM), params=Q)
    assert terms["ELBO"] == pytest.approx(ELBO_AT_Q, abs=5 * 1.0 / math.sqrt(NUM))
    assert loss == pytest.approx(-NUM * terms["ELBO"])
    assert terms["ELBO"] == pytest.approx(terms["ELBO/log_likelihood"] - terms["ELBO/KL"])


def test_analytic_kl_is_exact(backend: Any) -> None:
    model, guide = conjugate(backend)
    _, terms, _ = backend.evaluate(
        backend.losses.ELBO(analytic_kl=True), model, guide, ones(3), params=Q
    )
    assert terms["ELBO/KL"] == pytest.approx(0.5 * (0.8 + 0.25 - 1 - math.log(0.8)), abs=1e-12)


def test_elbo_equals_evidence_at_the_posterior(backend: Any) -> None:
    model, guide = conjugate(backend)
    posterior = {"loc": 0.5, "log_scale": 0.5 * math.log(0.5)}
    _, terms, _ = backend.evaluate(backend.losses.ELBO(), model, guide, ones(4), params=posterior)
    assert terms["ELBO"] == pytest.approx(LOG_EVIDENCE, abs=1e-6)


@pytest.mark.parametrize("num_particles", [2, 5, 10, 50])
def test_iwae_values(backend: Any, num_particles: int) -> None:
    model, guide = conjugate(backend)
    _, terms, _ = backend.evaluate(
        backend.losses.IWAE(num_particles), model, guide, ones(NUM), params=Q
    )
    assert terms["IWAE"] == pytest.approx(
        IWAE_AT_Q[num_particles], abs=4 * 0.36 / math.sqrt(num_particles * NUM) + 1e-4
    )


def test_beta_and_schedule(backend: Any) -> None:
    from dgm_core.schedules import linear

    model, guide = conjugate(backend)
    _, plain, _ = backend.evaluate(
        backend.losses.ELBO(beta=0.25, analytic_kl=True), model, guide, ones(3), params=Q
    )
    _, scheduled, _ = backend.evaluate(
        backend.losses.ELBO(beta=linear(100), analytic_kl=True),
        model,
        guide,
        ones(3),
        params=Q,
        step=25,
    )
    assert plain["ELBO"] == pytest.approx(plain["ELBO/log_likelihood"] - 0.25 * plain["ELBO/KL"])
    assert scheduled["ELBO"] == pytest.approx(plain["ELBO"], rel=1e-6)


def test_iwae_stays_a_bound_under_subsampling(backend: Any) -> None:
    """Pyro's own RenyiELBO(alpha=0) puts N / B inside the logarithm and exceeds the
    evidence here.
    """
    num_data, batch, num_particles = 1000, 10, 1000
    model, guide = conjugate(backend)
    x = ones(batch)
    loss = backend.losses.IWAE(num_particles)
    losses = [
        backend.evaluate(loss, model, guide, x, params=Q, seed=s, size=num_data)[0]
        for s in range(40)
    ]
    mean, error = -np.mean(losses) / num_data, np.std(losses) / num_data / math.sqrt(len(losses))
    assert mean <= LOG_EVIDENCE + 3 * error
    assert mean == pytest.approx(LOG_EVIDENCE, abs=1e-4 + 3 * error)


def regression(backend: Any, num_data: int) -> tuple[Any, Any]:
    """w ~ Normal(0, 1) global, z_n ~ Normal(w, 1) local, x_n ~ Normal(z_n, 1); the guide is exact
    for z given w and a free Gaussian for w.
    """
    dist, np_ = backend.dist, backend.np

    def model(x: Any) -> None:
        w = backend.sample("w", dist.Normal(backend.array(0.0), backend.array(1.0)))
        with backend.plate("data", num_data, subsample_size=len(x)):
            z = backend.sample("z", dist.Normal(w, backend.array(1.0)))
            backend.sample("x", dist.Normal(z, backend.array(1.0)), obs=x)

    def guide(x: Any) -> None:
        w = backend.sample(
            "w", dist.Normal(backend.param("loc"), np_.exp(backend.param("log_scale")))
        )
        with backend.plate("data", num_data, subsample_size=len(x)):
            backend.sample("z", dist.Normal(0.5 * (w + x), backend.array(math.sqrt(0.5))))

    return model, guide


def regression_evidence(x: np.ndarray) -> tuple[float, dict[str, float]]:
    """log p(x) with x | w ~ Normal(w, var 2), w ~ Normal(0, 1), and the exact posterior of w."""
    n = len(x)
    cov = 2.0 * np.eye(n) + np.ones((n, n))
    evidence = -0.5 * (
        n * math.log(2 * math.pi) + np.linalg.slogdet(cov)[1] + x @ np.linalg.solve(cov, x)
    )
    var = 1.0 / (1.0 + n / 2.0)
    return evidence, {"loc": var * x.sum() / 2.0, "log_scale": 0.5 * math.log(var)}


@pytest.mark.parametrize("loss", ["ELBO", "IWAE"])
def test_global_and_local_latents_whole_data(backend: Any, loss: str) -> None:
    x = np.linspace(-1.0, 2.0, 6)
    evidence, posterior = regression_evidence(x)
    model, guide = regression(backend, len(x))
    term = backend.losses.ELBO(num_particles=3) if loss == "ELBO" else backend.losses.IWAE(5)
    total, terms, _ = backend.evaluate(term, model, guide, x, params=posterior)
    assert -total == pytest.approx(evidence, abs=1e-9)
    assert terms[loss] == pytest.approx(evidence / len(x), abs=1e-9)


@pytest.mark.parametrize("loss", ["ELBO", "IWAE"])
def test_global_and_local_latents_subsampled(backend: Any, loss: str) -> None:
    """The average over all minibatches is the bound of the whole data: at the exact guide, the
    evidence.
    """
    x = np.linspace(-1.0, 2.0, 6)
    evidence, posterior = regression_evidence(x)
    model, guide = regression(backend, len(x))
    term = backend.losses.ELBO(num_particles=2) if loss == "ELBO" else backend.losses.IWAE(4)
    batches = [x[[i, j]] for i in range(6) for j in range(i + 1, 6)]
    totals = [
        backend.evaluate(term, model, guide, b, params=posterior, seed=7)[0] for b in batches
    ]  # one seed: the same draws of w
    assert -np.mean(totals) == pytest.approx(evidence, abs=1e-9)


def test_sums_weights_and_repr(backend: Any) -> None:
    losses = backend.losses
    model, guide = conjugate(backend)
    loss = 2.0 * (losses.ELBO(analytic_kl=True) + 0.5 * losses.Reconstruction())
    total, terms, _ = backend.evaluate(loss, model, guide, ones(5), params=Q)
    assert total == pytest.approx(5 * (-2.0 * terms["ELBO"] + terms["Reconstruction"]), rel=1e-6)
    assert terms["Reconstruction"] == pytest.approx(-terms["ELBO/log_likelihood"])
    assert repr(loss) == "2.0 * ELBO(analytic_kl=True) + Reconstruction()"
    assert set(terms) == set(loss.term_names)


def test_scales_and_masks_of_the_model_count(backend: Any) -> None:
    """A weight on the model's prior alone is honored by the closed KL (Pyro's TraceMeanField_ELBO
    ignores it).
    """
    dist = backend.dist

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            with backend.scale(3.0):
                z = backend.sample("z", dist.Normal(backend.array(0.0), backend.array(1.0)))
            with backend.mask(x > 0):
                backend.sample("x", dist.Normal(z, backend.array(1.0)), obs=x)

    guide = conjugate(backend)[1]
    x = np.concatenate([np.ones(NUM // 2), -np.ones(NUM // 2)])
    _, sampled, _ = backend.evaluate(backend.losses.ELBO(), model, guide, x, params=Q)
    _, closed, _ = backend.evaluate(
        backend.losses.ELBO(analytic_kl=True), model, guide, x, params=Q
    )
    second_moment = 0.8 + 0.25
    exact_kl = 3.0 * 0.5 * (math.log(2 * math.pi) + second_moment) - 0.5 * (
        math.log(2 * math.pi * 0.8) + 1.0
    )
    exact_fit = 0.5 * -0.5 * (math.log(2 * math.pi) + 0.8 + 0.25)
    assert sampled["ELBO/KL"] == pytest.approx(exact_kl, abs=0.05)
    assert closed["ELBO/KL"] == pytest.approx(exact_kl, abs=0.05)
    assert sampled["ELBO/log_likelihood"] == pytest.approx(exact_fit, abs=0.02)


def test_masks_of_either_program_count_in_the_closed_kl(backend: Any) -> None:
    """log q counts where the guide says, log p where the model does: at a uniform q both closed and
    exact, whichever of the two masks what.
    """
    dist, np_ = backend.dist, backend.np
    some, others = [True, False, True, False], [True, True, True, False]
    for of_model, of_guide in [(some, others), (some, None), (None, others)]:
        p_mask, q_mask = (True if m is None else np_.asarray(m) for m in (of_model, of_guide))

        def model(x: Any, mask: Any = p_mask) -> None:
            with backend.plate("data", len(x)):
                with backend.mask(mask):
                    backend.sample("z", dist.Categorical(backend.array([0.2, 0.8])))
                backend.sample("x", dist.Normal(backend.array(0.0), backend.array(1.0)), obs=x)

        def guide(x: Any, mask: Any = q_mask) -> None:
            with backend.plate("data", len(x)), backend.mask(mask):
                backend.sample("z", dist.Categorical(backend.array([0.5, 0.5])))

        loss = backend.losses.ELBO(analytic_kl=True)
        _, terms, _ = backend.evaluate(loss, model, guide, np.zeros(4))
        p_share, q_share = (1.0 if m is None else np.mean(m) for m in (of_model, of_guide))
        exact = -math.log(2) * q_share - 0.5 * math.log(0.2 * 0.8) * p_share
        assert terms["ELBO/KL"] == pytest.approx(exact)


def test_masks_inside_an_event_count_in_the_closed_kl(backend: Any) -> None:
    """So do masks of single entries, which differ between the two programs."""
    dist, np_ = backend.dist, backend.np
    some, others = np_.asarray([True, False, True]), np_.asarray([True, True, False])

    def entries(probs: list[float], mask: Any) -> Any:
        each = dist.Categorical(backend.array([probs] * 3))
        return (each if mask is None else each.mask(mask)).to_event(1)

    for p_mask, q_mask in [(some, others), (some, None), (None, others)]:

        def model(x: Any, mask: Any = p_mask) -> None:
            with backend.plate("data", len(x)):
                backend.sample("z", entries([0.2, 0.8], mask))
                backend.sample("x", dist.Normal(backend.array(0.0), backend.array(1.0)), obs=x)

        def guide(x: Any, mask: Any = q_mask) -> None:
            with backend.plate("data", len(x)):
                backend.sample("z", entries([0.5, 0.5], mask))

        loss = backend.losses.ELBO(analytic_kl=True)
        _, terms, _ = backend.evaluate(loss, model, guide, np.zeros(4))
        p_count, q_count = (3 if mask is None else 2 for mask in (p_mask, q_mask))
        exact = -math.log(2) * q_count - 0.5 * math.log(0.2 * 0.8) * p_count
        assert terms["ELBO/KL"] == pytest.approx(exact)


def test_local_factorization_ignores_inner_plates(backend: Any) -> None:
    """Pixels in a plate of their own inside the data plate: the datum stays the unit of the
    importance-weighted bound.
    """
    dist, np_ = backend.dist, backend.np

    def model(x: Any, flat: bool) -> None:
        with backend.plate("data", x.shape[0], dim=-1 if flat else -2):
            z = backend.sample("z", dist.Normal(backend.array(0.0), backend.array(1.0)))
            if flat:
                backend.sample(
                    "x",
                    dist.Normal(z[..., None], backend.array(1.0)).expand((*z.shape, 3)).to_event(1),
                    obs=x,
                )
            else:
                with backend.plate("pixels", 3, dim=-1):
                    backend.sample("x", dist.Normal(z, backend.array(1.0)), obs=x)

    def guide(x: Any, flat: bool) -> None:
        with backend.plate("data", x.shape[0], dim=-1 if flat else -2):
            backend.sample(
                "z", dist.Normal(backend.param("loc"), np_.exp(backend.param("log_scale")))
            )

    x = np.linspace(-1, 1, 12).reshape(4, 3)
    _, flat, _ = backend.evaluate(backend.losses.IWAE(4000), model, guide, x, params=Q, flat=True)
    _, nested, _ = backend.evaluate(
        backend.losses.IWAE(4000), model, guide, x, params=Q, flat=False
    )
    cov = np.eye(3) + np.ones((3, 3))
    exact = np.mean(
        [
            -0.5
            * (
                3 * math.log(2 * math.pi)
                + np.linalg.slogdet(cov)[1]
                + row @ np.linalg.solve(cov, row)
            )
            for row in x
        ]
    )
    assert flat["IWAE"] == pytest.approx(exact, abs=0.05)
    assert nested["IWAE"] == pytest.approx(exact, abs=0.05)
