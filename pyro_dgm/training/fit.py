"""The training loop: arguments, checks, epochs, and the run that comes out."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine

from dgm_core.energies import restarted
from dgm_core.structure import with_choice
from dgm_core.training.arguments import (
    check_arguments,
    check_callbacks,
    check_rates,
    check_schedules,
    check_validation,
)
from dgm_core.training.batches import check_accepts, check_same_form, is_in_memory
from dgm_core.training.checkpoint import usable_folder
from dgm_core.training.epochs import Plan
from dgm_core.training.patience import Patience
from dgm_core.training.progress import Progress
from dgm_core.training.recipes import with_recipe
from dgm_core.training.resuming import held, record
from dgm_core.training.saved import seen
from dgm_core.training.threads import one_at_a_time
from pyro_dgm.losses import ELBO, Loss
from pyro_dgm.nn.modes import owners
from pyro_dgm.nn.optimizers import Adam, check_optimizer
from pyro_dgm.training import resuming
from pyro_dgm.training.batches import Arrays, Stream
from pyro_dgm.training.checks import (
    check_compared,
    check_observations,
    check_pair,
    check_states,
    types_explained,
)
from pyro_dgm.training.parallel import Workers, undisturbed
from pyro_dgm.training.run import Run
from pyro_dgm.training.step import Step, discover
from pyro_dgm.training.trainer import Trainer
from pyro_dgm.training.updates import Updates
from pyro_dgm.training.validating import Validation
from pyro_dgm.training.weights import device_of, networks_of

__all__ = ["fit"]

_OWN = ("alone", "said", "settled", "recipe")  # what is no argument


@one_at_a_time
def fit(
    model: Callable,
    guide: Callable | None,
    data: Any,
    *,
    loss: Loss | None = None,
    optim: Any = None,
    num_epochs: int | None = None,
    num_steps: int | None = None,
    batch_size: int | None = None,
    drop_last: bool = False,
    validation: Any = None,
    validation_loss: Loss | None = None,
    patience: int | None = None,
    clip_norm: float | None = None,
    lr_schedule: Callable[[Any], Any] | None = None,
    average: float | None = None,
    transform: Callable | None = None,
    callbacks: Iterable[Callable[[Run], Any]] = (),
    checkpoint: Any = None,
    resume: bool = True,
    checkpoint_every: int = 1,
    seed: int = 0,
    progress: bool = True,
    device: Any = None,
    vectorize: bool | None = None,
    compile: bool | str = "auto",
) -> Run:
    """Train a model and its guide on data:  minimize  loss(model, guide, batch) / data size  over
    epochs of minibatches.

    Works on any model/guide pair with plates, subsampling, global latents, free parameters and
    networks, and with stock automatic guides.  Parameters are updated in place where the backend
    has places, and returned in `Run.params`.

    Args:
        model, guide: callables that take the batch; the guide may be left out (None) when the loss
            needs none.
        data: an array, called as model(batch); a tuple of arrays, called as model(*batch), of equal
            lengths but for `Unpaired(x, y)`, sequences as `Bucketed(x, lengths)`; a dict, called as
            model(**batch); or any iterable of such batches, or a callable that returns
            one, run through once per epoch. Arrays are moved to the device once and shuffled there.
        loss: what is minimized, a sum of terms; ELBO() when left out.
        optim: Adam(1e-3), or the `Recipe` of a guide that has one, when left out; or any optimizer
            of the backend.  A recipe also says clip_norm, lr_schedule, the particles of the loss
            and num_steps where these are left out.
        num_epochs: passes through the data in all, also when a run is resumed; 1 when left out.
        num_steps: steps in all, instead of epochs.  An "epoch" is then a whole number of passes, as
            many as give a run of about a hundred epochs (a hundredth of the steps where nobody
            knows how many batches a pass has): so often there is a row of the history, validation,
            callbacks, and what `patience` and `checkpoint_every` count.
        batch_size: rows per step; None is all of them.
        drop_last: leave out the last, smaller batch of an epoch (other rows in every epoch).
        validation: data of the same form as `data`; scored after every epoch in evaluation mode,
            with the same random numbers every time.  The run ends with the weights that scored
            best.
        validation_loss: what is scored on `validation`; when left out ELBO(), of the sites that the
            loss enumerates, with ln Z as terms of the loss estimate it.
        patience: stop after so many epochs without a better validation score.
        clip_norm: the gradient over all parameters is scaled down to this global norm where it is
            longer.
        lr_schedule: factor on the learning rate as a function of the step, a Schedule or a
            callable.
        average: decay of the moving average of the weights, e.g. 0.999, after n steps at most
            n / (n + 9), and 0 after the first; validation and the end of the run use the average.
        transform: changes every training batch on the device, e.g. `binarize`.
        callbacks: called with the Run after every epoch; one that returns True stops the training.
        checkpoint: folder for `last.npz`, written every `checkpoint_every` epochs and at the end; a
            run that finds it there goes on from it and ends in the same numbers as one that was
            never interrupted.  A run of `num_steps` that ended within a pass can be made longer;
            in Pyro its draws are then others than those of the longer run at once.
        resume: False starts afresh although there is a checkpoint.
        seed: decides the shuffling and all random draws; the global random state is left as it was.
        progress: one progress line: loss, validation, best epoch, and the terms that fit.
        device: where to train; the device of the parameters when left out.
        vectorize: whether the particles of a loss run at once (True) or one after the other
            (False); None chooses.
        compile: True, False or "auto": compile the step when the run is long enough to repay it.

    Returns:
        Run.

    Raises:
        ValueError: bad arguments or data, observations outside their support, a guide that does not
            fit the model.
        NonFiniteError: the loss, a weight, a running statistic, a critic, the state of an optimizer
            or the validation score became NaN or infinite; names site, step and epoch, and all is
            as it was before that step.
        CheckpointError: the checkpoint cannot be read, belongs to a run with other arguments, or
            cannot be written, and then holds the run as `error.run`.

    Example:
        >>> from pyro_dgm.models import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> x = torch.ones(20, 4)
        >>> run = fit(vae.model, vae.guide, x, batch_size=5, num_epochs=2, progress=False)
        >>> run.epoch, run.history.column("step")
        (2, array([4., 8.]))
    """
    check_validation(validation, validation_loss)
    said = {
        "loss": loss,
        "optim": optim,
        "clip_norm": clip_norm,
        "lr_schedule": lr_schedule,
        "num_epochs": num_epochs,
        "num_steps": num_steps,
    }
    settled, recipe = with_recipe(guide, said, ELBO, Adam)
    loss, optim, clip_norm, num_steps = (
        settled[name] for name in ("loss", "optim", "clip_norm", "num_steps")
    )
    loss = with_choice(loss, vectorize)
    if validation_loss is None and isinstance(loss, Loss):  # another one is refused below
        validation_loss = sum(
            (0.0 * term for _, term in loss.terms if term.log_zs), ELBO(enumerate=loss.enumerated)
        )
    validation_loss = with_choice(validation_loss, vectorize)
    optim = check_optimizer(optim)
    callbacks, alone = check_callbacks(callbacks), guide is None
    guide = _default_guide(model, loss) if guide is None else guide
    arguments = {name: value for name, value in locals().items() if name not in _OWN}
    check_arguments(arguments, Loss)
    given = {**arguments, "guide": None} if alone else arguments
    folder = None if checkpoint is None else usable_folder(checkpoint)
    workers = Workers(device)
    with undisturbed() as user_validates:
        place = workers.device or device_of(owners(model, guide)) or torch.get_default_device()
        source: Arrays | Stream
        if is_in_memory(data):
            source = Arrays(data, batch_size, drop_last=drop_last, device=place)
        else:
            source = Stream(data, num_epochs or 1, device=place)
        plan = Plan(num_epochs, num_steps, source.num_batches)
        if recipe is not None:
            lr_schedule = recipe.schedule(plan.num_steps)
            arguments["lr_schedule"] = given["lr_schedule"] = lr_schedule
        seeds = np.random.SeedSequence((seed % 2**64, 0)).generate_state(2)
        pyro.set_rng_seed(int(seeds[0]))
        example = source.first()
        if transform is not None:
            check_accepts("transform", transform, (example,), {})
        example = example.transformed(transform)
        for name, function in (("model", model), ("guide", guide)):
            check_accepts(name, function, *example.call)
        if lr_schedule is not None:
            check_rates(lr_schedule, plan.num_steps or 1000)
        check_schedules(loss.schedules, plan.num_steps or 1000, torch.tensor)
        networks = networks_of(model, guide, *example.call, workers.device)
        found = device_of(networks)
        if workers.device is None and found not in (None, place):
            source.to(found)  # this run has shown where the parameters are
            place, example = found, example.to(found)
            networks = networks_of(model, guide, *example.call)
        with types_explained(example.arrays):
            parameters, states = discover(model, guide, networks, loss, example, source.num_data)
        with parameters.installed():
            step = Step(model, guide, loss, parameters, source.num_data)
            step.states = states
            if isinstance(source, Arrays):
                check_pair(step, source, transform)
            check_observations(step, source, transform, validated=user_validates)
            if alone:
                check_compared(step, example)
            validate = None
            if validation is not None:
                score = Step(model, guide, validation_loss, parameters)
                score.states = states
                held_out = (
                    Arrays(validation, example.size, shrink=True, name="validation", device=place)
                    if is_in_memory(validation)
                    else Stream(validation, plan.num_epochs, name="validation", device=place)
                )
                first = held_out.first()
                check_same_form(example.form, example.arrays, first.form, first.arrays)
                check_observations(score, held_out, validated=user_validates)
                validate = Validation(score, held_out, int(seeds[1]))
            updates = Updates(
                optim,
                parameters.distinct,
                clip_norm=clip_norm,
                lr_schedule=lr_schedule,
                average=average,
            )
            check_states(loss, validation_loss, updates)
            whole = source.arrays if isinstance(source, Arrays) else None
            remembered = seen(example.form, example.arrays, whole, source.num_data)
            trainer = Trainer(
                step,
                parameters,
                updates,
                source,
                transform=transform,
                seed=seed % 2**64,
                plan=plan,
                validate=validate,
                patience=Patience(patience),
                config=record({**arguments, "num_epochs": plan.num_epochs, "seen": remembered}),
                identity=resuming.identity(given, parameters.sites) if folder else {},
                workers=workers,
                functions=(model, guide),
                example=example,
                compile=compile,
                user_validates=user_validates,
            )
            with held(folder if workers.first else None):
                if folder is not None and resume:
                    trainer.restore(folder)
                if parameters.restarted and not trainer.num_steps:
                    warnings.warn(
                        f"Pyro's parameter store holds other values of {parameters.restarted}; "
                        "this fit starts from those that pyro.param states. To go on from the "
                        "store's, state them there.",
                        UserWarning,
                        stacklevel=2,
                    )
                shown = progress and workers.first
                with Progress(plan.num_steps, done=trainer.num_steps, enabled=shown) as bar:
                    run = trainer.run(
                        bar,
                        callbacks=callbacks,
                        checkpoint=folder,
                        checkpoint_every=checkpoint_every,
                    )
    if lost := restarted(run.history):
        warnings.warn(lost, UserWarning, stacklevel=2)
    return run


def _default_guide(model: Callable, loss: Loss) -> Callable:
    """The guide where none is given: the latent sites as the model draws them for a loss that needs
    no guide, and nothing for any other.
    """
    if not callable(model) or not isinstance(loss, Loss) or loss.needs_guide:
        return _draws_nothing
    return poutine.block(
        model, hide_fn=lambda site: site["type"] == "sample" and site["is_observed"]
    )


def _draws_nothing(*args: Any, **kwargs: Any) -> None:
    """The guide of a model without latent sites."""
