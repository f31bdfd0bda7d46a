"""The networks of a VAE as a run has trained them, from which other models start."""

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from pyro.params import param_with_module_name
from torch import nn

from dgm_core.mixtures import check_vae, running_statistics
from pyro_dgm.models.parts import num_data
from pyro_dgm.models.vae.vae import VAE
from pyro_dgm.nn import evaluation_mode
from pyro_dgm.nn.layers import BatchNorm

__all__: list[str] = []  # for the package, not for users


def parts_of_run(run: Any, names: tuple[str, ...]) -> tuple[VAE, dict[str, Any]]:
    """The VAE of a run, and copies of its parts with the weights of the run."""
    vae = check_vae(run, VAE)
    parts = {name: deepcopy(getattr(vae, name)) for name in names}
    for name, part in parts.items():
        if any(isinstance(module, BatchNorm) for module in part.modules()):
            raise ValueError(running_statistics(name))
        for path, weight in part.named_parameters():
            weight.data.copy_(run.params[param_with_module_name(name, path)])
    return vae, parts


def codes_of(vae: VAE, parts: dict[str, Any], x: Any) -> np.ndarray:
    """The means of the codes of data (num_data, x_dim)."""
    weight: nn.Parameter = next(vae.parameters())
    x = torch.as_tensor(np.asarray(x)).to(weight)
    num_data(x, (vae.x_dim,), 1)
    if not torch.isfinite(x).all():
        raise ValueError("x has entries that are not finite: leave these rows out.")
    with torch.no_grad(), evaluation_mode(*parts.values()):
        return parts["posterior"](parts["encoder"](x)).mean.cpu().numpy()
