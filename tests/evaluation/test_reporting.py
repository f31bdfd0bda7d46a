"""Reports of runs of both backends: what is there, what is left out and in which words."""

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.backends import NumPyroBackend, PyroBackend
from tests.core.test_report import Page
from tests.evaluation import other_models as m
from tests.losses import user_models
from tests.losses.training import build, fit, package

RNG = np.random.default_rng(0)
X = (RNG.random((40, 4)) < 0.4).astype(float)
LABELS = np.arange(40) % 3
FEW = {"num_particles": 40, "num_draws": 6}


def values(made: Any, part: str) -> dict[str, Any]:
    return {row["quantity"]: row["value"] for row in made.rows if row["part"] == part}


def errors(made: Any, part: str) -> dict[str, float]:
    return {row["quantity"]: row["s.e."] for row in made.rows if row["part"] == part}


def report(backend: Any, run: Any, *data: Any, **options: Any) -> Any:
    with warnings.catch_warnings():  # of ArviZ and of plates that are no plates to it
        warnings.simplefilter("ignore")
        return backend.evaluation.report(run, *data, **{**FEW, **options})


@pytest.mark.long("[numpyro")
@pytest.mark.slow("numpyro")
def test_a_vae_with_labels(backend: Any, tmp_path: Path) -> None:
    """Every part is there; what is told twice agrees; the files open."""
    vae = build(backend, package(backend).VAE, 4, 2, hidden=(8,))
    loss = backend.losses.ELBO(beta=0.5) + 2.0 * backend.losses.MMD("z")
    run = fit(backend, vae.model, vae.guide, X, loss=loss, num_epochs=2)
    assert repr(run.loss) == repr(loss) and pickle.loads(pickle.dumps(run)).loss is None
    made = report(backend, run, X, labels=LABELS, image_shape=(1, 2, 2))
    assert made.title == "VAE" and made.loss == "ELBO(beta=0.5) + 2.0 * MMD('z')"
    assert made.formula.endswith(r"+ 2\,\mathrm{MMD}^2_{\mathrm{RBF}}(q(z), p(z))")
    assert list(made.figures) == [
        "training",
        "reconstructions of x",
        "samples of x",
        "codes: means of z",
        "importance weights",
    ]
    bounds, terms, surgery = (values(made, part) for part in ("bounds", "loss", "surgery"))
    assert bounds["ELBO"] < bounds["IWAE-40"] < 0 and 1 <= bounds["ESS"] <= 40
    assert set(terms) == {"loss", "ELBO", "ELBO/log_likelihood", "ELBO/KL", "MMD(z)"}
    assert terms["loss"] == pytest.approx(-terms["ELBO"] + 2 * terms["MMD(z)"], abs=1e-5)
    ours = terms["ELBO/log_likelihood"] - terms["ELBO/KL"]  # beta is 0.5 in the other
    spread = np.hypot(errors(made, "loss")["ELBO/log_likelihood"], 0.02)
    assert ours == pytest.approx(bounds["ELBO"], abs=6 * spread)
    assert surgery["mean kl"] == pytest.approx(
        surgery["mutual information"] + surgery["marginal kl"], abs=1e-5
    )
    assert surgery["mean kl"] == pytest.approx(bounds["KL z"], abs=0.2)
    assert values(made, "latents").keys() == {"active units of z"}
    assert values(made, "training")["epochs"] == 2
    sizes = values(made, "size")
    assert sizes["parameters in all"] == sum(v for k, v in sizes.items() if "in all" not in k)
    assert sizes["parameters of the guide"] == 4 * 8 + 8 + 2 * (8 * 2 + 2)
    assert values(made, "data")["labels"] == "(40,) int64"
    assert {"ppl-dgm", "python", "numpy"} < values(made, "versions").keys()
    assert [(site["site"], site["kind"], site["guide"][-6:]) for site in made.sites] == [
        ("z", "latent", "Normal"),
        ("x", "observed", ""),
    ]
    assert made.sites[1]["support"] == "boolean" and made.sites[0]["plates"] == "data (40)"
    assert all("graph of the model" in note or "hardly used" in note for note in made.notes)
    written = made.save(tmp_path)
    assert [path.name for path in written] == [f"report.{s}" for s in ("html", "csv", "png", "nc")]
    page = Page(written[0].read_text(encoding="utf-8"))
    assert len(page.sources) == 6 and "codes: means of z" in page.words
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import arviz as az
    idata = az.from_netcdf(written[3])
    assert idata.posterior["z"].shape == (1, 6, 40, 2)


