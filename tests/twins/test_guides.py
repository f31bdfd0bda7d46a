"""The guides' twins in float64: log-densities of model and guide and gradients in every parameter,
at 1e-10, for shared weights and draws."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from numpyro import handlers
from pyro import poutine

import numpyro_dgm.joints.reading as numpyro_reading
from numpyro_dgm.joints.handlers import GivenDraws
from numpyro_dgm.joints.inference import InferenceJoint as NumPyroJoint
from numpyro_dgm.joints.structure import find_structure as numpyro_structure
from pyro_dgm.joints.handlers import draws_of
from pyro_dgm.joints.inference import InferenceJoint
from pyro_dgm.joints.structure import draws_nothing, find_structure, random_sites
from tests.backends import NumPyroBackend, PyroBackend
from tests.guides.programs import PRIORS, schools
from tests.guides.test_amortized import Identity, chain, key, levels, network
from tests.losses.user_models import Y
from tests.twins.copying import arrays_of, copy_weights, leaf_at, shake
from tests.twins.test_conditionals import close

PARTS = (
    "log_likelihood",
    "log_prior",
    "log_posterior",
    "global_log_prior",
    "global_log_posterior",
)


def total(joint: Any, parts: tuple[str, ...]) -> Any:
    """A sum in which no part can stand in for another."""
    return sum((1 + 0.3 * i) * getattr(joint, part).sum() for i, part in enumerate(parts))


def check_twins(
    build: Callable[[Any], tuple[Callable, Any]],
    *data: np.ndarray,
    compared: tuple[str, ...] = PARTS,
) -> None:
    """build(backend) -> model and guide."""
    backends = PyroBackend(), NumPyroBackend()
    (model, guide), (their_model, their_guide) = (build(b) for b in backends)
    ours, theirs = ([b.array(x) for x in data] for b in backends)
    guide.prepare(*ours)
    their_guide.prepare(*theirs)
    guides = [(guide, their_guide)]
    if hasattr(guide, "base"):
        guides.append((guide.base, their_guide.base))
    for own, their in guides:
        shake(own.parts, scale=0.1)
        their.parts = copy_weights(own.parts, their.parts)
        for path, buffer in own.parts.named_buffers():
            if path.endswith((".start", ".spread")):
                leaf_at(path)(their.parts).value = jnp.asarray(buffer.numpy())

    first = poutine.trace(guide).get_trace(*ours)
    given = {
        name: site["value"].detach()
        for name, site in random_sites(first).items()
        if not draws_nothing(site["fn"])
    }
    with draws_of(first, given, only=tuple(given)):
        guide_trace = poutine.trace(guide).get_trace(*ours)
    with draws_of(guide_trace):
        model_trace = poutine.trace(guide.extension(model)).get_trace(*ours)
    joint = InferenceJoint([(model_trace, guide_trace)], find_structure(model_trace, guide_trace))
    total(joint, compared).backward()
    drawn = {name: jnp.asarray(value.numpy()) for name, value in given.items()}

    @eqx.filter_jit
    def evaluate(parts: Any) -> tuple[Any, Any]:
        for (_, their), own in zip(guides, parts, strict=True):
            their.parts = own
        seeded = handlers.seed(their_guide, jax.random.key(0))
        guide_trace = handlers.trace(GivenDraws(seeded, drawn)).get_trace(*theirs)
        values = {name: site["value"] for name, site in guide_trace.items()}
        seeded = handlers.seed(their_guide.extension(their_model), jax.random.key(0))
        model_trace = handlers.trace(GivenDraws(seeded, values)).get_trace(*theirs)
        structure = numpyro_structure(model_trace, guide_trace)
        runs = numpyro_reading.read_particle(
            model_trace, guide_trace, structure, analytic_kl=False, key=jax.random.key(0)
        )
        record = jax.tree.map(lambda x: jnp.asarray(x)[None], runs.record)
        found = NumPyroJoint(numpyro_reading.Runs(runs.layout, record))
        return total(found, compared), {part: getattr(found, part) for part in compared}

    start = [their.parts for _, their in guides]
    (_, parts), gradients = eqx.filter_value_and_grad(evaluate, has_aux=True)(start)
    for part in compared:
        close(getattr(joint, part).detach(), parts[part], part)
    for (own, _), found in zip(guides, gradients, strict=True):
        their_gradients = arrays_of(found)
        for path, parameter in own.parts.named_parameters():
            expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            close(expected, their_gradients[path], path)


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.slow("matrices", "bounded")
def test_joint_guides_on_any_support(x64: None, name: str) -> None:
    def build(b: Any) -> tuple[Callable, Any]:
        model = PRIORS[name](b)
        return model, b.guides.JointGuide(model)

    own = ("log_posterior", "global_log_posterior")  # Pyro's von Mises density is a series
    check_twins(build, compared=own if name == "circle" else PARTS)


def test_joint_guide_of_eight_schools(x64: None) -> None:
    check_twins(
        lambda b: (schools(b)[0], b.guides.JointGuide(schools(b)[0])), schools(PyroBackend())[1]
    )


@pytest.mark.parametrize("family", ["vector", "by site", "merged"])
def test_amortized_guides(x64: None, family: str) -> None:
    def build(b: Any) -> tuple[Callable, Any]:
        normal = b.conditionals.FullRankNormal
        families = {
            "vector": b.conditionals.DiagonalNormal,
            "by site": {"z1": normal, "z2": normal},
            "merged": {"theta": b.guides.Merged()},
        }
        model = levels(b, 12, 4) if family == "merged" else chain(b)
        encoder = network(b, 1, (3,), activation="tanh")
        return model, b.guides.AmortizedGuide(model, encoder, families[family], **key(b))

    check_twins(build, Y[:4])


def test_amortized_guide_that_sees_globals(x64: None) -> None:
    def build(b: Any) -> tuple[Callable, Any]:
        model, family = levels(b, 12, 4), b.conditionals.DiagonalNormal
        return model, b.guides.AmortizedGuide(model, Identity(), family, **key(b))

    check_twins(build, Y[:4])


def test_parts_of_one_guide(x64: None) -> None:
    """Parts answer disjoint sites; the amortized one sees the vectors before it."""

    def build(b: Any) -> tuple[Callable, Any]:
        g, c, model = b.guides, b.conditionals, levels(b, 12, 4)
        parts = [
            g.JointGuide.part(sites=["mu"]),
            g.JointGuide.part(c.DiagonalNormal, sites=["tau"]),
            g.AmortizedGuide.part(Identity(), {"theta": c.DiagonalNormal}),
        ]
        guide = g.Guide(model, parts, **key(b)).prepare(b.array(Y[:4]))
        assert [part.answers for part in guide.parts] == [("mu",), ("tau",), ("theta",)]
        assert guide.parts[2].families[0].context_shape == (1 + 2,)
        with pytest.raises(ValueError, match=r"Two parts of the guide answer the sites \['mu'\]"):
            g.Guide(model, parts[:1] * 2, name="twice", **key(b)).prepare(b.array(Y[:4]))
        return model, guide

    check_twins(build, Y[:4])


@pytest.mark.parametrize("place", ["global", "local", "beside globals"])
def test_auxiliary_guides(x64: None, place: str) -> None:
    def build(b: Any) -> tuple[Callable, Any]:
        auxiliary = b.guides.AuxiliaryGuide
        if place == "global":
            return schools(b)[0], auxiliary(schools(b)[0], hidden=(3,), **key(b))
        model = chain(b) if place == "local" else levels(b, 12, 4)
        encoder = network(b, 1, (3,), activation="tanh")
        return model, auxiliary(model, encoder, hidden=(3,), **key(b))

    check_twins(build, schools(PyroBackend())[1] if place == "global" else Y[:4])


@pytest.mark.parametrize("place", ["global", "annealed", "local", "by site"])
def test_hamiltonian_guides(x64: None, place: str) -> None:
    """Of a joint vector, of local vectors, and of local and global sites with the model's own
    conditionals among them."""

    def build(b: Any) -> tuple[Callable, Any]:
        g, c = b.guides, b.conditionals
        settings = {"num_steps": 2, "max_force": 3.0, **key(b)}
        if place in ("global", "annealed"):
            model, base = schools(b)[0], g.JointGuide(schools(b)[0])
            return model, g.HamiltonianGuide(base, annealed=place == "annealed", **settings)
        encoder = network(b, 1, (3,), activation="tanh")
        if place == "local":
            model, family = chain(b), c.FullRankNormal
        else:
            model, family = levels(b, 4, 4), {"theta": c.DiagonalNormal}
        base = g.AmortizedGuide(model, encoder, family, **key(b))
        return model, g.HamiltonianGuide(base, **settings)

    check_twins(build, schools(PyroBackend())[1] if place in ("global", "annealed") else Y[:4])


def test_composite_guides(x64: None) -> None:
    def build(b: Any) -> tuple[Callable, Any]:
        g, c, model = b.guides, b.conditionals, levels(b, 12, 4)
        parts = {
            ("tau", "mu"): g.JointGuide.part(c.FullRankNormal),
            "theta": g.AmortizedGuide.part(Identity(), c.DiagonalNormal),
        }
        return model, g.CompositeGuide(model, parts, complete=True, **key(b))

    check_twins(build, Y[:4])


def test_mixture_guides(x64: None) -> None:
    """Of two families, on the real line and on the positive one."""

    def build(b: Any) -> tuple[Callable, Any]:
        families = [b.conditionals.DiagonalNormal, b.conditionals.FullRankNormal]
        return schools(b)[0], b.guides.MixtureGuide(schools(b)[0], families, **key(b))

    check_twins(build, schools(PyroBackend())[1])
