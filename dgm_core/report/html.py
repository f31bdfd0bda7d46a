"""A report as one HTML file: all that comes from names or data is escaped, pictures are inside, and
the file forbids its reader to load anything.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from dgm_core.report.pictures import formula_png, png_of, printable

__all__ = ["page_html"]

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid
  #ddd; } h3 { font-size: 1rem; margin-bottom: 0.3rem; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: 0.15rem
  0.7rem 0.15rem 0; vertical-align: top; } tbody tr { border-top: 1px solid #eee; }
tr.part th { padding-top: 0.9rem; } .number { text-align: right;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
td.wide { overflow-wrap: anywhere; } td.about { color: #666; }
img { max-width: 100%; height: auto; } figure { margin: 1rem 0; }
code { background: #f5f5f5; padding: 0.1rem 0.3rem; overflow-wrap: anywhere; }
ul.notes { background: #fff8e1; padding: 0.6rem 0.6rem 0.6rem 1.8rem; }
"""
_SITES = ("site", "kind", "distribution", "guide", "shape", "plates", "support")


def page_html(report: Any) -> str:
    """The whole page of a `RunReport`. A formula that matplotlib cannot draw stands as LaTeX
    alone."""
    parts = [f"<h1>{_text(report.title)}</h1>"]
    if report.notes:
        parts += _section("Notes", [_list(report.notes)])
    parts += _section("Numbers", [_numbers(report.rows)])
    if report.figures:
        parts += _section("Pictures", _pictures(report))
    if report.loss or report.formula:
        parts += _section("Loss", _loss(report))
    if report.sites:
        parts += _section("Model", _model(report))
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_text(report.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
            *parts,
            "</body>\n</html>\n",
        ]
    )


def _text(value: Any) -> str:
    """Any value as text that is no markup, without the control characters that HTML forbids."""
    return escape(printable(str(value)), quote=True)


def _section(title: str, blocks: Iterable[str]) -> list[str]:
    return [f"<section>\n<h2>{title}</h2>", *blocks, "</section>"]


def _list(sentences: Iterable[str]) -> str:
    items = "\n".join(f"<li>{_text(sentence)}</li>" for sentence in sentences)
    return f'<ul class="notes">\n{items}\n</ul>'


def _numbers(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table, with a line above each of its parts."""
    body = []
    for part in dict.fromkeys(row["part"] for row in rows):
        body.append(f'<tr class="part"><th colspan="4">{_text(part)}</th></tr>')
        for row in (row for row in rows if row["part"] == part):
            cells = [f"<td>{_text(row['quantity'])}</td>", _value(row["value"])]
            cells.append(_value(row.get("s.e."), missing=""))
            cells.append(f'<td class="about">{_text(row.get("about", ""))}</td>')
            body.append(f"<tr>{''.join(cells)}</tr>")
    head = (
        '<th>quantity</th><th class="number">value</th><th class="number">s.e.</th><th>of what</th>'
    )
    return _table(head, body)


def _table(head: str, body: Sequence[str]) -> str:
    rows = "\n".join(body)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"


def _value(value: Any, missing: str = "NaN") -> str:
    """A cell; numbers to the right."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return f'<td class="wide">{_text("" if value is None else value)}</td>'
    number = float(value)
    if math.isnan(number):
        return f'<td class="number">{missing}</td>'
    whole = isinstance(value, int | np.integer)
    text = f"{int(value):,}" if whole else f"{number:.5g}"
    return f'<td class="number">{_text(text)}</td>'


def _pictures(report: Any) -> list[str]:
    return [
        f"<figure>\n<h3>{_text(name)}</h3>\n{_image(png_of(figure), name)}\n</figure>"
        for name, figure in report.figures.items()
    ]


def _image(png: bytes, words: str) -> str:
    data = base64.b64encode(png).decode("ascii")
    return f'<img src="data:image/png;base64,{data}" alt="{_text(words)}">'


def _loss(report: Any) -> list[str]:
    """As it was written, as a picture of its formula, and as LaTeX."""
    blocks = [f"<p><code>{_text(report.loss)}</code></p>"] if report.loss else []
    if not report.formula:
        return blocks
    try:
        picture = formula_png(report.formula)
    except ValueError:  # LaTeX of a user's own term
        pass
    else:
        blocks.append(f"<figure>{_image(picture, report.formula)}</figure>")
    return [*blocks, f"<p>minimized: <code>{_text(report.formula)}</code></p>"]


def _model(report: Any) -> list[str]:
    blocks = []
    if report.graph is not None:
        blocks.append(f"<figure>{_image(report.graph, 'the model as a graph')}</figure>")
    head = "".join(f"<th>{name}</th>" for name in _SITES)
    body = []
    for site in report.sites:
        cells = "".join(f"<td>{_text(site.get(name, ''))}</td>" for name in _SITES)
        body.append(f"<tr>{cells}</tr>")
    return [*blocks, _table(head, body)]
