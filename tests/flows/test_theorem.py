"""Maximum likelihood of a MAF is variational inference with its inverse, the implicit IAF
(Papamakarios et al. 2017, section 3.3).

KL(pi_x, p_x) = KL(q_u, pi_u),  with p_x the density of the MAF, q_u the distribution of u = f^-1(x)
for x ~ pi_x, and pi_u the noise.
"""

from typing import Any

import numpy as np
import pytest
import torch

from tests.contracts.libraries import PyroLibrary
from tests.twins.copying import copy_weights, shake

DIM = 3


def shaken(
    lib: Any,
    module: str,
    name: str,
    *sizes: Any,
    seed: int = 0,
    scale: float = 0.3,
    constant_scales: bool = False,
    **settings: Any,
) -> Any:
    """A conditional with weights that are nothing special, the same in both libraries."""
    source = shake(PyroLibrary().build(module, name, *sizes, **settings), seed=seed, scale=scale)
    if (
        constant_scales
    ):  # the network is one affine layer, whose outputs are (shift, log-scale) of each coordinate
        with torch.no_grad():
            for parameter in source.parameters():
                if parameter.ndim == 2:
                    parameter[1::2] = 0.0
    return (
        source
        if isinstance(lib, PyroLibrary)
        else copy_weights(source, lib.build(module, name, *sizes, **settings))
    )


@pytest.fixture
def target(lib: Any, x64: None) -> Any:
    """pi_x: a normal distribution with correlations."""
    return shaken(lib, "conditionals", "FullRankNormal", DIM, seed=3, scale=0.7)


@pytest.fixture
def flow(lib: Any, x64: None) -> Any:
    return shaken(lib, "flows", "MAF", DIM, num_layers=2, hidden=(8,), scale=0.15)


def likelihood_side(flow: Any, target: Any, x: Any) -> Any:
    """log pi_x(x) - log p_x(x)."""
    return target().log_prob(x) - flow().log_prob(x)


def variational_side(flow: Any, target: Any, x: Any) -> Any:
    """log q_u(u) - log pi_u(u) at u = f^-1(x): the guide is the MAF turned round, over pi_x."""
    u, log_det = flow.inverse(base=target)().forward_and_log_det(x)
    return target().log_prob(x) - log_det - flow.base().log_prob(u)


def test_both_sides_agree_draw_by_draw_with_their_gradients(
    lib: Any, flow: Any, target: Any
) -> None:
    x = lib.array(np.random.default_rng(0).standard_normal((50, DIM)))
    a, b = (
        lib.numpy(lib.call(lambda x, side=side: side(flow, target, x), x))
        for side in (likelihood_side, variational_side)
    )
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)
    a, b = (
        lib.gradients(lambda flow, x, side=side: side(flow, target, x), flow, x)[0]
        for side in (likelihood_side, variational_side)
    )
    assert max(abs(gradient).max() for gradient in a.values()) > 0.1
    for path in a:
        np.testing.assert_allclose(a[path], b[path], rtol=1e-9, atol=1e-9, err_msg=path)


def test_both_sides_agree_as_they_are_used(lib: Any, flow: Any, target: Any) -> None:
    """Each with draws of its own: data scored by the MAF; draws of the implicit IAF, scored by the
    slow direction.
    """
    num = 20_000

    def likelihood() -> Any:
        return likelihood_side(flow, target, lib.draw(target(), (num,), seed=1))

    def variational() -> Any:
        guide = flow.inverse(base=target)()
        u = (
            lib.draw(guide, (num,), seed=2) * 1.0
        )  # another array, so that it is not scored from what the draw has left
        return guide.log_prob(u) - flow.base().log_prob(u)

    a, b = (lib.numpy(lib.call(side)) for side in (likelihood, variational))
    error = (a.var() / num + b.var() / num) ** 0.5
    assert a.mean() > 20 * error  # there is something to measure
    assert abs(a.mean() - b.mean()) < 4 * error


def test_an_affine_flow_gives_the_divergence_of_two_normal_distributions(
    lib: Any, target: Any
) -> None:
    """Without hidden units and with constant scales the MAF is a Cholesky factor: both divergences
    in closed form.
    """
    flow = shaken(
        lib, "flows", "MAF", DIM, num_layers=1, hidden=(), scale=0.4, constant_scales=True
    )
    corners = lib.array(np.concatenate([np.zeros((1, DIM)), np.eye(DIM)]))
    u = lib.numpy(lib.call(lambda x: flow().inverse_and_log_det(x)[0], corners))
    shift, matrix = u[0], (u[1:] - u[0]).T  # u = matrix x + shift
    assert np.allclose(np.triu(matrix, 1), 0)
    assert abs(np.tril(matrix, -1)).max() > 0.1

    pi = shaken(PyroLibrary(), "conditionals", "FullRankNormal", DIM, seed=3, scale=0.7)()
    mean, cov = pi.loc.detach().numpy(), pi.covariance_matrix.detach().numpy()
    back = np.linalg.inv(matrix)
    in_x = normal_kl(mean, cov, -back @ shift, back @ back.T)
    in_u = normal_kl(matrix @ mean + shift, matrix @ cov @ matrix.T, np.zeros(DIM), np.eye(DIM))
    np.testing.assert_allclose(in_x, in_u, rtol=1e-10)
    root = np.linalg.cholesky(cov) * DIM**0.5
    points = lib.array(
        np.concatenate([mean + root.T, mean - root.T])
    )  # the mean over them is exact for quadratics, which the log-ratios are
    for side in (likelihood_side, variational_side):
        ratio = lib.numpy(lib.call(lambda x, side=side: side(flow, target, x), points))
        np.testing.assert_allclose(ratio.mean(), in_x, rtol=1e-9)


def normal_kl(
    mean: np.ndarray, cov: np.ndarray, other_mean: np.ndarray, other_cov: np.ndarray
) -> float:
    """KL(N(mean, cov), N(other_mean, other_cov))."""
    precision, away = np.linalg.inv(other_cov), other_mean - mean
    log_dets = np.linalg.slogdet(other_cov)[1] - np.linalg.slogdet(cov)[1]
    return 0.5 * (np.trace(precision @ cov) + away @ precision @ away - len(mean) + log_dets)
