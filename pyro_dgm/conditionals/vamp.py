"""Mixtures of the posterior at pseudo-inputs, as priors:  p(z) = sum_k w_k q(z | u_k).

With the data as pseudo-inputs this is the aggregate posterior, the prior under which the bound of
an autoencoder is largest; with few, learned ones it is the VampPrior.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Self

import torch
from pyro import distributions as dist
from torch import Tensor, nn

from dgm_core.arguments import check_fraction, check_shape
from dgm_core.contexts import shown_shape
from dgm_core.priors import NORMS, check_parts, check_without, components, in_shape
from pyro_dgm.conditionals.base import Conditional, positive
from pyro_dgm.conditionals.components import Mixture
from pyro_dgm.nn.contexts import one_hot
from pyro_dgm.nn.layers import BatchNorm

__all__ = ["ExemplarPrior", "VampPrior"]


class VampPrior(Conditional):
    """The posterior at K pseudo-inputs as prior:  p(z) = sum_k w_k q(z | u_k),  q(z | u) =
    posterior(encoder(u))  (Tomczak & Welling 2018, section 3).

    Encoder and posterior are those of the guide, one set of weights: a prior made without them is
    given those of the model. In a program of your own write `prior.given(encoder, posterior)` with
    the registered ones, which ties them in any engine.

    Args:
        encoder, posterior: of the guide; both left out in `VAE(prior=VampPrior())`.
        num_components: K (500 when left out).
        pseudo_inputs: (K, *x_shape), to start at, instead of random ones.
        learned: False: they stay there. With all data, or some of them, this is the aggregate
            posterior, q(z) = 1/K sum_k q(z | x_k).
        learned_weights: whether w is learned; 1/K otherwise.
        bounds: the range of the data, inside which u = low + (high - low) sigmoid(raw) is learned
            (the paper clips); None is the real line. With learned=False leave them out.
        mean: a number or an array (*x_shape), such as `x_train.mean(0)`, around which random ones
            start, with standard deviation 1 before the sigmoid (default: the middle of the bounds).
        dim, x_shape: of a code and a datum, where encoder and posterior are given later; models set
            them.

    Shapes:
        batch_shape (), event_shape that of the posterior.

    Cost:
        K passes of the encoder for each call, and K densities of the posterior for each value, in
        blocks of at most 2^24 numbers; K log-densities are kept for each value.

    Raises:
        ValueError: for arguments that do not fit each other, or where encoder and posterior are
            missing.

    References:
        Tomczak & Welling (2018), arXiv:1705.07120; Hoffman & Johnson (2016), ELBO surgery.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(64, 2, hidden=(100,), prior=VampPrior(num_components=20))
        >>> vae.prior
        VampPrior(2, num_components=20)
    """

    raw_inputs: Tensor | None
    logits: Tensor | None

    def __init__(
        self,
        encoder: Callable[..., Any] | None = None,
        posterior: Conditional | None = None,
        *,
        num_components: int | None = None,
        pseudo_inputs: Any = None,
        learned: bool = True,
        learned_weights: bool = False,
        bounds: tuple[float, float] | None = (0.0, 1.0),
        mean: Any = None,
        dim: int | tuple[int, ...] | None = None,
        x_shape: int | tuple[int, ...] | None = None,
    ) -> None:
        plan = components(
            num_components,
            pseudo_inputs,
            learned=learned,
            learned_weights=learned_weights,
            bounds=bounds,
            mean=mean,
        )
        self._set_up(plan, encoder, posterior, dim, x_shape)

    def _set_up(self, plan: Any, encoder: Any, posterior: Any, dim: Any, x_shape: Any) -> None:
        nn.Module.__init__(self)
        check_parts(encoder, posterior, Conditional)
        if posterior is not None:
            dim = posterior.event_shape
        self.plan, self.encoder, self.posterior = plan, encoder, posterior
        self.event_shape = () if dim is None else check_shape("dim", dim)
        self.context_shape = ()
        self.x_shape = plan.x_shape(in_shape(encoder), x_shape)
        if self.x_shape is None and encoder is not None:
            raise ValueError(
                f"Pseudo-inputs need the shape of a datum, which {encoder!r} does not say by an "
                "attribute in_dim: give x_shape or pseudo_inputs."
            )
        self._draw()

    def _draw(self) -> None:
        """The parameters, once the shape of a datum is known."""
        plan, raw = self.plan, None
        if plan.learned and self.x_shape is not None:
            raw = torch.as_tensor(plan.start(self.x_shape), dtype=torch.get_default_dtype())
            if plan.values is None:
                raw = raw + torch.randn(plan.number, *self.x_shape)
        self.raw_inputs = None if raw is None else nn.Parameter(raw)
        self.logits = nn.Parameter(torch.zeros(plan.number)) if plan.learned_weights else None

    def sized(self, x_shape: tuple[int, ...], dim: tuple[int, ...]) -> Self:
        """The same prior for data and codes of these shapes, without encoder and posterior of its
        own: they are `given` where it is used.

        Raises:
            ValueError: where it is made for others.
        """
        if (self.event_shape or dim) != dim:
            raise ValueError(f"The prior must give values of shape {dim}, got {self!r}.")
        kept = {id(part): part for part in (self.plan, *self.parameters())}
        own = deepcopy(self, kept | {id(self.encoder): None, id(self.posterior): None})
        own.event_shape, own.x_shape = dim, self.plan.x_shape(self.x_shape, x_shape)
        if self.x_shape is None:
            own._draw()
        return own

    @property
    def pseudo_inputs(self) -> Tensor:
        """u (K, *x_shape).

        Raises:
            ValueError: where the shape of a datum is not known yet.
        """
        if self.raw_inputs is not None:
            if self.plan.bounds is None:
                return self.raw_inputs
            low, high = self.plan.bounds
            return low + (high - low) * self.raw_inputs.sigmoid()
        if self.plan.values is None:
            raise ValueError(f"{self!r} has no pseudo-inputs yet: {_LATER}")
        return torch.as_tensor(self.plan.values, device="cpu")

    def given(self, encoder: Any = None, posterior: Any = None, *, without: Any = None) -> Mixture:
        """The prior with this encoder and posterior (its own when left out).

        Args:
            without: (batch,), the numbers of the data that are scored, where the data are the
                pseudo-inputs: each value is scored under all others (Norouzi et al. 2020).

        Raises:
            ValueError: where there are none, and for `without` where it has no meaning.

        Example:
            >>> from pyro_dgm.conditionals import DiagonalNormal
            >>> from pyro_dgm.nn import MLP
            >>> prior = VampPrior(pseudo_inputs=torch.rand(5, 3), learned=False, dim=2)
            >>> encoder, posterior = MLP(3, (4,)), DiagonalNormal(2, context_shape=4)
            >>> prior.given(encoder, posterior, without=torch.tensor([4, 0])).batch_shape
            torch.Size([2])
        """
        encoder = self.encoder if encoder is None else encoder
        posterior = self.posterior if posterior is None else posterior
        if encoder is None or posterior is None:
            raise ValueError(f"{self!r} has no encoder and posterior yet: {_LATER}")
        _check_norms(encoder, posterior)
        inputs = self.pseudo_inputs
        if self.raw_inputs is None:
            like = _like(encoder, posterior)
            inputs = inputs.to(like.device, like.dtype)
        contexts = encoder(inputs)
        log_weights = contexts.new_zeros(self.plan.number) if self.logits is None else self.logits
        if without is not None:
            check_without(self.plan, without)
            numbers = torch.as_tensor(without, device=contexts.device)
            left_out = one_hot(numbers, self.plan.number, "without")
            log_weights = torch.where(left_out > 0, -torch.inf, log_weights)
        return Mixture(
            self.component(posterior),
            contexts,
            log_weights.log_softmax(-1),
            posterior.event_shape,
        )

    def component(self, posterior: Any) -> Callable[[Tensor], dist.TorchDistribution]:
        """The component of features, as a function of them."""
        return posterior

    def condition(self, context: Any) -> Mixture:
        """The distribution."""
        return self.given()

    def _sizes(self) -> tuple[str, ...]:
        return self.plan.shown()

    def __repr__(self) -> str:
        dim = (shown_shape(self.event_shape),) if self.event_shape else ()
        return f"{type(self).__name__}({', '.join((*dim, *self._sizes()))})"


_LATER = (
    "a model such as VAE(..., prior=VampPrior()) gives it its own; elsewhere make it as "
    "VampPrior(encoder, posterior), or call prior.given(encoder, posterior)."
)


def _check_norms(*modules: Any) -> None:
    parts = (part for m in modules if isinstance(m, nn.Module) for part in m.modules())
    if any(isinstance(part, BatchNorm) for part in parts):
        raise ValueError(NORMS)


def _like(*modules: Any) -> Tensor:
    """A weight, whose device and precision pseudo-inputs take."""
    found = (p for m in modules if isinstance(m, nn.Module) for p in m.parameters())
    return next(found, torch.zeros(()))


class ExemplarPrior(VampPrior):
    """Data as centers of a Parzen window in the space of codes:  p(z) = 1/N sum_n Normal(m(x_n),
    s^2 I),  m(x) the mean of posterior(encoder(x))  (Norouzi et al. 2020).

    Encoder and posterior are those of the guide, as in VampPrior; s is one learned number, 1 at
    the start. Left to itself a datum would be coded by its own component: score training data with
    `given(encoder, posterior, without=index)`, where index says which exemplars they are.

    Args:
        exemplars: (N, *x_shape), the data, or some of them.
        encoder, posterior: of the guide; both left out in `VAE(prior=ExemplarPrior(x))`.
        min_scale: the smallest s.
        dim: of a code, where encoder and posterior are given later; models set it.

    Shapes:
        batch_shape (), event_shape that of the posterior.

    Cost:
        N passes of the encoder for each call, and N densities for each value, in blocks.

    Raises:
        ValueError: for arguments that do not fit each other, and for a posterior without a mean.

    References:
        Norouzi, Fleet & Norouzi (2020), arXiv:2004.04795.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(64, 2, hidden=(100,), prior=ExemplarPrior(torch.rand(20, 64)))
        >>> vae.prior
        ExemplarPrior(2, num_components=20)
    """

    def __init__(
        self,
        exemplars: Any,
        encoder: Callable[..., Any] | None = None,
        posterior: Conditional | None = None,
        *,
        min_scale: float = 1e-3,
        dim: int | tuple[int, ...] | None = None,
    ) -> None:
        self._set_up(
            components(pseudo_inputs=exemplars, learned=False, name="exemplars"),
            encoder,
            posterior,
            dim,
            None,
        )
        self.floor = check_fraction("min_scale", min_scale)
        self.raw_scale = nn.Parameter(torch.zeros(()))

    def component(self, posterior: Any) -> Callable[[Tensor], dist.TorchDistribution]:
        """A normal distribution around the mean of the posterior, as a function of features."""
        scale = positive(self.raw_scale, self.floor)

        def window(features: Tensor) -> dist.TorchDistribution:
            try:
                mean = posterior(features).mean
            except (NotImplementedError, AttributeError):
                raise ValueError(
                    "An ExemplarPrior is made of the means of the posterior, and this one has "
                    f"none: {posterior!r}; take VampPrior, or a posterior such as DiagonalNormal."
                ) from None
            return dist.Normal(mean, scale).to_event(len(posterior.event_shape))

        return window

    def _sizes(self) -> tuple[str, ...]:
        return self.plan.shown()[:1]
