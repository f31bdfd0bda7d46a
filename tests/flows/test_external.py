"""Flows of other libraries: their gradients and supports are asked of what they contain."""

from typing import Any

import numpy as np
import pytest


def adopted(lib: Any, flow: Any, dim: int = 2, **settings: Any) -> Any:
    return lib.package.flows.ExternalFlow(flow, dim, **settings)


@pytest.mark.parametrize("lib", ["pyro"], indirect=True)
def test_zuko_mixtures_and_flows_over_them_are_not_reparameterized(lib: Any) -> None:
    zuko = pytest.importorskip("zuko")
    maf = zuko.flows.MAF(2, transforms=1, hidden_features=(4,))
    mixture = zuko.mixtures.GMM(2, components=3)
    over = zuko.lazy.Flow(maf.transform, mixture)
    for flow, expected in ((maf, True), (mixture, False), (over, False)):
        p = adopted(lib, flow)()
        assert p.has_rsample is expected
        x = p((5,))
        assert x.requires_grad is expected
        np.testing.assert_allclose(p.log_prob(x).detach(), flow().log_prob(x).detach(), rtol=1e-5)


@pytest.mark.parametrize("lib", ["numpyro"], indirect=True)
@pytest.mark.slow("numpyro")
def test_flowjax_mixtures_and_flows_over_them_are_not_reparameterized(lib: Any) -> None:
    bijections, distributions = (
        pytest.importorskip(f"flowjax.{name}") for name in ("bijections", "distributions")
    )
    eqx, jnp = lib.eqx, lib.jnp
    normals = eqx.filter_vmap(distributions.Normal)(jnp.zeros((3, 2)), jnp.ones((3, 2)))
    mixture = distributions.VmapMixture(normals, weights=jnp.ones(3))
    affine = bijections.Affine(jnp.zeros(2), jnp.ones(2))
    over = distributions.Transformed(mixture, affine)
    plain = distributions.Transformed(distributions.StandardNormal((2,)), affine)
    for flow, expected in ((plain, True), (mixture, False), (over, False)):
        p = adopted(lib, flow)()
        assert p.has_rsample is expected
        x, left = p.sample_with_intermediates(lib.key(0), (5,))
        np.testing.assert_allclose(p.log_prob(x, left), flow.log_prob(x), rtol=1e-5)
        gradients = lib.gradients(lambda flow: adopted(lib, flow)().sample(lib.key(0), (5,)), flow)[
            0
        ]
        assert any((gradient != 0).any() for gradient in gradients.values()) is expected


@pytest.mark.parametrize("lib", ["pyro"], indirect=True)
def test_a_circular_flow_has_a_circle_as_support(lib: Any) -> None:
    zuko = pytest.importorskip("zuko")
    flow = zuko.flows.NCSF(2, transforms=1, hidden_features=(4,))
    outside = lib.torch.full((2,), 4.0)
    with lib.pyro.validation_enabled(True):  # which importing zuko switches off
        p = adopted(lib, flow)()
        assert p.support.check(p.sample((50,))).all()
        assert not p.support.check(outside)
        with pytest.raises(ValueError, match="within the support"):
            p.log_prob(outside)
    maf = adopted(lib, zuko.flows.MAF(2, transforms=1, hidden_features=(4,)))()
    assert maf.support.check(outside)


@pytest.mark.parametrize("lib", ["numpyro"], indirect=True)
def test_a_bounded_flow_must_be_given_its_support(lib: Any) -> None:
    distributions = pytest.importorskip("flowjax.distributions")
    constraints, jnp = lib.dist.constraints, lib.jnp
    uniform = distributions.Uniform(jnp.zeros(2), jnp.ones(2))
    with pytest.raises(ValueError, match="say what its support is, as in ExternalFlow"):
        adopted(lib, uniform)
    support = constraints.independent(constraints.unit_interval, 1)
    p = adopted(lib, uniform, support=support)()
    assert p.support is support
    assert p.support(p.sample(lib.key(0), (5,))).all()


@pytest.mark.parametrize("lib", ["pyro"], indirect=True)
def test_a_flow_that_cannot_be_drawn_from_is_refused(lib: Any) -> None:
    zuko = pytest.importorskip("zuko")
    flow = zuko.flows.MAF(2, transforms=1, hidden_features=(4,))

    class Density(type(flow())):  # type: ignore[misc]
        def rsample_and_log_prob(self, shape: Any = ()) -> Any:
            raise NotImplementedError("no draws")

    class Lazy(lib.torch.nn.Module):
        def forward(self, context: Any = None) -> Any:
            inner = flow(context)
            return Density(inner.transform, inner.base)

    with pytest.raises(ValueError, match="cannot be drawn from: NotImplementedError"):
        adopted(lib, Lazy())
