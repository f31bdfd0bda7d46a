"""How good an approximation is, from log importance weights
log w_k = log p(x, z_k) - log q(z_k | x), z_k ~ q.
"""

from dgm_core.diagnostics.bounds import (
    bits_per_dim,
    effective_sample_size,
    evidence_error,
    iwae_bound,
    jvi_bound,
    jvi_coefficients,
)
from dgm_core.diagnostics.codes import CodeMap, CodeUse, code_use
from dgm_core.diagnostics.collapse import Collapse
from dgm_core.diagnostics.khat import KHAT_BANDS, psis_khat
from dgm_core.diagnostics.latents import (
    LatentKL,
    active_units,
    point_mass_message,
    unit_variances,
    unused_message,
)
from dgm_core.diagnostics.report import LogWeights, Report, summary
from dgm_core.diagnostics.running import RunningWeights
from dgm_core.diagnostics.smoothing import (
    Resampled,
    UnreliableWeightsError,
    psis_weights,
    resampled_indices,
    taken,
)
from dgm_core.diagnostics.steps import per_step

__all__ = [
    "KHAT_BANDS",
    "CodeMap",
    "CodeUse",
    "Collapse",
    "LatentKL",
    "LogWeights",
    "Report",
    "Resampled",
    "RunningWeights",
    "UnreliableWeightsError",
    "active_units",
    "bits_per_dim",
    "code_use",
    "effective_sample_size",
    "evidence_error",
    "iwae_bound",
    "jvi_bound",
    "jvi_coefficients",
    "per_step",
    "point_mass_message",
    "psis_khat",
    "psis_weights",
    "resampled_indices",
    "summary",
    "taken",
    "unit_variances",
    "unused_message",
]
