"""Models and networks as immersed surfaces: the metric that codes get from what is made of them."""

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import (
    BernoulliLogits,
    BernoulliProbs,
    CategoricalLogits,
    CategoricalProbs,
)
from numpyro.primitives import Messenger

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
from numpyro_dgm.evaluation.calls import Call, calling
from numpyro_dgm.evaluation.draws import latents, mean_of
from numpyro_dgm.evaluation.traversals import differs, local_latents
from numpyro_dgm.joints.structure import kind_of, random_sites
from numpyro_dgm.joints.values import base_of

__all__ = ["pullback", "surface"]


def surface(function: Callable[[Array], Array], dim: int) -> Surface:
    """A differentiable function of codes, a generator or a decoder, as an immersed surface.

    Args:
        function: from codes (n, dim) to (n, ...), each row by itself.
        dim: the size of a code.

    Returns:
        `dgm_core.geometry.Surface`, which takes and returns numpy arrays.

    Raises:
        ValueError: for a dim below 1, and a function whose output has not a row for each code.

    Example:
        >>> curve = surface(lambda z: jnp.concatenate([z, z**2], -1), 1)
        >>> curve.metric(np.array([0.5])).tolist()
        [[2.0]]
    """
    check_callable("function", function, "a function of arrays (n, dim)")
    return _surface(function, check_count("dim", dim), jnp.result_type(float))


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
        >>> from numpyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,), key=jax.random.key(0))
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

    def made(z: Array) -> Array:
        part = call.part(np.zeros(len(z), int))
        values = {
            name: jnp.asarray(np.repeat(x, len(z), 0) if name in local else x)
            for name, x in start.items()
            if name not in followers
        }
        values[latent] = z.reshape(len(z), *start[latent].shape[1:])
        with calling(run, data, seed=seed, rows=rows, settle=False), _Means(followers):
            fn = part.model(values)[site]["fn"]
        moments = _moments(site, fn, spread=spread, fisher=fisher)
        return jnp.concatenate([moment.reshape(len(z), -1) for moment in moments], -1)

    return _surface(made, start[latent][0].size, start[latent].dtype)


def _surface(function: Callable[[Array], Array], dim: int, dtype: Any) -> Surface:
    def rows(z: Array) -> Array:
        found = function(z)
        if found.ndim < 2 or len(found) != len(z):
            raise ValueError(not_by_row(z.shape, found.shape))
        return found.reshape(len(z), -1)

    def slopes(z: Array) -> Array:
        def column(unit: Array) -> Array:
            return jax.jvp(rows, (z,), (jnp.broadcast_to(unit, z.shape),))[1]

        return jax.vmap(column, out_axes=-1)(jnp.eye(dim, dtype=z.dtype))

    points, jacobian = jax.jit(rows), jax.jit(slopes)
    return Surface(
        lambda z: np.asarray(points(z.astype(dtype))),
        lambda z: np.asarray(jacobian(z.astype(dtype))),
        dim,
    )


def _moments(site: str, fn: Any, *, spread: bool, fisher: bool) -> tuple[Array, ...]:
    """What is looked at of the distribution of a site."""
    base = base_of(fn)
    if fisher:
        if isinstance(base, BernoulliLogits | BernoulliProbs):
            logits = jnp.stack([base.logits, -base.logits], -1)
            return (2 * jnp.exp(jax.nn.log_sigmoid(logits) / 2),)
        if not isinstance(base, CategoricalLogits | CategoricalProbs):
            raise ValueError(no_fisher(site, type(base).__name__))
        return (2 * jnp.exp(jax.nn.log_softmax(base.logits) / 2),)
    if isinstance(base, CategoricalLogits | CategoricalProbs):
        p = base.probs
        return (p, jnp.sqrt(p * (1 - p))) if spread else (p,)
    return (fn.mean, jnp.sqrt(fn.variance)) if spread else (fn.mean,)


class _Means(Messenger):
    """Latents of these names have their means."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self.names = names

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample" and msg["name"] in self.names and msg["value"] is None:
            try:
                msg["value"] = msg["fn"].mean
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
        name: jnp.asarray(np.repeat(x, 2, 0) if name in local else x) for name, x in start.items()
    }
    sites = random_sites(part.model(values))
    for far in (-1000.5, 1000.5):
        fn = sites[latent]["fn"]
        if not bool(jnp.all(fn.support(jnp.full_like(values[latent], far)))):
            raise ValueError(not_real(latent, fn.support))
    values[latent] = values[latent].at[1].add(0.5)
    moved = random_sites(part.model(values))
    others = {name: moved[name] for name in local - {latent} if name in moved}
    followers = {n for n, other in others.items() if differs(other["fn"], other["value"], 1, 2)}
    observed = [name for name, entry in moved.items() if kind_of(entry) == "observed"]
    site = chosen_site(site, observed)
    fn = moved[site]["fn"]
    if (
        not (fisher or isinstance(base_of(fn), CategoricalLogits | CategoricalProbs))
        and mean_of(fn) is None
    ):
        raise ValueError(unknown_mean(site))
    _moments(site, fn, spread=False, fisher=fisher)
    return site, followers
