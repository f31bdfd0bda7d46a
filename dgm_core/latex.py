r"""Losses as mathematical formulas, in the part of LaTeX that matplotlib draws as well.

q is the inference joint q(x, z) = p_data(x) q(z | x), p the generative joint p(z) p(x | z): at
sites x alone q(x) is the data, at sites z alone q(z) the average of q(z | x) over the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from dgm_core.diagnostics.bounds import jvi_coefficients
from dgm_core.schedules import Schedule
from dgm_core.site_weights import is_named

__all__ = ["latex"]

_OURS = ("dgm_core", "pyro_dgm", "numpyro_dgm")
_GUIDE = r"q(z \mid x)"
_LIKELIHOOD = r"\log p(x \mid z)"
_LOG_WEIGHT = rf"\log p(x, z) - \log {_GUIDE}"
_WEIGHT = r"\frac{p(x, z_k)}{q(z_k \mid x)}"
_ESCAPED = {**{c: f"\\{c}" for c in "_%$#&{}"}, "\\": r"\backslash ", "^": r"\wedge "}
_ESCAPED |= {"~": r"\sim ", " ": r"\ "}


def latex(loss: Any) -> str:
    r"""A loss as the formula of what is minimized, per datum, in LaTeX without dollar signs.

    Bounds stand with a minus sign; a weight that changes is a function of the step s. The formula
    is that of the value: how its gradient is estimated, and with how many draws an average is
    taken, changes nothing in it. What a critic estimates is written as the quantity that it tends
    to. TailAdaptive and WakeSleep follow the gradient of something else than their value, and are
    called by name.

    Args:
        loss: a term or a sum of terms. A term that you write yourself may have an attribute
            `formula`, LaTeX of its quantity under the sign with which it is logged; without one it
            is called by its name.

    Example:
        >>> from types import SimpleNamespace
        >>> term = SimpleNamespace(name="fit", sign=-1, formula=r"\log p(x)")
        >>> print(latex(SimpleNamespace(terms=((2.0, term),))))
        -2\,\left(\log p(x)\right)
    """
    parts: list[str] = []
    for weight, term in loss.terms:
        part, changing = _formula(term), callable(weight)
        number = term.sign * part.factor * (1.0 if changing else weight)
        scale = "" if abs(number) == 1 else _number(abs(number))
        scale += _weight(weight) if changing else ""
        sign = "-" if number < 0 else "+" if parts else ""
        parts.append(f"{sign}{' ' if parts else ''}{_scaled(part, scale, number < 0)}")
    return " ".join(parts)


class _Formula(NamedTuple):
    """factor * body; whether the body is a sum, which stands in parentheses behind a factor."""

    body: str
    factor: float = 1.0
    is_sum: bool = False


def _formula(term: Any) -> _Formula:
    """What a term is; a class that derives from one of ours may be something else."""
    if (own := getattr(term, "formula", None)) is not None:
        return _Formula(str(own), is_sum=True)
    known = type(term).__module__.partition(".")[0] in _OURS
    write = _FORMULAS.get(type(term).__name__) if known else None
    return write(term) if write else _Formula(rf"\mathrm{{{_text(term.name)}}}")


def _scaled(part: _Formula, scale: str, negative: bool) -> str:
    body = rf"\left({part.body}\right)" if part.is_sum and (scale or negative) else part.body
    return rf"{scale}\,{body}" if scale else body


def _number(x: float) -> str:
    digits, _, exponent = f"{x:.12g}".partition("e")
    return rf"{digits} \cdot 10^{{{int(exponent)}}}" if exponent else digits


def _weight(weight: Any) -> str:
    """A weight, or a function of the step s."""
    if not callable(weight):
        return _number(weight)
    named = isinstance(weight, Schedule)
    return rf"\mathrm{{{_text(repr(weight))}}}(s)" if named else "w(s)"


def _text(words: str) -> str:
    return "".join(_ESCAPED.get(c, c) for c in words)


def _site(name: str) -> str:
    return name if len(name) == 1 and name.isalpha() else rf"\mathrm{{{_text(name)}}}"


def _laws(term: Any) -> str:
    """The two joints at the sites of a term, under the noise that its critic sees them with."""
    sites = ", ".join(map(_site, term.sites))
    noise = getattr(term, "instance_noise", 0.0)
    noisy = r"_{\sigma}" if callable(noise) or noise else ""
    return f"q{noisy}({sites}), p{noisy}({sites})"


def _expected(inside: str, over: str = _GUIDE) -> str:
    return rf"\mathbb{{E}}_{{{over}}}\left[{inside}\right]"


def _bound(term: Any, inside: str) -> _Formula:
    """The mean over the particles of a function of their weights: of one it is the ELBO."""
    most = term.num_particles
    if most == 1:
        return _Formula(_expected(_LOG_WEIGHT))
    draws = rf"z_1, \ldots, z_{{{most}}} \sim {_GUIDE}"
    return _Formula(_expected(inside, draws))


def _mean_weight(term: Any, power: str = "") -> str:
    """log of the mean weight, or of the mean of its power."""
    most = term.num_particles
    one = rf"\left({_WEIGHT}\right)^{{{power}}}" if power else _WEIGHT
    return rf"\log \frac{{1}}{{{most}}}\sum_{{k=1}}^{{{most}}} {one}"


def _elbo(term: Any) -> _Formula:
    beta = term.beta
    if is_named(beta):
        each = r"\sum_l \beta_l \left(\log q(z_l) - \log p(z_l)\right)"
        return _Formula(_expected(rf"{_LIKELIHOOD} - {each}"))
    if not callable(beta) and beta == 1:
        return _Formula(_expected(_LOG_WEIGHT))
    if not callable(beta) and beta == 0:
        return _Formula(_expected(_LIKELIHOOD))
    kl = rf"\left(\log {_GUIDE} - \log p(z)\right)"
    return _Formula(_expected(rf"{_LIKELIHOOD} - {_weight(beta)}\,{kl}"))


def _renyi(term: Any) -> _Formula:
    power = _number(round(1 - term.alpha, 12))
    if term.alpha == 1:
        return _Formula(_expected(_LOG_WEIGHT))
    return _bound(term, rf"\frac{{1}}{{{power}}}{_mean_weight(term, power)}")


def _jvi(term: Any) -> _Formula:
    text = ""
    for left_out, weight in enumerate(jvi_coefficients(term.num_particles, term.order)):
        sign = " - " if weight < 0 else " + " if text else ""
        text += (
            rf"{sign}{_number(abs(weight))}\,\mathrm{{IWAE}}_{{{term.num_particles - left_out}}}"
        )
    return _Formula(text, is_sum=True)


def _mutual_information(term: Any) -> _Formula:
    c, *other = map(_site, term.compared)
    x = other[0] if other else "x"
    both = f"p({c}, {x})"
    if term.estimator == "barber_agakov":
        text = _expected(rf"\log q({c} \mid x)", both)
        return _Formula(rf"{text} + \mathrm{{H}}({c})", is_sum=True)
    if term.estimator == "nwj":
        apart = _expected(f"e^{{T({c}, {x}) - 1}}", f"p({c})\\,p({x})")
        return _Formula(f"{_expected(f'T({c}, {x})', both)} - {apart}", is_sum=True)
    ratio = rf"\frac{{e^{{T({c}_i, {x}_i)}}}}{{\frac{{1}}{{N}}\sum_j e^{{T({c}_j, {x}_i)}}}}"
    return _Formula(_expected(rf"\log {ratio}", both))


def _ratio_elbo(term: Any) -> _Formula:
    if term.contrast == "joint":
        return _Formula(_expected("T(x, z)"), -1.0)
    if term.contrast == "prior":
        return _Formula(_expected(rf"{_LIKELIHOOD} - T(x, z)"))
    return _Formula(_expected(r"\log p(x, z) - \log r(z \mid x) - T(x, z)"))


def _divergence(term: Any) -> _Formula:
    return _Formula(rf"D_{{\mathrm{{{_text(term.f.name)}}}}}({_laws(term)})")


def _mmd(term: Any) -> _Formula:
    kernel = rf"\mathrm{{{_text(type(term.kernel).__name__)}}}"
    return _Formula(rf"\mathrm{{MMD}}^2_{{{kernel}}}({_laws(term)})")


def _energy_score(term: Any) -> _Formula:
    y, beta = ", ".join(map(_site, term.sites)), _number(term.beta)
    far = rf"\mathbb{{E}}\,\Vert Y - ({y})\Vert^{{{beta}}}" if len(term.sites) > 1 else ""
    far = far or rf"\mathbb{{E}}\,\Vert Y - {y}\Vert^{{{beta}}}"
    near = rf"\frac{{1}}{{2}}\,\mathbb{{E}}\,\Vert Y - Y'\Vert^{{{beta}}}"
    return _Formula(f"{far} - {near}", is_sum=True)


def _power(term: Any) -> _Formula:
    y, power = _site(term.sites[0]), r"\phi" if term.scale == "power" else r"\log \phi"
    return _Formula(rf"\mathbb{{E}}\,\Vert {power}(Y) - {power}({y})\Vert^{{2}}")


def _total_correlation(term: Any) -> _Formula:
    z = ", ".join(map(_site, term.sites))
    factors = rf"\prod_j q({z if len(term.sites) == 1 else f'({z})'}_j)"
    return _Formula(rf"\mathrm{{KL}}(q({z}), {factors})")


def _constraint(term: Any) -> _Formula:
    part, target = _formula(term.term), _number(abs(term.target))
    sign = "+" if term.target < 0 else "-"
    scale = "" if abs(part.factor) == 1 else _number(abs(part.factor))
    value = ("-" if part.factor < 0 else "") + _scaled(part, scale, part.factor < 0)
    if term.kind == "at_least":
        own = _Formula(value, is_sum=part.is_sum or part.factor < 0)
        first = f"-{target}" if term.target < 0 else target
        return _Formula(rf"\lambda\,\left({first} - {_scaled(own, '', True)}\right)")
    return _Formula(rf"\lambda\,\left({value} {sign} {target}\right)")


def _distillation(term: Any) -> _Formula:
    x = _site(term.site)
    return _Formula(rf"\mathrm{{KL}}(p({x}), p_{{\mathrm{{teacher}}}}({x}))")


def _sliced(term: Any) -> _Formula:
    p = _number(term.p)
    return _Formula(rf"\mathrm{{SW}}_{{{p}}}^{{{p}}}({_laws(term)})")


def _score_matching(term: Any) -> _Formula:
    x = _site(term.site)
    squared = rf"\frac{{1}}{{2}}\Vert\nabla \log p({x})\Vert^{{2}}"
    return _Formula(_expected(rf"\Delta \log p({x}) + {squared}", f"q({x})"))


def _denoising(term: Any) -> _Formula:
    x, sd = _site(term.site), _number(term.noise)
    noisy = rf"\nabla \log p({x} + {sd}\,\epsilon)"
    error = rf"\frac{{1}}{{2}}\Vert {noisy} + \frac{{\epsilon}}{{{sd}}}\Vert^{{2}}"
    return _Formula(_expected(error, rf"q({x}), \epsilon"))


def _transport(term: Any, cost: str) -> _Formula:
    return _Formula(_expected(rf"\int \Vert {cost}\Vert^{{2}}\,dt", f"q({_site(term.site)})"))


_FORMULAS: dict[str, Callable[[Any], _Formula]] = {
    "ELBO": _elbo,
    "IWAE": lambda term: _bound(term, _mean_weight(term)),
    "Renyi": _renyi,
    "JVI": _jvi,
    "TailAdaptive": lambda term: _Formula(rf"\mathrm{{TailAdaptive}}\left[{_LOG_WEIGHT}\right]"),
    "WakeSleep": lambda term: _Formula(rf"\mathrm{{WakeSleep}}\left[{_mean_weight(term)}\right]"),
    "NLL": lambda term: _Formula(r"\log p(x)", -1.0),
    "Reconstruction": lambda term: _Formula(_expected(_LIKELIHOOD), -1.0),
    "KL": lambda term: _Formula(rf"\mathrm{{KL}}({_GUIDE}, p(z))"),
    "Distillation": _distillation,
    "Constraint": _constraint,
    "FDivergence": _divergence,
    "DensityRatio": _divergence,
    "JensenShannon": lambda term: _Formula(rf"\mathrm{{JS}}({_laws(term)})", 2.0),
    "Wasserstein": lambda term: _Formula(f"W_1({_laws(term)})"),
    "TotalCorrelation": _total_correlation,
    "RatioELBO": _ratio_elbo,
    "MutualInformation": _mutual_information,
    "MMD": _mmd,
    "EnergyScore": _energy_score,
    "PowerLoss": _power,
    "SlicedWasserstein": _sliced,
    "ScoreMatching": _score_matching,
    "DenoisingScoreMatching": _denoising,
    "KineticEnergy": lambda term: _transport(term, "v_t"),
    "JacobianNorm": lambda term: _transport(term, r"\nabla v_t"),
    "ConditionalNLL": lambda term: _Formula(
        _expected(rf"\log p({_site(term.site)} \mid \cdot)"), -1.0
    ),
    "Hinge": lambda term: _Formula(rf"\mathrm{{TV}}({_laws(term)})", 2.0),
}
