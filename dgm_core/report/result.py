"""What `report` returns: a table, pictures and draws of a run, to print, to look at, to save."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgm_core import plots
from dgm_core.files import replacing, unused
from dgm_core.report.html import page_html
from dgm_core.report.pictures import page_of
from dgm_core.results import format_table

if TYPE_CHECKING:
    import arviz as az
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["RunReport"]


@dataclass(frozen=True, repr=False)
class RunReport:
    """A run on one page. `print` shows the table; `to_html` and `save` write files.

    Attributes:
        title: what it is about.
        rows: the table: part, quantity, value, s.e. (the standard error) and about (over what).
        figures: name -> picture.
        sites: the sites of the model, a row each.
        loss: as it was written, and formula, as LaTeX; "" where the run does not know its loss.
        graph: the model as the engine renders it, the bytes of a PNG; None without graphviz.
        notes: sentences on what was left out or failed, and on what the numbers must not hide.
        idata: draws and pointwise likelihoods, as ArviZ takes them; None where there are none.

    Example:
        >>> made = RunReport("a run", rows=[{"part": "bounds", "quantity": "ELBO", "value": -3.0}])
        >>> print(made)
        a run
        <BLANKLINE>
        bounds   value
        ------  ------
        ELBO    -3.000
    """

    title: str
    rows: list[dict[str, Any]]
    figures: Mapping[str, Figure] = field(default_factory=dict)
    sites: list[dict[str, Any]] = field(default_factory=list)
    loss: str = ""
    formula: str = ""
    graph: bytes | None = None
    notes: tuple[str, ...] = ()
    idata: az.InferenceData | None = None

    @property
    def table(self) -> pd.DataFrame:
        """The rows as a data frame."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    @property
    def figure(self) -> Figure:
        """All pictures on one page."""
        return page_of(self.figures)

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write one HTML file that opens by itself: pictures inside, nothing from elsewhere, no
        script; returns its path. A file in the way is replaced whole.
        """
        with replacing(path) as file:
            file.write(page_html(self).encode(errors="replace"))
        return Path(path)

    def save(self, folder: str | os.PathLike[str], name: str = "report") -> list[Path]:
        """Write `name` .html, .csv (the table), .png (all pictures on one page) and .nc (for
        `arviz.from_netcdf`), as far as there is something to write; returns their paths.
        """
        base = Path(folder) / name
        written = [self.to_html(base.with_name(f"{name}.html"))]
        written.append(base.with_name(f"{name}.csv"))
        with replacing(written[-1]) as file:
            file.write(self.table.to_csv(index=False).encode(errors="replace"))
        if self.figures:
            written.append(base.with_name(f"{name}.png"))
            plots.save(self.figure, written[-1])
        if self.idata is not None:
            written.append(base.with_name(f"{name}.nc"))
            write_netcdf(self.idata, written[-1])
        return written

    def __repr__(self) -> str:
        blocks = [self.title]
        for part in dict.fromkeys(row["part"] for row in self.rows):
            rows = [row for row in self.rows if row["part"] == part]
            known = [n for n in rows[0] if any(row[n] == row[n] and row[n] != "" for row in rows)]
            blocks.append(format_table([_shown(row, known) for row in rows]))
        blocks += [format_table(self.sites)] if self.sites else []
        blocks += ["\n".join(self.notes)] if self.notes else []
        return "\n\n".join(blocks)


def write_netcdf(idata: Any, path: Path) -> None:
    """Write draws for ArviZ beside the old file, which stays where that fails."""
    temporary = unused(path)
    try:
        idata.to_netcdf(str(temporary))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _shown(row: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """The columns that are known of some row, under the name of the part; a standard error that is
    not is left out."""
    rest = {n: x for n, x in row.items() if n in known and n not in ("part", "quantity")}
    if "s.e." in rest and rest["s.e."] != rest["s.e."]:
        rest["s.e."] = None
    return {row["part"]: row["quantity"], **rest}
