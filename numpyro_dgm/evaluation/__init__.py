"""What is asked of a trained model and guide: importance weights, draws, predictions, and the way
into ArviZ.

Every function takes a run (what `fit` returns, or any object with `.model` and `.guide`) and data
in
any form that `fit` takes, and returns numpy arrays. It works in evaluation mode, on the run's own
weights, and leaves everything else as it was.
"""

from numpyro_dgm.evaluation.arviz import to_arviz
from numpyro_dgm.evaluation.draws import generate, latents, reconstruct
from numpyro_dgm.evaluation.prediction import predict, prior_predictive
from numpyro_dgm.evaluation.surgery import elbo_surgery
from numpyro_dgm.evaluation.weights import log_weights

__all__ = [
    "elbo_surgery",
    "generate",
    "latents",
    "log_weights",
    "predict",
    "prior_predictive",
    "reconstruct",
    "to_arviz",
]
