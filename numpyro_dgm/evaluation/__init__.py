"""What is asked of a trained model and guide: importance weights, draws, predictions, and the way
into ArviZ.

Every function takes a run (what `fit` returns, or any object with `.model` and `.guide`) and data
in
any form that `fit` takes, and returns numpy arrays. It works in evaluation mode, on the run's own
weights, and leaves everything else as it was.
"""

from numpyro_dgm.evaluation.annealing import ais, bdmc
from numpyro_dgm.evaluation.arviz import to_arviz
from numpyro_dgm.evaluation.calibration import calibrate
from numpyro_dgm.evaluation.classes import class_probabilities
from numpyro_dgm.evaluation.codes import codes
from numpyro_dgm.evaluation.collapse import collapse
from numpyro_dgm.evaluation.draws import generate, latents, reconstruct
from numpyro_dgm.evaluation.energies import annealed_log_z, normalized
from numpyro_dgm.evaluation.filtering import particle_filter, particle_smoother
from numpyro_dgm.evaluation.forecasts import forecast
from numpyro_dgm.evaluation.gaps import inference_gaps
from numpyro_dgm.evaluation.geometry import pullback, surface
from numpyro_dgm.evaluation.groups import global_log_weights, local_log_weights
from numpyro_dgm.evaluation.likelihood import log_likelihood
from numpyro_dgm.evaluation.nuts import nuts
from numpyro_dgm.evaluation.prediction import predict, prior_predictive
from numpyro_dgm.evaluation.priors import fit_prior
from numpyro_dgm.evaluation.replaced import with_prior
from numpyro_dgm.evaluation.reporting import report
from numpyro_dgm.evaluation.resampling import resample
from numpyro_dgm.evaluation.restoring import restore
from numpyro_dgm.evaluation.studies import compare_guides
from numpyro_dgm.evaluation.summaries import median, quantiles, sample_posterior
from numpyro_dgm.evaluation.surgery import elbo_surgery, rate_distortion
from numpyro_dgm.evaluation.swaps import swap
from numpyro_dgm.evaluation.traversals import interpolate, traverse
from numpyro_dgm.evaluation.weights import log_weights

__all__ = [
    "ais",
    "annealed_log_z",
    "bdmc",
    "calibrate",
    "class_probabilities",
    "codes",
    "collapse",
    "compare_guides",
    "elbo_surgery",
    "fit_prior",
    "forecast",
    "generate",
    "global_log_weights",
    "inference_gaps",
    "interpolate",
    "latents",
    "local_log_weights",
    "log_likelihood",
    "log_weights",
    "median",
    "normalized",
    "nuts",
    "particle_filter",
    "particle_smoother",
    "predict",
    "prior_predictive",
    "pullback",
    "quantiles",
    "rate_distortion",
    "reconstruct",
    "report",
    "resample",
    "restore",
    "sample_posterior",
    "surface",
    "swap",
    "to_arviz",
    "traverse",
    "with_prior",
]
