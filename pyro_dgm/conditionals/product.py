"""Products of normal experts, and mixtures of such products.

Of the experts N(mu_m, s_m^2) that are seen, beside the prior N(mu_0, s_0^2), which counts once, the
product is normal:  1 / s^2 = sum_m 1 / s_m^2,  mu = s^2 sum_m mu_m / s_m^2.
"""

from collections.abc import Sequence
from typing import Any

import torch
from pyro import distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from dgm_core.arguments import check_instance
from dgm_core.contexts import Labels, check_context, parts_of
from dgm_core.experts import (
    all_subsets,
    check_seen,
    check_subsets,
    check_weights,
    membership,
    not_normal,
)
from pyro_dgm.conditionals.base import Conditional
from pyro_dgm.conditionals.expert_mixture import ExpertMixture
from pyro_dgm.conditionals.normal import StandardNormal
from pyro_dgm.nn.contexts import visible

__all__ = ["MixtureOfExperts", "ProductOfExperts", "product_of_normals"]


def product_of_normals(
    loc: Tensor,
    scale: Tensor,
    prior_loc: Tensor | float = 0.0,
    prior_scale: Tensor | float = 1.0,
    *,
    seen: Tensor | None = None,
    members: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Means and scales of the product of normal experts and a prior, which counts once.

    Precisions are taken relative to the prior's and scaled to the middle of their range, so that
    neither a sharp expert nor a vague one leaves single precision.

    Args:
        loc, scale: of the experts, (M, *batch).
        prior_loc, prior_scale: of the prior, to be broadcast to (*batch).
        seen: whether an expert counts, to be broadcast to (M, *batch); all of them where left out.
            Nothing that stands elsewhere enters, NaN included.
        members: (S, M) zeros and ones, for the products of S subsets at once.

    Shapes:
        (*batch), or with `members` (S, *batch).

    Cost:
        one exponential of each expert, and with `members` one matrix product.

    Example:
        >>> loc, scale = torch.tensor([1.0, -1.0]), torch.tensor([0.5, 2.0]).sqrt()
        >>> mean, scale = product_of_normals(loc, scale)
        >>> round(mean.item(), 4), round(scale.square().item(), 4)
        (0.4286, 0.2857)
    """
    if seen is not None:
        loc = torch.where(seen, loc, torch.zeros_like(loc))
        scale = torch.where(seen, scale, torch.ones_like(scale))
    prior_scale = torch.as_tensor(prior_scale, dtype=scale.dtype, device=scale.device)
    log_ratio = 2 * (prior_scale.log() - scale.log())  # of precisions
    counted = log_ratio if seen is None else log_ratio.masked_fill(~seen, 0.0)
    middle = counted.detach().amax(0).clamp(min=0.0) / 2
    precision = (log_ratio - middle).exp()
    if seen is not None:
        precision = precision * seen
    pulls = precision * (loc - prior_loc)
    if members is None:
        precision, pulls = precision.sum(0), pulls.sum(0)
    else:
        members = members.to(precision.dtype)
        precision, pulls = (torch.tensordot(members, x, 1) for x in (precision, pulls))
    total = (-middle).exp() + precision
    return prior_loc + pulls / total, prior_scale * (-middle / 2).exp() * total.rsqrt()


class ProductOfExperts(Conditional):
    """The product of a prior and of one normal expert for each context:  q(z | c) ~ p(z) prod_m
    N(z; mu_m(c_m), s_m(c_m)^2), called `product(contexts, seen=None)`.

    The prior counts once, however many experts there are, so that of no expert at all it is left.
    An expert is no posterior: those given one context alone are the experts times the prior.

    Args:
        experts: conditionals that give normal distributions with independent entries, such as
            DiagonalNormal(20, context_shape=200), each with a context.
        prior: one without a context (default StandardNormal, of the experts' event shape).

    Shapes:
        contexts a tuple of arrays (*batch, *context_shape), one for each expert; seen (*batch, M)
        booleans: which of them count. What stands elsewhere changes nothing, NaN included.
        -> batch_shape (*batch,), event_shape that of the experts.

    Cost:
        one call of each expert, and no matrix inverse.

    Raises:
        ValueError: for experts of different shapes, without a context or that are not normal; for
            contexts that do not fit.

    References:
        Hinton (2002), Training products of experts by minimizing contrastive divergence; Wu and
        Goodman (2018), arXiv:1802.05335.

    Example:
        >>> from pyro_dgm.conditionals import DiagonalNormal
        >>> product = ProductOfExperts([DiagonalNormal(2, context_shape=n) for n in (3, 4)])
        >>> contexts = torch.zeros(5, 3), torch.full((5, 4), torch.nan)
        >>> product(contexts, torch.tensor([[True, False]] * 5)).batch_shape
        torch.Size([5])
    """

    def __init__(self, experts: Sequence[Conditional], prior: Conditional | None = None) -> None:
        experts = check_experts(experts, prior, Conditional)
        shapes = tuple(expert.context_shape for expert in experts)
        super().__init__(experts[0].event_shape, context_shape=shapes)
        self.experts = nn.ModuleList(experts)
        self.prior = prior or StandardNormal(self.event_shape)

    def forward(self, context: Any = None, seen: Tensor | None = None) -> TorchDistribution:
        """The product of the experts that are seen."""
        return self.build(*self._normals(context, seen))

    def condition(self, context: Any) -> TorchDistribution:
        """The product of all experts."""
        return self.build(*self._given(context), None)

    def build(self, loc: Tensor, scale: Tensor, seen: Tensor | None) -> TorchDistribution:
        """The distribution made of experts (M, *batch, *event_shape)."""
        return self.normal(*product_of_normals(loc, scale, *self._prior(), seen=seen))

    def subsets(
        self, context: Any, seen: Tensor | None = None, subsets: Any = None
    ) -> TorchDistribution:
        """The products of several subsets of the experts in one operation, those that are not seen
        left out: batch_shape (S, *batch); all 2^M of them where none are given."""
        number = len(self.experts)
        chosen = all_subsets(number, empty=True)
        chosen = chosen if subsets is None else check_subsets(subsets, number)
        loc, scale, seen = self._normals(context, seen)
        members = torch.as_tensor(membership(chosen, number), device=loc.device)
        found = product_of_normals(loc, scale, *self._prior(), seen=seen, members=members)
        return self.normal(*found)

    def _normals(self, context: Any, seen: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        """Means and scales of the experts (M, *batch, *event), and which of them count."""
        if seen is None:
            check_context(self, context, self.context_shape)
            return *self._given(visible(context, self.context_shape)), None
        is_bool = isinstance(seen, Tensor) and seen.dtype == torch.bool
        check_seen(seen, len(self.experts), is_bool)
        if isinstance(context, tuple) and len(context) == len(self.experts):
            parts = zip(context, parts_of(self.context_shape), seen.unbind(-1), strict=True)
            context = tuple(without_unseen(x, len(shape_of(s)), mask) for x, s, mask in parts)
        check_context(self, context, self.context_shape)
        loc, scale = self._given(visible(context, self.context_shape))
        wide = seen.movedim(-1, 0)[(..., *[None] * len(self.event_shape))]
        shape = torch.broadcast_shapes(loc.shape, wide.shape)
        return loc.expand(shape), scale.expand(shape), wide

    def _given(self, context: Any) -> tuple[Tensor, Tensor]:
        """Means and scales of the experts at a checked context."""
        experts: Any = self.experts
        found = [normal_of(expert, expert.condition(c)) for expert, c in zip(experts, context)]
        loc, scale = zip(*found, strict=True)
        return torch.stack(torch.broadcast_tensors(*loc)), torch.stack(
            torch.broadcast_tensors(*scale)
        )

    def _prior(self) -> tuple[Tensor, Tensor]:
        return normal_of(self.prior, self.prior())

    def normal(self, loc: Tensor, scale: Tensor) -> TorchDistribution:
        """With independent entries, (*batch, *event_shape) each."""
        return dist.Normal(loc, scale).to_event(len(self.event_shape))

    def __repr__(self) -> str:
        experts: Any = self.experts
        return f"{type(self).__name__}([{', '.join(map(repr, experts))}])"


class MixtureOfExperts(ProductOfExperts):
    """The mixture of products of experts, of each expert by itself or of larger subsets:  q(z | c)
    = sum_s w_s q_s(z | c),  q_s ~ p(z) prod_{m in s} N(z; mu_m, s_m^2).

    Its density is that of the mixture, its draws are reparameterized: the components have pathwise
    gradients, and the weights are constants, which need none. Only subsets count all of whose
    experts are seen; where there is none, the prior is left.

    For stratified draws a program draws the component at a site of its own; the bound is the same,
    and `ELBO(enumerate="k")` has one draw of each component in place of a drawn one:
    `k = sample("k", mixture.index)`, `z = sample("z", mixture.at(k))` in the guide, and in the
    model `sample("k", posterior.index(batch_shape, seen), infer={"reverse": True})`.

    Args:
        experts, prior: as in `ProductOfExperts`.
        subsets: tuples of experts, such as [(0,), (0, 1)]; each expert by itself where left out.
        weights: w, positive numbers, scaled to sum to one; equal ones where left out.

    Shapes:
        as `ProductOfExperts`.

    Cost:
        log_prob S densities of each value; a draw costs one.

    Raises:
        ValueError: as `ProductOfExperts`, and for subsets or weights that do not fit.

    References:
        Shi et al. (2019), arXiv:1911.03393; Sutter, Daunhawer and Vogt (2021), arXiv:2105.02470.

    Example:
        >>> from pyro_dgm.conditionals import DiagonalNormal
        >>> experts = [DiagonalNormal(2, context_shape=n) for n in (3, 4)]
        >>> contexts = torch.zeros(5, 3), torch.ones(5, 4)
        >>> mixture = MixtureOfExperts(experts, weights=[3, 1])(contexts)
        >>> mixture.rsample((7,)).shape, mixture.has_rsample
        (torch.Size([7, 5, 2]), True)
    """

    _members: Tensor
    _log_weights: Tensor

    def __init__(
        self,
        experts: Sequence[Conditional],
        *,
        subsets: Sequence[Sequence[int]] | None = None,
        weights: Sequence[float] | None = None,
        prior: Conditional | None = None,
    ) -> None:
        super().__init__(experts, prior)
        number = len(self.experts)
        singles = tuple((index,) for index in range(number))
        self.chosen = singles if subsets is None else check_subsets(subsets, number)
        self.weights = check_weights(weights, len(self.chosen))
        members = torch.as_tensor(membership(self.chosen, number))
        self.register_buffer("_members", members, persistent=False)
        log_weights = torch.tensor(self.weights).log()
        self.register_buffer("_log_weights", log_weights, persistent=False)

    def build(self, loc: Tensor, scale: Tensor, seen: Tensor | None) -> TorchDistribution:
        """The mixture made of experts (M, *batch, *event_shape)."""
        event_dim = len(self.event_shape)
        found = product_of_normals(loc, scale, *self._prior(), seen=seen, members=self._members)
        loc, scale = (x.movedim(0, -1 - event_dim) for x in found)  # (*batch, S, *event)
        batch = loc.shape[: loc.ndim - 1 - event_dim]
        if seen is None:
            return ExpertMixture(loc, scale, self._log_weights.expand(*batch, -1), event_dim)
        wide = seen.reshape(seen.shape[: seen.ndim - event_dim]).movedim(0, -1)
        source, log_weights = self._counted(wide)
        source = source[(..., *[None] * event_dim)].expand(loc.shape)
        loc, scale = (x.gather(len(batch), source) for x in (loc, scale))
        return ExpertMixture(loc, scale, log_weights.expand(*batch, -1), event_dim)

    def index(
        self, batch_shape: Sequence[int] = (), seen: Tensor | None = None
    ) -> TorchDistribution:
        """The distribution of the component that a draw is from, which no expert enters."""
        log_weights = self._log_weights if seen is None else self._counted(seen)[1]
        return dist.Categorical(logits=log_weights.expand(*batch_shape, -1))

    def _counted(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Which component stands in each place, (*batch, S), and its log-weight: in the places of
        those that do not count, copies of the first that does, which share its weight."""
        counts = (seen[..., None, :] | ~self._members).all(-1)
        counts = counts | ~counts.any(-1, keepdim=True)  # nothing is seen: all are the prior
        first = counts.to(torch.uint8).argmax(-1, keepdim=True)
        places = torch.arange(len(self._members), device=seen.device)
        source = torch.where(counts, places, first)
        weights = self._log_weights.exp()
        total = (weights * counts).sum(-1, keepdim=True)
        copies = (source == first).sum(-1, keepdim=True)
        shared = weights[first] / copies
        return source, (torch.where(source == first, shared, weights) / total).log()

    def __repr__(self) -> str:
        subsets = f", subsets={list(self.chosen)}" if len(self.chosen) < 8 else ""
        return f"{super().__repr__()[:-1]}{subsets})"


def check_experts(experts: Any, prior: Any, kind: type) -> list[Any]:
    """A list of experts; ValueError unless they have one event shape, that of the prior, and
    contexts."""
    if not isinstance(experts, list | tuple) or not experts:
        raise ValueError(f"experts must be a list of conditionals, got {experts!r}.")
    for expert in (*experts, *([] if prior is None else [prior])):
        check_instance("expert", expert, kind, "a conditional such as DiagonalNormal")
    shapes = {expert.event_shape for expert in (*experts, *([] if prior is None else [prior]))}
    if len(shapes) > 1:
        raise ValueError(f"Experts and prior must give values of one shape, got {sorted(shapes)}.")
    if alone := [e for e in experts if not e.context_shape or len(parts_of(e.context_shape)) > 1]:
        raise ValueError(f"Each expert must have one context, got {alone[0]!r}.")
    if prior is not None and prior.context_shape:
        raise ValueError(f"The prior expert takes no context, got {prior!r}.")
    return list(experts)


def shape_of(context_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a context as it is given: labels are integers."""
    return () if isinstance(context_shape, Labels) else context_shape


def without_unseen(x: Any, event_dim: int, seen: Tensor) -> Any:
    """x (*batch, *event) with zeros in the cases that are not seen."""
    if not isinstance(x, Tensor):
        return x
    return torch.where(seen[(..., *[None] * event_dim)], x, torch.zeros_like(x))


def normal_of(conditional: Any, fn: Any) -> tuple[Tensor, Tensor]:
    """Mean and scale of a normal distribution with independent entries; ValueError for others."""
    base = fn
    while isinstance(base, torch.distributions.Independent | dist.ExpandedDistribution):
        base = base.base_dist
    if not isinstance(base, torch.distributions.Normal):
        raise ValueError(not_normal(conditional, type(base).__name__))
    shape = fn.batch_shape + fn.event_shape
    return base.loc.expand(shape), base.scale.expand(shape)
