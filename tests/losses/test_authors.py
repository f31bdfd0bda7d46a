"""What the author of a term reads: the same names with the same meaning in both twins."""

from typing import Any

import numpy as np
import pytest

from tests.backends import NumPyroBackend, PyroBackend
from tests.losses.toys import Q, conjugate, ones

# What NumPyro hands over, and Pyro keeps in its stores.
EXPLICIT_STATE = {"params", "mutable_state", "key"}


def joints_of(backend: Any, **how: Any) -> Any:
    model, guide = conjugate(backend)
    x = backend.array(ones(3))
    if backend.name == "numpyro":
        params = {name: backend.array(value) for name, value in Q.items()}
        key = backend.jax.random.key(0)
        return backend.joints.Joints(key, params, model, guide, (x,), {"size": 6}, **how)
    backend.run(model, guide, Q)
    return backend.joints.Joints(model, guide, (x,), {"size": 6}, **how)


def public(thing: Any) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


@pytest.mark.parametrize("vectorize", [True, False])
def test_joints_have_the_same_names(vectorize: bool) -> None:
    sides = []
    for backend in (PyroBackend(), NumPyroBackend()):
        with backend.double_precision():
            joints = joints_of(backend, num_particles=2, vectorize=vectorize)
            joint = joints.inference()
            sides.append((public(joints) - EXPLICIT_STATE, public(joint), public(joint.structure)))
    assert sides[0] == sides[1]


class SecondMoment:
    """A user's own term, the mean square of the latents that the guide draws, in either twin."""

    def __new__(cls, backend: Any) -> Any:
        class Own(backend.losses.Term):
            name = "SecondMoment"
            num_particles = 3

            def estimate(self, joints: Any, step: Any) -> Any:
                joint = joints.inference()
                squares = sum(joint.entries(name).sum(-1) ** 2 for name in joint.latent_sites)
                weights = joint.log_prior_of("z") - joint.log_posterior_of("z")
                assert joint.values("z").shape == (3, 3)
                assert joint.log_likelihood_of("x").shape == (3, 3)
                assert joint.structure.observed_sites == ("x",)
                assert not joint.is_determined("z")
                return joint.per_datum(squares + 0.0 * weights).mean(), {}

        return Own()


def test_a_term_of_a_user(backend: Any) -> None:
    model, guide = conjugate(backend)
    term = SecondMoment(backend)
    for vectorize in (None, False):
        term.vectorize = vectorize
        values = [
            backend.evaluate(term, model, guide, ones(3), params=Q, seed=seed)[1]["SecondMoment"]
            for seed in range(40)
        ]
        assert np.mean(values) == pytest.approx(0.5**2 + 0.8, abs=0.3)