@pytest.mark.slow("numpyro")
def test_eight_schools(backend: Any) -> None:
    """Latents that all data share: one weight of all, their posterior, no codes."""
    schools = m.schools(backend)
    run = backend.run(schools.model, schools.guide, {"loc": 4.0})
    made = report(backend, run, schools.data)
    bounds = errors(made, "bounds")
    assert bounds["ELBO"] > 0 and bounds["IWAE-40"] > 0 and np.isnan(bounds["ESS"])
    assert values(made, "surgery") == {} and values(made, "training") == {}
    assert list(made.figures) == [
        "reconstructions of y",
        "posterior predictive draws of y",
        "posterior",
        "importance weights",
    ]
    kinds = {site["site"]: site["kind"] for site in made.sites}
    assert kinds == {
        "mu": "latent", "tau": "latent", "trans": "latent", "theta": "deterministic",
        "y": "observed",
    }  # fmt: skip
    supports = {site["site"]: site["support"] for site in made.sites}
    assert supports["mu"] == "real" and supports["theta"] == ""
    for words in ("ELBO surgery left out: elbo_surgery needs", "Codes and active units left out",
                  "Training curves left out", "does not know its loss"):  # fmt: skip
        assert any(words in note for note in made.notes), words
    assert not any("failed" in note for note in made.notes)
    assert values(made, "size")["parameters of the guide"] == 1
    assert made.idata.posterior["mu"].shape == (1, 6)


def two_sites(b: Any) -> tuple[Callable[..., None], Callable[..., None]]:
    """z ~ Normal(0, 1), x | z ~ Normal(z, 1) three times, y | z ~ Bernoulli(sigmoid(z))."""
    d = b.dist

    def model(x: Any, y: Any) -> None:
        with b.plate("data", len(x)):
            z = b.sample("z", d.Normal(b.array(0.0), b.array(1.0)))
            b.sample("x", d.Normal(z[..., None], b.array(np.ones(3))).to_event(1), obs=x)
            b.sample("y", d.Bernoulli(logits=z), obs=y)

    def guide(x: Any, y: Any) -> None:
        with b.plate("data", len(x)):
            b.sample("z", d.Normal(b.param("scale") * x.sum(-1), b.array(0.5)))

    return model, guide


@pytest.mark.slow("numpyro")
def test_several_observed_sites(backend: Any) -> None:
    """A picture for each; a run that is no `Run`, with a loss and missing data in the picture."""
    model, guide = two_sites(backend)
    run = backend.run(model, guide, {"scale": 0.25})
    run.loss = backend.losses.IWAE(num_particles=3)
    z = RNG.normal(size=30)
    x, y = z[:, None] + RNG.normal(size=(30, 3)), (z > 0).astype(float)
    made = report(backend, run, x, y)
    assert {f"{what} of {site}" for what in ("reconstructions", "samples") for site in "xy"} < set(
        made.figures
    )
    assert values(made, "loss").keys() == {"loss", "IWAE"}
    bounds, terms, error = values(made, "bounds"), values(made, "loss"), errors(made, "loss")
    assert (
        bounds["ELBO"] - 4 * error["IWAE"] < terms["IWAE"] < bounds["IWAE-40"] + 4 * error["IWAE"]
    )
    assert values(made, "data").keys() == {"data[0]", "data[1]"}
    assert made.title == "model" and values(made, "size")["parameters in all"] == 1
    again = report(backend, run, x, y)
    assert values(again, "bounds") == bounds  # the same seed


@pytest.mark.slow("numpyro")
def test_a_guide_without_a_density(backend: Any) -> None:
    """Bounds, surgery and ArviZ's k-hat are left out in words, all else is there: the critic's
    terms, too."""
    avb = build(backend, package(backend).AVB, 4, 2, hidden=(8,))
    run = fit(backend, avb.model, avb.guide, X, loss=backend.losses.RatioELBO(), num_epochs=1)
    made = report(backend, run, X, labels=LABELS)
    assert values(made, "bounds") == {} and values(made, "loss")["RatioELBO"] < 0
    assert any(note.startswith("Bounds and importance weights left out: ") for note in made.notes)
    assert any(note.startswith("ELBO surgery left out: ") for note in made.notes)
    assert {"training", "reconstructions of x", "samples of x"} < set(made.figures)
    assert values(made, "latents").keys() == {"active units of z"}


