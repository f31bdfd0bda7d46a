"""How a guide is trained where nothing is said."""

import os
from functools import partial
from typing import Any

import numpy as np
import pytest

from dgm_core.diagnostics import summary
from dgm_core.training.recipes import Recipe
from tests.guides.programs import PRIORS, schools
from tests.guides.test_amortized import key
from tests.losses.test_any_model import eight_schools
from tests.losses.training import package


@pytest.mark.slow("numpyro")
def test_a_recipe_fills_what_is_left_out(backend: Any) -> None:
    b, p = backend, package(backend)
    model, y = eight_schools(b)
    normal = b.conditionals.DiagonalNormal

    def config(**options: Any) -> dict[str, Any]:
        if b.name == "pyro":
            b.pyro.clear_param_store()
        guide = b.guides.JointGuide(model, normal, init="prior")
        run = p.fit(model, guide, y, progress=False, **options)
        names = ("optim", "loss", "clip_norm", "lr_schedule", "num_epochs")
        return {name: run.config[name] for name in names}

    whole = {"optim": "Adam(0.01)", "loss": "ELBO(num_particles=8)", "clip_norm": 10.0}
    found = config(num_steps=3)
    assert found == {**whole, "lr_schedule": "linear(3, start=1.0, end=0.0)", "num_epochs": 3}
    found = config(num_epochs=2, clip_norm=3.0, loss=b.losses.ELBO())
    changed = {"clip_norm": 3.0, "loss": "ELBO()", "num_epochs": 2}
    assert found == {**whole, **changed, "lr_schedule": "linear(2, start=1.0, end=0.0)"}
    plain = {"loss": "ELBO()", "clip_norm": None, "lr_schedule": None, "num_epochs": 1}
    assert config(optim=p.Adam(0.1)) == {"optim": "Adam(0.1)", **plain}
    found = config(optim=p.training.Recipe(0.5, 2.0, num_steps=4, num_particles=3))
    said = {"optim": "Adam(0.5)", "loss": "ELBO(num_particles=3)", "clip_norm": 2.0}
    assert found == {**said, "lr_schedule": "linear(4, start=1.0, end=0.0)", "num_epochs": 4}


def test_a_longer_run_has_another_schedule(backend: Any, tmp_path: Any) -> None:
    """So that it cannot go on from where a shorter one ended."""
    b, p = backend, package(backend)
    model, y = eight_schools(b)

    def guide() -> Any:
        if b.name == "pyro":
            b.pyro.clear_param_store()
        return b.guides.JointGuide(model, b.conditionals.DiagonalNormal, init="prior")

    options = {"progress": False, "checkpoint": tmp_path}
    p.fit(model, guide(), y, num_steps=2, **options)
    with pytest.raises(Exception, match="lr_schedule"):
        p.fit(model, guide(), y, num_steps=4, **options)


def test_the_step_rises_and_falls() -> None:
    schedule = Recipe().schedule(4000)
    assert schedule is not None
    assert [schedule(step) for step in (0, 50, 100, 2050, 4000)] == [0.01, 0.505, 1.0, 0.5, 0.0]
    assert Recipe().schedule(None) is None


