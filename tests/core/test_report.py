"""Reports without a backend: the HTML file, the files beside it, and parts that fail."""

import math
from collections import namedtuple
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from dgm_core.report import RunReport, rows
from dgm_core.report.composing import check_options, composed
from dgm_core.report.facts import Facts, Observed, Tools, drawn_graph, support_name
from dgm_core.structure import Structure

RNG = np.random.default_rng(0)
EVIL = "<script>alert('&\"')</script>\x00\x1b\ud800"
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Collects what a page holds, and checks that its elements are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.sources, self.words = [], [], [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        found = dict(attrs)
        assert not [name for name in found if name.startswith("on")]
        self.sources += [found[name] for name in ("src", "href", "data") if name in found]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


def figure():
    made = Figure(figsize=(2, 1))
    made.subplots().plot([0, 1])
    return made


def evil_report():
    row = rows.row(EVIL, EVIL, EVIL, about=EVIL)
    numbers = [rows.row("bounds", "ELBO", -81.25, 0.5), rows.row("bounds", "k-hat", math.nan)]
    return RunReport(
        title=EVIL,
        rows=[row, *numbers],
        figures={EVIL: figure(), "price in $": figure()},
        sites=[dict.fromkeys(("site", "kind", "shape"), EVIL)],
        loss=EVIL,
        formula=EVIL,
        notes=(EVIL,),
    )


def test_the_page_is_one_file_and_nothing_in_it_is_markup_of_others(tmp_path):
    made = evil_report()
    path = made.to_html(tmp_path / "folder" / "page.html")
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert len(page.sources) == 2  # both figures; the formula is no LaTeX and stands as text
    assert "://" not in text
    assert "url(" not in text and "@import" not in text
    assert "\x00" not in text and "\x1b" not in text
    assert page.words.count("<script>alert('&\"')</script>\ufffd\ufffd?") >= 9
    assert "Content-Security-Policy" in text
    assert page.open == [] and {"html", "body", "table", "h1"} <= set(page.tags)


def test_numbers_on_the_page():
    from dgm_core.report.html import page_html

    made = RunReport(
        "a",
        rows=[
            rows.row("bounds", "ELBO", -81.2512345, 0.5),
            rows.row("bounds", "k-hat", math.nan),
            rows.row("size", "parameters", 1234567),
            rows.row("data", "x", "(3, 2) float64"),
        ],
        formula=r"\log p(x)",
        loss="NLL()",
        graph=b"a picture",
    )
    page = Page(page_html(made))
    for word in ("-81.251", "0.5", "NaN", "1,234,567", "(3, 2) float64", r"\log p(x)", "NLL()"):
        assert word in page.words
    assert len(page.sources) == 1  # the formula; there is no model to show
    assert page.words.count("NaN") == 1  # an unknown standard error is left out
    made = RunReport("a", rows=made.rows, sites=[{"site": "z"}], graph=b"a picture")
    assert "YSBwaWN0dXJl" in page_html(made)


def test_what_is_saved(tmp_path):
    made = evil_report()
    written = made.save(tmp_path / "out")
    assert [path.name for path in written] == ["report.html", "report.csv", "report.png"]
    assert all(path.stat().st_size for path in written)
    assert written[2].read_bytes()[:4] == b"\x89PNG"
    written = RunReport("a", rows=[rows.row("a", "b", 1)]).save(tmp_path / "out", name="other")
    assert [path.name for path in written] == ["other.html", "other.csv"]
    assert made.table.shape == (3, 5)
    assert list(made.table["value"])[1] == -81.25
    assert len(made.figure.axes) == 2
    printed = repr(made)
    assert "-81.250" in printed and "k-hat" in printed


# ------------------------------------------------------------
# Parts that are refused, that fail, and that are there


def structure(local=("z",), shared=()):
    return Structure({"data": -1}, (6,), (6,), 1, shared, local, ("x",), (), (), ())


def facts(**changes):
    sites = [{"site": name, "kind": "latent", "guide": "Normal"} for name in ("z", "w")]
    given = {
        "structure": structure(),
        "sites": [*sites, {"site": "x", "kind": "observed"}],
        "observed": {"x": Observed(RNG.normal(size=(6, 3)), 1)},
        "parameters": {"model": {"a": 5, "b": 2}, "guide": {"b": 2, "c": 1}},
        "num_rows": 6,
        "rows": None,
    }
    return Facts(**{**given, **changes})


def refuse(*args, **kwargs):
    raise ValueError("not for this model.")


def tools(**changes):
    given = {
        "log_weights": lambda run, x, num_particles, **_: RNG.normal(size=(num_particles, len(x))),
        "latents": lambda run, x, num_draws, **_: {"z": RNG.normal(size=(num_draws, len(x), 2))},
        "reconstruct": lambda run, x, **_: {"x": RNG.normal(size=(len(x), 3))},
        "generate": lambda run, x, **_: {"x": RNG.normal(size=(len(x), 3))},
        "elbo_surgery": lambda run, x, **_: namedtuple("S", "mean_kl")(2.5),
        "to_arviz": refuse,
        "terms": lambda run, x, loss, step, num_draws, **_: {"loss": np.full(num_draws, 3.0)},
        "graph": lambda run, x, **_: b"png",
        "libraries": ("numpy", "no-such-library"),
    }
    return Tools(**{**given, **changes})


LOSS = SimpleNamespace(
    terms=((1.0, SimpleNamespace(name="cost", sign=1, log_zs={})),), stateful={}, enumerated=()
)


def options_of(**options):
    counts = {"num_particles": 30, "num_draws": 4, "seed": 0}
    given = dict.fromkeys(("labels", "image_shape", "title", "rows", "vectorize")) | counts
    return check_options(**{**given, **options})


def report(facts_, tools_, run=None, **options):
    run = run or SimpleNamespace(model=len, guide=len, loss=LOSS)
    x = facts_.observed["x"].values
    return composed(run, (x,), facts_, tools_, options_of(**options))


def values(made, part):
    return {row["quantity"]: row["value"] for row in made.rows if row["part"] == part}


def test_a_report_of_all_parts():
    made = report(facts(), tools(), labels=[0, 1, 0, 1, 0, 1], title="mine")
    assert made.title == "mine" and made.formula == r"\mathrm{cost}" and made.graph == b"png"
    assert list(made.figures) == [
        "reconstructions of x", "samples of x", "codes: means of z", "importance weights"
    ]  # fmt: skip
    assert values(made, "loss") == {"loss": 3.0} and values(made, "surgery") == {"mean kl": 2.5}
    assert values(made, "size") == {
        "parameters of the model": 7, "parameters of the guide": 3, "parameters in all": 8
    }  # fmt: skip
    assert values(made, "versions")["no-such-library"] == "not installed as a package"
    assert made.notes == (
        "Training curves left out: this run has no history.",
        "Draws for ArviZ left out: not for this model.",
    )


PARTS = {
    "log_weights": "Bounds and importance weights",
    "latents": "Codes and active units",
    "reconstruct": "Reconstructions",
    "generate": "Samples",
    "elbo_surgery": "ELBO surgery",
    "terms": "The terms of the loss",
    "graph": "The graph of the model",
    "to_arviz": "Draws for ArviZ",
}


def test_each_part_that_fails_leaves_a_sentence_and_all_others():
    def broken(*args, **kwargs):
        raise KeyError("z")

    for name, what in PARTS.items():
        made = report(facts(), tools(**{name: broken}))
        assert f"{what} failed (KeyError: 'z')." in made.notes
        assert len(made.notes) == (2 if name == "to_arviz" else 3), made.notes
        assert (
            f"{what} left out: not for this model."
            in report(facts(), tools(**{name: refuse})).notes
        )
    everything = report(facts(), tools(**dict.fromkeys(PARTS, broken)))
    assert len(everything.notes) == 1 + len(PARTS)
    assert values(everything, "size")
    from dgm_core.report.html import page_html

    assert "Reconstructions failed" in Page(page_html(everything)).words


def test_what_is_drawn_wrong_is_said():
    bad = tools(reconstruct=lambda run, x, **_: {"x": np.full((6, 3), np.inf)})
    made = report(facts(), bad)
    assert any("The picture 'reconstructions of x'" in note for note in made.notes)
    assert "samples of x" in made.figures


def test_a_run_that_does_not_know_its_loss_or_what_that_keeps():
    made = report(facts(), tools(), SimpleNamespace(model=len, config={"loss": "ELBO()"}))
    assert made.loss == "ELBO()" and made.formula == ""
    assert any(note.startswith("The terms of the loss left out: this run") for note in made.notes)
    stateful = SimpleNamespace(terms=LOSS.terms, enumerated=(), stateful={"JS(x)": 3})
    made = report(facts(), tools(), SimpleNamespace(model=len, loss=stateful))
    assert any("does not hold what JS(x) keeps" in note for note in made.notes)


def test_latents_that_all_data_share():
    shared = facts(structure=structure(local=(), shared=("w",)))
    predicted = SimpleNamespace(values=RNG.normal(size=(1, 4, 6, 3)))
    idata = SimpleNamespace(
        posterior={"w": SimpleNamespace(values=RNG.normal(size=(1, 4, 2)))},
        posterior_predictive={"x": predicted},
    )
    made = report(shared, tools(to_arviz=lambda run, x, **_: idata, generate=refuse))
    assert list(made.figures)[1:3] == ["posterior predictive draws of x", "posterior"]
    assert "ELBO surgery left out: the model has no latents of each datum." in made.notes
    assert made.idata is idata


def test_a_model_that_observes_nothing():
    bare = facts(observed={})
    run = SimpleNamespace(model=len, guide=len, loss=LOSS)
    made = composed(run, (np.ones((6, 3)),), bare, tools(), options_of())
    assert "Reconstructions and samples left out: no site is observed." in made.notes
    assert list(made.figures) == ["codes: means of z", "importance weights"]


def test_what_the_guide_does_not_draw_is_not_reconstructed():
    """It would come from the prior."""
    sites = [{"site": "z", "kind": "latent", "guide": ""}]
    made = report(facts(sites=sites), tools())
    assert "Reconstructions left out: the guide does not draw ['z']." in made.notes
    assert "reconstructions of x" not in made.figures and "samples of x" in made.figures


def test_only_as_many_data_as_are_needed_and_their_rows(monkeypatch):
    monkeypatch.setattr("dgm_core.report.composing._SURGERY", 4)
    seen = {}

    def surgery(run, x, rows, seed):
        seen["x"], seen["rows"] = x, rows
        return namedtuple("S", "mean_kl")(2.5)

    made = report(facts(rows=np.arange(6)), tools(elbo_surgery=surgery))
    assert seen["x"].shape == (4, 3) and seen["rows"].tolist() == [0, 1, 2, 3]
    assert [r["about"] for r in made.rows if r["part"] == "surgery"] == ["the first 4 of 6 data"]
    report(facts(structure=structure(shared=("w",))), tools(elbo_surgery=surgery))
    assert seen["x"].shape == (6, 3) and seen["rows"] is None


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"labels": [0, 1]}, "labels must give one class for each of the 6 data, got 2"),
        ({"labels": [[0]]}, "labels must be one class for each datum"),
        ({"labels": [0.5] * 6}, "labels must be one class for each datum"),
        ({"image_shape": (2, 4, 4)}, "with 1 or 3 channels, got"),
        ({"image_shape": (4, 4)}, "image_shape must be"),
        ({"num_particles": 0}, "num_particles must be an integer of at least 1"),
        ({"num_draws": 1}, "num_draws must be an integer of at least 2"),
        ({"title": 3}, "title must be text, or None, got 3"),
        ({"seed": "0"}, "seed must be an integer"),
    ],
)
def test_bad_arguments(options, match):
    with pytest.raises(ValueError, match=match):
        report(facts(), tools(), **options)


def test_graphviz_that_is_not_there(monkeypatch):
    monkeypatch.setattr("dgm_core.report.facts.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="the package graphviz is not installed"):
        drawn_graph(lambda: None)
    monkeypatch.setattr("dgm_core.report.facts.find_spec", lambda name: object())

    class ExecutableNotFound(RuntimeError):
        """As graphviz calls it."""

    def pipe(format):
        raise ExecutableNotFound("dot")

    with pytest.raises(ValueError, match="its program dot is not"):
        drawn_graph(lambda: SimpleNamespace(pipe=pipe))
    assert drawn_graph(lambda: SimpleNamespace(pipe=lambda format: format.encode())) == b"png"


def test_supports_in_words():
    class _Real:
        """A constraint."""

    independent = SimpleNamespace(base_constraint=_Real())
    assert support_name(independent) == "real" and support_name(None) == ""
