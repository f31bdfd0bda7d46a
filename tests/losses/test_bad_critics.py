"""Critics and terms with a critic that are refused."""

import jax
import jax.numpy as jnp
import numpyro
import pytest
import torch

import numpyro_dgm.losses as jlosses
import pyro_dgm.losses as tlosses
from tests.losses.test_players import X, numpyro_guide, pyro_guide, pyro_model


def test_bad_critics_are_refused(x64: None) -> None:
    for losses, bad in ((tlosses, torch.nn.Linear(2, 3)), (jlosses, jax.nn.relu)):
        with pytest.raises(
            ValueError, match="critic_steps must be an integer of at least 1, got 0"
        ):
            losses.JensenShannon("x", critic_steps=0)
        with pytest.raises(ValueError, match="sites must be the name"):
            losses.JensenShannon(())
        with pytest.raises(ValueError, match="generator must be one of"):
            losses.JensenShannon("x", generator="other")
        with pytest.raises(ValueError, match="must be a positive number, got 0"):
            losses.R1(0.0)
        if losses is tlosses:
            with pytest.raises(
                ValueError,
                match=r"must give one number for each value, shape \(12,\), got \(12, 3\)",
            ):
                losses.JensenShannon("x", bad)(pyro_model, pyro_guide, torch.as_tensor(X))
            with pytest.raises(ValueError, match="The model has no sample site"):
                losses.JensenShannon("y")(pyro_model, pyro_guide, torch.as_tensor(X))
        else:
            with pytest.raises(ValueError, match="critic must be a module"):
                losses.JensenShannon("x", bad)
    with pytest.raises(ValueError, match="has no critic yet"):
        numpyro.handlers.seed(jlosses.JensenShannon("x").attach(numpyro_guide), 0)(jnp.asarray(X))
