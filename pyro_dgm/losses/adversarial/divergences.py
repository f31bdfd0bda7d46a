"""The f-divergences, D_f(P, Q) = E_Q [f(p/q)], and the critics that bound them from below.

P is the data (the inference joint), Q the model (the generative joint), r = p/q.  For a convex f
    with f(1) = 0 and its conjugate f*(t) = sup_u (u t - f(u)), F(T) = E_P [T] - E_Q [f*(T)] <=
    D_f(P, Q),  with equality at T*(x) = f'(r(x)).
A critic V is any real function: T = g(V), where g maps onto values at which f* is finite.  With v =
g^-1(f'(r)) as the best output:

    name                f(u)                                 f*(t)               g(v)
    v at the best critic total_variation     |u - 1| / 2                          t
    tanh(v) / 2             +-inf
    kl                  u log u                              exp(t - 1)          v
    1 + log r reverse_kl          -log u                               -1 - log(-t)        -exp(-v)
    log r
    pearson             (u - 1)^2                            t^2 / 4 + t         v
    2 (r - 1) neyman              (u - 1)^2 / u                        2 - 2 sqrt(1 - t)   1 -
    exp(-v)             2 log r squared_hellinger   (sqrt u - 1)^2                       t / (1 - t)
    1 - exp(-v)             log(r) / 2 jeffrey             (u - 1) log u                        W +
    1/W + t - 2     v                       1 + log r - 1/r jensen_shannon      u log u - (u + 1)
    log((u + 1) / 2)   -log(2 - exp t)     log 2 - softplus(-v)    log r
    gan                 u log u - (u + 1) log(u + 1)         -log(1 - exp t)     -softplus(-v)
    log r

    weighted_jensen_shannon, 0 < pi < 1:  f(u) = pi u log u - m log m, m = 1 - pi + pi u;  f*(t) =
        (1 - pi) log((1 - pi) / (1 - pi exp(t / pi))); g(v) = -pi (log pi + softplus(-v));  v =
        log(pi r / (1 - pi)).
    alpha, not 0 or 1:  f(u) = (u^alpha - 1 - alpha (u - 1)) / (alpha (alpha - 1));  f*(t) = ((1 +
        (alpha - 1) t)_+^(alpha / (alpha - 1)) - 1) / alpha; for alpha > 1  g(v) = v,  v = f'(r);
        for alpha < 1  g(v) = f'(exp(v / c)), c = max(alpha, 1 - alpha),  v = c log r.

W is Lambert's function at exp(1 - t).  "jensen_shannon" is twice the usual divergence, with f(1) =
0; "gan" is the value of the GAN game, smaller by log 4. Pearson's f* is that of (u - 1)^2 on the
whole line, which is equal where the best critic lies (t >= -2) and otherwise keeps F a lower bound.

References:
    Nowozin, Cseke and Tomioka (2016), arXiv:1606.00709, tables 5 and 6; Nguyen, Wainwright and
    Jordan (2010), arXiv:0809.0853.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf, log
from typing import Any

import torch
from torch import Tensor

from dgm_core.arguments import check_choice, check_number, refuse
from pyro_dgm.nn.layers import softplus

__all__ = [
    "Divergence",
    "bregman_objective",
    "divergence",
    "plug_in_divergence",
    "variational_bound",
]

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Divergence:
    """One row of the table: a convex generator f and what a critic needs to bound D_f(P, Q) = E_Q
    [f(p/q)].

    Args:
        name: as `divergence` knows it.
        domain: the t at which `conjugate` is meant, in words.
        generator: f(u) for u > 0, like all that follow a function of an array, entry by entry.
        conjugate: f*(t).
        activation: g(v), any real number -> the domain, increasing.
        conjugate_of_activation: f*(g(v)), written so that nothing overflows or cancels on the way.
        optimal_output: the v with g(v) = f'(r), a function of log r.

    Example:
        >>> divergence("kl").optimal_critic(torch.ones(1))
        tensor([1.])
    """

    name: str
    domain: str
    generator: Function = field(repr=False)
    conjugate: Function = field(repr=False)
    activation: Function = field(repr=False)
    conjugate_of_activation: Function = field(repr=False)
    optimal_output: Function = field(repr=False)

    def optimal_critic(self, ratio: Tensor) -> Tensor:
        """T*(r) = f'(r), r = p/q."""
        return self.activation(self.optimal_output(ratio.log()))

    @property
    def written(self) -> str:
        """How the row is given as `f`: by its name, or made by `divergence`."""
        return repr(self)


