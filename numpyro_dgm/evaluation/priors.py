"""A prior fitted afterwards to the codes of a trained model."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array
from numpyro.distributions import MaskedDistribution
from numpyro.handlers import substitute

from dgm_core.arguments import check_count, check_instance
from dgm_core.prior_fits import (
    Codes,
    check_event,
    check_given_site,
    check_indices,
    depends,
    less_likely,
    not_inside,
    not_replaced,
    not_the_guides,
    prior_name,
    prior_site,
    shares_weights,
)
from dgm_core.training.threads import one_at_a_time
from numpyro_dgm.conditionals import CodePrior, Conditional, VampPrior
from numpyro_dgm.evaluation.calls import Call, as_numpy, calling
from numpyro_dgm.evaluation.replaced import context_of, in_place, replaced, with_prior
from numpyro_dgm.evaluation.weights import splits
from numpyro_dgm.joints import InferenceJoint
from numpyro_dgm.losses import NLL, Objective
from numpyro_dgm.nn import register
from numpyro_dgm.nn.register import shared_places, tied
from numpyro_dgm.training import Run, fit

__all__ = ["fit_prior"]

_ROWS = 4096  # data whose codes are drawn at once
_LOOKS = 1000  # data at most on which the priors before and after are compared
_SEEN = 64  # draws of a conditional that are looked at before it is fitted


@one_at_a_time
def fit_prior(
    run: Run,
    data: Any,
    conditional: Conditional,
    *,
    site: str | None = None,
    given: str | None = None,
    num_epochs: int = 50,
    batch_size: int = 256,
    optim: Any = None,
    validation: Any = None,
    patience: int | None = None,
    clip_norm: float | None = None,
    lr_schedule: Callable[[Any], Any] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Run:
    """Fit a prior to the codes of a trained run:  maximize  E log p(z),  z ~ q(z) = 1/N sum_n q(z |
    x_n),  which is to minimize KL(q(z), p(z)); encoder and decoder stay.

    The data term of the bound and the mutual information stay as they are, and the mismatch of
    prior and codes shrinks (Hoffman & Johnson 2016): samples improve, and so does the bound.

    Args:
        run: what `fit` returns, of any model with a latent for each datum.
        data: to encode, in any form that `fit` takes; every epoch has one fresh draw of q(z | x)
            for each datum.
        conditional: the new prior, such as `MAF(20)`; of the codes of a quantizer one of their
            numbers, such as `GatedPixelCNN((1, 7, 7), partial(Categorical, num_classes=K))`, in any
            shape with an entry for each position; a Diffusion is fitted by its bound, as others by
            their log-density; one without weights is taken as it is, and so is the aggregate
            posterior, `VampPrior(encoder, posterior, pseudo_inputs=x, learned=False)` with the
            parts of the guide.
        site: whose prior; may be left out where the model has one latent.
        given: a latent that the model states before, whose values are the context of the prior,
            log p(z | given); a map of fewer pixels than that context is repeated. So a prior of the
            lower codes of `VQVAE2` sees the upper ones, `site="z_bottom", given="z_top"`.
        num_epochs, batch_size, optim, patience, clip_norm, lr_schedule, seed, progress: of this
            fit, as `fit` takes them.
        validation: data whose codes, drawn once, choose the best weights.

    Returns:
        a run whose model is `with_prior(model, site, conditional, given=given)`, with all weights;
        its history is that of this fit. The run given is left as it was. A warning says where the
        codes are less likely under the new prior: where the old one was good already and the fit
        was short. A Diffusion is scored by its flow, which its training does not fit directly.

    Cost:
        one pass of the guide and one of the conditional for each datum and epoch.

    Raises:
        ValueError: for models with global latents, or several latents of which none is named; for a
            site whose prior has parents, is masked or lies in a scan; for a conditional, or a site
            that it is given, that does not fit.

    Example:
        >>> from numpyro_dgm import VAE
        >>> from numpyro_dgm.conditionals import MixturePrior
        >>> vae, x = VAE(4, 2, hidden=(8,), key=jax.random.key(0)), np.eye(4, dtype=np.float32)
        >>> run = fit(vae.model, vae.guide, x, progress=False)
        >>> prior = MixturePrior(2, 3, key=jax.random.key(1))
        >>> better = fit_prior(run, x, prior, num_epochs=2, progress=False)
        >>> better.epoch
        2
    """
    check_instance("conditional", conditional, Conditional, "a conditional such as MixturePrior(2)")
    num_epochs = check_count("num_epochs", num_epochs)
    batch_size = check_count("batch_size", batch_size)
    check_instance("run", run, Run, "what fit returns")
    aggregate = isinstance(conditional, VampPrior)
    if aggregate and not _is_aggregate(conditional):
        raise ValueError(shares_weights(conditional))
    run = _without(run, site)
    draws = _some(conditional, _context(run, data, conditional, site, given))
    with calling(run, (data,), seed=seed) as call:
        site = _checked_site(call, conditional, site, draws, given)
        fn = call.model()[site]["fn"]
        known = fn if isinstance(fn, CodePrior) else None
        codes = partial(_codes, site, given, known, conditional)
        first = _drawn(call, codes)
    model, fitted = with_prior(run.model, site, conditional, given=given), None
    if aggregate:
        run = _with_parts(run, site, model, data)
    elif jax.tree.leaves(eqx.filter(conditional, eqx.is_inexact_array)):

        def draw(num: int, seed: int) -> list[tuple[np.ndarray, ...]]:
            with calling(run, (data,), seed=seed) as call:
                return [_drawn(call, codes) for _ in range(num)]

        held_out = None
        if validation is not None:
            with calling(run, (validation,), seed=seed) as call:
                held_out = _drawn(call, codes)
        fitted = fit(
            partial(_model_of_codes, site, conditional),
            None,
            Codes(draw, first, batch_size, num_epochs, seed),
            loss=_loss(site, conditional),
            optim=optim,
            num_epochs=num_epochs,
            validation=held_out,
            validation_loss=None if held_out is None else _loss(site, conditional),
            patience=patience,
            clip_norm=clip_norm,
            lr_schedule=lr_schedule,
            seed=seed,
            progress=progress,
        )
    better = _combined(run, fitted, model)
    message = _compared(run, better, data, site, conditional, given)
    if fitted is not None and message:
        warnings.warn(message, UserWarning, stacklevel=3)
    return better


def _model_of_codes(site: str, conditional: Conditional, z: Array, given: Any = None) -> None:
    """The model of codes, given those of another site."""
    prior = register(prior_name(site), conditional)
    with numpyro.plate("codes", len(z)):
        numpyro.sample(site, prior(context_of(prior, given)), obs=z)


def _without(run: Run, site: str | None) -> Run:
    """The run before a prior was fitted to the site, if one was."""
    model = run.model
    if not (isinstance(model, partial) and model.func is replaced):
        return run
    inner, (own, _), _ = model.args
    if site not in (None, own):
        return run
    params = {n: x for n, x in run.params.items() if not n.startswith(f"{prior_name(own)}$")}
    return replace(run, model=inner, params=params)


def _some(conditional: Conditional, context: Any) -> Array | None:
    """Some draws of a conditional; None where its context is missing."""
    if conditional.context_shape and context is None:
        return None
    found = conditional(context_of(conditional, context))
    return found.sample(jax.random.key(0), (_SEEN,) if context is None else ())


def _context(run: Run, data: Any, conditional: Conditional, site: Any, given: Any) -> Any:
    """Some values of the site that a prior is given; None without one."""
    if given is None:
        return None
    with calling(run, (data,)) as call:
        local, others = _latents(call)
        site, nodes = prior_site(local, others, site), call.model()
        before = local[: local.index(site)]
        shape = nodes[given]["fn"].event_shape if given in before else ()
        check_given_site(site, given, before, tuple(shape), conditional)
        value = nodes[given]["value"]
        return value.reshape(-1, *shape)[:_SEEN]


def _latents(call: Call) -> tuple[list[str], list[str]]:
    """The latents of each datum, and the others."""
    joint = call.sketch()
    local = [name for name in joint.model_sites if name in joint.structure.local_sites]
    return local, [name for name in joint.model_sites if name in joint.structure.global_sites]


def _checked_site(
    call: Call, conditional: Conditional, site: str | None, draws: Any, given: str | None
) -> str:
    """The site whose prior is fitted, which a conditional can replace."""
    site = prior_site(*_latents(call), site)
    found = call.model()[site]
    fn, value = found["fn"], found["value"]
    if isinstance(fn, CodePrior):
        check_indices(site, fn.positions, fn.codebook.num_codes, conditional, draws, given)
    else:
        check_event(site, fn.event_shape, conditional, given)
    if isinstance(fn, MaskedDistribution):
        raise ValueError(not_replaced(site))
    log_prob = fn.log_prob(value)
    for frame in found["cond_indep_stack"]:
        moved = fn.log_prob(jnp.roll(value, 1, frame.dim - fn.event_dim))
        if not np.allclose(moved, jnp.roll(log_prob, 1, frame.dim), rtol=1e-3, atol=1e-3):
            raise ValueError(depends(site))
    if not isinstance(fn, CodePrior) and not bool(fn.support(draws).all()):
        raise ValueError(not_inside(site, conditional))
    return site


def _drawn(call: Call, codes: Callable[[InferenceJoint], Any]) -> tuple[np.ndarray, ...]:
    """One code for each datum, (N, *event), and what it is given."""
    number = call.num_rows or 1
    if not splits(call, call.sketch().sizes, _ROWS):
        return call.read(codes, 1)
    chunks = [np.arange(i, min(i + _ROWS, number)) for i in range(0, number, _ROWS)]
    parts = [call.read(codes, 1, rows) for rows in chunks]
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def _codes(
    site: str,
    given: str | None,
    fn: CodePrior | None,
    conditional: Conditional,
    joint: InferenceJoint,
) -> tuple[Array, ...]:
    """One draw of a site, (N, *event); of arrays of codes their numbers, as a conditional has
    them. Then that of the site that it is given.
    """
    names = [name for name in (site, given) if name is not None]
    found = [joint.values(name)[0] for name in names]
    parts = [
        x.reshape(-1, *x.shape[x.ndim - joint.event_dim(name) :])
        for name, x in zip(names, found, strict=True)
    ]
    if fn is not None:
        parts[0] = fn.indices(found[0]).reshape(-1, *conditional.event_shape)
    return tuple(parts)


def _loss(site: str, conditional: Conditional) -> Any:
    """What fits a conditional: its own objective where it has one, as diffusions do."""
    own = not conditional.context_shape and hasattr(conditional(), "objective")
    return Objective(site) if own else NLL()


def _is_aggregate(prior: Any) -> bool:
    """Whether a prior is made of encoder and posterior, and has no weights beside theirs."""
    number, parts = (
        len(jax.tree.leaves(eqx.filter(part, eqx.is_inexact_array)))
        for part in (prior, (prior.encoder, prior.posterior))
    )
    return prior.encoder is not None and number == parts


def _with_parts(run: Run, site: str, model: Callable, data: Any) -> Run:
    """The run with the weights of its encoder and posterior under the name of the prior as well."""
    name = f"{prior_name(site)}$params"
    with calling(replace(run, model=model), (data,)) as call:
        guide, program = call.guide(), call.model()
    shared, own = shared_places(guide, program), program[name]["value"]
    if sum(place == name for place, _ in shared) != len(jax.tree.leaves(own)):
        raise ValueError(not_the_guides(site))
    return replace(run, params=tied({**run.params, name: own}, shared))


def _combined(run: Run, fitted: Run | None, model: Callable) -> Run:
    """The run with another model, and the weights of the prior fitted."""
    better = replace(run, model=model)
    if fitted is None:
        return better
    return replace(
        better,
        params={**run.params, **fitted.params},
        mutable_state={**run.mutable_state, **fitted.mutable_state},
        history=fitted.history,
        epoch=fitted.epoch,
        best_epoch=fitted.best_epoch,
        config={**run.config, "num_epochs": fitted.config["num_epochs"]},
    )


def _compared(
    run: Run, better: Run, data: Any, site: str, conditional: Conditional, given: str | None
) -> str | None:
    """What is to be said of the new prior beside the old one, on codes of the guide. Raises
    ValueError where the site does not have the new prior."""
    with calling(run, (data,)) as call:
        few = _few(call)
        joint = few.joint()
        values = {name: joint.values(name)[0] for name in joint.latent_sites}
        before = few.model(values)[site]["fn"].log_prob(values[site])
    with calling(better, (data,)) as call, substitute(data=better.params):
        found = _few(call).model(values)[site]["fn"]
        after = found.log_prob(values[site])
        context = context_of(conditional, None if given is None else values[given])
        prior = in_place(register(prior_name(site), conditional)(context), found)
        if not np.allclose(after, prior.log_prob(values[site]), rtol=1e-3, atol=1e-3):
            raise ValueError(not_replaced(site))
    return less_likely(site, as_numpy(before), as_numpy(after))


def _few(call: Call) -> Call:
    """The same on the first data, where some of them can be had."""
    return call.part(np.arange(_LOOKS)) if splits(call, call.sketch().sizes, _LOOKS) else call
