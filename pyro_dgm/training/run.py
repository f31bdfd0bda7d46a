"""What `fit` returns: a model and a guide with weights of their own, also as a file; and the error
where a number is not finite.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from pyro import poutine
from torch import Tensor, nn

from dgm_core.arguments import check_instance
from dgm_core.results import History
from dgm_core.training.batches import Form
from dgm_core.training.checkpoint import CheckpointError
from dgm_core.training.saved import (
    called_with,
    check_arrays,
    check_terms_kept,
    read_run,
    split_terms,
    unrunnable,
    write_run,
)
from pyro_dgm.losses import Loss
from pyro_dgm.nn.modes import owners
from pyro_dgm.training import resuming
from pyro_dgm.training.weights import device_of, held_by_networks, networks_met, run_once

__all__ = ["NonFiniteError", "Run", "load_run"]


@dataclass(repr=False)
class Run:
    """A trained model and guide, with all that evaluation needs.

    A run is self-contained: it is evaluated on its own weights, whatever happens to the networks,
    the parameter store or the guide afterwards. It can be pickled where its model and guide can.

    Attributes:
        model, guide: the callables that were fitted.
        params: the value of every parameter as model and guide see it, by name.
        history: the metrics, one row per epoch.
        config: the arguments of `fit`; under "seen" what is remembered of the data: form, types
            and shapes of a batch and a fingerprint, but no value.
        data_size: the number of data.
        epoch: how many are done.
        best_epoch: the one whose weights these are.
        mutable_state: what is held besides: running statistics and what guides find but do not
            learn; in Pyro all tensors of the networks, by their number and the path inside.
        term_state: what the terms of the loss keep, by name; `loss.critics(run.term_state)` reads
            the critics.
        networks: in Pyro the networks whose tensors these are; empty in NumPyro.
        loss: what was minimized; None in a copy by pickle, and in a run that was read without it.
    """

    model: Callable
    guide: Callable
    params: dict[str, Any]
    history: History
    config: dict[str, Any]
    data_size: int | None
    epoch: int = 0
    best_epoch: int = 0
    mutable_state: dict[str, Any] = field(default_factory=dict)
    term_state: dict[str, Any] = field(default_factory=dict)
    networks: tuple[Any, ...] = ()
    loss: Loss | None = None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the run to a file for `load_run`: weights, running statistics, history,
        configuration and what the terms of the loss keep; neither code nor data.

        Raises:
            CheckpointError: where it cannot be written; a file of that name is then as it was.
        """
        arrays = _arrays(self.params, self.mutable_state)
        plain = {name: _to_numpy(x) for name, x in arrays.items()}
        if self.term_state:
            plain |= resuming.to_arrays({"terms": self.term_state})
        write_run(path, "pyro_dgm", plain, vars(self))

    def __getstate__(self) -> dict[str, Any]:
        """Without the loss, whose schedules may be functions that cannot be pickled."""
        return {**vars(self), "loss": None}

    def __repr__(self) -> str:
        total = f" of {self.config['num_epochs']}" if "num_epochs" in self.config else ""
        parts = [f"epoch {self.epoch}{total}"]
        if len(self.history):
            shown = {
                name: value
                for name, value in self.history.last.items()
                if name not in ("epoch", "seconds") and "/" not in name
            }
            parts += [f"{name} {value:.6g}" for name, value in shown.items()]
        return f"Run({', '.join(parts)})"


class NonFiniteError(ArithmeticError):
    """The loss, a gradient or a weight became NaN or infinite.

    Attributes:
        site: the first site with a number that is not finite (None when there is none).
        step, epoch:
        run: a Run with the last good weights.
    """

    def __init__(self, message: str, *, site: str | None, step: int, epoch: int, run: Run) -> None:
        super().__init__(message)
        self.site, self.step, self.epoch, self.run = site, step, epoch, run


