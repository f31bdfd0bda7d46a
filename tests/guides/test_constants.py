"""What a guide finds and does not learn: no parameter, but part of a run, its file and its
checkpoints."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.losses.test_any_model import eight_schools
from tests.losses.training import package

OPTIONS = {"num_steps": 6, "progress": False, "seed": 3}


def fitted(b: Any, init: Any = "map", **options: Any) -> tuple[Any, Any, np.ndarray]:
    """A run of few steps under a large decay of weights, its model and its data."""
    model, y = eight_schools(b)
    guide = b.guides.JointGuide(model, b.conditionals.DiagonalNormal, init=init)
    if b.name == "pyro":
        b.pyro.clear_param_store()
        optim = b.torch.optim.AdamW
        optim = b.pyro.optim.PyroOptim(optim, {"lr": 0.1, "weight_decay": 2.0})
    else:
        import optax

        optim = optax.adamw(0.1, weight_decay=2.0)
    run = package(b).fit(model, guide, y, optim=optim, **OPTIONS, **options)
    return run, model, y


def constants(b: Any, run: Any) -> dict[str, np.ndarray]:
    ends = ("start", "spread") if b.name == "pyro" else ("start$constant", "spread$constant")
    return {
        next(end for end in ("start", "spread") if end in name): np.asarray(value)
        for name, value in run.mutable_state.items()
        if name.endswith(ends)
    }


def test_decay_leaves_constants_alone(backend: Any) -> None:
    b = backend
    run, _, _ = fitted(b)
    found = constants(b, run)
    part = run.guide.parts[0]
    for name in ("start", "spread"):
        own = getattr(part, name)
        np.testing.assert_array_equal(found[name], np.asarray(getattr(own, "value", own)))
    names = list(run.params)
    if b.name == "numpyro":
        paths = b.jax.tree_util.tree_leaves_with_path(run.params)
        names = [b.jax.tree_util.keystr(path) for path, _ in paths]
    ends = ("shift", "log_scale", "loc", "scale", "start", "spread")
    assert sorted(e for n in names for e in ends if n.endswith(e))[-1] == "shift", names


def test_a_run_brings_its_own_constants(backend: Any, tmp_path: Path) -> None:
    """Read for a guide that starts elsewhere, it gives the same weights."""
    b = backend
    run, model, y = fitted(b)
    weights = package(b).log_weights(run, y, num_particles=5)
    run.save(tmp_path / "schools.run")
    other = b.guides.JointGuide(model, b.conditionals.DiagonalNormal)
    loaded = package(b).load_run(tmp_path / "schools.run", model, other)
    np.testing.assert_array_equal(package(b).log_weights(loaded, y, num_particles=5), weights)
    assert not np.array_equal(
        constants(b, loaded)["start"],
        np.asarray(getattr(other.parts[0].start, "value", other.parts[0].start)),
    )


def test_checkpoints_hold_constants(backend: Any, tmp_path: Path) -> None:
    b = backend
    whole, _, y = fitted(b)
    fitted(b, checkpoint=tmp_path, callbacks=[lambda run: run.epoch == 3])
    resumed, _, _ = fitted(b, checkpoint=tmp_path)
    for name, values in constants(b, whole).items():
        np.testing.assert_array_equal(constants(b, resumed)[name], values)
    weights = (package(b).log_weights(run, y, num_particles=3) for run in (whole, resumed))
    np.testing.assert_array_equal(*weights)


def test_stock_engines_see_no_constants(backend: Any) -> None:
    """With several particles, where they allow no mutable state."""
    b = backend
    model, y = eight_schools(b)
    guide = b.guides.JointGuide(model, b.conditionals.DiagonalNormal)
    if b.name == "pyro":
        infer, optim = b.pyro.infer, b.pyro.optim.Adam({"lr": 0.01})
        b.pyro.clear_param_store()
        svi = infer.SVI(model, guide, optim, infer.Trace_ELBO(num_particles=3))
        assert np.isfinite(svi.step(b.array(y)))
        names = list(b.pyro.get_param_store())
    else:
        infer, optim = b.numpyro.infer, b.numpyro.optim.Adam(0.01)
        svi = infer.SVI(model, guide, optim, infer.Trace_ELBO(num_particles=3))
        found = svi.run(b.jax.random.key(0), 2, b.array(y), progress_bar=False)
        assert np.isfinite(np.asarray(found.losses)).all()
        names = b.jax.tree_util.tree_leaves_with_path(found.params)
        names = [b.jax.tree_util.keystr(path) for path, _ in names]
    assert len(names) >= 2 and not any("start" in n or "spread" in n for n in names)