@dataclass(frozen=True, repr=False)
class _Row(Divergence):
    """A row of the table, which is written and pickled by its name and its parameters."""

    params: Mapping[str, float] = field(default_factory=dict)

    @property
    def written(self) -> str:
        return repr(self) if self.params else repr(self.name)

    def __repr__(self) -> str:
        params = [f"{name}={value!r}" for name, value in self.params.items()]
        return f"divergence({', '.join([repr(self._base), *params])})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_pickle, (self._base, dict(self.params))

    @property
    def _base(self) -> str:
        return self.name.partition("(")[0]


def _from_pickle(name: str, params: dict[str, float]) -> Divergence:
    return divergence(name, **params)


def divergence(name: str | Divergence, **params: float) -> Divergence:
    """The row of the table with this name; a Divergence is handed through.

    Args:
        name: total_variation, kl, reverse_kl, pearson, neyman, squared_hellinger, jeffrey,
            jensen_shannon, weighted_jensen_shannon (needs pi, the weight of P, between 0 and 1),
            gan or alpha (needs alpha, not 0 or 1).

    Raises:
        ValueError: for an unknown name, and for parameters that are missing, not known to the row,
            or out of range.

    Example:
        >>> divergence("alpha", alpha=0.5)
        divergence('alpha', alpha=0.5)
    """
    if isinstance(name, Divergence):
        if params:
            raise ValueError(f"A Divergence has its parameters already, got {params} for {name}.")
        return name
    check_choice("f", name, (*_ROWS, *_FAMILIES))
    make, expected = _FAMILIES.get(name, (None, ()))
    if set(params) != set(expected):
        raise ValueError(
            f"The divergence {name!r} takes {', '.join(expected) or 'no parameter'}, got "
            f"{', '.join(params) or 'none'}."
        )
    return make(**params) if make else _ROWS[name]


def variational_bound(f: str | Divergence, real: Tensor, fake: Tensor) -> Tensor:
    """F = E_P [g(V)] - E_Q [f*(g(V))] <= D_f(P, Q): what the critic maximizes, and the model
    minimizes.

    Args:
        f: a Divergence or a name.
        real, fake: the critic's outputs V at draws of P (num_real,) and of Q (num_fake,).

    Shapes:
        one number.

    References:
        Nowozin, Cseke and Tomioka (2016), arXiv:1606.00709, eq. (6).

    Example:
        >>> variational_bound("jensen_shannon", torch.zeros(3), torch.zeros(5))
        tensor(0.)
    """
    f = divergence(f)
    return f.activation(real).mean() - f.conjugate_of_activation(fake).mean()


def bregman_objective(f: str | Divergence, real: Tensor, fake: Tensor) -> Tensor:
    """E_Q [s f'(s) - f(s)] - E_P [f'(s)]: what a model s of the density ratio r = p/q minimizes.

    It is E_Q [f(r) - f(s) - f'(s) (r - s)] - D_f(P, Q), a Bregman divergence between r and s less a
    constant.  "pearson" is least-squares importance fitting, "kl" is KLIEP without its constraint,
    "gan" is logistic regression.

    Args:
        f: a Divergence or a name.
        real, fake: log s at draws of P (num_real,) and of Q (num_fake,).

    Shapes:
        one number.

    Raises:
        ValueError: for total_variation, whose generator is straight on both sides of 1 and tells no
            ratios apart.

    References:
        Uehara et al. (2016), Generative adversarial nets from a density ratio estimation
        perspective (b-GAN), arXiv:1610.02920.

    Example:
        >>> bregman_objective("gan", torch.zeros(3), torch.zeros(5))
        tensor(1.3863)
    """
    f = divergence(f)
    if f.name == "total_variation":
        raise ValueError(
            "The Bregman divergence of total_variation does not determine a density ratio: "
            "choose a strictly convex generator."
        )
    return -variational_bound(f, f.optimal_output(real), f.optimal_output(fake))


