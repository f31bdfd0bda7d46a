"""Where a joint vector starts, on the real line: at prior draws, at the mode, at values given."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dgm_core.arguments import check_choice
from dgm_core.guides import LatentSite, Outline, no_mode, places
from pyro_dgm.guides.line import OnLine, stated
from pyro_dgm.guides.program import Call, Placed, aside, run_program
from pyro_dgm.guides.supports import determined, real_line
from pyro_dgm.joints.structure import trace_of

__all__: list[str] = []  # for the package, not for users

Init = str | Mapping[str, Any]
NUM_DRAWS = 64


def check_init(init: Init) -> None:
    """Raises ValueError for what is no start."""
    if not isinstance(init, Mapping):
        check_choice("init", init, ("prior", "map", "laplace"))


def start_of(
    model: Callable,
    args: tuple,
    kwargs: Mapping[str, Any],
    outline: Outline,
    sites: tuple[LatentSite, ...],
    init: Init,
) -> tuple[Tensor, Tensor]:
    """A place and a spread for the vector of some sites, (D,) each."""
    call = Call(model, outline, args, kwargs)
    start, spread = _of_draws(_prior_draws(model, call, sites))
    if isinstance(init, Mapping):
        return _with_values(model, call, sites, init, start), spread
    if init == "prior":
        return start, spread
    if others := sorted(outline.sites.keys() - {site.name for site in sites}):
        raise ValueError(
            f"init='{init}' looks for the mode of all latent sites, but {others} are answered "
            "otherwise: use init='prior'."
        )

    def energy(t: Tensor) -> Tensor:
        return -log_joint(model, call, sites, start + spread * t)

    mode = _minimum(model, energy, start)
    if not mode.isfinite().all():
        raise ValueError(no_mode(init))
    if init == "map":
        return start + spread * mode, spread
    with aside(model), torch.enable_grad():
        hessian = torch.autograd.functional.hessian(energy, mode)
    scale = torch.linalg.pinv(hessian).diagonal()
    if not (torch.linalg.eigvalsh(hessian) > 0).all():
        raise ValueError(
            "init='laplace' found no mode with a positive definite Hessian on the real line, as "
            "where the density rises without bound: use init='prior' or 'map'."
        )
    return start + spread * mode, spread * scale.sqrt()


def log_joint(model: Callable, call: Call, sites: Sequence[LatentSite], u: Tensor) -> Tensor:
    """log p(x, z(u)) + log |dz/du| at a vector u (D,) of the sites on the real line."""
    own = places(sites)
    line = OnLine(lambda name, shape: u[own[name]].reshape(shape) if name in own else None)
    with line:
        trace = trace_of(model, call.args, call.kwargs)
    return stated(trace) + line.log_jacobian


def _prior_draws(model: Callable, call: Call, sites: Sequence[LatentSite]) -> Tensor:
    """Draws of the sites by the model, on the real line, (NUM_DRAWS, D); of an improper prior, the
    place that zero is mapped to."""

    draws = []
    with aside(model), Placed():
        torch.manual_seed(0)
        for _ in range(NUM_DRAWS):
            run_program(model, call, lambda site, fn: None)
            draws.append(torch.cat([call.vector(site.name).reshape(-1) for site in sites]))
    return torch.stack(draws)


def _of_draws(draws: Tensor) -> tuple[Tensor, Tensor]:
    """Median, and spread from the median absolute deviation; 0 and 1 where there are none."""
    draws = torch.where(draws.isfinite(), draws, torch.nan)
    start = draws.nanmedian(0).values
    spread = 1.4826 * (draws - start).abs().nanmedian(0).values
    usable = spread.isfinite() & (spread > 1e-6)
    return start.nan_to_num(0.0), torch.where(usable, spread, torch.ones_like(spread))


def _with_values(
    model: Callable,
    call: Call,
    sites: Sequence[LatentSite],
    values: Mapping[str, Any],
    start: Tensor,
) -> Tensor:
    """The start with the sites of `values` at these."""
    own = places(sites)
    if unknown := sorted(values.keys() - own.keys()):
        raise ValueError(f"init names {unknown}, which are not among the sites {sorted(own)}.")

    def answer(site: LatentSite, fn: Any) -> Any:
        if site.name not in values:
            return None
        value = torch.as_tensor(values[site.name]).to(start)
        value = value.expand(*site.batch_shape, *site.event_shape)
        if not bool(fn.support.check(value).all()):
            raise ValueError(f"init puts site '{site.name}' outside its support {fn.support}.")
        return determined(fn, real_line(fn).inv(value))

    with aside(model):
        run_program(model, call, answer)
        found = start.clone()
        for name in values:
            found[own[name]] = call.vector(name).reshape(-1)
    return found


def _minimum(model: Callable, energy: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """A minimum near zero, by L-BFGS."""
    t = torch.zeros_like(like, requires_grad=True)
    optim = torch.optim.LBFGS([t], max_iter=500, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optim.zero_grad()
        loss = energy(t)
        loss.backward()
        return loss

    with aside(model), torch.enable_grad():
        optim.step(closure)
    return t.detach()
