"""Every row of the f-divergence table against exact arithmetic and quadrature."""

import importlib
import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.optimize import minimize
from scipy.stats import norm

from tests.losses.arrays import (
    assert_twins_agree,
    compiled,
    repeated,
    value,
    value_and_gradients,
)
from tests.losses.divergence_table import EXACT, NORMALS, ROWS, SMOOTH

GRID = np.linspace(-16.0, 17.0, 20_001)
P, Q = norm.logpdf(GRID), norm.logpdf(GRID, 1.0)
SKEWED = norm.logpdf(GRID, 0.3, 1.2)  # a second model, for which no two rows happen to agree
LOG_RATIOS = np.concatenate([np.linspace(-3.0, 3.0, 25), [-1e-6, 1e-6]])


def row(backend: Any, name: str) -> Any:
    return module(backend).divergence(ROWS[name][0], **ROWS[name][1])


def module(backend: Any) -> Any:
    return importlib.import_module(f"{backend.name}_dgm.losses.adversarial.divergences")


@cache
def exact(name: str, log_ratio: float) -> tuple[Decimal, Decimal, Decimal]:
    """f(u), f'(u) and f*(f'(u)) = u f'(u) - f(u) at u = exp(log_ratio), to more digits than any
    cancellation takes.
    """
    kind, params = ROWS[name]
    f, slope = EXACT[kind]
    with localcontext(prec=160):
        u = Decimal(float(log_ratio)).exp()
        given = {key: Decimal(number) for key, number in params.items()}
        return f(u, **given), slope(u, **given), u * slope(u, **given) - f(u, **given)


def integral(log_density: np.ndarray, values: np.ndarray) -> float:
    """E [values] under a density on the grid."""
    return float(trapezoid(np.exp(log_density) * values, GRID))


@pytest.mark.parametrize("name", ROWS)
def test_the_row_is_right_at_every_ratio(backend: Any, name: str) -> None:
    """f, T* = f', and f*(f'(u)) = u f'(u) - f(u), the last both from t and from the critic's output
    v.
    """
    f = row(backend, name)

    def all_of_it(log_ratio: Any) -> Any:
        u = backend.np.exp(log_ratio)
        best, v = f.optimal_critic(u), f.optimal_output(log_ratio)
        return backend.np.stack(
            [f.generator(u), best, f.conjugate(best), f.activation(v), f.conjugate_of_activation(v)]
        )

    at = LOG_RATIOS[LOG_RATIOS != 0] if name == "total_variation" else LOG_RATIOS  # f' jumps at 1
    generator, critic, conjugate = np.array(
        [[float(number) for number in exact(name, l)] for l in at]
    ).T
    found = value(backend, all_of_it, at)
    np.testing.assert_allclose(
        found, [generator, critic, conjugate, critic, conjugate], rtol=1e-9, atol=1e-13
    )


@pytest.mark.parametrize("name", ROWS)
def test_conjugate_is_the_largest_gap(backend: Any, name: str) -> None:
    """f*(t) >= u t - f(u) for all u and all t that the activation can give, with equality at the u
    of which t is the slope.
    """
    f = row(backend, name)
    v, u = np.linspace(-4.0, 4.0, 41), np.exp(np.linspace(-30.0, 30.0, 601))

    def gap(v: Any, u: Any) -> Any:
        t = f.activation(v)[:, None]
        return f.conjugate(t) - (u * t - f.generator(u)), u * t, t

    found, product, t = value(backend, gap, v, u)
    assert (found >= -1e-12 * (1 + np.abs(product))).all()
    assert (np.diff(t[:, 0]) > 0).all()


@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_is_the_ratio(backend: Any, name: str) -> None:
    """d f*(t) / dt = r at t = f'(r): what makes the best critic the best; by the chain rule d
    f*(g(v)) / dv = r g'(v).
    """
    f = row(backend, name)
    outputs = value(backend, f.optimal_output, LOG_RATIOS)
    _, (slope, activation_slope) = value_and_gradients(
        backend,
        lambda v, same: f.conjugate_of_activation(v) + f.activation(same),
        outputs,
        outputs,
    )
    np.testing.assert_allclose(slope, np.exp(LOG_RATIOS) * activation_slope, rtol=1e-9)


