"""What a run leaves behind: the history of its metrics, tables for the eye, JSON and CSV files."""

from __future__ import annotations

import csv
import io
import json
import math
import numbers
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dgm_core.arguments import check_count, refuse
from dgm_core.files import path_of, plain, replacing


class History:
    """One row of metrics per epoch.

    Example:
        >>> rows = [{"epoch": 1, "loss": 9.0}, {"epoch": 2, "loss": 7.5, "validation": 8.0}]
        >>> history = History(rows)
        >>> history.column("validation")
        array([nan,  8.])
        >>> history.best("loss")["epoch"], history.last["loss"], len(history)
        (2, 7.5, 2)
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._rows = [dict(row) for row in rows]

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row: name -> number (or short text)."""
        self._rows.append(dict(row))

    @property
    def columns(self) -> list[str]:
        """The names of all columns, in the order in which they first appeared."""
        return list(dict.fromkeys(name for row in self._rows for name in row))

    @property
    def last(self) -> dict[str, Any]:
        """The newest row. Raises ValueError when there is none."""
        if not self._rows:
            raise ValueError("The history is empty: no epoch has ended yet.")
        return dict(self._rows[-1])

    def column(self, name: str) -> np.ndarray:
        """The numbers of one column, (num_rows,), NaN where a row lacks it. Raises ValueError for
        an unknown name.
        """
        if name not in self.columns:
            raise ValueError(
                f"The history has no column {name!r}; it has "
                f"{', '.join(self.columns) or 'no rows'}."
            )
        values = [np.nan if row.get(name) is None else row[name] for row in self._rows]
        if texts := [value for value in values if isinstance(value, str)]:
            raise ValueError(f"The column {name!r} holds text ({texts[0]!r}), not numbers.")
        return np.array(values, dtype=float)

    def best(self, name: str, *, largest: bool = False) -> dict[str, Any]:
        """The row in which a column is smallest (or largest); rows where it is missing or NaN do
        not count.
        """
        column = self.column(name)
        if np.isnan(column).all():
            raise ValueError(f"Every value of column {name!r} is missing or NaN.")
        return dict(self._rows[int(np.nanargmax(column) if largest else np.nanargmin(column))])

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write all rows as CSV, numbers with all their digits; a file in the way is replaced
        whole.
        """
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {name: _number(value) for name, value in row.items()} for row in self._rows
        )
        with replacing(path) as file:
            file.write(text.getvalue().encode())

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> History:
        """Read what `to_csv` wrote: equal rows come back.

        Raises:
            ValueError: naming the file, when it is no such table or broke off.
        """
        try:
            with open(path, newline="", encoding="utf-8") as file:
                text = file.read()
            names, *rows = csv.reader(io.StringIO(text, newline=""), strict=True) if text else ([],)
            broken = bool(text) and not text.endswith("\n")
            if broken or any(len(row) != len(names) for row in rows):
                raise ValueError(
                    "its rows have different numbers of entries, or the last one no end"
                )
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path} is not a table of metrics: {error}.") from error
        return cls(
            {name: _parse(entry) for name, entry in zip(names, row, strict=True) if entry != ""}
            for row in rows
        )

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(row) for row in self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(self._rows[index])

    def __eq__(self, other: object) -> bool:
        return self._rows == other._rows if isinstance(other, History) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it grows, so it cannot be a key

    def __repr__(self) -> str:
        return format_table(self._rows) if self._rows else "History()"


def format_table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None, digits: int = 3
) -> str:
    """Rows as a text table: numbers to the right with `digits` decimals, text to the left, "-"
    where a value is missing.

    Args:
        rows: one mapping per line, column name -> value.
        columns: which columns, in which order; None takes all in the order in which they first
            appear.

    Raises:
        ValueError: for a column that no row has.

    Example:
        >>> rows = [{"backend": "pyro", "ELBO": -20.5}, {"backend": "numpyro", "ELBO": -9.0}]
        >>> print(format_table(rows, digits=1))
        backend   ELBO
        -------  -----
        pyro     -20.5
        numpyro   -9.0
    """
    digits = check_count("digits", digits, 0)
    if not isinstance(rows, (list, tuple)) or not all(isinstance(row, Mapping) for row in rows):
        refuse("rows", "a sequence of dicts", rows)
    if isinstance(columns, str) or not (columns is None or hasattr(columns, "__iter__")):
        refuse("columns", "a sequence of names", columns)
    present = list(dict.fromkeys(name for row in rows for name in row))
    columns = present if columns is None else list(columns)
    if unknown := [name for name in columns if name not in present]:
        raise ValueError(f"No row has the columns {unknown}; there are {present}.")
    lines = []
    for name in columns:
        values = [row.get(name) for row in rows]
        texts = [name, *(_text(value, digits) for value in values)]
        width = max(map(len, texts))
        right = all(
            value is None or (isinstance(value, numbers.Number) and not isinstance(value, bool))
            for value in values
        )
        texts.insert(1, "-" * width)
        lines.append([text.rjust(width) if right else text.ljust(width) for text in texts])
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*lines, strict=True))


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write JSON, indented; numpy values become numbers and lists, other objects their `repr`.

    A file in the way is replaced whole or, after an error, not at all.
    """
    with replacing(path) as file:
        file.write((json.dumps(content, indent=2, default=plain) + "\n").encode())


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file. Raises ValueError, naming the file, when it is not JSON."""
    try:
        return json.loads(path_of(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a JSON file: {error}.") from error


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, (np.generic, np.ndarray)) else value


def _parse(text: str) -> Any:
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _text(value: Any, digits: int) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):
        number = float(value)
        small = number != 0 and math.isfinite(number) and abs(number) < 0.5 * 10**-digits
        return f"{number:.{digits}g}" if small else f"{number:.{digits}f}"
    return str(value)