def load_run(
    path: str | os.PathLike[str],
    model: Callable,
    guide: Callable | None,
    *,
    data: Any = None,
    loss: Loss | None = None,
) -> Run:
    """Read what `Run.save` wrote; no code of the file is run.

    Model and guide are called once, on numbers of the types and shapes of the data of the fit, to
    find their parameters, and so that an automatic guide sets itself up. They keep the weights that
    they have: the run brings its own.

    Args:
        path: the file.
        model, guide: those of the fit; the guide None where the fit had none.
        data: what model and guide are called with instead, in any form that `fit` takes, for those
            that cannot be called with arbitrary numbers.
        loss: that of the fit, where what its terms keep is wanted, such as critics:
            `loss.critics(run.term_state)`. Without it the run has no term_state and no loss.

    Raises:
        CheckpointError: the file is missing, damaged, of the other backend, or of another model,
            guide or loss, or these cannot be called.

    Example:
        >>> import tempfile
        >>> from pyro_dgm import VAE, fit
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> run = fit(vae.model, vae.guide, np.ones((9, 4)), progress=False)
        >>> path = os.path.join(tempfile.mkdtemp(), "vae.run")
        >>> run.save(path)
        >>> load_run(path, vae.model, vae.guide).epoch
        1
    """
    if loss is not None:
        check_instance("loss", loss, Loss, "that of the fit, or None")
    arrays, fields = read_run(path, "pyro_dgm")
    arrays, kept = split_terms(arrays)
    guide = _prior_of(model) if guide is None else guide
    if data is None:
        kind, names, values = called_with(path, fields["config"])
        form = Form(kind, names)
    else:
        form, values = Form.of(data)
    place = device_of(owners(model, guide)) or torch.get_default_device()
    try:
        of_guide, of_model, networks = _found(model, guide, *form.call(_inputs(values, place)))
    except Exception as error:
        raise CheckpointError(unrunnable(path, error)) from error
    if not any(name in arrays for name in _arrays(of_guide, {})):
        of_guide = {}  # a loss that does not need the guide has not trained it
    like = _arrays({**of_guide, **of_model}, held_by_networks(networks))
    check_arrays(path, arrays, like)
    found: dict[str, dict[str, Tensor]] = {"params": {}, "state": {}}
    for name, array in arrays.items():
        kind, _, own = name.partition("/")
        found[kind][own] = _to_tensor(array, like[name])
    states = resuming.from_arrays(kept)["terms"] if kept and loss is not None else {}
    if loss is not None:
        check_terms_kept(path, dict.fromkeys(states, ""), dict.fromkeys(loss.stateful, ""))
        for name, term in loss.stateful.items():
            try:
                term.critic_in(states[name])
            except (RuntimeError, KeyError):
                check_terms_kept(path, {name: "another critic"}, {})
    return Run(
        model=model,
        guide=guide,
        params=found["params"],
        mutable_state=found["state"],
        term_state=states,
        networks=networks,
        loss=loss,
        **fields,
    )


def _prior_of(model: Callable) -> Callable:
    """The guide that draws the latent sites as the model does."""
    return poutine.block(
        model, hide_fn=lambda site: site["type"] == "sample" and site["is_observed"]
    )


def _found(
    model: Callable, guide: Callable, args: tuple, kwargs: dict[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Tensor], tuple[nn.Module, ...]]:
    """The parameters of the guide, those of the model, and their networks."""
    with networks_met(model, guide) as networks:
        guide_trace, model_trace = run_once(model, guide, args, kwargs)
    of_guide, of_model = (
        {
            name: site["value"].detach()
            for name, site in trace.nodes.items()
            if site["type"] == "param"
            and (site["value"].requires_grad or not isinstance(site["value"], nn.Parameter))
        }
        for trace in (guide_trace, model_trace)
    )
    return of_guide, of_model, tuple(networks)


def _arrays(params: Mapping[str, Tensor], held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All tensors of a run by the names that they have in its file."""
    return {
        **{f"params/{name}": value for name, value in params.items()},
        **{f"state/{name}": value for name, value in held.items()},
    }


def _to_numpy(value: Tensor) -> np.ndarray:
    value = value.detach().cpu()
    return (value.view(torch.int16) if value.dtype == torch.bfloat16 else value).numpy()


def _to_tensor(array: np.ndarray, like: Tensor) -> Tensor:
    value = torch.from_numpy(array.copy()).to(like.device)
    return value.view(torch.bfloat16) if like.dtype == torch.bfloat16 else value


def _inputs(values: tuple, device: torch.device) -> tuple:
    """Arrays as tensors on the device, real numbers in torch's default type."""

    def tensor(x: Any) -> Any:
        if not isinstance(x, np.ndarray | Tensor):
            return x
        x = torch.as_tensor(x, device=device)
        return x.to(torch.get_default_dtype()) if x.is_floating_point() else x

    return tuple(map(tensor, values))
