"""Supports mapped to the real line, as the run at hand has them: bounds may be other sites."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from pyro.distributions import Categorical, constraints
from torch import Tensor
from torch.distributions import biject_to
from torch.distributions.transforms import ComposeTransform, Transform, identity_transform

from pyro_dgm.guides.determined import Determined
from pyro_dgm.joints.values import base_of, with_vectors

__all__: list[str] = []  # for the package, not for users

_CIRCULAR = (
    "VonMises",
    "SineBivariateVonMises",
    "SineSkewed",
)  # their declared support is the line


def real_line(fn: Any) -> Transform:
    """The bijection from the real line to the support of a distribution.

    Raises:
        NotImplementedError: where there is none, as for a discrete support or a sphere.
    """
    if type(base_of(fn)).__name__.lstrip("_") in _CIRCULAR:
        circle = constraints.interval(-torch.pi, torch.pi)
        return biject_to(constraints.independent(circle, fn.event_dim))
    kind = type(_base_of(fn.support))
    if kind is type(constraints.lower_cholesky):
        return CholeskyFactor()
    if kind is type(constraints.positive_definite):
        return ComposeTransform([CholeskyFactor(), _Square()])
    return biject_to(fn.support)


def is_real(fn: Any) -> bool:
    """Whether the support of a distribution is the real line already."""
    circular = type(base_of(fn)).__name__.lstrip("_") in _CIRCULAR
    return _base_of(fn.support) is constraints.real and not circular


def has_bounds(fn: Any) -> bool:
    """Whether the support of a distribution has bounds of its own, which may be other sites."""
    support = _base_of(fn.support)
    bounds = (getattr(support, name, None) for name in ("lower_bound", "upper_bound"))
    return any(not isinstance(x, float | int) or x not in (0, 1) for x in bounds if x is not None)


def num_seen(fn: Any) -> int:
    """How many numbers `seen` makes of an event."""
    base = base_of(fn)
    if isinstance(base, Categorical):
        return base.probs.shape[-1] * prod(fn.event_shape)
    if getattr(fn.support, "is_discrete", False):
        return prod(fn.event_shape)
    try:
        shape = real_line(fn).inverse_shape(fn.batch_shape + fn.event_shape)
    except NotImplementedError:
        return 0
    return prod(shape[len(fn.batch_shape) :])


def seen(fn: Any, value: Tensor) -> Tensor:
    """A value as numbers without bounds, (*batch, entries): on the real line, classes one-hot."""
    batch = value.shape[: value.ndim - fn.event_dim]
    if getattr(fn.support, "is_discrete", False):
        vectors = with_vectors((value, fn.event_dim), fn)[0]
        return vectors.to(torch.get_default_dtype()).reshape((*batch, -1))
    return real_line(fn).inv(value).reshape((*batch, -1))


def beside(parts: Sequence[Tensor]) -> Tensor:
    """Vectors (*batch, size) side by side, their batch dimensions broadcast."""
    batch = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*batch, part.shape[-1]) for part in parts], -1)


def determined(fn: Any, u: Tensor, log_density: Tensor | float = 0.0) -> Determined:
    """The value of a site at u on the real line, with log_density (*batch,) - log |dz/du|."""
    transform = real_line(fn)
    if getattr(transform, "base_transform", transform) is identity_transform:
        density = torch.as_tensor(log_density, dtype=u.dtype, device=u.device)
        density = density.expand(u.shape[: u.ndim - fn.event_dim])
        return Determined(u, density, fn.event_dim, validate_args=False)
    value = transform(u)
    batch = value.shape[: value.ndim - fn.event_dim]
    log_jacobian = transform.log_abs_det_jacobian(u, value)
    extra = log_jacobian.ndim - len(batch)
    log_jacobian = log_jacobian.flatten(-extra).sum(-1) if extra > 0 else log_jacobian
    density = (log_density - log_jacobian).expand(batch)
    return Determined(value, density, fn.event_dim, validate_args=False)


def _base_of(support: Any) -> Any:
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return support


class CholeskyFactor(Transform):
    """Vectors to lower triangular matrices with a positive diagonal: the entries below it row by
    row, then the logarithms of the diagonal."""

    domain = constraints.real_vector
    codomain = constraints.lower_cholesky
    bijective = True

    def _call(self, x: Tensor) -> Tensor:
        size = _matrix_size(x.shape[-1])
        rows, columns = torch.tril_indices(size, size, -1, device=x.device)
        matrix = x[..., len(rows) :].exp().diag_embed()
        matrix[..., rows, columns] = x[..., : len(rows)]
        return matrix

    def _inverse(self, y: Tensor) -> Tensor:
        rows, columns = torch.tril_indices(y.shape[-1], y.shape[-1], -1, device=y.device)
        return torch.cat([y[..., rows, columns], y.diagonal(dim1=-2, dim2=-1).log()], -1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum of the logarithms of the diagonal."""
        return x[..., -y.shape[-1] :].sum(-1)

    def forward_shape(self, shape: Any) -> torch.Size:
        """(*batch, n (n + 1) / 2) -> (*batch, n, n)."""
        size = _matrix_size(shape[-1])
        return torch.Size((*shape[:-1], size, size))

    def inverse_shape(self, shape: Any) -> torch.Size:
        """(*batch, n, n) -> (*batch, n (n + 1) / 2)."""
        return torch.Size((*shape[:-2], shape[-1] * (shape[-1] + 1) // 2))


class _Square(Transform):
    """L to L L'."""

    domain = constraints.lower_cholesky
    codomain = constraints.positive_definite
    bijective = True

    def _call(self, x: Tensor) -> Tensor:
        return x @ x.mT

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.linalg.cholesky(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """n log 2 + sum_i (n - i) log L_ii, i from 0."""
        size = x.shape[-1]
        powers = torch.arange(size, 0, -1, dtype=x.dtype, device=x.device)
        log_diagonal = x.diagonal(dim1=-2, dim2=-1).log()
        return size * torch.tensor(2.0, dtype=x.dtype).log() + (powers * log_diagonal).sum(-1)


def _matrix_size(entries: int) -> int:
    return round(((8 * entries + 1) ** 0.5 - 1) / 2)
