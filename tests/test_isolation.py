"""Either twin works where the other's libraries are not installed, the core works without both, and
importing a package changes nothing outside it.
"""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.source_tree import LIBRARIES, PACKAGES, ROOT, imports, module_name, sources, top

ABSENT = """
import sys

class Without:
    \"\"\"A finder that does not find the blocked libraries, as if they were not installed.\"\"\"
    def __init__(self, finder, blocked):
        self.finder, self.blocked = finder, blocked
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.blocked:
            return None
        return self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)

blocked = {blocked!r}
sys.meta_path[:] = [Without(finder, blocked) for finder in sys.meta_path]
"""

WORK = {
    "dgm_core": """
        import numpy as np
        from dgm_core.data import load
        from dgm_core.diagnostics import summary
        assert load("digits").train.shape[1] == 64
        print(summary(np.random.default_rng(0).normal(size=(64, 5))))
    """,
    "pyro_dgm": """
        import math
        import torch
        from pyro_dgm.losses import ELBO
        from pyro_dgm.models import VAE
        from pyro_dgm.training import fit
        vae = VAE(6, 2, hidden=(8,))
        x = (torch.rand(20, 6) < 0.5).float()
        run = fit(vae.model, vae.guide, x, loss=ELBO(), num_epochs=2, batch_size=10, progress=False)
        assert math.isfinite(run.history.last["loss"])
    """,
    "numpyro_dgm": """
        import math
        import jax
        from numpyro_dgm.losses import ELBO
        from numpyro_dgm.models import VAE
        from numpyro_dgm.training import fit
        vae = VAE(6, 2, hidden=(8,), key=jax.random.key(0))
        x = jax.random.bernoulli(jax.random.key(1), 0.5, (20, 6)).astype(float)
        run = fit(vae.model, vae.guide, x, loss=ELBO(), num_epochs=2, batch_size=10, progress=False)
        assert math.isfinite(run.history.last["loss"])
    """,
}

SNAPSHOT = """
import importlib, logging, os, random, sys, warnings
import numpy as np

def snapshot():
    state = {
        "random": random.getstate(),
        "numpy": np.random.get_state()[1].tobytes(),
        "numpy errors": np.geterr(),
        "numpy print options": np.get_printoptions(),
        "warning filters": list(warnings.filters),
        "environment": dict(os.environ),
        "logging": (logging.root.level, list(logging.root.handlers)),
        "working directory": os.getcwd(),
        "excepthook": sys.excepthook,
    }
    if "torch" in sys.modules:
        import torch
        state |= {
            "torch seed": torch.get_rng_state().numpy().tobytes(),
            "torch dtype": torch.get_default_dtype(),
            "torch threads": torch.get_num_threads(),
            "torch device": torch.get_default_device(),
            "torch gradients": torch.is_grad_enabled(),
            "torch precision": torch.get_float32_matmul_precision(),
            "torch validation": torch.distributions.Distribution._validate_args,
        }
    if "pyro" in sys.modules:
        import pyro
        state |= {"pyro parameters": list(pyro.get_param_store().keys())}
        state |= {"pyro settings": pyro.settings.get()}
    if "jax" in sys.modules:
        import jax
        state |= {"jax configuration": dict(jax.config.values)}
    if "numpyro" in sys.modules:
        import numpyro
        state |= {"numpyro validation": numpyro.distributions.Distribution._validate_args}
    return state

for name in LIBRARIES:  # what other people's libraries change on import is theirs
    importlib.import_module(name)
before = snapshot()
for name in MODULES:
    importlib.import_module(name)
after = snapshot()
changed = [name for name in before if before[name] != after[name]]
assert not changed, f"importing changed: {changed}"
"""


def run_python(code: str, folder: Path) -> None:
    """Run code in a fresh interpreter that starts elsewhere, so that nothing lying in the
    repository's root is found by accident.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def modules(package: str) -> list[str]:
    return [module_name(path) for path in sources(package)]


@pytest.mark.parametrize("package", PACKAGES)
def test_works_without_the_libraries_of_the_others(package: str, tmp_path: Path) -> None:
    blocked = set().union(
        *(libraries for twin, libraries in LIBRARIES.items() if twin != package)
    ) | set(LIBRARIES) - {package}
    load_all = (
        f"import importlib\nfor name in {modules(package)!r}: importlib.import_module(name)\n"
    )
    check = "assert not {name.partition('.')[0] for name in sys.modules} & blocked\n"
    run_python(
        ABSENT.replace("{blocked!r}", repr(blocked))
        + load_all
        + textwrap.dedent(WORK[package])
        + check,
        tmp_path,
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_changes_no_global_state(package: str, tmp_path: Path) -> None:
    files = [*sources("dgm_core"), *sources(package)]
    libraries = sorted(
        {name for path in files for name in imports(path) if top(name) not in PACKAGES}
    )
    run_python(f"LIBRARIES = {libraries!r}\nMODULES = {modules(package)!r}\n{SNAPSHOT}", tmp_path)


IMPORTING = """
import importlib, random, warnings
import numpy as np
state = lambda: (list(warnings.filters), np.random.get_state()[1].tobytes(), random.getstate(),
                 np.geterr(), warnings.showwarning)
before = state()
importlib.import_module("{module}")
names = ("filters", "numpy's seed", "Python's seed", "numpy's errors", "showwarning")
changed = [name for name, old, new in zip(names, before, state()) if old != new]
assert not changed, f"importing changed: {{changed}}"
"""


@pytest.mark.parametrize("module", ["dgm_core.cli", "pyro_dgm", "numpyro_dgm"])
def test_importing_undoes_what_the_libraries_change(module: str, tmp_path: Path) -> None:
    """When they are imported for the first time, by us."""
    run_python(IMPORTING.format(module=module), tmp_path)
