"""Training: `fit` and what it takes and returns."""

from numpyro_dgm.nn.optimizers import Adam
from numpyro_dgm.training.batches import binarize
from numpyro_dgm.training.fit import fit
from numpyro_dgm.training.run import NonFiniteError, Run, load_run

__all__ = ["Adam", "NonFiniteError", "Run", "binarize", "fit", "load_run"]
