"""Sizes and shapes of networks over images, which come as (channels, height, width)."""

from __future__ import annotations

from math import gcd, prod
from typing import Any

from dgm_core.arguments import check_count, refuse, shown
from dgm_core.contexts import map_channels, parts_of

__all__ = [
    "LARGEST",
    "MASKED",
    "WITHIN",
    "check_copies",
    "check_images",
    "check_visible",
    "context_parts",
    "group_count",
    "not_by_pixel",
    "num_images",
    "patch_grid",
    "scales",
    "seen_channels",
    "token_layout",
    "visible_patches",
]

LARGEST = 30.0  # a number of an image: far beyond standardized ones, below gray 255
WITHIN = f"images of numbers between -{LARGEST:g} and {LARGEST:g} (divide gray levels by 255)"
MASKED = "images whose last channel is a mask, 1 where a pixel is seen and 0 where it is hidden"


def check_images(owner: Any, images: Any, image_shape: tuple[int, ...]) -> int:
    """How many leading dimensions an array of images has; a ValueError for images of another shape,
    which names channels that come last.

    Example:
        >>> import numpy as np
        >>> check_images("UNet(...)", np.zeros((7, 1, 8, 8)), (1, 8, 8))
        1
        >>> check_images("UNet(...)", np.zeros((7, 8, 8, 1)), (1, 8, 8))
        Traceback (most recent call last):
        ValueError: UNet(...) expects images of shape (1, 8, 8), got an array of shape \
(7, 8, 8, 1): move the channels to the front.
    """
    shape = tuple(getattr(images, "shape", ()))
    if shape[max(0, len(shape) - 3) :] != image_shape:
        raise ValueError(
            f"{owner} expects images of shape {image_shape}, got an array of shape "
            f"{shape}{_hint(shape, image_shape)}"
        )
    return len(shape) - 3


def num_images(name: str, images: Any, image_shape: tuple[int, ...]) -> int:
    """The number of images that an argument of this name holds; a ValueError unless it is (batch,
    channels, height, width).

    Example:
        >>> import numpy as np
        >>> num_images("x", np.zeros((7, 1, 8, 8)), (1, 8, 8))
        7
        >>> num_images("y", np.zeros((8, 8)), (1, 8, 8))
        Traceback (most recent call last):
        ValueError: y must be images of shape (batch, 1, 8, 8), got (8, 8).
    """
    shape = getattr(images, "shape", None)
    if shape is None or tuple(shape)[1:] != image_shape:
        found = shown(images) if shape is None else tuple(shape)
        wanted = ", ".join(map(str, image_shape))
        hint = _hint(tuple(shape or ()), image_shape)
        raise ValueError(f"{name} must be images of shape (batch, {wanted}), got {found}{hint}")
    return int(shape[0])


def not_by_pixel(distribution: str) -> str:
    """What to say of a likelihood of which no part of the pixels can be scored."""
    return (
        f"hidden_only needs a likelihood with independent pixels, got {distribution}: leave it out."
    )


def _hint(shape: tuple[int, ...], image_shape: tuple[int, ...]) -> str:
    """What to do about images whose channels come last; else the end of a sentence."""
    last = shape[max(0, len(shape) - 3) :] == (*image_shape[1:], image_shape[0])
    return ": move the channels to the front." if last else "."


def seen_channels(given_shape: tuple[int, ...], pixels: tuple[int, ...]) -> int:
    """The channels of an image when a network with these pixels (height, width) is given it: one
    with a multiple of them is taken in blocks, one with a fraction of them is repeated. ValueError
    for all others.

    Example:
        >>> seen_channels((3, 8, 8), (8, 8)), seen_channels((3, 8, 8), (4, 4))
        (3, 12)
        >>> seen_channels((3, 4, 4), (8, 8))
        3
    """
    channels, *size = given_shape
    for more, less in ((size, pixels), (pixels, size)):
        factor = more[0] // less[0]
        if factor and tuple(more) == (factor * less[0], factor * less[1]):
            return channels * factor**2 if more is size else channels
    wanted = f"(channels, {pixels[0]}, {pixels[1]}), or a multiple or a fraction of both"
    refuse("given_shape", f"{wanted}: pad, crop or resize the images", given_shape)


def patch_grid(image_shape: tuple[int, ...], patch_size: Any) -> tuple[int, int]:
    """The rows and columns of square patches that images are cut into.

    Example:
        >>> patch_grid((1, 28, 28), 4)
        (7, 7)
        >>> patch_grid((1, 9, 8), 4)
        Traceback (most recent call last):
        ValueError: patch_size must be a divisor of height and width of images of shape (1, 9, 8) \
(pad or crop them), got 4.
    """
    size = check_count("patch_size", patch_size)
    if any(pixels % size for pixels in image_shape[1:]):
        shape = f"a divisor of height and width of images of shape {tuple(image_shape)}"
        refuse("patch_size", f"{shape} (pad or crop them)", patch_size)
    return image_shape[1] // size, image_shape[2] // size