def test_bad_recipes() -> None:
    for bad in ({"learning_rate": 0.0}, {"clip_norm": -1.0}, {"num_steps": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            Recipe(**bad)
    with pytest.raises(ValueError, match="num_particles"):
        Recipe(num_particles=1.5)  # type: ignore[arg-type]


TAU_SD = 3.220  # under the posterior of eight schools, by quadrature


def test_a_flow_ends_in_tails(backend: Any) -> None:
    """Which are learned, from a start that is wide enough for them; a normal has none."""
    b, flows = backend, package(backend).flows
    model = PRIORS["circle"](b)
    flow = partial(flows.IAF, num_layers=1, hidden=(2,))
    guide = b.guides.JointGuide(model, flow, init="prior", **key(b)).prepare()
    *others, last = guide.parts[0].family.transforms
    assert isinstance(last, flows.SinhArcsinh) and len(others) == 1
    normal = b.guides.JointGuide(model, init="prior", name="normal").prepare().parts[0]
    assert isinstance(normal.family, b.conditionals.FullRankNormal)
    assert guide.recipe == Recipe(num_particles=16)
    given = guide.parts[0].family
    assert b.guides.JointGuide(model, given, name="given").recipe == guide.recipe
    assert b.guides.JointGuide(model, name="plain").recipe == Recipe()
    narrow = b.guides.JointGuide(model, flow, init="prior", init_scale=0.2, name="narrow", **key(b))
    starts = [part.log_scale for part in (guide.parts[0], normal, narrow.prepare().parts[0])]
    found = [np.exp(start.item()) for start in starts]
    np.testing.assert_allclose(found, [0.3, 0.1, 0.2], rtol=1e-6)


@pytest.mark.slow("numpyro")
def test_starts_where_the_data_decide(backend: Any) -> None:
    """Steep data: the exact posterior at once; others: the median of the prior."""
    b, d = backend, backend.dist
    x = np.linspace(0.0, 1.0, 50)
    y = 3.0 + 2.0 * x

    def line(y: Any) -> None:
        beta = b.sample("beta", d.Normal(b.array(np.zeros(2)), b.array(10.0)).to_event(1))
        with b.plate("data", 50):
            b.sample("y", d.Normal(beta[..., 0] + beta[..., 1] * b.array(x), 0.1), obs=y)

    guide = b.guides.JointGuide(line).prepare(b.array(y))
    design = np.stack([np.ones(50), x], 1)
    covariance = np.linalg.inv(100 * design.T @ design + np.eye(2) / 100)
    part = guide.parts[0]
    start, spread = (getattr(v, "value", v) for v in (part.start, part.spread))
    np.testing.assert_allclose(start, covariance @ (100 * design.T @ y), rtol=1e-4)
    np.testing.assert_allclose(spread @ spread.T, covariance, rtol=1e-4)
    fields = b.guides.JointGuide(line, b.conditionals.DiagonalNormal, name="fields")
    part = fields.prepare(b.array(y)).parts[0]
    best = np.diagonal(np.linalg.inv(covariance)) ** -0.5  # of independent normals
    np.testing.assert_allclose(getattr(part.spread, "value", part.spread), best, rtol=1e-4)
    model, y = eight_schools(b)
    part = b.guides.JointGuide(model, name="prior").prepare(b.array(y)).parts[0]
    assert part.spread.ndim == 1 if b.name == "pyro" else part.spread.value.ndim == 1


@pytest.mark.slow
@pytest.mark.long("[pyro")
@pytest.mark.parametrize("seed", range(int(os.environ.get("SEEDS", "1"))))
@pytest.mark.parametrize(("centered", "best"), [(False, -31.534), (True, -32.592)])
def test_defaults_reach_the_best_bounds(
    backend: Any, centered: bool, best: float, seed: int
) -> None:
    """Full rank at its optimum, a flow between that and the evidence, and its weights usable."""
    b, p = backend, package(backend)
    model, y = (schools if centered else eight_schools)(b)
    flow = partial(p.flows.IAF, num_layers=2)
    for name, family in (("full", b.conditionals.FullRankNormal), ("flow", flow)):
        guide = b.guides.JointGuide(model, family, name=name, **key(b, seed))
        run = p.fit(model, guide, y, seed=seed, progress=False)
        weights = p.log_weights(run, y, num_particles=20_000)
        bound = weights.mean()
        if name == "full":
            assert bound == pytest.approx(best, abs=0.02)
        else:
            assert best < bound < -31.311
            if not centered:  # centered, the funnel leaves the weights of a flow a heavier tail
                assert float(summary(weights)["k-hat"][0]) < 0.7
                tau = p.evaluation.sample_posterior(run, y, num_draws=20_000)["tau"]
                assert np.std(tau) == pytest.approx(TAU_SD, rel=0.1)
