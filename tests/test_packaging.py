"""What is pinned for the tests must install wherever the package does."""

import re
import tomllib
from importlib.metadata import distribution

import yaml
from packaging.specifiers import SpecifierSet

from tests.source_tree import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_pins_install_on_the_oldest_python() -> None:
    """Each pinned release allows the first Python that pyproject.toml promises."""
    promised = PROJECT["requires-python"]
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


def test_hosted_runs_use_targets_extras_and_pythons_that_there_are() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())["jobs"]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for job in jobs.values():
        matrix = job.get("strategy", {}).get("matrix", {})
        for python in matrix.get("python", ()):
            assert SpecifierSet(PROJECT["requires-python"]).contains(f"{python}.0"), python
        for included in matrix.get("include", ()):
            assert included["extras"] in PROJECT["optional-dependencies"]
        for step in job["steps"]:
            if run := step.get("run"):
                names = {
                    run.replace("${{ matrix.backend }}", backend).split()[1]
                    for backend in matrix.get("backend", [""])
                }
                assert run.startswith("make ") and names <= targets, run


def test_hooks_call_the_pinned_tools() -> None:
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repo["repo"] == "local"
    pinned = {re.split(r"[=><]", line)[0] for line in PROJECT["optional-dependencies"]["dev"]}
    called = [hook["entry"].split() for hook in repo["hooks"] if hook["language"] == "system"]
    assert {words[0] for words in called} == {".venv/bin/python"}
    assert {words[2] for words in called} == {"ruff", "mypy", "jupytext"} <= pinned
