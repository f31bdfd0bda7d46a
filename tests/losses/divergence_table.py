"""The table of f-divergences in exact arithmetic, an independent statement of it."""

import math
from collections.abc import Callable
from decimal import Decimal

from scipy.stats import norm

ONE = Decimal(1)
ALPHAS = (-1.0, 0.25, 0.75, 1.5, 3.0)
ROWS: dict[str, tuple[str, dict[str, float]]] = {
    name: (name, {})
    for name in (
        "total_variation",
        "kl",
        "reverse_kl",
        "pearson",
        "neyman",
        "squared_hellinger",
        "jeffrey",
        "jensen_shannon",
        "gan",
    )
}
ROWS |= {f"weighted({pi})": ("weighted_jensen_shannon", {"pi": pi}) for pi in (0.5, 0.2)}
ROWS |= {f"alpha({alpha})": ("alpha", {"alpha": alpha}) for alpha in ALPHAS}
SMOOTH = [name for name in ROWS if name != "total_variation"]  # its f' jumps at 1

# f and f' in exact arithmetic, an independent statement of the table.
EXACT: dict[str, tuple[Callable[..., Decimal], Callable[..., Decimal]]] = {
    "total_variation": (lambda u: abs(u - 1) / 2, lambda u: (ONE if u > 1 else -ONE) / 2),
    "kl": (lambda u: u * u.ln(), lambda u: 1 + u.ln()),
    "reverse_kl": (lambda u: -u.ln(), lambda u: -1 / u),
    "pearson": (lambda u: (u - 1) ** 2, lambda u: 2 * (u - 1)),
    "neyman": (lambda u: (1 - u) ** 2 / u, lambda u: 1 - 1 / u**2),
    "squared_hellinger": (lambda u: (u.sqrt() - 1) ** 2, lambda u: 1 - 1 / u.sqrt()),
    "jeffrey": (lambda u: (u - 1) * u.ln(), lambda u: 1 + u.ln() - 1 / u),
    "jensen_shannon": (
        lambda u: u * u.ln() - (u + 1) * ((u + 1) / 2).ln(),
        lambda u: (2 * u / (1 + u)).ln(),
    ),
    "gan": (lambda u: u * u.ln() - (u + 1) * (u + 1).ln(), lambda u: (u / (1 + u)).ln()),
    "weighted_jensen_shannon": (
        lambda u, pi: pi * u * u.ln() - (1 - pi + pi * u) * (1 - pi + pi * u).ln(),
        lambda u, pi: pi * (u / (1 - pi + pi * u)).ln(),
    ),
    "alpha": (
        lambda u, alpha: (u**alpha - 1 - alpha * (u - 1)) / (alpha * (alpha - 1)),
        lambda u, alpha: (u ** (alpha - 1) - 1) / (alpha - 1),
    ),
}
# D_f of N(0, 1) and N(1, 1), the same for P and Q exchanged: closed forms, or quadrature to six
# digits.
NORMALS = {
    "total_variation": 2 * norm.cdf(0.5) - 1,
    "kl": 0.5,
    "reverse_kl": 0.5,
    "pearson": math.e - 1,
    "neyman": math.e - 1,
    "squared_hellinger": 2 - 2 * math.exp(-1 / 8),
    "jeffrey": 1.0,
    "jensen_shannon": 0.222843,
    "gan": -1.163451,
    "weighted(0.5)": 0.222843 / 2,
} | {f"alpha({a})": (math.exp(a * (a - 1) / 2) - 1) / (a * (a - 1)) for a in ALPHAS}
