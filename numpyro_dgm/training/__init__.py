"""Training: `fit` and what it takes and returns."""

from dgm_core.training.bucketed import Bucketed
from dgm_core.training.recipes import Recipe
from dgm_core.training.unpaired import Unpaired
from numpyro_dgm.nn.optimizers import Adam
from numpyro_dgm.training.batches import binarize
from numpyro_dgm.training.fit import fit
from numpyro_dgm.training.run import NonFiniteError, Run, load_run

__all__ = [
    "Adam",
    "Bucketed",
    "NonFiniteError",
    "Recipe",
    "Run",
    "Unpaired",
    "binarize",
    "fit",
    "load_run",
]