def plug_in_divergence(f: str | Divergence, fake: Tensor) -> Tensor:
    """E_Q [f(s)], D_f(P, Q) with a model s of the density ratio in place of p/q: what the model
    minimizes in a b-GAN.

    Neither an upper nor a lower bound.  Args: f, a Divergence or a name; fake, log s at draws of Q
    (num_fake,).  Shapes: one number.

    References:
        Uehara et al. (2016), arXiv:1610.02920.

    Example:
        >>> plug_in_divergence("kl", torch.zeros(5))
        tensor(0.)
    """
    return divergence(f).generator(fake.exp()).mean()


def _jeffrey_log_ratio(t: Tensor) -> Tensor:
    """The root l of 1 + l - exp(-l) = t, which is -log W(exp(1 - t)): Newton's method from a start
    below the root, from where it climbs without overshooting.

    A Newton step at the root has the root's derivative, and each further step doubles the number of
    right ones: with two, all up to the third.
    """
    fixed = t.detach()
    root = torch.maximum(torch.maximum(fixed / 2, fixed - 1), -torch.log1p(torch.relu(-fixed)))
    for _ in range(4):
        root = _newton_step(root, fixed)
    return _newton_step(_newton_step(root, t), t)


def _newton_step(root: Tensor, t: Tensor) -> Tensor:
    return root - (1 + root - torch.exp(-root) - t) * torch.sigmoid(root)


def _jeffrey_conjugate(t: Tensor) -> Tensor:
    """W + 1/W + t - 2 = u - 1 + log u with u = 1/W."""
    log_ratio = _jeffrey_log_ratio(t)
    return torch.expm1(log_ratio) + log_ratio


_ROWS = {
    row.name: row
    for row in (
        _Row(
            "total_variation",
            "-1/2 <= t <= 1/2",
            generator=lambda u: (u - 1).abs() / 2,
            conjugate=lambda t: t,
            activation=lambda v: torch.tanh(v) / 2,
            conjugate_of_activation=lambda v: torch.tanh(v) / 2,
            optimal_output=lambda log_r: torch.copysign(torch.full_like(log_r, inf), log_r),
        ),
        _Row(
            "kl",
            "every t",
            generator=lambda u: torch.xlogy(u, u),
            conjugate=lambda t: torch.exp(t - 1),
            activation=lambda v: v,
            conjugate_of_activation=lambda v: torch.exp(v - 1),
            optimal_output=lambda log_r: 1 + log_r,
        ),
        _Row(
            "reverse_kl",
            "t < 0",
            generator=lambda u: -torch.log(u),
            conjugate=lambda t: -1 - torch.log(-t),
            activation=lambda v: -torch.exp(-v),
            conjugate_of_activation=lambda v: v - 1,
            optimal_output=lambda log_r: log_r,
        ),
        _Row(
            "pearson",
            "every t",
            generator=lambda u: (u - 1).square(),
            conjugate=lambda t: t * (t / 4 + 1),
            activation=lambda v: v,
            conjugate_of_activation=lambda v: v * (v / 4 + 1),
            optimal_output=lambda log_r: 2 * torch.expm1(log_r),
        ),
        _Row(
            "neyman",
            "t < 1",
            generator=lambda u: (u - 1).square() / u,
            conjugate=lambda t: 2 - 2 * torch.sqrt(1 - t),
            activation=lambda v: -torch.expm1(-v),
            conjugate_of_activation=lambda v: -2 * torch.expm1(-v / 2),
            optimal_output=lambda log_r: 2 * log_r,
        ),
        _Row(
            "squared_hellinger",
            "t < 1",
            generator=lambda u: (torch.sqrt(u) - 1).square(),
            conjugate=lambda t: t / (1 - t),
            activation=lambda v: -torch.expm1(-v),
            conjugate_of_activation=lambda v: torch.expm1(v),
            optimal_output=lambda log_r: log_r / 2,
        ),
        _Row(
            "jeffrey",
            "every t",
            generator=lambda u: (u - 1) * torch.log(u),
            conjugate=_jeffrey_conjugate,
            activation=lambda v: v,
            conjugate_of_activation=_jeffrey_conjugate,
            optimal_output=lambda log_r: log_r - torch.expm1(-log_r),
        ),
        _Row(
            "jensen_shannon",
            "t < log 2",
            generator=lambda u: torch.xlogy(u, 2 * u / (1 + u)) - torch.log((1 + u) / 2),
            conjugate=lambda t: -torch.log(2 - torch.exp(t)),
            activation=lambda v: log(2) - softplus(-v),
            conjugate_of_activation=lambda v: softplus(v) - log(2),
            optimal_output=lambda log_r: log_r,
        ),
        _Row(
            "gan",
            "t < 0",
            generator=lambda u: torch.xlogy(u, u / (1 + u)) - torch.log1p(u),
            conjugate=lambda t: -torch.log(-torch.expm1(t)),
            activation=lambda v: -softplus(-v),
            conjugate_of_activation=softplus,
            optimal_output=lambda log_r: log_r,
        ),
    )
}