@pytest.mark.parametrize("name", SMOOTH)
def test_single_precision_from_minus_80_to_80(backend: Any, name: str) -> None:
    """Every representable value is right to single precision, and its gradient finite."""
    f = row(backend, name)
    single = backend.torch.float32 if backend.name == "pyro" else backend.np.float32
    log_ratios = np.linspace(-160.0, 160.0, 129)
    outputs = value(backend, f.optimal_output, log_ratios)
    kept = np.abs(outputs) <= 80
    assert outputs[kept].min() < -0.3 and outputs[kept].max() > 3.5
    numbers = np.array([[float(n) for n in exact(name, l)[1:]] for l in log_ratios[kept]]).T

    def both(v: Any) -> Any:
        v = v.to(single) if backend.name == "pyro" else v.astype(single)
        return backend.np.stack([f.activation(v), f.conjugate_of_activation(v)])

    assert (np.abs(numbers) < 3e38).all(axis=0).any()
    found, (gradient,) = value_and_gradients(backend, both, outputs[kept])
    assert found.dtype == np.float32
    representable = np.abs(numbers) < 3e38
    error = np.abs(found - numbers) / (np.abs(numbers) + 1)
    assert (
        error[representable].max() < 3e-5
    )  # exp(80 +- 80 x 6e-8) is what single precision makes of the output itself
    assert np.isfinite(gradient[representable.all(axis=0)]).all()


def test_jeffrey_far_out(backend: Any) -> None:
    """Lambert's function by Newton's method to the last digit, with its first and second
    derivatives.
    """
    f = module(backend).divergence("jeffrey")
    log_ratios = np.array([-13.0, -6.0, -1.0, 0.0, 0.3, 5.0, 79.0, 600.0])
    t = np.array([float(exact("jeffrey", l)[1]) for l in log_ratios])
    found, (slope,) = value_and_gradients(backend, f.conjugate, t)
    np.testing.assert_allclose(
        found, [float(exact("jeffrey", l)[2]) for l in log_ratios], rtol=1e-12
    )
    np.testing.assert_allclose(slope, np.exp(log_ratios), rtol=1e-12)
    at = backend.array(t[:6])
    if backend.name == "pyro":
        at.requires_grad_()
        (first,) = backend.torch.autograd.grad(f.conjugate(at).sum(), at, create_graph=True)
        second = backend.torch.autograd.grad(first.sum(), at)[0].numpy()
    else:
        second = np.asarray(backend.jax.vmap(backend.jax.grad(backend.jax.grad(f.conjugate)))(at))
    np.testing.assert_allclose(
        second, np.exp(log_ratios[:6]) / (1 + np.exp(-log_ratios[:6])), rtol=1e-10
    )  # du/dt with t = 1 + log u - 1/u


@pytest.mark.parametrize("name", ROWS)
def test_best_critic_attains_the_divergence_and_others_stay_below(backend: Any, name: str) -> None:
    f = row(backend, name)
    best = repeated(
        backend, lambda l: (f.generator(backend.np.exp(l)), *bound_parts(f, f.optimal_output(l)))
    )
    at = repeated(backend, lambda v: bound_parts(f, v))
    for q in (Q, SKEWED):
        log_ratio = P - q
        parts = best(np.clip(log_ratio, -200, 200))
        truth = integral(q, parts[0])
        assert integral(P, parts[1]) - integral(q, parts[2]) == pytest.approx(truth, abs=1e-9)
        if q is Q and name in NORMALS:
            assert truth == pytest.approx(NORMALS[name], abs=1e-6)
        for critic in (
            0.3 * GRID,
            -0.5 * GRID,
            np.sin(GRID),
            np.clip(log_ratio, -3.0, 3.0),
            np.full_like(GRID, 0.7),
        ):
            on_real, on_fake = at(critic)
            assert integral(P, on_real) - integral(q, on_fake) < truth + 1e-12


def bound_parts(f: Any, v: Any) -> tuple[Any, Any]:
    return f.activation(v), f.conjugate_of_activation(v)


