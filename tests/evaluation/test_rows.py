"""Guides with parameters of each datum, evaluated on some of them and on other data; and models
that are given a part of data that do not factorize.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.evaluation.test_sites import automatic, fit, regression

X = np.arange(12.0) * 3.0


def per_datum(backend: Any) -> Callable:
    """z_n ~ Normal(0, 100); x_n ~ Normal(z_n, 0.1)."""
    dist = backend.dist

    def model(x: Any) -> None:
        with backend.plate("data", 12, subsample_size=len(x)):
            z = backend.sample("z", dist.Normal(backend.array(0.0), backend.array(100.0)))
            backend.sample("x", dist.Normal(z, backend.array(0.1)), obs=x)

    return model


RUNS: dict[Any, Any] = {}


def fitted(backend: Any, batch_size: int | None) -> Any:
    key = (backend.name, batch_size)
    if key not in RUNS:
        model = per_datum(backend)
        guide = automatic(backend, "AutoNormal", model)
        RUNS[key] = fit(backend, model, guide, X, num_epochs=400, batch_size=batch_size, lr=0.5)
    return RUNS[key]


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [4, None])
def test_rows_say_which_data_these_are(backend: Any, batch_size: int | None) -> None:
    evaluation, run = backend.evaluation, fitted(backend, batch_size)
    whole = evaluation.latents(run, X, num_draws=20)["z"]
    np.testing.assert_allclose(whole.mean(0), X, atol=1.5)
    for rows in ([8, 9, 10, 11], [7, 0], np.arange(1, 12)):
        part = evaluation.latents(run, X[rows], num_draws=20, rows=rows)["z"]
        np.testing.assert_allclose(part.mean(0), X[rows], atol=1.5)
    all_rows = evaluation.log_weights(run, X, num_particles=50)
    some = evaluation.log_weights(run, X[[3, 11]], rows=[3, 11], num_particles=50)
    np.testing.assert_allclose(some.mean(0), all_rows.mean(0)[[3, 11]], atol=3.0)
    assert evaluation.predict(run, X[[5]], rows=[5], num_draws=3)["x"].shape == (3, 1)


@pytest.mark.parametrize("batch_size", [4, None])
def test_nothing_is_guessed(backend: Any, batch_size: int | None) -> None:
    evaluation, run = backend.evaluation, fitted(backend, batch_size)
    for function in (evaluation.latents, evaluation.log_weights, evaluation.reconstruct):
        with pytest.raises(ValueError, match=r"parameters for each of its 12 data.*pass rows="):
            function(run, X[8:])
    with pytest.raises(ValueError, match=r"other data than those of the fit.*pass rows="):
        evaluation.latents(run, X + 1.0)
    assert evaluation.latents(run, X + 1.0, rows=np.arange(12))["z"].shape == (1, 12)
    with pytest.raises(ValueError, match="one number for each of the 4 data, got 2"):
        evaluation.latents(run, X[8:], rows=[1, 2])
    with pytest.raises(ValueError, match="between 0 and 11"):
        evaluation.latents(run, X[8:], rows=[1, 2, 3, 12])
    with pytest.raises(ValueError, match="one integer for each"):
        evaluation.latents(run, X[8:], rows=[1.0, 2.0, 3.0, 4.0])


def test_amortized_guides_need_no_rows(backend: Any) -> None:
    """Neither where the plate holds a part of the data nor where these are others, also such as
    read the same from their end."""
    dist, model = backend.dist, per_datum(backend)

    def guide(x: Any) -> None:
        scale = backend.param("scale", backend.array(0.1))
        with backend.plate("data", 12, subsample_size=len(x)):
            backend.sample("z", dist.Normal(x, scale * scale + 0.1))

    run = fit(backend, model, guide, X, batch_size=4)
    palindrome = np.minimum(X, X[::-1])
    for x in (X[8:], X + 1.0, np.arange(20.0), palindrome):
        drawn = backend.evaluation.latents(run, x, num_draws=10)["z"]
        np.testing.assert_allclose(drawn.mean(0), x, atol=0.5)


@pytest.mark.slow("numpyro")
@pytest.mark.parametrize("own", [False, True])
def test_guides_whose_draws_are_all_the_same(backend: Any, own: bool) -> None:
    """What a guide looks at is seen from its distributions: bits that are rarely zero."""
    b, d = backend, backend.dist
    logits = b.array(6.0 + 0.1 * X)

    def program(x: Any, observe: bool) -> None:
        with b.plate("data", 12, subsample_size=len(x)) as rows:
            given = logits[rows] if own else 6.0 + 0.1 * x
            k = b.sample("k", d.Bernoulli(logits=0.0 * x if observe else given))
            if observe:
                b.sample("x", d.Normal(k, b.array(1.0)), obs=x)

    run = b.run(lambda x: program(x, True), lambda x: program(x, False))
    if own:
        with pytest.raises(ValueError, match=r"parameters for each of its 12 data.*pass rows="):
            b.evaluation.log_weights(run, b.array(X[8:]), num_particles=2)
    run.config = {"seen": {"fingerprint": "of other data"}}
    if own:
        with pytest.raises(ValueError, match=r"other data than those of the fit.*pass rows="):
            b.evaluation.log_weights(run, b.array(X), num_particles=2)
    else:
        assert b.evaluation.log_weights(run, b.array(X), num_particles=2).shape == (2, 12)


def crossed(backend: Any) -> tuple[Callable, Callable]:
    """a_i + b_j of 20 students, some of whom are given, and 3 items."""
    dist = backend.dist

    def program(y: Any, observe: bool) -> None:
        students = backend.plate("students", 20, subsample_size=len(y), dim=-2)
        items = backend.plate("items", 3, dim=-1)
        one = backend.array(1.0)
        with students:
            a = backend.sample("a", dist.Normal(backend.array(0.0), one))
        with items:
            b = backend.sample("b", dist.Normal(backend.array(0.0), one))
        if observe:
            with students, items:
                backend.sample("y", dist.Normal(a + b, one), obs=y)

    return lambda y: program(y, True), lambda y: program(y, False)


def test_a_part_of_crossed_data_has_no_weights(backend: Any) -> None:
    run = backend.run(*crossed(backend))
    assert backend.evaluation.log_weights(run, np.zeros((20, 3)), num_particles=2).shape == (2, 1)
    with pytest.raises(ValueError, match=r"Plate 'students' .* pass all its data"):
        backend.evaluation.log_weights(run, np.zeros((5, 3)), num_particles=2)


def test_a_model_that_takes_rows_by_itself_is_refused(backend: Any) -> None:
    dist = backend.dist

    def model(x: Any) -> None:
        with backend.plate("data", len(x), subsample_size=2) as rows:
            z = backend.sample("z", dist.Normal(backend.array(0.0), backend.array(1.0)))
            backend.sample("x", dist.Normal(z, backend.array(1.0)), obs=x[rows])

    def guide(x: Any) -> None:
        with backend.plate("data", len(x), subsample_size=2):
            backend.sample("z", dist.Normal(backend.array(0.0), backend.array(1.0)))

    run = backend.run(model, guide)
    for function in (backend.evaluation.log_weights, backend.evaluation.to_arviz):
        with pytest.raises(ValueError, match="draws 2 of 6 rows by itself"):
            function(run, np.arange(6.0))


def test_densities_that_are_not_numbers_are_named(backend: Any) -> None:
    model, guide = regression(backend)
    x = np.linspace(0.0, 1.0, 30)
    y = np.where(np.arange(30) == 3, np.nan, x)
    named = pytest.raises(ValueError, match=r"log-density of site 'y' in the model is nan in")
    with _without_validation(backend), named:
        backend.evaluation.log_weights(backend.run(model, guide), x, y, num_particles=4)


def _without_validation(backend: Any) -> Any:
    if backend.name == "pyro":
        return backend.pyro.validation_enabled(False)
    from numpyro.distributions.distribution import validation_enabled

    return validation_enabled(False)
