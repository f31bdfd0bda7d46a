"""What `fit` returns: a model and a guide with weights of their own, also as a file; and the error
where a number is not finite.
"""

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from numpyro.distributions.distribution import validation_enabled
from numpyro.handlers import block, replay, seed, trace

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
from numpyro_dgm.losses import Loss
from numpyro_dgm.nn import evaluation_mode
from numpyro_dgm.nn.register import Place, is_held, shared_places, tied
from numpyro_dgm.training import resuming

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
        arrays = _arrays(self.params, self.mutable_state, self.term_state)
        write_run(
            path,
            "numpyro_dgm",
            {name: resuming.to_numpy(x) for name, x in arrays.items()},
            vars(self),
        )

    def __getstate__(self) -> dict[str, Any]:
        """Bound methods as module and name: equinox gives them annotations, which do not pickle.
        Without the loss, whose schedules may be functions that cannot be pickled.
        """
        return {**{name: _method(value) for name, value in vars(self).items()}, "loss": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value.bound() if isinstance(value, _Method) else value)

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
        >>> from numpyro_dgm import VAE, fit
        >>> vae = VAE(4, 2, hidden=(8,), key=jax.random.key(0))
        >>> run = fit(vae.model, vae.guide, np.ones((9, 4)), progress=False)
        >>> path = os.path.join(tempfile.mkdtemp(), "vae.run")
        >>> run.save(path)
        >>> load_run(path, vae.model, vae.guide).epoch
        1
    """
    if loss is not None:
        check_instance("loss", loss, Loss, "that of the fit, or None")
    arrays, fields = read_run(path, "numpyro_dgm")
    arrays, kept = split_terms(arrays)
    guide = _prior_of(model) if guide is None else guide
    if data is None:
        kind, names, values = called_with(path, fields["config"])
        form = Form(kind, names)
    else:
        form, values = Form.of(data)
    try:
        of_guide, of_model, held, shared = _found(model, guide, *form.call(values))
    except Exception as error:
        raise CheckpointError(unrunnable(path, error)) from error
    if not any(name in arrays for name in _arrays(of_guide, {})):
        of_guide = {}  # a loss that does not need the guide has not trained it
    params = {**of_guide, **of_model}
    like = _arrays(params, held)
    check_arrays(path, arrays, like)
    new = iter([resuming.from_numpy(arrays[name], leaf) for name, leaf in like.items()])
    params, held = (
        jax.tree.map(lambda _: next(new), params),
        jax.tree.map(lambda _: next(new), held),
    )
    known = {one: other for one, other in shared.items() if {one[0], other[0]} <= params.keys()}
    params = tied(params, known)
    states: dict[str, Any] = {}
    if loss is not None:
        key, (args, kwargs) = jax.random.key(0), form.call(values)
        with evaluation_mode(model, guide), validation_enabled(False):
            joints = loss.joints(key, params, model, guide, args, kwargs, mutable_state=held)
            states = loss.init_states(joints, key)
        wanted = _arrays({}, {}, states)
        check_terms_kept(path, _shapes(kept), _shapes(wanted))
        new = iter([resuming.from_numpy(kept[name], leaf) for name, leaf in wanted.items()])
        states = {name: jax.tree.map(lambda _: next(new), states[name]) for name in sorted(states)}
    return Run(
        model=model,
        guide=guide,
        params=params,
        mutable_state=held,
        term_state=states,
        loss=loss,
        **fields,
    )


def _shapes(arrays: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(np.shape(array)) for name, array in arrays.items()}


class _Method(NamedTuple):
    module: eqx.Module
    name: str

    def bound(self) -> Callable:
        return getattr(self.module, self.name)


def _method(value: Any) -> Any:
    own = getattr(value, "__self__", None)
    if isinstance(value, eqx.Module) and isinstance(own, eqx.Module):
        return _Method(own, value.__name__)  # type: ignore[attr-defined]
    return value


def _prior_of(model: Callable) -> Callable:
    """The guide that draws the latent sites as the model does."""
    return block(model, hide_fn=lambda site: site["type"] == "sample" and site["is_observed"])


def _found(
    model: Callable, guide: Callable, args: tuple, kwargs: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[Place, Place]]:
    """The parameters of the guide, those of the model, what is held beside them, and the arrays
    that modules of two names share.
    """
    shared: dict[Place, Place] = {}
    keys = jax.random.split(jax.random.key(0))
    with evaluation_mode(model, guide), validation_enabled(False), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        guide_trace = trace(seed(guide, keys[0])).get_trace(*args, **kwargs)  # sets itself up

        def learned(of: dict[str, Any]) -> dict[str, Any]:
            return {name: site["value"] for name, site in of.items() if site["type"] == "param"}

        def held(of: dict[str, Any]) -> dict[str, Any]:
            return {name: site["value"] for name, site in of.items() if is_held(site)}

        def run_model() -> tuple[dict[str, Any], dict[str, Any]]:
            own = trace(replay(seed(model, keys[1]), guide_trace)).get_trace(*args, **kwargs)
            shared.update(shared_places(guide_trace, own))
            return learned(own), held(own)

        of_model, beside = jax.eval_shape(run_model)
    return learned(guide_trace), of_model, {**beside, **held(guide_trace)}, shared


def _arrays(
    params: Mapping[str, Any], held: Mapping[str, Any], states: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """All arrays of a run by the names that they have in its file."""
    own = {name: value for name, value in held.items() if not name.startswith("loss$")}
    return {
        f"{kind}/{name}{jax.tree_util.keystr(path)}": leaf
        for kind, trees in (("params", params), ("state", own), ("terms", states or {}))
        for name, tree in sorted(trees.items())
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
