"""Guides side by side: the numbers of a table against closed forms, and what goes wrong in it."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from tests.evaluation.test_summaries import pair

X = np.array([0.6, -1.5, 2.4])


def conjugate(b: Any) -> tuple[Callable, Callable]:
    """mu ~ N(0, 1), x_n ~ N(mu, 1); a guide with parameters."""
    d = b.dist

    def model(x: Any) -> None:
        mu = b.sample("mu", d.Normal(b.array(0.0), 1.0))
        b.deterministic("double", 2 * mu)
        with b.plate("data", len(x)):
            b.sample("x", d.Normal(mu, 1.0), obs=x)

    def guide(x: Any) -> None:
        b.sample("mu", d.Normal(b.param("loc", b.array(0.375)), b.array(1.5 * 0.5)))

    return model, guide


def fixed(b: Any) -> Any:
    """An optimizer that leaves the parameters where they are, nearly."""
    if b.name == "pyro":
        from pyro_dgm.training import Adam
    else:
        from numpyro_dgm.training import Adam
    return Adam(1e-12)


@pytest.mark.slow("numpyro")
def test_rows_say_what_is_known_in_closed_form(backend: Any) -> None:
    """The guide has the exact mean and 1.5 times the exact sd; the second raises; the third is not
    finite."""
    b = backend
    model, guide = conjugate(b)
    exact = np.random.default_rng(0).normal(0.375, 0.5, size=(4, 5000))

    def raises() -> Any:
        raise RuntimeError("not made yet\nat all")

    def infinite(x: Any) -> None:
        b.sample("mu", b.dist.Normal(b.param("bad", b.array(np.inf)), 1.0))

    table = b.evaluation.compare_guides(
        model,
        {"wide": lambda: guide, "raises": raises, "infinite": lambda: infinite},
        X,
        num_steps=2,
        optim=fixed(b),
        reference={"mu": exact, "double": 2 * exact},
        num_particles=4000,
        num_draws=4000,
        seeds=(0, 1),
        progress=False,
    )
    assert [row["guide"] for row in table.rows] == [
        n for n in ("wide", "raises", "infinite") for _ in "ab"
    ]
    kl = np.log(1 / 1.5) + (1.5**2 - 1) / 2
    evidence = -1.5 * np.log(2 * np.pi) - 0.5 * np.log(4) - 0.5 * ((X**2).sum() - X.sum() ** 2 / 4)
    for row in table.rows[:2]:
        assert row["failed"] is None and row["parameters"] == 1
        assert row["ELBO"] == pytest.approx(evidence - kl, abs=0.06)
        assert row["IWAE"] == pytest.approx(evidence, abs=0.03)
        assert row["gap"] == row["IWAE"] - row["ELBO"]
        assert row["khat"] < 0.2 and 1500 < row["ESS"] < 4000 and row["ms per step"] > 0
        assert row["mean error"] < 0.1
        assert row["sd error"] == pytest.approx(0.5, abs=0.06)
        assert row["quantile error"] == pytest.approx(0.5 * 1.645, abs=0.15)
        # entries (mu, 2 mu) / sd are equal: directions (cos, sin) give |cos + sin| (1.5 - 1)
        assert row["distance"] == pytest.approx(0.5, abs=0.1)
    assert {row["failed"] for row in table.rows[2:4]} == {"RuntimeError: not made yet"}
    for row in table.rows[4:]:
        assert row["ELBO"] is None and "Error" in row["failed"]
    frame = table.to_dataframe()
    assert len(frame) == 6 and frame["ELBO"].isna().sum() == 4
    assert "not made yet" in repr(table)
    data = table.to_arviz()
    assert data["wide"].posterior["mu"].shape == (2, 4000)
    assert data["reference"].posterior["double"].shape == (1, 20_000)
    assert len(table.plot().axes) == 5


def test_local_latents_and_several_objectives(backend: Any) -> None:
    """Bounds are per datum: KL(q, p) of a guide that is off by a shift of .3 and a factor 1.3."""
    b = backend
    model, _ = pair(b)

    def guide(x: Any) -> None:
        shift = b.param("shift", b.array(0.3))
        with b.plate("data", len(x)):
            b.sample("z", b.dist.Normal(2 * x / 3 + shift, 1.3 / 3**0.5))

    table = b.evaluation.compare_guides(
        model,
        {"off": lambda: guide},
        X,
        objectives={"ELBO": b.losses.ELBO(), "IWAE": b.losses.IWAE(3)},
        num_steps=1,
        optim=fixed(b),
        reference=None,
        num_particles=4000,
        num_draws=10,
        seeds=3,
        progress=False,
    )
    assert [row["objective"] for row in table.rows] == ["ELBO", "IWAE"]
    kl = np.log(1 / 1.3) + (1.3**2 - 1) / 2 + 0.5 * 3 * 0.3**2
    evidence = np.mean(-0.5 * np.log(2 * np.pi * 1.5) - X**2 / 3)
    for row in table.rows:
        assert row["failed"] is None and row["parameters"] == 1
        assert row["ELBO"] == pytest.approx(evidence - kl, abs=0.05)
        assert row["mean error"] is None
    assert list(table.to_arviz()) == ["off, ELBO", "off, IWAE"]


def test_what_is_refused(backend: Any) -> None:
    b = backend
    model, guide = conjugate(b)

    def learned(x: Any) -> None:
        z = b.sample("z", b.dist.Normal(b.array(0.0), 1.0))
        with b.plate("data", len(x)):
            b.sample("x", b.dist.Normal(z * b.param("w", b.array(1.0)), 1.0), obs=x)

    stock = import_module(f"{b.name}.infer.autoguide").AutoNormal(model)
    own, factories = b.guides.JointGuide(model), "a dict of names and functions without arguments"
    make, draws = {"a": lambda: guide}, np.zeros((4, 5))
    for arguments, options, words in (
        ((model, {}, X), {}, f"guides must be {factories}"),
        ((model, [guide], X), {}, f"guides must be {factories}"),
        ((model, {"c": own}, X), {}, f"guides must be {factories} that build one, got .* as 'c'"),
        ((model, {"c": stock}, X), {}, f"guides must be {factories} that build one, got .* 'c'"),
        ((model, {"c": guide}, X), {}, f"guides must be {factories} that build one, got .* 'c'"),
        ((model, {"c": type(own)}, X), {}, f"guides must be {factories} .* the class JointGuide"),
        ((model, make, X), {"objectives": "ELBO"}, "objectives must be a loss, or a dict"),
        ((model, make, X), {"seeds": (1, 1)}, "seeds must be one or more different integers"),
        ((model, make, X), {"reference": 3}, "reference must be 'nuts', draws by site, or None"),
        (
            (model, make, X),
            {"reference": {"nosuch": draws}},
            r"sites \['nosuch'\], which the model",
        ),
        ((model, make, X), {"reference": {"mu": draws[..., None, None]}}, "of site 'mu' must be"),
        ((model, make, X), {"reference": {"mu": draws[:0]}}, "of site 'mu' must be"),
        ((model, make, X), {"reference": {"mu": ["a", "b"]}}, "'mu'.* must be an array of numbers"),
        ((model, make, X), {"reference": {"mu": draws + np.nan}}, "of site 'mu' are not finite"),
        ((model, make, X), {"num_particles": 3}, "num_particles must be an integer of at least 25"),
        ((model, make, X), {"num_steps": 0}, "num_steps must be an integer of at least 1, got 0"),
        ((model, make, X), {"num_steps": 1, "num_epochs": 1}, "num_epochs or num_steps, not both"),
        ((model, make, X), {"batch_size": 1.5}, "batch_size must be an integer of at least 1"),
        ((model, make, X), {"optim": 3}, "optim must be Adam"),
        ((model, make, X), {"clip_norm": -1}, "clip_norm must be a positive number, got -1"),
        ((model, make, X), {"lr_schedule": "no"}, "lr_schedule must be a schedule"),
        ((model, make, (X, X)), {"reference": None}, "model does not take the data as they are"),
        ((learned, make, X), {}, r"The model has parameters of its own \(w\)"),
    ):
        with pytest.raises(ValueError, match=words):
            b.evaluation.compare_guides(*arguments, **options)
    table = b.evaluation.compare_guides(
        model,
        {"a": lambda m=model: None},
        X,
        num_steps=1,
        reference=None,
        seeds=0,
        progress=False,
    )
    assert table.rows[0]["failed"].endswith("returns must be a guide, got None.")


@pytest.mark.slow("numpyro")
def test_what_an_objective_sums_out(backend: Any) -> None:
    """A guide without the class of each datum: bounds are those of the sum over classes, and the
    classes are drawn given all else; or one that leaves it to the model."""
    b, d = backend, backend.dist

    def model(x: Any) -> None:
        with b.plate("data", len(x)):
            c = b.sample("c", d.Bernoulli(b.array(0.3)))
            b.sample("x", d.Normal(b.param("apart", b.array(2.0)) * c, 1.0), obs=x)

    odds = np.exp(2.0 * X - 2.0) * 0.3 / 0.7
    evidence = np.log(0.7 / np.sqrt(2 * np.pi)) - 0.5 * X**2 + np.log1p(odds)
    classes = np.random.default_rng(0).uniform(size=(4000, 3)) < odds / (1 + odds)
    table = b.evaluation.compare_guides(
        model,
        {"none": lambda: lambda x: None, "prior": lambda: b.guides.Guide(model)},
        X,
        objectives=b.losses.ELBO(enumerate="c"),
        num_steps=2,
        optim=fixed(b),
        reference={"c": classes.astype(float)},
        num_particles=25,
        num_draws=4000,
        seeds=0,
        progress=False,
    )
    for row in table.rows:
        assert not row.get("failed"), row["failed"]
        assert row["ELBO"] == pytest.approx(evidence.mean(), abs=1e-4)
        assert row["mean error"] < 0.1
