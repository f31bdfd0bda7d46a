"""What is pinned for the tests must install wherever the package does."""

import re
import tomllib
from importlib.metadata import distribution

from packaging.specifiers import SpecifierSet

from tests.source_tree import ROOT


def test_pins_install_on_the_oldest_python() -> None:
    """Each pinned release allows the first Python that pyproject.toml promises."""
    promised = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    oldest = re.fullmatch(r">=\s*(\d+\.\d+)", promised)
    assert oldest, promised
    names = [
        line.split("==")[0]
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    ]
    allowed = {name: distribution(name).metadata.get("Requires-Python") or "" for name in names}
    too_new = {
        name: versions
        for name, versions in allowed.items()
        if not SpecifierSet(versions).contains(f"{oldest[1]}.0")
    }
    assert names and not too_new, f"Pin releases that also run on Python {oldest[1]}.0: {too_new}."
