"""What every conditional distribution promises, whichever place it is put in: prior, posterior or
likelihood.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dgm_core.contexts import Labels, check_context_shape
from tests.bad_cases import BAD_CONDITIONALS
from tests.cases import CONDITIONALS, FLOWS, PATHS
from tests.kinds import Conditional, Flow, context_of
from tests.kinds import Path as PathCase


def is_long(case: Any, dim: Any) -> bool:
    """Whether NumPyro takes long, and runs through the same where there is a context, or not."""
    return isinstance(case, Flow | PathCase) and not dim and len(case.contexts) > 1


def given_and_alone(cases: dict[str, Any]) -> list[Any]:
    """A flow with a context runs through all that one without does, which is long in NumPyro."""
    return [
        pytest.param(
            case,
            dim,
            id=f"{name}-{'given' if dim else 'alone'}",
            marks=[pytest.mark.slow("numpyro")] if is_long(case, dim) else [],
        )
        for name, case in cases.items()
        for dim in case.contexts
    ]


EVERY = given_and_alone(CONDITIONALS | FLOWS | PATHS)
FAMILIES = given_and_alone(CONDITIONALS | PATHS)
KINDS = (
    "RealNVP",
    "MAF",
    "IAF",
    "Planar",
    "Householder",
    "MultiScaleRealNVP",
    "Flow-linear",
)  # one flow of each kind, where each must be compiled
EACH = [pytest.param(case, id=name) for name, case in CONDITIONALS.items()]


def called(
    lib: Any, module: Any, context_shape: Any, rng: np.random.Generator, *batch: int
) -> tuple[Any, tuple[Any, ...]]:
    """The distribution, and the context that it was called with."""
    context = tuple(map(lib.array, context_of(rng, context_shape, *batch)))
    return module(*context), context


@pytest.mark.parametrize(("case", "context_shape"), EVERY)
def test_shapes(lib: Any, case: Conditional, context_shape: Any, rng: np.random.Generator) -> None:
    """Single draws in batches, and values of a batch of one dimension: `test_in_every_place`."""
    module = lib.conditional(case, context_shape)
    assert module.event_shape == case.event_shape
    assert module.context_shape == check_context_shape("context_shape", context_shape)
    for batch in ((), (5,), (2, 5)) if context_shape else ((),):
        batch_shape = batch if context_shape else ()
        value_shapes = [(7, 2, 5)] if len(batch) == 1 else [batch_shape, (7, 2, 5)]

        def run() -> list[Any]:
            p, _ = called(lib, module, context_shape, rng, *batch)  # noqa: B023
            assert tuple(p.batch_shape) == batch_shape  # noqa: B023
            assert tuple(p.event_shape) == case.event_shape
            assert p.has_rsample is case.rsample
            values = [lib.array(case.values(rng, *shape)) for shape in value_shapes]  # noqa: B023
            single = [] if batch else [lib.draw(p)]  # noqa: B023
            return [*map(p.log_prob, values), lib.draw(p, (4,)), *single]

        found = [tuple(array.shape) for array in lib.shapes(run)]
        scores, draws = found[: len(value_shapes)], found[len(value_shapes) :]
        assert draws[0] == (4, *batch_shape, *case.event_shape)
        assert batch or draws[1] == (*batch_shape, *case.event_shape)
        assert scores == [np.broadcast_shapes(shape, batch_shape) for shape in value_shapes]


@pytest.mark.parametrize(
    ("case", "context_shape"), FAMILIES + [p for p in EVERY if p.id.rsplit("-", 1)[0] in KINDS]
)
def test_values_are_finite_and_expand_and_to_event(
    lib: Any, case: Conditional, context_shape: Any, rng: np.random.Generator
) -> None:
    """Finite are also the mean, draws and their log-densities, of families: flows are drawn from
    in tests of their own.
    """
    module = lib.conditional(case, context_shape)
    value = lib.array(case.values(rng, 5))

    def finite(p: Any) -> list[Any]:
        if isinstance(case, Flow):
            return []
        draws = lib.draw(p, (500,))
        mean = [p.mean.reshape(p.batch_shape + p.event_shape)] if case.mean else []
        return [draws, p.log_prob(draws), *mean]

    def run() -> tuple[Any, ...]:
        p, _ = called(lib, module, context_shape, rng, 5)
        wide = p.expand((4, 5))
        joint = wide.to_event(1)
        assert tuple(wide.batch_shape) == (4, 5)
        assert tuple(wide.event_shape) == case.event_shape
        assert tuple(joint.batch_shape) == (4,)
        assert tuple(joint.event_shape) == (5, *case.event_shape)
        assert tuple(joint.expand((3, 4)).batch_shape) == (3, 4)
        draw = lib.shapes(lambda: lib.draw(wide))
        assert tuple(draw.shape) == (4, 5, *case.event_shape)
        return p.log_prob(value), wide.log_prob(value), joint.log_prob(value), *finite(p)

    once, wide, joint, *others = map(lib.numpy, lib.call(run))
    assert all(np.isfinite(array).all() for array in (once, *others))
    np.testing.assert_allclose(wide, np.broadcast_to(once, (4, 5)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(joint, np.full(4, once.sum()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lib", ["pyro"], indirect=True)
@pytest.mark.parametrize(("case", "context_shape"), EVERY)
def test_every_parameter_and_the_context_get_gradients(
    lib: Any, case: Conditional, context_shape: Any, rng: np.random.Generator
) -> None:
    """NumPyro's, where they are compared with these: `tests/twins`."""
    module = lib.shaken(lib.conditional(case, context_shape), 0.1)
    _, context = called(lib, module, context_shape, rng, 5)
    value = lib.array(case.values(rng, 5))
    if case.name.startswith("Standard"):
        return
    gradients, by_context = lib.gradients(
        lambda module, *context: module(*context).log_prob(value), module, *context
    )
    assert gradients
    given = [] if isinstance(context_shape, Labels) else by_context
    for path, gradient in [*gradients.items(), *(("context", gradient) for gradient in given)]:
        assert np.isfinite(gradient).all(), path
        assert np.any(gradient != 0), path


