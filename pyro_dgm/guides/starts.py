"""Where a joint vector starts, on the real line: at prior draws, at the mode, at values given."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dgm_core.arguments import check_choice
from dgm_core.guides import LatentSite, Outline, no_starts
from dgm_core.vectors import no_hessian, no_mode, places, start_shape
from pyro_dgm.guides.line import OnLine, stated
from pyro_dgm.guides.program import Call, Placed, aside, run_program
from pyro_dgm.guides.supports import determined, real_line
from pyro_dgm.joints.structure import trace_of

__all__: list[str] = []  # for the package, not for users

Init = str | Mapping[str, Any] | None
NUM_DRAWS = 64
MOST = 100  # entries of a vector whose curvature is looked at where no start is asked for
ROUNDING = 1e-8  # of a curvature, in units of the largest
STEEP = 100.0  # times the curvature of the prior: the data decide


class Start(NamedTuple):
    """u = place + spread t, with t about `scale`: spread (D,), or lower triangular (D, D)."""

    place: Tensor
    spread: Tensor
    scale: float = 0.1


def check_init(init: Init) -> None:
    """Raises ValueError for what is no start."""
    if init is not None and not isinstance(init, Mapping):
        check_choice("init", init, ("prior", "map", "laplace"))


def start_of(
    model: Callable,
    args: tuple,
    kwargs: Mapping[str, Any],
    outline: Outline,
    sites: tuple[LatentSite, ...],
    init: Init,
    *,
    correlated: bool,
) -> Start:
    """Where the vector of some sites starts; `correlated`: whether the family knows covariances."""
    call = Call(model, outline, args, kwargs)
    start, spread = _of_draws(_prior_draws(model, call, sites))
    if isinstance(init, Mapping):
        return Start(_with_values(model, call, sites, init, start), spread)
    others = sorted(outline.sites.keys() - {site.name for site in sites})
    partly = bool(others or outline.subsampled)
    if init == "prior" or (init is None and (partly or len(start) > MOST)):
        return Start(start, spread)
    if others:
        raise ValueError(
            f"init='{init}' looks for the mode of all latent sites, but {others} are answered "
            "otherwise: use init='prior'."
        )

    def energy(t: Tensor) -> Tensor:
        return -log_joint(model, call, sites, start + spread * t)

    def curvature(t: Tensor) -> Tensor:
        with aside(model), torch.enable_grad():
            return torch.autograd.functional.hessian(energy, t).double()

    flat = any(site.flat for site in sites)
    if init is None and not flat and not _is_steep(curvature(torch.zeros_like(start))):
        return Start(start, spread)
    mode = _minimum(model, energy, start)
    if not mode.isfinite().all():
        if init is None:
            return Start(start, spread)
        raise ValueError(no_mode(init))
    if init == "map":
        return Start(start + spread * mode, spread)
    hessian = curvature(mode)
    values = torch.linalg.eigvalsh(hessian)
    if not values[0] > -ROUNDING * values[-1]:
        if init is None:
            return Start(start + spread * mode, spread)
        raise ValueError(no_hessian())
    if correlated:
        found = spread[:, None] * _root_of_inverse(hessian)
    else:
        found = spread * hessian.diagonal() ** -0.5
    return Start(start + spread * mode, found.to(start), 1.0)


def _root_of_inverse(hessian: Tensor) -> Tensor:
    """The lower triangular L with L L' = H^-1, from directions that rounding has not blurred."""
    values, vectors = torch.linalg.eigh(hessian)
    values = values.clamp(min=float(ROUNDING * values[-1]))
    clean = (vectors * values) @ vectors.T
    return torch.linalg.inv(torch.linalg.cholesky(clean.flip(0, 1)).T).flip(0, 1)


def _is_steep(hessian: Tensor) -> bool:
    """Whether the data decide more than the prior in some direction."""
    finite = bool(hessian.isfinite().all())
    return finite and bool(torch.linalg.eigvalsh(hessian)[-1] > STEEP)


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


def far_apart(
    model: Callable,
    args: tuple,
    kwargs: Mapping[str, Any],
    outline: Outline,
    sites: tuple[LatentSite, ...],
    num: int,
) -> Tensor:
    """Prior draws of the vector of some sites, (num, D), each as far as can be from those before;
    ValueError where the prior has no different ones."""
    draws = _prior_draws(model, Call(model, outline, args, kwargs), sites)
    start, spread = _of_draws(draws)
    points = ((draws - start) / spread).nan_to_num(0.0, 0.0, 0.0)
    nearest = points.square().sum(-1)
    chosen: list[int] = []
    for _ in range(num):
        index = int(nearest.argmax())
        if chosen and not nearest[index] > 1e-6:
            raise ValueError(no_starts(num))
        chosen.append(index)
        distance = (points - points[index]).square().sum(-1)
        nearest = distance if len(chosen) == 1 else nearest.minimum(distance)
    return draws[chosen]


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
        value = value.expand(start_shape(site, tuple(value.shape)))
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
