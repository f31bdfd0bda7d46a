"""Generators as immersed surfaces: metric, volume, lengths and geodesics, from the values of a map
and its derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from dgm_core.arguments import (
    check_count,
    check_floats,
    check_fraction,
    check_number,
    check_numbers,
    check_seed,
    refuse,
)
from dgm_core.deviation import radial_deviation
from dgm_core.geodesics import Geodesics, shortest, spline

__all__ = [
    "Geodesics",
    "Surface",
    "chosen_site",
    "no_fisher",
    "no_followers",
    "not_by_row",
    "not_real",
]

# Entries of Jacobians that are held at once.
ENTRIES = 2**22

# Nodes and weights of the quadrature between two points of a curve.
NODES, WEIGHTS = np.polynomial.legendre.leggauss(4)


class Surface:
    """The image of a map f from codes (d,) to points (D,), with the metric M = J' J that it pulls
    back, J its Jacobian.

    Args:
        function: f, codes (n, d) to points (n, D), each row by itself.
        jacobian: codes (n, d) to J (n, D, d).
        dim: d.

    Shapes:
        codes may have any leading dimensions, z (*batch, d); curves are codes (*batch, n + 1, d)
        at evenly spaced times from 0 to 1.

    Raises:
        ValueError: for codes of another size, codes and points that are not finite.

    References:
        Arvanitidis, Hansen & Hauberg (2018), Latent space oddity, arXiv:1710.11379; Shao, Kumar &
        Fletcher (2018), The Riemannian geometry of deep generative models, arXiv:1711.08014.

    Example:
        >>> bowl = Surface(lambda z: np.column_stack([z, (z**2).sum(-1) / 2]),
        ...                lambda z: np.stack([np.vstack([np.eye(2), row]) for row in z]), 2)
        >>> bowl.metric(np.array([1.0, 0.0])).tolist()
        [[2.0, 0.0], [0.0, 1.0]]
        >>> round(float(bowl.geodesics([1.0, 0.0], [0.0, 1.0]).lengths), 6)
        1.485911
    """

    def __init__(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        jacobian: Callable[[np.ndarray], np.ndarray],
        dim: int,
    ) -> None:
        self._function, self._jacobian = function, jacobian
        self.dim = check_count("dim", dim)
        self._compared = False

    def __repr__(self) -> str:
        return f"Surface(dim={self.dim})"

    def __call__(self, z: Any) -> np.ndarray:
        """The points f(z), (*batch, D)."""
        z = self._codes("z", z)
        rows = z.reshape(-1, self.dim)
        found = self._function(rows)
        if (bad := ~np.isfinite(found).all(-1)).any():
            raise ValueError(f"The map of the surface is not finite at the code {rows[bad][0]}.")
        return found.reshape(*z.shape[:-1], found.shape[-1])

    def jacobian(self, z: Any) -> np.ndarray:
        """J (*batch, D, d)."""
        z = self._codes("z", z)
        rows = z.reshape(-1, self.dim)
        size = max(1, ENTRIES // (self.dim * self._function(rows[:1]).shape[-1]))
        parts = [self._jacobian(rows[i : i + size]) for i in range(0, len(rows), size)]
        found = np.concatenate(parts)
        if (bad := ~np.isfinite(found).all((-1, -2))).any():
            raise ValueError(f"The map of the surface is not smooth at the code {rows[bad][0]}.")
        if not self._compared and len(rows):
            self._compared = True
            self._compare(rows[:1], found[0])
        return found.reshape(*z.shape[:-1], *found.shape[1:])

    def metric(self, z: Any) -> np.ndarray:
        """M = J' J, (*batch, d, d)."""
        jacobian = self.jacobian(z)
        return np.swapaxes(jacobian, -1, -2) @ jacobian

    def singular_values(self, z: Any) -> np.ndarray:
        """Those of J, the largest first, (*batch, min(d, D))."""
        return np.linalg.svd(self.jacobian(z), compute_uv=False)

    def rank(self, z: Any, tolerance: float = 1e-6) -> np.ndarray:
        """How many singular values are above `tolerance` times the largest, (*batch,)."""
        tolerance = check_fraction("tolerance", tolerance)
        values = self.singular_values(z)
        return (values > tolerance * values[..., :1]).sum(-1)

    def log_volume(self, z: Any) -> np.ndarray:
        """ln sqrt(det M), (*batch,); -inf where J has not full rank. A density p(z) of codes is
        p(z) / sqrt(det M) on the surface, with respect to its area.
        """
        jacobian = self.jacobian(z)
        if jacobian.shape[-2] < self.dim:
            return np.full(jacobian.shape[:-2], -np.inf)
        with np.errstate(divide="ignore"):
            return np.log(np.linalg.svd(jacobian, compute_uv=False)).sum(-1)

    def near(
        self,
        codes: Any,
        *,
        num_centers: int = 64,
        width: float = 1.0,
        deviation: tuple[float, float] | None = None,
        seed: int = 0,
    ) -> Surface:
        """This surface, uncertain away from the codes of data, so that short ways stay near them.

        The metric is M + D s' s'^T, the expected one where each of D entries has a standard
        deviation s(z) with 1 / s^2 = sum_k w exp(-|z - c_k|^2 / (2 r_k^2)) + 1 / far^2 about f(z).
        A point has one entry more, sqrt(D) s(z).

        Args:
            codes: of data, (n, d).
            num_centers: c_k of a k-means; at most n.
            width: r_k in units of the mean distance of codes from their center.
            deviation: s at the codes, on average, and far away (default: 5 and 50 times the
                standard deviation of an entry of f(codes)).
            seed: of the k-means.

        Raises:
            ValueError: for codes of another size, fewer of them than centers, and deviations that
                do not grow.

        References:
            Arvanitidis, Hansen & Hauberg (2018), arXiv:1710.11379, section 4.

        Example:
            >>> line = Surface(lambda z: z, lambda z: np.ones((len(z), 1, 1)), 1)
            >>> line.near([[0.0], [1.0]], num_centers=2)([[0.0], [0.5]]).round(1).tolist()
            [[0.0, 2.5], [0.5, 25.0]]
        """
        codes = self._codes("codes", codes)
        if codes.ndim != 2:
            raise ValueError(f"codes must be (n, {self.dim}), got shape {codes.shape}.")
        num_centers = check_count("num_centers", num_centers, 1, len(codes))
        points = self(codes)
        if deviation is None:
            own = float(np.sqrt(points.var(0).mean()))
            if not own:
                raise ValueError("f is the same at all codes: give deviation=(near, far).")
            deviation = 5 * own, 50 * own
        if len(scales := check_numbers("deviation", deviation, above=0)) != 2:
            refuse("deviation", "two numbers, at the codes and far away", deviation)
        low, high = scales
        s = radial_deviation(
            codes,
            num_centers,
            near=low,
            far=check_number("deviation[1]", high, above=low),
            width=check_number("width", width, above=0),
            seed=check_seed("seed", seed, 0) % 2**32,
        )
        root, dtype = points.shape[-1] ** 0.5, points.dtype

        def function(z: np.ndarray) -> np.ndarray:
            return np.column_stack([self._function(z), (root * s(z)).astype(dtype)])

        def jacobian(z: np.ndarray) -> np.ndarray:
            slope = (root * s.gradient(z)).astype(dtype)[:, None]
            return np.concatenate([self._jacobian(z), slope], 1)

        return Surface(function, jacobian, self.dim)

    def length(self, curves: Any) -> np.ndarray:
        """The lengths on the surface of curves (*batch, n + 1, d): those of cubic splines through
        their codes. Cost: 4 n Jacobians of each.
        """
        speeds, weights = self._speeds(curves)
        return (np.sqrt(speeds) * weights).sum(-1)

    def energy(self, curves: Any) -> np.ndarray:
        """The integral of the squared speed, with time from 0 to 1: at least the squared length,
        and equal to it where the speed is constant.
        """
        speeds, weights = self._speeds(curves)
        return (speeds * weights).sum(-1)

    def chord_energy(self, curves: Any) -> np.ndarray:
        """n sum_i |f(z_i+1) - f(z_i)|^2, which needs no derivative, and comes to `energy` from
        below on geodesics.
        """
        curves = self._codes("curves", curves, least=2)
        return (curves.shape[-2] - 1) * (np.diff(self(curves), axis=-2) ** 2).sum((-1, -2))

    def geodesics(self, a: Any, b: Any, *, num_steps: int = 32) -> Geodesics:
        """The shortest ways from codes a to codes b (*batch, d), all pairs at once.

        The chord energy is minimized by damped Gauss-Newton steps, with num_steps and twice as many
        chords, and what is left of the error is extrapolated. Searches start from the straight
        lines and from ways bent to either side; the shortest counts. It is a local minimum: there
        may be shorter ways that none of these leads to, past another side of a hole, and to other
        codes of the same points (of an angle, 2 pi further).

        Args:
            a, b: the ends, as many of each.
            num_steps: of each curve, two or more.

        Cost:
            3 num_steps Jacobians of each pair in a step of the search, 10 to 40 steps where the
            surface is not curved strongly; 16 in each of at most 40 steps for the bent ways, and
            num_steps where these come out shorter.

        Raises:
            ValueError: for other numbers of ends, and fewer than two steps.
        """
        a, b = self._codes("a", a), self._codes("b", b)
        if a.shape != b.shape:
            raise ValueError(
                f"geodesics needs as many ends as beginnings, got {a.shape} and {b.shape}."
            )
        num_steps = check_count("num_steps", num_steps, 2)
        batch = a.shape[:-1]
        if not a.size:
            none = np.zeros(batch)
            return Geodesics(np.zeros((*batch, num_steps + 1, self.dim)), none, none, none == 0)
        first, last = (x.reshape(-1, self.dim).astype(np.float64) for x in (a, b))
        found = shortest(self, self.jacobian, self.length, first, last, num_steps)
        return Geodesics(*(x.reshape((*batch, *x.shape[1:])) for x in vars(found).values()))

    def distances(self, z: Any, *, num_steps: int = 32) -> np.ndarray:
        """The lengths of the geodesics between all pairs of codes (n, d), (n, n), as clustering
        and neighbors of scikit-learn take them with `metric="precomputed"`.
        """
        z = self._codes("z", z)
        if z.ndim != 2:
            raise ValueError(f"z must be codes (n, {self.dim}), got an array of shape {z.shape}.")
        pairs = np.array(list(combinations(range(len(z)), 2)), int).reshape(-1, 2)
        found = np.zeros((len(z), len(z)))
        if len(pairs):
            lengths = self.geodesics(*z[pairs.T], num_steps=num_steps).lengths
            found[pairs[:, 0], pairs[:, 1]] = found[pairs[:, 1], pairs[:, 0]] = lengths
        return found

    def _codes(self, name: str, z: Any, least: int = 1) -> np.ndarray:
        z = check_floats(name, z)
        if z.ndim < least or z.shape[-1] != self.dim or (least == 2 and z.shape[-2] < 2):
            wanted = "(*batch, n + 1, " if least == 2 else "(*batch, "
            raise ValueError(
                f"{name} must be codes {wanted}{self.dim}), got an array of shape {z.shape}."
            )
        if not np.isfinite(z).all():
            refuse(name, "finite numbers", float(z[~np.isfinite(z)][0]))
        return z

    def _compare(self, z: np.ndarray, jacobian: np.ndarray) -> None:
        """Raise a ValueError where derivatives at a code (1, d), and at one beside it, are not what
        the map does: where it detaches its values, or goes in steps.
        """
        way = np.random.default_rng(0).standard_normal(z.shape) / self.dim**0.5
        beside = z + 0.01 * (1 + abs(z)) * way
        good = self._agrees(z, way, jacobian)
        good = good or self._agrees(beside, way, self._jacobian(beside)[0])
        if good and not jacobian.any():  # flat: elsewhere too, where the map has other values?
            here = self._function(z)
            others = [
                far for k in (-3, -1, 1, 3) if (self._function(far := z + k * way) != here).any()
            ]
            good = not others or any(self._jacobian(far).any() for far in others)
        if not good:
            raise ValueError(
                f"The map of the surface changes near the code {z[0]}, and its derivatives say "
                "otherwise: leave out what detaches or rounds its values, or takes its derivatives "
                "by other rules."
            )

    def _agrees(self, z: np.ndarray, way: np.ndarray, jacobian: np.ndarray) -> bool:
        """Whether differences along a line are those of the Jacobian, or say nothing of it."""
        slopes, noise = [], 0.0
        for step in (0.02, 0.01):
            ends = [self._function(z + sign * step * way)[0] for sign in (1.0, -1.0)]
            slopes.append((ends[0].astype(np.float64) - ends[1]) / (2 * step))
            noise = 100 * np.finfo(ends[0].dtype).eps * abs(ends[0]).max() / step
        size = np.linalg.norm(slopes[1])
        if not np.isfinite(size) or np.linalg.norm(slopes[0] - slopes[1]) > 0.02 * size + noise:
            return True  # not smooth on this scale
        return np.linalg.norm(slopes[1] - jacobian @ way[0]) <= 0.1 * size + noise

    def _speeds(self, curves: Any) -> tuple[np.ndarray, np.ndarray]:
        """|J dz/dt|^2 at the nodes of a quadrature between all codes, and its weights."""
        curves = self._codes("curves", curves, least=2)
        batch, count = curves.shape[:-2], curves.shape[-2] - 1
        ways = spline(curves.reshape(-1, count + 1, self.dim))
        times = ((np.arange(count)[:, None] + (NODES + 1) / 2) / count).ravel()
        jacobian = self.jacobian(ways(times))
        velocity = jacobian @ ways.derivative()(times)[..., None]
        speeds = (velocity[..., 0] ** 2).sum(-1)
        return speeds.reshape(*batch, -1), np.tile(WEIGHTS / 2, count) / count