def token_layout(
    shape: tuple[int, ...], patch_size: Any
) -> tuple[int, tuple[int, int], tuple[int, int]]:
    """How values become tokens, as images of some channels that are cut into rows and columns of
    patches: their channels, the rows and columns, and the height and width of a patch.

    A token is a square patch of an image (channels, height, width), some steps of a sequence
    (length, entries), or some entries of a vector.

    Example:
        >>> token_layout((3, 8, 12), 4), token_layout((6, 5), 2), token_layout((6,), 1)
        ((3, (2, 3), (4, 4)), (1, (3, 1), (2, 5)), (1, (6, 1), (1, 1)))
        >>> token_layout((6, 5), 4)
        Traceback (most recent call last):
        ValueError: patch_size must be a divisor of 6, the first size of values of shape (6, 5), \
got 4.
    """
    if len(shape) == 3:
        return shape[0], patch_grid(shape, patch_size), (patch_size, patch_size)
    if len(shape) > 3:
        wanted = "a size, (length, entries) of a sequence or (channels, height, width) of an image"
        refuse("dim", wanted, shape)
    size = check_count("patch_size", patch_size)
    if shape[0] % size:
        wanted = f"a divisor of {shape[0]}, the first size of values of shape {tuple(shape)}"
        refuse("patch_size", wanted, patch_size)
    return 1, (shape[0] // size, 1), (size, prod(shape[1:]))


def check_copies(shape: tuple[int, ...], out_shape: tuple[int, ...]) -> int:
    """How many arrays of a shape one of another shape is, one behind the other along its first
    axis.

    Example:
        >>> check_copies((1, 8, 8), (2, 8, 8))
        2
        >>> check_copies((2,), (3,))
        Traceback (most recent call last):
        ValueError: out_dim must be dim, (2,), or a multiple of it along the first axis, got (3,).
    """
    if out_shape[1:] != shape[1:] or out_shape[0] % shape[0]:
        refuse("out_dim", f"dim, {shape}, or a multiple of it along the first axis", out_shape)
    return out_shape[0] // shape[0]


def group_count(channels: int) -> int:
    """Into how many groups a normalization divides channels: at most 8, of at least 4 channels each
    where there are as many.

    Example:
        >>> [group_count(channels) for channels in (3, 6, 16, 64)]
        [1, 1, 4, 8]
    """
    return gcd(channels, max(channels // 4, 1), 8)


def scales(image_shape: tuple[int, ...], number: Any) -> list[tuple[int, int]]:
    """Height and width of an image at a number of scales, each half of the one before, rounded up.

    Example:
        >>> scales((1, 28, 28), 3), scales((1, 9, 7), 2)
        ([(28, 28), (14, 14), (7, 7)], [(9, 7), (5, 4)])
    """
    sizes = [tuple(image_shape[1:])]
    for _ in range(check_count("the number of scales", number) - 1):
        height, width = sizes[-1]
        if min(height, width) < 2:
            raise ValueError(
                f"channels must be at most {len(sizes)}, one for each scale of images of shape "
                f"{image_shape}, got {number}."
            )
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes  # type: ignore[return-value]


def context_parts(
    context_shape: tuple[Any, ...], pixels: tuple[int, ...]
) -> tuple[tuple[Any, ...], int, int]:
    """The maps of a checked context of an image with these pixels, their channels, and the entries
    of all its vectors and labels. ValueError for a map with other pixels.

    Example:
        >>> context_parts(((2, 8, 8), (3, 4, 4), (10,)), (4, 4))
        (((2, 8, 8), (3, 4, 4)), 11, 10)
    """
    parts = parts_of(context_shape)
    maps = tuple(part for part in parts if len(part) == 3)
    vectors = sum(prod(part) for part in parts if len(part) != 3)
    return maps, map_channels(maps, pixels), vectors


def visible_patches(number: int, hidden_ratio: float) -> int:
    """How many of all patches are visible, of which the others are hidden: one at least of each.

    Example:
        >>> visible_patches(16, 0.75)
        4
    """
    visible = round((1.0 - hidden_ratio) * number)
    if not 0 < visible < number:
        wanted = f"a share that leaves some of {number} patches hidden and some visible"
        refuse("hidden_ratio", wanted, hidden_ratio)
    return visible


def check_visible(visible: Any, number: int, num_patches: int) -> None:
    """Raise a ValueError unless patches of images are given by their integer places.

    Example:
        >>> import numpy as np
        >>> check_visible(np.array([[0, 5], [1, 2]]), 3, 16)
        Traceback (most recent call last):
        ValueError: visible must be integers (3, 1 to 16), the places of the visible patches of \
each image, got ndarray of shape (2, 2).
    """
    shape, kind = tuple(visible.shape), str(visible.dtype)
    good = len(shape) == 2 and shape[0] == number and 0 < shape[1] <= num_patches
    if not good or "int" not in kind:
        places = "the places of the visible patches of each image"
        refuse("visible", f"integers ({number}, 1 to {num_patches}), {places}", visible)
