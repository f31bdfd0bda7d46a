"""Norms of the linear maps of layers: of a weight as a matrix, and of a convolution as it acts on
images of a given size.

The two differ: the matrix (out, in * height * width) of a kernel tells how much a patch can grow,
the operator how much an image can, whose patches overlap.  With k x k kernels the operator's norm
is at most k times the matrix's, and the Laplacian, say, has 8 against sqrt(20).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, svds

from dgm_core.arguments import check_choice, check_counts, refuse

__all__ = ["check_image_size", "matrix_norm", "operator_norm", "start_vector"]

PADDINGS = ("zeros", "circular")
_DENSE = 64  # below this many rows or columns a matrix is written out


def matrix_norm(weight: Any) -> float:
    """The largest singular value of a weight (out, ...) as a matrix (out, all else).

    Args:
        weight: (out, in), or a kernel (out, in, height, width).

    Raises:
        ValueError: for an array with fewer than two dimensions, or entries that are not finite.

    References:
        Miyato et al. (2018), arXiv:1802.05957, section 2.2 (a kernel as a matrix).

    Example:
        >>> round(matrix_norm([[1.0, 2.0, 0.0], [0.0, -1.0, 3.0]]), 8)
        3.27132421
    """
    array = _checked(weight)
    return float(np.linalg.norm(array.reshape(len(array), -1), 2))


def operator_norm(kernel: Any, image_size: Sequence[int], *, padding: str = "circular") -> float:
    """The largest singular value of a convolution of stride one as a map of images, exactly.

    For a circular one the frequencies are apart: max over them of the norm of the (out, in) matrix
    of the kernel's Fourier transform.  With zeros around the image the largest singular value of
    the whole map is found by Lanczos iterations.

    Args:
        kernel: (out, in, height, width).
        image_size: height and width of the images, which keep their size.
        padding: "circular" or "zeros".

    Raises:
        ValueError: for another kind of padding, an array that is no kernel, and an image that is
            smaller than the kernel.

    References:
        Sedghi, Gupta and Long (2019), arXiv:1805.10408.

    Example:
        >>> laplacian = np.array([[[[0, 1, 0], [1, -4, 1], [0, 1, 0]]]])
        >>> round(operator_norm(laplacian, (8, 8)), 8), round(matrix_norm(laplacian), 8)
        (8.0, 4.47213595)
        >>> round(operator_norm(laplacian, (8, 8), padding="zeros"), 8)
        7.75877048
    """
    array = _checked(kernel)
    check_choice("padding", padding, PADDINGS)
    if array.ndim != 4:
        refuse("kernel", "a kernel of shape (out, in, height, width)", np.shape(kernel))
    size = check_image_size(image_size, array.shape[2:])
    if padding == "circular":
        transfer = np.fft.fft2(array, s=size)
        return float(np.linalg.norm(np.moveaxis(transfer, (0, 1), (-2, -1)), 2, (-2, -1)).max())
    return _largest(array, size)


def check_image_size(image_size: Any, kernel_size: Sequence[int] = (1, 1)) -> tuple[int, int]:
    """Height and width, at least those of a kernel.

    Example:
        >>> check_image_size((8, 9), (3, 3))
        (8, 9)
    """
    if not isinstance(image_size, (tuple, list)) or len(image_size) != 2:
        refuse("image_size", "height and width, a tuple of two sizes", image_size)
    height, width = check_counts(height=image_size[0], width=image_size[1])
    if height < kernel_size[0] or width < kernel_size[1]:
        refuse("image_size", f"at least the size of the kernel, {tuple(kernel_size)}", image_size)
    return height, width


def start_vector(shape: Sequence[int]) -> NDArray[np.float64]:
    """The vector of length one that power iterations start from: the same for all layers of a size,
    and in no direction that a kernel is likely to be orthogonal to.

    Example:
        >>> start_vector((2, 2)).shape, round(float((start_vector((2, 2)) ** 2).sum()), 8)
        ((2, 2), 1.0)
    """
    vector = np.random.default_rng(0).standard_normal(tuple(shape))
    return vector / np.sqrt((vector**2).sum())


def _checked(weight: Any) -> NDArray[np.float64]:
    array = np.asarray(weight, float)
    if array.ndim < 2 or array.size == 0:
        refuse("weight", "an array with at least two dimensions", np.shape(weight))
    if not np.isfinite(array).all():
        refuse("weight", "an array of finite numbers", float(array[~np.isfinite(array)][0]))
    return array


def _largest(kernel: NDArray[np.float64], size: tuple[int, int]) -> float:
    """The largest singular value of a convolution with zeros around the image."""
    outs, ins, rows, columns = kernel.shape
    before = (rows - 1) // 2, (columns - 1) // 2
    around = [(before[0], rows - 1 - before[0]), (before[1], columns - 1 - before[1])]

    def forth(x: NDArray[np.float64]) -> NDArray[np.float64]:
        padded = np.pad(x.reshape(ins, *size), [(0, 0), *around])
        patches = np.lib.stride_tricks.sliding_window_view(padded, (rows, columns), (1, 2))
        return np.einsum("chwij,ocij->ohw", patches, kernel, optimize=True).reshape(-1)

    def back(y: NDArray[np.float64]) -> NDArray[np.float64]:
        flipped = [(end, start) for start, end in around]
        padded = np.pad(y.reshape(outs, *size), [(0, 0), *flipped])
        patches = np.lib.stride_tricks.sliding_window_view(padded, (rows, columns), (1, 2))
        turned = kernel[:, :, ::-1, ::-1]
        return np.einsum("ohwij,ocij->chw", patches, turned, optimize=True).reshape(-1)

    shape = outs * prod(size), ins * prod(size)
    if min(shape) <= _DENSE:
        wide = shape[0] <= shape[1]
        one = np.eye(min(shape))
        matrix = np.stack([back(row) if wide else forth(row) for row in one])
        return float(np.linalg.norm(matrix, 2))
    operator = LinearOperator(shape, matvec=forth, rmatvec=back, dtype=float)
    start = start_vector((min(shape),))
    return float(svds(operator, 1, v0=start, return_singular_vectors=False, tol=1e-12)[0])
