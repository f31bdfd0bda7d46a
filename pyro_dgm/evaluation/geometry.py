"""Models and networks as immersed surfaces: the metric that codes get from what is made of them."""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch
import torch.autograd.forward_ad as forward
from pyro.distributions import Bernoulli, Categorical
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.nn.functional import logsigmoid

from dgm_core.arguments import check_callable, check_count, check_flag
from dgm_core.evaluation import unknown_mean
from dgm_core.geometry import (
    Surface,
    chosen_site,
    no_fisher,
    no_followers,
    not_by_row,
    not_real,
)
from dgm_core.training.threads import one_at_a_time
from dgm_core.traversals import check_moved
from pyro_dgm.evaluation.calls import Call, calling
from pyro_dgm.evaluation.draws import latents, mean_of
from pyro_dgm.evaluation.traversals import differs, local_latents
from pyro_dgm.joints.structure import kind_of, random_sites
from pyro_dgm.joints.values import base_of

__all__ = ["pullback", "surface"]


def surface(function: Callable[[Tensor], Tensor], dim: int) -> Surface:
    """A differentiable function of codes, a generator or a decoder, as an immersed surface.

    Args:
        function: from codes (n, dim) to (n, ...), each row by itself.
        dim: the size of a code.

    Returns:
        `dgm_core.geometry.Surface`, which takes and returns numpy arrays.

    Raises:
        ValueError: for a dim below 1, and a function whose output has not a row for each code.

    Example:
        >>> curve = surface(lambda z: torch.cat([z, z**2], -1), 1)
        >>> curve.metric(np.array([0.5])).tolist()
        [[2.0]]
    """
    check_callable("function", function, "a function of tensors (n, dim)")
    return _surface(function, check_count("dim", dim), np.dtype(str(torch.get_default_dtype())[6:]))


@one_at_a_time
def pullback(
    run: Any,
    *data: Any,
    site: str | None = None,
    latent: str | None = None,
    spread: bool = False,
    fisher: bool = False,
    num_draws: int = 100,
    rows: Any = None,
    seed: int = 0,
) -> Surface:
    """What a model makes of a latent, E[x | z], as an immersed surface: metric, volume, lengths and
    geodesics of codes. Of classes it is their probabilities, of a generator x itself.

    The other latents are those of the first datum, by the guide's means; latents that the model
    draws from the moved one follow with their means.

    Args:
        run, data, rows: as `log_weights` takes them; one datum is enough.
        site: an observed site; None for the only one.
        latent: the latent of each datum that is moved, of real numbers; None for the only one. Its
            value is flattened.
        spread: whether the standard deviation of the site counts too, M = J' J + S' S with S that
            of the standard deviation: the expected metric where the entries are independent.
        fisher: the Fisher metric of p(x | z) instead, of independent classes or bits: lengths are
            then those of their probabilities, 2 arccos(sum_k sqrt(p_k q_k)) at least.
        num_draws: of which a mean is taken that is not known.
        seed: of these draws.

    Returns:
        `dgm_core.geometry.Surface`, which takes and returns numpy arrays.

    Cost:
        of a Jacobian, d forward derivatives of the model on as many data as there are codes.

    Raises:
        ValueError: for models without such a latent, a site whose mean is not known (with fisher,
            whose entries are no classes), and latents without a mean that follow.

    References:
        Arvanitidis, Hansen & Hauberg (2018), Latent space oddity, arXiv:1710.11379, equation 5.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> pullback(vae, np.ones((1, 4))).metric(np.zeros((5, 2))).shape
        (5, 2, 2)
    """
    spread, fisher = check_flag("spread", spread), check_flag("fisher", fisher)
    if spread and fisher:
        raise ValueError("The Fisher metric counts all of p(x | z): leave out spread=True.")
    codes = latents(run, *data, means=True, num_draws=num_draws, rows=rows, seed=seed)
    with calling(run, data, seed=seed, rows=rows) as call:
        local = local_latents(call)
        latent = check_moved(latent, list(local), local)
        start = {name: x[:1] if name in local else x for name, x in codes.items()}
        site, followers = _looked_at(call, start, latent, site, set(local), fisher=fisher)

    def made(z: Tensor) -> Tensor:
        part = call.part(np.zeros(len(z), int))
        values = {
            name: torch.as_tensor(np.repeat(x, len(z), 0) if name in local else x, device=z.device)
            for name, x in start.items()
            if name not in followers
        }
        values[latent] = z.reshape(len(z), *start[latent].shape[1:])
        with calling(run, data, seed=seed, rows=rows, settle=False), _Means(followers):
            fn = part.model(values).nodes[site]["fn"]
        moments = _moments(site, fn, spread=spread, fisher=fisher)
        return torch.cat([moment.reshape(len(z), -1) for moment in moments], -1)

    return _surface(made, start[latent][0].size, start[latent].dtype, call.device)


