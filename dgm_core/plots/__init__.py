"""Pictures of samples, reconstructions, latent spaces, losses, draws and sequences.

Every function returns a `matplotlib.figure.Figure` that belongs to nobody else: no pyplot, no
global state, no display needed. `save` writes it; a notebook shows it.
"""

from dgm_core.plots.base import save
from dgm_core.plots.curves import loss_curves, rate_distortion
from dgm_core.plots.draws import latent_scatter, pair_plot
from dgm_core.plots.images import reconstructions, restorations, samples_grid, traversals
from dgm_core.plots.sequences import bands, piano_rolls
from dgm_core.plots.swaps import swaps

__all__ = [
    "bands",
    "latent_scatter",
    "loss_curves",
    "pair_plot",
    "piano_rolls",
    "rate_distortion",
    "reconstructions",
    "restorations",
    "samples_grid",
    "save",
    "swaps",
    "traversals",
]
