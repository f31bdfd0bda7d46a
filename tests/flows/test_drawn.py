"""What a flow remembers of a draw: it is scored for nothing while it is that draw, never else."""

from typing import Any

import numpy as np
import pytest


def build(lib: Any, name: str = "IAF", **settings: Any) -> Any:
    settings = {"num_layers": 1, "hidden": (4,), **settings}
    return lib.shaken(lib.build("flows", name, 2, **settings), 0.3)


def external(lib: Any) -> Any:
    zuko = pytest.importorskip("zuko")
    return lib.package.flows.ExternalFlow(zuko.flows.MAF(2, transforms=1, hidden_features=(4,)), 2)


@pytest.mark.parametrize("lib", ["pyro"], indirect=True)
@pytest.mark.parametrize("flow", [build, external])
@pytest.mark.parametrize("how", ["in place", "data", "numpy", "add_"])
@pytest.mark.parametrize("draw", ["sample", "rsample"])
def test_a_draw_that_was_changed_in_place_is_another_value(
    lib: Any, flow: Any, how: str, draw: str
) -> None:
    torch, p = lib.torch, flow(lib)()
    with torch.no_grad():
        x = getattr(p, draw)((3,))
    p.log_prob(x)
    if how == "in place":
        x[:, 0] = 5.0
    elif how == "data":
        x.data[:, 0] = 5.0
    elif how == "numpy":
        x.numpy()[:, 0] = 5.0
    else:
        x.add_(2.0)
    with torch.no_grad():
        np.testing.assert_allclose(p.log_prob(x), p.log_prob(x.clone()), rtol=1e-6)


@pytest.mark.parametrize("lib", ["pyro"], indirect=True)
def test_a_draw_with_a_gradient_that_was_changed_in_place(lib: Any) -> None:
    p = build(lib)()
    x = p.rsample((3,))
    x[:, 0] = 5.0
    np.testing.assert_allclose(p.log_prob(x).detach(), p.log_prob(x.clone()).detach(), rtol=1e-6)


class Counted:
    """How often the slow direction of a flow was taken."""

    def __init__(self, flow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        cls = type(flow.transforms[0])
        inverse = cls.inverse_and_log_det

        def counted(transform: Any, x: Any, context: Any = None) -> Any:
            self.count += 1
            return inverse(transform, x, context)

        monkeypatch.setattr(cls, "inverse_and_log_det", counted)


@pytest.mark.parametrize("wrapped", ["itself", "event", "expanded", "positive", "interval"])
def test_a_draw_is_scored_without_the_slow_direction(
    lib: Any, wrapped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also under a transform to a constraint, and by the same numbers."""
    flow = build(lib)
    counted = Counted(flow, monkeypatch)
    transforms = lib.dist.transforms
    cache = {"cache_size": 1} if lib.package.__name__ == "pyro_dgm" else {}
    onto = {"positive": transforms.ExpTransform, "interval": transforms.SigmoidTransform}
    p = flow()
    if wrapped in onto:
        p = lib.dist.TransformedDistribution(p, [onto[wrapped](**cache)])
    elif wrapped == "event":
        p = p.expand((3,)).to_event(1)
    elif wrapped == "expanded":
        p = p.expand((3,))

    if lib.package.__name__ == "numpyro_dgm" and wrapped in onto:  # as its `sample` statement does
        x, left = p.sample_with_intermediates(lib.key(0), (5,))
        fast = p.log_prob(x, left)
    else:
        x = lib.draw(p, (5,))
        fast = p.log_prob(x)
    assert counted.count == 0
    slow = p.log_prob(x + 0.0)
    assert counted.count == 1
    np.testing.assert_allclose(lib.numpy(fast), lib.numpy(slow), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lib", ["numpyro"], indirect=True)
def test_draws_of_a_mixture_carry_no_gradient(lib: Any) -> None:
    """The noise is not reparameterized: a draw is a constant, and its score that of a value."""
    base = lib.build("conditionals", "MixturePrior", 2, 3)
    flow = build(lib, base=base)
    assert not flow().has_rsample

    def drawn(flow: Any) -> Any:
        p = flow()
        x, intermediates = p.sample_with_intermediates(lib.key(1), (4,))
        return p.log_prob(x, intermediates) + 0 * x.sum()

    def scored(flow: Any) -> Any:
        return flow().log_prob(fixed)

    fixed = flow().sample(lib.key(1), (4,))
    nothing = lib.gradients(lambda flow: flow().sample(lib.key(1), (4,)), flow)[0]
    assert all((gradient == 0).all() for gradient in nothing.values())
    ours, theirs = lib.gradients(drawn, flow)[0], lib.gradients(scored, flow)[0]
    for path in ours:
        np.testing.assert_allclose(ours[path], theirs[path], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lib", ["pyro"], indirect=True)
@pytest.mark.parametrize("num_probes", [0, 3])
def test_a_draw_alone_of_a_continuous_flow_needs_no_traces(lib: Any, num_probes: int) -> None:
    """Without gradients it is solved alone, by one call of the network for each stage, in
    evaluation too; its density, if somebody asks, is that of a draw that brings it along.
    """
    torch, flows = lib.torch, lib.package.flows
    transform = flows.ContinuousTransform(2, hidden=(4,), num_steps=2, num_probes=num_probes)
    flow = lib.shaken(flows.Flow(2, [transform, flows.LU(2)]), 0.3).eval()
    calls: list[int] = []
    transform.net.register_forward_hook(lambda *_: calls.append(1))
    torch.manual_seed(0)
    p = flow()
    x = p.sample((5,))
    assert len(calls) == 8
    with torch.no_grad():
        found = p.log_prob(x), p.negative_entropy(x), flow().log_prob(x.clone())
    torch.manual_seed(0)
    p = flow()
    y, log_prob = p.rsample_and_log_prob((5,))
    np.testing.assert_array_equal(x, y.detach())
    np.testing.assert_allclose(found[0], log_prob.detach(), rtol=1e-5)
    np.testing.assert_allclose(found[1], p.negative_entropy(y).detach(), rtol=1e-5)
    if not num_probes:
        np.testing.assert_allclose(found[2], log_prob.detach(), atol=1e-2)