def test_parts_that_raise_leave_a_sentence(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that cannot be run forward, and one that the engine cannot render."""
    d = backend.dist

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            z = backend.sample("z", d.ImproperUniform(d.constraints.real, (), ()))
            backend.sample("x", d.Normal(z, backend.array(1.0)), obs=x)

    def guide(x: Any) -> None:
        with backend.plate("data", len(x)):
            backend.sample("z", d.Normal(x, backend.array(1.0)))

    made = report(backend, backend.run(model, guide), RNG.normal(size=9))
    assert any(n.startswith("Samples left out: Site 'z' has a") for n in made.notes), made.notes
    assert values(made, "bounds")["ELBO"] == pytest.approx(
        values(made, "bounds")["IWAE-40"], abs=1e-5
    )  # the guide is the posterior
    assert "samples of x" not in made.figures and "reconstructions of x" in made.figures


@pytest.mark.slow("numpyro")
def test_the_engine_renders_the_model(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With graphviz: the graph that the engine makes, of the user's model on these data. Fewer
    particles than k-hat needs leave the draws for ArviZ as they are."""
    model, guide = two_sites(backend)
    seen: list[Any] = []

    def render(given: Any, args: Any, kwargs: Any, **options: Any) -> Any:
        seen.append((given, len(args), kwargs, options["render_distributions"]))
        return SimpleNamespace(pipe=lambda format: format.encode())

    engine = backend.pyro if backend.name == "pyro" else backend.numpyro
    monkeypatch.setattr(engine, "render_model", render)
    monkeypatch.setattr("dgm_core.report.facts.find_spec", lambda name: object())
    run = backend.run(model, guide, {"scale": 0.25})
    made = report(backend, run, np.zeros((3, 3)), np.zeros(3), num_particles=4)
    assert made.graph == b"png" and seen == [(model, 2, {}, True)]
    assert "IWAE-4" in values(made, "bounds") and "k-hat above 0.7" not in values(made, "bounds")
    assert made.idata.posterior["z"].shape == (1, 6, 3)
    assert not any("ArviZ" in note for note in made.notes)


def test_bad_data_are_refused_at_once(backend: Any) -> None:
    model, guide = two_sites(backend)
    run = backend.run(model, guide, {"scale": 0.25})
    with pytest.raises(ValueError, match="labels must give one class for each of the 3 data"):
        backend.evaluation.report(run, np.zeros((3, 3)), np.zeros(3), labels=[1])
    with pytest.raises(ValueError, match="data are empty"):
        backend.evaluation.report(run, np.zeros((0, 3)), np.zeros(0))
    with pytest.raises(ValueError, match="run must be what fit returns"):
        backend.evaluation.report(3, np.zeros((3, 3)))


def test_twins_agree(x64: None) -> None:
    """With draws that are given: the same rows, in double precision, and the same sentences."""
    made = []
    for backend in (PyroBackend(), NumPyroBackend()):
        with backend.double_precision():
            run = backend.run(*user_models.plain(backend), user_models.PARAMS)
            run.loss = backend.losses.ELBO() + 0.5 * backend.losses.KL()
            made.append(report(backend, run, user_models.Y[:6]))
    ours, theirs = made
    for part in ("bounds", "loss", "size", "data"):
        assert values(ours, part).keys() == values(theirs, part).keys() != set()
        for name, value in values(ours, part).items():
            other = values(theirs, part)[name]
            if isinstance(value, str):
                assert other == value
            else:
                assert other == pytest.approx(value, rel=1e-10, abs=1e-10, nan_ok=True), name
    assert ours.notes == theirs.notes and ours.formula == theirs.formula
    assert list(ours.figures) == list(theirs.figures)
    assert [(s["site"], s["kind"], s["shape"], s["plates"]) for s in ours.sites] == [
        (s["site"], s["kind"], s["shape"], s["plates"]) for s in theirs.sites
    ]
