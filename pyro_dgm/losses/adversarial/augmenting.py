"""What a critic is shown beside the draws of a step: changed at random, and of earlier steps."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dgm_core.arguments import check_callable, check_number
from dgm_core.augmenting import AUGMENTATIONS, check_policies, check_reach
from dgm_core.terms import written
from pyro_dgm.losses.adversarial.regularizers import Once
from pyro_dgm.nn.states import rank

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
        >>> DiffAugment()(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 1, 8, 8])
    """

    def __init__(self, policies: Sequence[str] = AUGMENTATIONS, *, reach: float = 0.125) -> None:
        self.policies, self.reach = check_policies(policies), check_reach(reach)

    def __call__(self, x: Tensor) -> Tensor:
        """Change each of x (batch, channels, height, width)."""
        if x.ndim != 4:
            raise ValueError(f"{self} expects (batch, channels, height, width), got {(*x.shape,)}.")
        height, width = x.shape[2:]
        for policy in self.policies:
            draws = torch.rand(2, len(x), dtype=x.dtype, device=x.device)
            if policy == "brightness":
                x = x + (draws[0] - 0.5)[:, None, None, None]
            elif policy == "shift":
                x = shifted(x, *(self._steps(u, n) for u, n in zip(draws, (height, width))))
            else:
                x = cut(x, *((u * n).long() for u, n in zip(draws, (height, width))))
        return x

    def _steps(self, u: Tensor, size: int) -> Tensor:
        """Whole numbers from -r to r, r the reach in pixels, for u in [0, 1)."""
        reach = int(self.reach * size + 0.5)
        return (u * (2 * reach + 1)).long() - reach

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

    def __init__(self, augment: Callable[[Tensor], Tensor], weight: float = 10.0) -> None:
        if check_augment(augment) is None:
            raise ValueError("augment must change images, such as DiffAugment(), got None.")
        self.augment, self.weight = augment, check_number("weight", weight, above=0)

    def __call__(
        self, critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, key: None = None
    ) -> Tensor:
        cost = real.new_zeros(())
        for x in (real, fake):
            out = critic(x)
            if isinstance(critic, Once):
                critic.known.append((x, out))
            cost = cost + (out - critic(self.augment(x))).square().mean()
        return self.weight * cost

    def __repr__(self) -> str:
        return f"Consistency({self.augment!r}, {self.weight!r})"


def shifted(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Images (batch, channels, height, width) moved down and to the right by whole numbers (batch,)
    of pixels, with zeros behind them.
    """
    for dim, steps in ((2, rows), (3, columns)):
        places = torch.arange(x.shape[dim], device=x.device) - steps[:, None]
        inside = (places >= 0) & (places < x.shape[dim])
        shape = [len(x), 1, 1, 1]
        shape[dim] = x.shape[dim]
        index = places.clip(0, x.shape[dim] - 1).reshape(shape).expand(x.shape)
        x = x.gather(dim, index) * inside.reshape(shape)
    return x


def cut(x: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Images without the rectangle of half their size around the pixels (batch,), (batch,)."""
    gone = torch.ones((), dtype=torch.bool, device=x.device)
    for dim, middle in ((2, row), (3, column)):
        size = x.shape[dim]
        first = middle[:, None] - size // 4
        places = torch.arange(size, device=x.device)
        shape = [len(x), 1, 1, 1]
        shape[dim] = size
        gone = gone & ((places >= first) & (places < first + size // 2)).reshape(shape)
    return x * ~gone


def no_past(fake: Any, size: int) -> dict[str, Any]:
    """What a term keeps of past draws, before the first."""
    if not size:
        return {}
    past = fake.new_zeros(size, *fake.shape[1:])
    return {"past": past, "known": torch.zeros(size, dtype=torch.bool, device=fake.device)}


def mixed(fake: Tensor, past: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Draws of which about half are exchanged for past ones, and what is kept."""
    if rank()[1] > 1:
        raise ValueError(
            "past_fakes belong to one process: leave them out where several share a batch."
        )
    size = len(past["known"])
    slots = torch.randperm(size, device=fake.device)[: len(fake)]
    coins = torch.rand(len(slots), device=fake.device) < 0.5
    return exchanged(fake, past, slots, coins)


def exchanged(
    fake: Tensor, past: Mapping[str, Tensor], slots: Tensor, coins: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Each of the first draws goes to its slot where that is empty, and changes places with what is
    in it where the coin says so.
    """
    num = len(slots)
    old, known = past["past"][slots], past["known"][slots]
    shape = (num, *[1] * (fake.ndim - 1))
    swap, stored = (known & coins).reshape(shape), (~known | coins).reshape(shape)
    seen = torch.cat([torch.where(swap, old, fake[:num]), fake[num:]])
    kept = past["past"].index_copy(0, slots, torch.where(stored, fake[:num], old))
    return seen, {"past": kept, "known": past["known"].index_fill(0, slots, True)}


def check_augment(augment: Any) -> Any:
    """A change of images, or None."""
    return None if augment is None else check_callable("augment", augment, "a change of images")