def _weighted_jensen_shannon(pi: float) -> Divergence:
    """pi KL(P, M) + (1 - pi) KL(Q, M) with M = pi P + (1 - pi) Q."""
    pi = check_number("pi", pi, above=0, below=1)
    rest = 1 - pi
    return _Row(
        f"weighted_jensen_shannon({pi})",
        f"t < {-pi * log(pi):.4g}",
        generator=lambda u: (
            pi * torch.xlogy(u, u / (rest + pi * u)) - rest * torch.log(rest + pi * u)
        ),
        conjugate=lambda t: rest * (log(rest) - torch.log(1 - pi * torch.exp(t / pi))),
        activation=lambda v: -pi * (log(pi) + softplus(-v)),
        conjugate_of_activation=lambda v: rest * (log(rest) + softplus(v)),
        optimal_output=lambda log_r: log_r + log(pi / rest),
        params={"pi": pi},
    )


def _alpha(alpha: float) -> Divergence:
    """The alpha-divergence: reverse KL as alpha -> 0, KL as alpha -> 1, half of Pearson at 2, of
    Neyman at -1, twice squared Hellinger at 1/2.
    """
    if check_number("alpha", alpha) in (0, 1):
        refuse("alpha", "a finite number other than 0 ('reverse_kl') and 1 ('kl')", alpha)
    slope, power = alpha - 1, alpha / (alpha - 1)
    unit = max(alpha, 1 - alpha)  # then neither exponent below exceeds the critic's output

    def conjugate(t: Tensor) -> Tensor:
        return (torch.relu(1 + slope * t) ** power - 1) / alpha

    def derivative(log_r: Tensor) -> Tensor:
        return torch.expm1(slope * log_r) / slope

    return _Row(
        f"alpha({alpha})",
        "every t" if alpha > 1 else f"t < {1 / (1 - alpha):.4g}",
        generator=lambda u: (u**alpha - 1 - alpha * (u - 1)) / (alpha * slope),
        conjugate=conjugate,
        activation=(lambda v: v) if alpha > 1 else (lambda v: derivative(v / unit)),
        conjugate_of_activation=conjugate
        if alpha > 1
        else (lambda v: torch.expm1(alpha / unit * v) / alpha),
        optimal_output=derivative if alpha > 1 else (lambda log_r: unit * log_r),
        params={"alpha": alpha},
    )


_FAMILIES: dict[
    str, tuple[Callable[..., Divergence], tuple[str, ...]]
] = {  # how the row is made, from which parameters
    "weighted_jensen_shannon": (_weighted_jensen_shannon, ("pi",)),
    "alpha": (_alpha, ("alpha",)),
}