@pytest.mark.parametrize("case", EACH)
def test_extreme_parameters_stay_finite(
    lib: Any, case: Conditional, rng: np.random.Generator
) -> None:
    """In single precision, with gradients: a network may send anything."""
    if case.name.startswith("Standard"):
        return
    module = lib.conditional(case, case.contexts[-1])
    value = lib.array(case.values(rng, 5))
    signs = rng.choice([-1.0, 1.0], (3, 1, module.num_params))
    raw = lib.array(
        np.concatenate(
            [size * signs.clip(low) for size in (1e-30, 20.0, 80.0) for low in (-1.0, 1.0)]
            + [-80.0 * abs(signs)]
        )
    )

    def run(module: Any, raw: Any) -> list[Any]:
        p = module.build(raw)
        draws = lib.draw(p)
        return [p.log_prob(value), draws, p.log_prob(draws)]

    found, _, (gradient,) = lib.values_and_gradients(run, module, raw)
    assert all(np.isfinite(array).all() for array in (*found, gradient))


@pytest.mark.parametrize(("case", "context_shape"), EVERY)
def test_in_every_place(
    lib: Any, case: Conditional, context_shape: Any, rng: np.random.Generator
) -> None:
    """As prior, posterior and likelihood, in a plate, with and without a plate of particles
    outside.
    """
    module = lib.conditional(case, context_shape)
    context = tuple(map(lib.array, context_of(rng, context_shape, 5)))
    x = lib.array(case.values(rng, 5))

    def latent() -> None:
        with lib.plate("data", 5, dim=-1):
            lib.sample("z", module(*context))

    def observed() -> None:
        with lib.plate("data", 5, dim=-1):
            lib.sample("x", module(*context), obs=x)

    def particles() -> None:
        with lib.plate("particles", 3, dim=-2):
            latent()

    def particles_in_the_context() -> None:
        wide = tuple(map(lib.array, context_of(rng, context_shape, 3, 5)))
        with lib.plate("particles", 3, dim=-2), lib.plate("data", 5, dim=-1):
            lib.sample("x", module(*wide), obs=x)

    for program, name, shape in (
        (latent, "z", (5,)),
        (observed, "x", (5,)),
        (particles, "z", (3, 5)),
        (particles_in_the_context, "x", (3, 5)),
    ):
        value, log_prob = lib.shapes(
            lambda program=program, name=name: [
                lib.trace(program)[name][part] for part in ("value", "log_prob")
            ]
        )
        assert tuple(log_prob.shape) == shape
        if name == "z":
            assert tuple(value.shape) == (*shape, *case.event_shape)