def _surface(
    function: Callable[[Tensor], Tensor], dim: int, dtype: Any, device: Any = None
) -> Surface:
    def rows(z: Tensor) -> Tensor:
        found = function(z)
        if found.ndim < 2 or len(found) != len(z):
            raise ValueError(not_by_row(tuple(z.shape), tuple(found.shape)))
        return found.flatten(1)

    def points(z: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return rows(torch.as_tensor(z.astype(dtype), device=device)).numpy(force=True)

    def jacobian(z: np.ndarray) -> np.ndarray:
        codes = torch.as_tensor(z.astype(dtype), device=device)
        units = torch.eye(dim, dtype=codes.dtype, device=device).repeat_interleave(len(z), 0)
        with torch.no_grad(), forward.dual_level():  # along all axes in one call
            found = rows(forward.make_dual(codes.repeat(dim, 1), units))
            value, slope = forward.unpack_dual(found)
        columns = (torch.zeros_like(value) if slope is None else slope).reshape(dim, len(z), -1)
        return columns.permute(1, 2, 0).numpy(force=True)

    return Surface(points, jacobian, dim)


def _moments(site: str, fn: Any, *, spread: bool, fisher: bool) -> tuple[Tensor, ...]:
    """What is looked at of the distribution of a site."""
    base = base_of(fn)
    if fisher:
        if isinstance(base, Bernoulli):
            logits = torch.stack([base.logits, -base.logits], -1)
            return (2 * torch.exp(logsigmoid(logits) / 2),)
        if not isinstance(base, Categorical):
            raise ValueError(no_fisher(site, type(base).__name__))
        return (2 * torch.exp(base.logits.log_softmax(-1) / 2),)
    if isinstance(base, Categorical):
        p = base.probs
        return (p, (p * (1 - p)).sqrt()) if spread else (p,)
    return (fn.mean, fn.variance.sqrt()) if spread else (fn.mean,)


class _Means(Messenger):
    """Latents of these names have their means."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self.names = names

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.names and not msg["is_observed"] and not msg["done"]:
            try:
                msg["value"], msg["done"] = msg["fn"].mean, True
            except NotImplementedError:
                raise ValueError(no_followers(msg["name"])) from None


def _looked_at(
    call: Call,
    start: dict[str, np.ndarray],
    latent: str,
    site: Any,
    local: set[str],
    *,
    fisher: bool,
) -> tuple[str, set[str]]:
    """The site that is looked at, and the latents that follow from the moved one."""
    part = call.part(np.zeros(2, int))
    values = {
        name: torch.as_tensor(np.repeat(x, 2, 0) if name in local else x, device=call.device)
        for name, x in start.items()
    }
    sites = random_sites(part.model(values))
    for far in (-1000.5, 1000.5):
        fn = sites[latent]["fn"]
        if not bool(fn.support.check(torch.full_like(values[latent], far)).all()):
            raise ValueError(not_real(latent, fn.support))
    values[latent] = torch.stack([values[latent][0], values[latent][1] + 0.5])
    moved = random_sites(part.model(values))
    others = {name: moved[name] for name in local - {latent} if name in moved}
    followers = {n for n, other in others.items() if differs(other["fn"], other["value"], 1, 2)}
    observed = [name for name, entry in moved.items() if kind_of(entry) == "observed"]
    site = chosen_site(site, observed)
    fn = moved[site]["fn"]
    classes = isinstance(base_of(fn), Categorical)
    if not (fisher or classes) and mean_of(fn) is None:
        raise ValueError(unknown_mean(site))
    _moments(site, fn, spread=False, fisher=fisher)
    return site, followers
