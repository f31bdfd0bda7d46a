"""What a critic is shown beside the draws of a step: changed at random, and of earlier steps."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_callable, check_number
from dgm_core.augmenting import AUGMENTATIONS, check_policies, check_reach
from dgm_core.terms import written
from numpyro_dgm.losses.adversarial.regularizers import Once

__all__ = ["Consistency", "DiffAugment"]

PAST = ("past", "known")  # what a term keeps of past draws


class DiffAugment:
    """Images changed at random, one by one, by maps that gradients pass: a critic that sees nothing
    else cannot learn a small data set by heart, and the changes do not leak into the draws.

    "brightness" adds U(-1/2, 1/2) to all entries, "shift" moves the image by up to an eighth of its
    size each way, with zeros behind it, "cutout" sets a square of half its size to zero.

    Args:
        policies: in this order, some of "brightness", "shift", "cutout".
        reach: the largest shift, as a share of height and width, below a half.

    Shapes:
        x (batch, channels, height, width) -> the same.

    Raises:
        ValueError: for an unknown policy, none, a reach outside (0, 1/2), and an x that is no batch
            of images.

    References:
        Zhao et al. (2020), arXiv:2006.10738.

    Example:
        >>> DiffAugment()(jnp.zeros((5, 1, 8, 8)), key=jax.random.key(0)).shape
        (5, 1, 8, 8)
    """

    def __init__(self, policies: Sequence[str] = AUGMENTATIONS, *, reach: float = 0.125) -> None:
        self.policies, self.reach = check_policies(policies), check_reach(reach)

    def __call__(self, x: Array, *, key: Array) -> Array:
        """Change each of x (batch, channels, height, width)."""
        if x.ndim != 4:
            raise ValueError(f"{self} expects (batch, channels, height, width), got {(*x.shape,)}.")
        height, width = x.shape[2:]
        for index, policy in enumerate(self.policies):
            draws = jax.random.uniform(jax.random.fold_in(key, index), (2, len(x)), x.dtype)
            if policy == "brightness":
                x = x + (draws[0] - 0.5)[:, None, None, None]
            elif policy == "shift":
                x = shifted(x, *(self._steps(u, n) for u, n in zip(draws, (height, width))))
            else:
                x = cut(x, *((u * n).astype(int) for u, n in zip(draws, (height, width))))
        return x

    def _steps(self, u: Array, size: int) -> Array:
        """Whole numbers from -r to r, r the reach in pixels, for u in [0, 1)."""
        reach = int(self.reach * size + 0.5)
        return (u * (2 * reach + 1)).astype(int) - reach

    def __repr__(self) -> str:
        return written(self, repr(self.policies), reach=0.125)


class Consistency:
    """weight E (V(x) - V(a(x)))^2 over data and draws: a critic that does not mind the changes a.

    Args:
        augment: a, such as DiffAugment().
        weight: positive.

    References:
        Zhang et al. (2020), arXiv:1910.12027; Zhao et al. (2021), arXiv:2002.04724 (of draws as
        well).

    Example:
        >>> Consistency(DiffAugment(("shift",)))
        Consistency(DiffAugment(('shift',)), 10.0)
    """

    def __init__(self, augment: Callable[..., Array], weight: float = 10.0) -> None:
        if check_augment(augment) is None:
            raise ValueError("augment must change images, such as DiffAugment(), got None.")
        self.augment, self.weight = augment, check_number("weight", weight, above=0)

    def __call__(
        self, critic: Callable[[Array], Array], real: Array, fake: Array, key: Array
    ) -> Array:
        cost = jnp.zeros((), real.dtype)
        for index, x in enumerate((real, fake)):
            out = critic(x)
            if isinstance(critic, Once):
                critic.known.append((x, out))
            changed = self.augment(x, key=jax.random.fold_in(key, 3 + index))
            cost = cost + ((out - critic(changed)) ** 2).mean()
        return self.weight * cost

    def __repr__(self) -> str:
        return f"Consistency({self.augment!r}, {self.weight!r})"


def shifted(x: Array, rows: Array, columns: Array) -> Array:
    """Images (batch, channels, height, width) moved down and to the right by whole numbers (batch,)
    of pixels, with zeros behind them.
    """
    for dim, steps in ((2, rows), (3, columns)):
        places = jnp.arange(x.shape[dim]) - steps[:, None]
        inside = (places >= 0) & (places < x.shape[dim])
        shape = [len(x), 1, 1, 1]
        shape[dim] = x.shape[dim]
        index = places.clip(0, x.shape[dim] - 1).reshape(shape)
        x = jnp.take_along_axis(x, index, dim) * inside.reshape(shape)
    return x


def cut(x: Array, row: Array, column: Array) -> Array:
    """Images without the rectangle of half their size around the pixels (batch,), (batch,)."""
    gone = jnp.ones((), bool)
    for dim, middle in ((2, row), (3, column)):
        size = x.shape[dim]
        first = middle[:, None] - size // 4
        places = jnp.arange(size)
        shape = [len(x), 1, 1, 1]
        shape[dim] = size
        gone = gone & ((places >= first) & (places < first + size // 2)).reshape(shape)
    return x * ~gone


def no_past(fake: Any, size: int) -> dict[str, Any]:
    """What a term keeps of past draws, before the first."""
    if not size:
        return {}
    return {"past": jnp.zeros((size, *fake.shape[1:]), fake.dtype), "known": jnp.zeros(size, bool)}


def mixed(fake: Array, past: Mapping[str, Array], *, key: Array) -> tuple[Array, dict[str, Array]]:
    """Draws of which about half are exchanged for past ones, and what is kept."""
    one, two = jax.random.split(key)
    slots = jax.random.permutation(one, len(past["known"]))[: len(fake)]
    return exchanged(fake, past, slots, jax.random.bernoulli(two, 0.5, slots.shape))


def exchanged(
    fake: Array, past: Mapping[str, Array], slots: Array, coins: Array
) -> tuple[Array, dict[str, Array]]:
    """Each of the first draws goes to its slot where that is empty, and changes places with what is
    in it where the coin says so.
    """
    num = len(slots)
    old, known = past["past"][slots], past["known"][slots]
    shape = (num, *[1] * (fake.ndim - 1))
    swap, stored = (known & coins).reshape(shape), (~known | coins).reshape(shape)
    seen = jnp.concatenate([jnp.where(swap, old, fake[:num]), fake[num:]])
    kept = past["past"].at[slots].set(jnp.where(stored, fake[:num], old))
    return seen, {"past": kept, "known": past["known"].at[slots].set(True)}


def check_augment(augment: Any) -> Any:
    """A change of images, or None."""
    return None if augment is None else check_callable("augment", augment, "a change of images")