def test_weighted_jensen_shannon_is_its_definition(backend: Any) -> None:
    pi = 0.2
    mixture = np.logaddexp(math.log(pi) + P, math.log(1 - pi) + SKEWED)
    expected = pi * integral(P, P - mixture) + (1 - pi) * integral(SKEWED, SKEWED - mixture)
    found = value(
        backend, lambda l: row(backend, "weighted(0.2)").generator(backend.np.exp(l)), P - SKEWED
    )
    assert integral(SKEWED, found) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(
    "name", [name for name in NORMALS if name != "alpha(3.0)"]
)  # its estimates have tails without a variance to speak of
def test_estimates_from_draws(backend: Any, name: str) -> None:
    """F at the best critic, from draws of N(0, 1) and N(1, 1), is within three standard errors of
    D_f; the best critic is any sign for total variation.
    """
    rng = np.random.default_rng(3)
    real, fake = rng.normal(size=100_000), rng.normal(1.0, 1.0, size=100_000)
    f = row(backend, name)

    def estimate(real: Any, fake: Any) -> Any:
        scores = f.optimal_output(0.5 - real), f.optimal_output(0.5 - fake)
        bound = module(backend).variational_bound(f, *scores)
        return bound, f.activation(scores[0]), f.conjugate_of_activation(scores[1])

    bound, on_real, on_fake = value(backend, estimate, real, fake)
    error = math.sqrt((on_real.var() + on_fake.var()) / len(real))
    assert bound == pytest.approx(NORMALS[name], abs=3 * error)
    assert error < 0.25 * abs(NORMALS[name])


# f-GAN, table 3: P = 0.33 N(-1, 0.255) + 0.67 N(2, 1.415) and the one Gaussian that each divergence
# picks.
MIXTURE = np.logaddexp(
    math.log(0.33) + norm.logpdf(GRID, -1.0, 0.255), math.log(0.67) + norm.logpdf(GRID, 2.0, 1.415)
)
# D_f(P, Q*) by quadrature and as published (their third digit is not always right), mu*, sigma*
FITS = {
    "kl": (0.2829695, 0.2831, 1.0100, 1.8311),
    "reverse_kl": (0.2481136, 0.2480, 1.5779, 1.6318),
    "jensen_shannon": (0.1280365, 0.1280, 1.3068, 1.7545),
    "jeffrey": (0.5705658, 0.5705, 1.3215, 1.7034),
    "pearson": (0.6456495, 0.6457, 0.5736, 1.9277),
}


@pytest.mark.parametrize("name", FITS)
def test_the_gaussian_that_each_divergence_picks(backend: Any, name: str) -> None:
    divergence, published, mu, sigma = FITS[name]
    f = row(backend, name)
    np_ = backend.np

    def exact_divergence(theta: Any) -> Any:
        log_q = (
            -((backend.array(GRID) - theta[0]) ** 2) / (2 * np_.exp(2 * theta[1]))
            - theta[1]
            - 0.5 * math.log(2 * math.pi)
        )
        values = np_.exp(log_q) * f.generator(np_.exp(backend.array(MIXTURE) - log_q))
        return values.sum() * (GRID[1] - GRID[0])  # the trapezoid: nothing is left at the ends

    run = compiled(backend, exact_divergence)

    def evaluate(theta: np.ndarray) -> tuple[float, np.ndarray]:
        found, (gradient,) = run(theta)
        return float(found), gradient

    assert divergence == pytest.approx(published, abs=1.5e-4)
    assert evaluate(np.array([mu, math.log(sigma)]))[0] == pytest.approx(divergence, abs=1e-6)
    best = minimize(evaluate, np.array([mu + 0.2, math.log(sigma) + 0.1]), jac=True, tol=1e-9)
    assert best.fun == pytest.approx(divergence, abs=1e-7)
    assert (best.x[0], math.exp(best.x[1])) == pytest.approx((mu, sigma), abs=6e-5)


