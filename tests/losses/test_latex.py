"""Losses as formulas: each says what its value is, in both libraries alike, and can be drawn."""

from types import SimpleNamespace
from typing import Any

import pytest
from matplotlib.mathtext import MathTextParser

from dgm_core.latex import latex
from dgm_core.report.pictures import formula_png
from dgm_core.schedules import linear
from tests.backends import NumPyroBackend, PyroBackend
from tests.cases import LOSSES
from tests.cases import Loss as Case
from tests.contracts.writing import made

LOG_WEIGHT = r"\log p(x, z) - \log q(z \mid x)"
pytestmark = pytest.mark.usefixtures("x64")

ELBO = rf"\mathbb{{E}}_{{q(z \mid x)}}\left[{LOG_WEIGHT}\right]"
LIKELIHOOD = r"\mathbb{E}_{q(z \mid x)}\left[\log p(x \mid z)\right]"
DRAWS = r"\mathbb{E}_{z_1, \ldots, z_{3} \sim q(z \mid x)}"
WEIGHT = r"\frac{p(x, z_k)}{q(z_k \mid x)}"
KL_INSIDE = r"\left(\log q(z \mid x) - \log p(z)\right)"
FORMULAS = {
    "ELBO()": f"-{ELBO}",
    "IWAE(num_particles=1)": f"-{ELBO}",
    "ELBO(beta=0.3, num_particles=3, estimator='stl')": (
        rf"-\mathbb{{E}}_{{q(z \mid x)}}\left[\log p(x \mid z) - 0.3\,{KL_INSIDE}\right]"
    ),
    "ELBO(beta=0)": f"-{LIKELIHOOD}",
    "ELBO(beta=linear(10))": (
        r"-\mathbb{E}_{q(z \mid x)}\left[\log p(x \mid z) - \mathrm{linear(10)}(s)\,"
        rf"{KL_INSIDE}\right]"
    ),
    "IWAE(num_particles=3)": (
        rf"-{DRAWS}\left[\log \frac{{1}}{{3}}\sum_{{k=1}}^{{3}} {WEIGHT}\right]"
    ),
    "Renyi(0.4, num_particles=3)": (
        rf"-{DRAWS}\left[\frac{{1}}{{0.6}}\log \frac{{1}}{{3}}\sum_{{k=1}}^{{3}} "
        rf"\left({WEIGHT}\right)^{{0.6}}\right]"
    ),
    "Renyi(1.0, num_particles=3)": f"-{ELBO}",
    "JVI(num_particles=4)": r"-\left(4\,\mathrm{IWAE}_{4} - 3\,\mathrm{IWAE}_{3}\right)",
    "Reconstruction() + 10.0 * MMD('z')": (
        rf"-{LIKELIHOOD} + 10\,\mathrm{{MMD}}^2_{{\mathrm{{RBF}}}}(q(z), p(z))"
    ),
    "2.0 * NLL() + 0.1 * JensenShannon('x')": r"-2\,\log p(x) + 0.2\,\mathrm{JS}(q(x), p(x))",
    "0.5 * JensenShannon(('x', 'z'), instance_noise=0.1)": (
        r"\mathrm{JS}(q_{\sigma}(x, z), p_{\sigma}(x, z))"
    ),
    "linear(5) * KL() + ELBO()": (
        rf"\mathrm{{linear(5)}}(s)\,\mathrm{{KL}}(q(z \mid x), p(z)) - {ELBO}"
    ),
    "MutualInformation('code')": (
        r"-\left(\mathbb{E}_{p(\mathrm{code}, x)}\left[\log q(\mathrm{code} \mid x)\right] "
        r"+ \mathrm{H}(\mathrm{code})\right)"
    ),
    "FDivergence('a_b', f='reverse_kl')": (
        r"D_{\mathrm{reverse\_kl}}(q(\mathrm{a\_b}), p(\mathrm{a\_b}))"
    ),
    "Constraint(Reconstruction(), at_most=1.5)": rf"\lambda\,\left(-{LIKELIHOOD} - 1.5\right)",
    "Constraint(ELBO(), at_least=-9.0)": rf"\lambda\,\left(-9 - {ELBO}\right)",
    "Constraint(KL(), equal=-1.0)": (r"\lambda\,\left(\mathrm{KL}(q(z \mid x), p(z)) + 1\right)"),
    "3.0 * EnergyScore('x', beta=1.5)": (
        r"3\,\left(\mathbb{E}\,\Vert Y - x\Vert^{1.5} - "
        r"\frac{1}{2}\,\mathbb{E}\,\Vert Y - Y'\Vert^{1.5}\right)"
    ),
    "RatioELBO(contrast='joint')": r"\mathbb{E}_{q(z \mid x)}\left[T(x, z)\right]",
    "1e-07 * Wasserstein('x')": r"1 \cdot 10^{-7}\,W_1(q(x), p(x))",
}


@pytest.mark.parametrize("written", FORMULAS)
def test_the_formula_of_a_loss(written: str) -> None:
    """Of what is minimized: bounds with a minus sign, weights in front."""
    for backend in (PyroBackend(), NumPyroBackend()):
        loss = made(backend, Case(written, "sum"))
        assert latex(loss) == FORMULAS[written]
        assert loss._repr_latex_() == f"${FORMULAS[written]}$"


def test_every_loss_has_a_formula_of_its_own_that_can_be_drawn() -> None:
    """Of what is in the registry none is merely called by its name."""
    pyro, numpyro = PyroBackend(), NumPyroBackend()
    parser, named = MathTextParser("path"), []
    for name, case in LOSSES.items():
        loss = made(pyro, case)
        assert latex(loss) == latex(made(numpyro, case)), name
        parser.parse(f"${latex(loss)}$")
        words = [term.name for _, term in loss.terms]
        named += [name for word in words if latex(loss).endswith(rf"\mathrm{{{word}}}")]
    assert not named


def test_terms_of_other_people() -> None:
    """Called by their names, or by a formula that they bring; a class that derives from one of ours
    is something else."""
    backend = PyroBackend()

    class Mine(backend.losses.ELBO):
        """May estimate anything."""

        name = "50% mine_{x}^2 \\ $"

    class Given(backend.losses.NLL):
        """Says what it is."""

        name, formula = "given", r"a + b"

    assert latex(Mine()) == r"-\mathrm{50\%\ mine\_\{x\}\wedge 2\ \backslash \ \$}"
    assert formula_png(latex(Mine()))
    assert latex(0.5 * Given() + Mine()).startswith(r"0.5\,\left(a + b\right) - \mathrm{50")
    assert latex(Given()) == "a + b"


def test_weights_that_are_any_function() -> None:
    term: Any = SimpleNamespace(name="cost", sign=1)
    weighted = SimpleNamespace(terms=((lambda step: 2.0, term), (linear(4, end=3.0), term)))
    own, known = r"w(s)\,\mathrm{cost}", r"\mathrm{linear(4,\ end=3.0)}(s)\,\mathrm{cost}"
    assert latex(weighted) == f"{own} + {known}"