@pytest.mark.parametrize(("case", "context_shape"), EVERY)
def test_weights_are_saved(
    lib: Any, case: Conditional, context_shape: Any, rng: np.random.Generator, tmp_path: Path
) -> None:
    module, other = (
        lib.conditional(case, context_shape, seed=1),
        lib.conditional(case, context_shape, seed=2),
    )
    context = tuple(map(lib.array, context_of(rng, context_shape, 5)))
    value = lib.array(case.values(rng, 5))
    lib.save(module, tmp_path / "weights")
    restored = lib.load(other, tmp_path / "weights")
    lib.assert_same(
        lambda module: module(*context).log_prob(value),
        module,
        restored,
    )


@pytest.mark.parametrize(("case", "context_shape"), EVERY)
def test_repr(lib: Any, case: Conditional, context_shape: Any) -> None:
    text = repr(lib.conditional(case, context_shape))
    assert text.startswith(f"{case.name}({case.sizes[0]}")
    assert ("context_shape" in text) is bool(context_shape) or isinstance(case, PathCase)
    assert len(text) < 160


@pytest.mark.parametrize("lib", ["pyro"], indirect=True)
@pytest.mark.parametrize(("case", "context_shape"), EVERY)
@pytest.mark.slow("alone")
def test_can_be_exported(
    lib: Any, case: Conditional, context_shape: Any, rng: np.random.Generator
) -> None:
    """In NumPyro all these contracts run compiled; here the graph that `torch.export` captures
    gives the same numbers.
    """
    module = lib.conditional(case, context_shape)
    _, context = called(lib, module, context_shape, rng, 5)
    value = lib.array(case.values(rng, 5))

    def score(module: Any, value: Any, *context: Any) -> Any:
        return module(*context).log_prob(value)

    if "root search" in getattr(module, "log_prob_cost", ""):
        with pytest.raises(
            RuntimeError,
            match="root search stops when it has converged, which a captured graph cannot",
        ):
            lib.exported(score, module, value, *context)
        return
    graph = lib.numpy(lib.exported(score, module, value, *context))
    np.testing.assert_allclose(
        graph, lib.numpy(score(module, value, *context)), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("case", EACH)
def test_wrong_contexts_are_refused(lib: Any, case: Conditional, rng: np.random.Generator) -> None:
    for context_shape in case.contexts:
        module = lib.conditional(case, context_shape)
        if isinstance(context_shape, Labels):
            for labels in (np.zeros(5), np.zeros(5, bool)):
                with pytest.raises(
                    ValueError, match=r"needs a context of integer labels .* got .* \(5,\)"
                ):
                    module(lib.array(labels))
            for label in (-1, context_shape.num_classes):
                with pytest.raises(ValueError, match=f"context must be labels .* got {label}"):
                    module(lib.array(np.array([0, label])))
        elif context_shape:
            *leading, size = module.context_shape
            expected = re.escape(", ".join(map(str, ("*batch", *module.context_shape))))
            with pytest.raises(ValueError, match=rf"a context of shape \({expected}\), got none"):
                module()
            with pytest.raises(ValueError, match=rf"got \(5, .*{size + 1}\)"):
                module(lib.array(np.zeros((5, *leading, size + 1))))
        else:
            with pytest.raises(ValueError, match=r"takes no context, got \(5, 4\)"):
                module(lib.array(np.zeros((5, 4))))


@pytest.mark.parametrize("case", [p for p in EACH if p.values[0].outside is not None])
def test_values_outside_the_support_are_refused(
    lib: Any, case: Conditional, rng: np.random.Generator
) -> None:
    p, _ = called(lib, lib.conditional(case, case.contexts[-1]), case.contexts[-1], rng, 5)
    value = case.values(rng, 5)
    value.flat[-1] = case.outside
    with pytest.raises(ValueError, match=f"{case.name} expects values"):
        p.log_prob(lib.array(value))


@pytest.mark.parametrize(("module", "name", "sizes", "settings", "message"), BAD_CONDITIONALS)
def test_bad_arguments_are_refused(
    lib: Any, module: str, name: str, sizes: tuple[Any, ...], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        lib.build(module, name, *sizes, **settings)