@pytest.mark.parametrize("name", SMOOTH)
def test_bregman_objective_is_a_bregman_divergence_less_a_constant(backend: Any, name: str) -> None:
    """objective(s) = E_Q [f(r) - f(s) - f'(s) (r - s)] - D_f(P, Q), for a wrong ratio model s;
    least, -D_f, at the right one.
    """
    f = row(backend, name)
    log_r = P - SKEWED
    log_s = 0.8 * log_r + 0.1
    r, s = np.exp(log_r), np.exp(log_s)
    points = LOG_RATIOS + 0.1

    def both(r: Any, s: Any, real: Any, fake: Any) -> Any:
        slope = f.optimal_critic(s)
        objective = module(backend).bregman_objective(f, real, fake)
        return f.generator(r), f.generator(s), slope, f.conjugate(slope), objective

    f_r, f_s, slope, on_fake, found = value(backend, both, r, s, LOG_RATIOS, points)
    gap = integral(SKEWED, f_r - f_s - slope * (r - s))
    assert gap > 1e-4
    assert integral(SKEWED, on_fake) - integral(P, slope) == pytest.approx(
        gap - integral(SKEWED, f_r), abs=1e-8
    )
    slope, on_fake = (
        np.array([float(exact(name, l)[i]) for l in at]).mean()
        for i, at in ((1, LOG_RATIOS), (2, points))
    )
    assert found == pytest.approx(on_fake - slope, rel=1e-10)


def test_known_density_ratio_objectives(backend: Any) -> None:
    """Least-squares importance fitting, KLIEP and logistic regression are the objectives of
    Pearson, KL and GAN.
    """
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=7), rng.normal(size=5)

    def objective(name: str) -> np.ndarray:
        return value(backend, lambda *x: module(backend).bregman_objective(name, *x), real, fake)

    assert objective("pearson") == pytest.approx(
        np.mean(np.exp(2 * fake)) - 2 * np.mean(np.exp(real)) + 1
    )
    assert objective("kl") == pytest.approx(np.mean(np.exp(fake)) - np.mean(real) - 1)
    assert objective("gan") == pytest.approx(
        np.mean(np.logaddexp(0, fake)) + np.mean(np.logaddexp(0, -real))
    )
    plug_in = value(backend, lambda x: module(backend).plug_in_divergence("jeffrey", x), fake)
    assert plug_in == pytest.approx(np.mean(np.expm1(fake) * fake))


@pytest.mark.parametrize("name", ROWS)
def test_twins_agree(name: str) -> None:
    def formulas(backend: Any) -> Callable[..., Any]:
        f, losses = row(backend, name), module(backend)
        ratios = f if name != "total_variation" else losses.divergence("gan")

        def run(real: Any, fake: Any, ratio_real: Any, ratio_fake: Any, u: Any, w: Any) -> Any:
            bregman = losses.bregman_objective(ratios, ratio_real, ratio_fake)
            return backend.np.stack(
                [
                    losses.variational_bound(f, real, fake),
                    bregman,
                    f.generator(u).sum(),
                    f.conjugate(f.optimal_critic(w)).sum(),
                ]
            )

        return run

    draws = np.random.default_rng(1).normal(size=(6, 10))
    assert_twins_agree(formulas, *(3 * draws[:2]), *draws[2:4], *np.exp(draws[4:]))


def test_look_up(backend: Any) -> None:
    divergences = module(backend)
    kl = divergences.divergence("kl")
    assert divergences.divergence(kl) is kl
    assert repr(kl) == "divergence('kl')"
    assert divergences.divergence("alpha", alpha=2).name == "alpha(2)"


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        (
            "KL",
            {},
            r"must be one of 'total_variation', 'kl', .*, 'weighted_jensen_shannon', 'alpha', got",
        ),
        ("alpha", {}, r"'alpha' takes alpha, got none\."),
        ("weighted_jensen_shannon", {"alpha": 0.5}, r"takes pi, got alpha\."),
        ("kl", {"pi": 0.5}, r"takes no parameter, got pi\."),
        ("alpha", {"alpha": 1.0}, r"other than 0 \('reverse_kl'\) and 1 \('kl'\), got 1\.0\."),
        ("alpha", {"alpha": math.inf}, r"must be a finite number"),
        ("weighted_jensen_shannon", {"pi": 1.0}, r"pi must be a number in \(0, 1\), got 1\.0\."),
    ],
)
def test_bad_names_and_parameters(
    backend: Any, name: str, params: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        module(backend).divergence(name, **params)


def test_other_bad_arguments(backend: Any) -> None:
    divergences = module(backend)
    with pytest.raises(ValueError, match="has its parameters already"):
        divergences.divergence(divergences.divergence("kl"), pi=0.5)
    with pytest.raises(ValueError, match="total_variation does not determine a density ratio"):
        divergences.bregman_objective("total_variation", backend.array([0.0]), backend.array([0.0]))
