"""The libraries on torch that `flows.py` measures: library -> task -> what to time."""

import importlib.util
from collections.abc import Callable
from typing import Any


def torch_libraries(
    dim: int, hidden: tuple[int, ...], batch: int
) -> dict[str, dict[str, Callable[[], Any]]]:
    """Library -> task -> what to time."""
    import torch

    torch.manual_seed(0)
    x = torch.randn(batch, dim)
    found: dict[str, dict[str, Callable[[], Any]]] = {}

    def add(name: str, module: Any, log_prob: Callable[[], Any], sample: Callable[[], Any]) -> None:
        parameters = [p for p in module.parameters() if p.requires_grad]

        def plain(run: Callable) -> Callable:
            def task() -> Any:
                with torch.no_grad():
                    return run()

            return task

        def gradient(run: Callable) -> Callable:
            return lambda: torch.autograd.grad(run().mean(), parameters, allow_unused=True)

        found[name] = {
            "log_prob": plain(log_prob),
            "sample": plain(sample),
            "log_prob+grad": gradient(log_prob),
            "sample+grad": gradient(sample),
        }

    from pyro_dgm.flows import IAF, MAF

    ours = MAF(dim, num_layers=1, hidden=hidden)
    add("pyro_dgm MAF", ours, lambda: ours().log_prob(x), lambda: ours().rsample((batch,)))
    iaf = IAF(dim, num_layers=1, hidden=hidden)
    add(
        "pyro_dgm IAF", iaf, lambda: iaf().rsample((batch,)), lambda: iaf().log_prob(x)
    )  # its fast direction first
    if importlib.util.find_spec("zuko"):
        import zuko

        flow = zuko.flows.MAF(dim, transforms=1, hidden_features=hidden)
        add("zuko", flow, lambda: flow().log_prob(x), lambda: flow().rsample((batch,)))
    if importlib.util.find_spec("nflows"):
        from nflows.distributions import StandardNormal
        from nflows.flows import Flow
        from nflows.transforms import MaskedAffineAutoregressiveTransform

        layer = MaskedAffineAutoregressiveTransform(
            dim, hidden[0], num_blocks=len(hidden) - 1, use_residual_blocks=False
        )
        nflow = Flow(layer, StandardNormal([dim]))
        add("nflows", nflow, lambda: nflow.log_prob(x), lambda: nflow.sample(batch))
    if importlib.util.find_spec("normflows"):
        import normflows

        layer = normflows.flows.MaskedAffineAutoregressive(
            dim, hidden[0], num_blocks=len(hidden) - 1, use_residual_blocks=False
        )
        normal = normflows.NormalizingFlow(
            normflows.distributions.DiagGaussian(dim, trainable=False), [layer]
        )
        add(
            "normflows (as an IAF)",
            normal,
            lambda: normal.sample(batch)[0],
            lambda: normal.log_prob(x),
        )  # which is its fast direction
    import pyro.distributions as dist
    from pyro.distributions.transforms import affine_autoregressive

    maf = affine_autoregressive(dim, hidden_dims=list(hidden))
    base = dist.Normal(torch.zeros(dim), 1.0).to_event(1)
    density = dist.TransformedDistribution(base, [maf.inv])
    add("Pyro", maf, lambda: density.log_prob(x.clone()), lambda: density.rsample((batch,)))
    return found
