"""The training loop: arguments, checks, epochs, and the run that comes out."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import jax
from numpyro.handlers import block

from dgm_core.energies import restarted
from dgm_core.structure import with_choice
from dgm_core.training.arguments import (
    check_arguments,
    check_callbacks,
    check_rates,
    check_schedules,
    check_validation,
)
from dgm_core.training.batches import (
    Form,
    check_accepts,
    check_same_form,
    check_same_rows,
    is_in_memory,
)
from dgm_core.training.checkpoint import usable_folder
from dgm_core.training.epochs import Plan
from dgm_core.training.patience import Patience
from dgm_core.training.progress import Progress
from dgm_core.training.recipes import with_recipe
from dgm_core.training.resuming import held, record
from dgm_core.training.saved import seen
from dgm_core.training.threads import one_at_a_time
from numpyro_dgm.losses import ELBO, Loss
from numpyro_dgm.nn.optimizers import Adam, build_optimizer, check_optimizer
from numpyro_dgm.training import resuming
from numpyro_dgm.training.batches import Arrays, Stream
from numpyro_dgm.training.checks import check_compared, check_observations, check_pair, check_states
from numpyro_dgm.training.compiling import ArrayEpochs, StreamEpochs
from numpyro_dgm.training.guard import Finite
from numpyro_dgm.training.parallel import Placement, refuse_after_fork
from numpyro_dgm.training.run import Run
from numpyro_dgm.training.step import Step, initialize
from numpyro_dgm.training.trainer import Trainer
from numpyro_dgm.training.updates import Updates
from numpyro_dgm.training.validating import Validation

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
        >>> from numpyro_dgm.models import VAE
        >>> vae = VAE(4, 2, hidden=(8,), key=jax.random.key(0))
        >>> x = jnp.ones((20, 4))
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
    refuse_after_fork()
    placement = Placement(device)
    keys = dict(
        zip(
            ("init", "check", "validation", "epochs"),
            jax.random.split(seeded_key(seed), 4),
            strict=True,
        )
    )
    compiled = compile is not False

    source: Arrays | Stream
    if is_in_memory(data):
        source = Arrays(data, batch_size, drop_last=drop_last, put=placement.put)
        placement.check(source.batch_size)
    else:
        source = Stream(data, num_epochs or 1, put=placement.put)
    plan = Plan(num_epochs, num_steps, source.num_batches)
    if recipe is not None:
        lr_schedule = recipe.schedule(plan.num_steps)
        arguments["lr_schedule"] = given["lr_schedule"] = lr_schedule
    form, first = source.first()
    batch = form.build(first)
    init_key, transform_key = jax.random.split(keys["init"])
    if transform is not None:
        check_accepts("transform", transform, (batch,), {"key": transform_key})
    example = batch if transform is None else transform(batch, key=transform_key)
    example_form, example_arrays = Form.of(example)
    if transform is not None:
        check_same_rows(source.batch_size or rows_of(first), example_arrays)
    for name, function in (("model", model), ("guide", guide)):
        check_accepts(name, function, *example_form.call(example_arrays))
    if lr_schedule is not None:
        check_rates(lr_schedule, plan.num_steps or 1000)
    check_schedules(loss.schedules, plan.num_steps or 1000, jax.numpy.asarray)
    whole = source.arrays if isinstance(source, Arrays) else None
    remembered = seen(*Form.of(example), whole, source.num_data)
    params, transforms, mutable = initialize(model, guide, example, init_key, compiled=compiled)
    common: dict[str, Any] = {
        "num_data": source.num_data,
        "batch_size": source.batch_size,
        "spread": placement.spread,
    }
    step = Step(
        model,
        guide,
        loss,
        Updates(
            build_optimizer(optim, lr_schedule),
            clip_norm=clip_norm,
            lr_schedule=lr_schedule,
            average=average,
        ),
        transforms,
        transform=transform,
        **common,
    )
    check_states(loss, validation_loss)
    mutable |= step.init_states(params, mutable, batch, init_key)
    state = placement.put(step.init(params, mutable))
    finite = Finite(state)
    if isinstance(source, Arrays):
        check_pair(step, state, source, keys["check"])
    check_observations(step, state, source, keys["check"])
    if alone:
        check_compared(step, state, batch, keys["check"])

    validate = None
    if validation is not None:
        score = Step(model, guide, validation_loss, step.updates, transforms, **common)
        held_out: Arrays | Stream
        if is_in_memory(validation):
            held_out = Arrays(
                validation,
                source.batch_size or rows_of(first),
                shrink=True,
                name="validation",
                put=placement.put,
            )
        else:
            held_out = Stream(validation, plan.num_epochs, name="validation", put=placement.put)
        check_same_form(example_form, example_arrays, *held_out.first())
        check_observations(score, state, held_out, keys["check"])
        validate = Validation(score, held_out, keys["validation"], compiled=compiled)

    epochs: ArrayEpochs | StreamEpochs
    if isinstance(source, Arrays):
        epochs = ArrayEpochs(step, source, finite, compiled=compiled, repeats=plan.length)
    else:
        epochs = StreamEpochs(step, source, finite, compiled=compiled)
    trainer = Trainer(
        epochs,
        state,
        keys["epochs"],
        plan=plan,
        validate=validate,
        patience=Patience(patience),
        config=record({**arguments, "num_epochs": plan.num_epochs, "seen": remembered}),
        identity=resuming.identity(given, params) if folder else {},
        placement=placement,
    )
    with held(folder):
        if folder is not None and resume:
            trainer.restore(folder)
        with Progress(plan.num_steps, done=trainer.num_steps, enabled=progress) as bar:
            run = trainer.run(
                bar,
                callbacks=callbacks,
                checkpoint=folder,
                checkpoint_every=checkpoint_every,
            )
    if lost := restarted(run.history):
        warnings.warn(lost, UserWarning, stacklevel=2)
    return run


def rows_of(arrays: tuple[Any, ...]) -> int:
    """The number of data in a batch."""
    return next((len(array) for array in arrays if array is not None), 1)


def seeded_key(seed: int) -> jax.Array:
    """A key from all 64 bits of a seed; JAX itself takes the lower half in single precision."""
    lower, upper = seed % 2**32, seed // 2**32 % 2**32
    key = jax.random.key(lower)
    return jax.random.fold_in(key, upper) if upper else key


def _default_guide(model: Callable, loss: Loss) -> Callable:
    """The guide where none is given: the latent sites as the model draws them for a loss that needs
    no guide, and nothing for any other.
    """
    if not callable(model) or not isinstance(loss, Loss) or loss.needs_guide:
        return _draws_nothing
    return block(model, hide_fn=lambda site: site["type"] == "sample" and site["is_observed"])


def _draws_nothing(*args: Any, **kwargs: Any) -> None:
    """The guide of a model without latent sites."""