def chosen_site(site: Any, observed: Sequence[str]) -> str:
    """The observed site that is looked at: None is allowed for the only one.

    Example:
        >>> chosen_site(None, ["x"])
        'x'
    """
    if site is None and len(observed) == 1:
        return observed[0]
    if site not in observed:
        refuse("site", f"one of the observed sites, {list(observed)}", site)
    return site


def not_real(name: str, support: Any) -> str:
    """What to say of a latent whose values are not real numbers."""
    return (
        f"A surface needs a latent of real numbers, but '{name}' has the support {support}: name "
        "another one with `latent=`."
    )


def not_by_row(given: tuple[int, ...], found: tuple[int, ...]) -> str:
    """What to say of a function that does not take codes row by row."""
    return (
        f"The function of a surface must give a row for each code, (n, ...) for codes {given}, got "
        f"an array of shape {found}."
    )


def no_followers(name: str) -> str:
    """What to say where a latent that follows from the moved one has no mean."""
    return (
        f"Latent site '{name}' follows from the one that is moved, and its mean is not known: "
        "choose that site as `latent=`."
    )


def no_fisher(site: str, distribution: str) -> str:
    """What to say of a site that has no Fisher metric here."""
    return (
        f"The Fisher metric is that of classes and bits, Categorical or Bernoulli, and site "
        f"'{site}' has {distribution}: leave out fisher=True."
    )
