"""The documentation site: `make docs` builds it into build/docs, and a warning is an error."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import pages  # noqa: E402

project = "pyro_dgm and numpyro_dgm"
author = "the ppl-dgm authors"
html_show_copyright = False
extensions = [
    "myst_nb",
    "sphinx_design",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
]
html_theme = "furo"
html_title = "Deep generative models in Pyro and NumPyro"
exclude_patterns = ["README.md"]
myst_enable_extensions = ["colon_fence", "dollarmath", "amsmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # `make notebooks` executes them
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Shapes", "Cost", "Logged", "Names", "Groups", "Fields", "Limits"]
pages.write(HERE)


def setup(app):
    """Docstrings are plain text: formulas with * and | in them are no markup."""
    app.connect("autodoc-process-docstring", lambda *args: pages.escape(args[-1]), priority=400)
