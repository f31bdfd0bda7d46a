"""A prior fitted afterwards to the codes of a trained model."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyro
import torch
from pyro.distributions import MaskedDistribution
from pyro.params import param_with_module_name
from torch import Tensor, nn

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
from pyro_dgm.conditionals import CodePrior, Conditional, VampPrior
from pyro_dgm.evaluation.calls import Call, as_numpy, calling
from pyro_dgm.evaluation.replaced import context_of, in_place, replaced, with_prior
from pyro_dgm.evaluation.weights import splits
from pyro_dgm.joints import InferenceJoint
from pyro_dgm.losses import NLL, Objective
from pyro_dgm.nn import register
from pyro_dgm.training import Run, fit
from pyro_dgm.training.weights import held_by_networks, in_force, networks_of

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
        >>> from pyro_dgm import Adam, VAE
        >>> from pyro_dgm.conditionals import MixturePrior
        >>> vae, x = VAE(4, 2, hidden=(8,)), np.eye(4, dtype=np.float32)
        >>> run = fit(vae.model, vae.guide, x, progress=False)
        >>> settings = {"num_epochs": 100, "optim": Adam(0.05), "progress": False}
        >>> better = fit_prior(run, x, MixturePrior(2, 3), **settings)
        >>> better.epoch
        100
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
        fn = call.model().nodes[site]["fn"]
        known = fn if isinstance(fn, CodePrior) else None
        codes = partial(_codes, site, given, known, conditional)
        first, args, kwargs = _drawn(call, codes), call.args, call.kwargs
    model, fitted = with_prior(run.model, site, conditional, given=given), None
    if aggregate:
        run = _with_parts(run, site, conditional)
    elif any(weight.requires_grad for weight in conditional.parameters()):

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
    better = _combined(run, fitted, model, networks_of(model, run.guide, args, kwargs))
    message = _compared(run, better, data, site, conditional, given)
    if fitted is not None and message:
        warnings.warn(message, UserWarning, stacklevel=3)
    return better


def _model_of_codes(site: str, conditional: Conditional, z: Tensor, given: Any = None) -> None:
    """The model of codes, given those of another site."""
    prior = register(prior_name(site), conditional)
    with pyro.plate("codes", len(z)):
        pyro.sample(site, prior(context_of(prior, given)), obs=z)


def _without(run: Run, site: str | None) -> Run:
    """The run before a prior was fitted to the site, if one was."""
    model = run.model
    if not (isinstance(model, partial) and model.func is replaced):
        return run
    inner, (own, _), conditional = model.args
    if site not in (None, own):
        return run
    params = {n: x for n, x in run.params.items() if not n.startswith(f"{prior_name(own)}$")}
    kept = tuple(network for network in run.networks if network is not conditional)
    with in_force(run):
        state = held_by_networks(kept)
    return replace(run, model=inner, params=params, networks=kept, mutable_state=state)


def _some(conditional: Conditional, context: Any) -> Tensor | None:
    """Some draws of a conditional; None where its context is missing."""
    if conditional.context_shape and context is None:
        return None
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        known = context_of(conditional, context)
        return conditional(known).sample(torch.Size((_SEEN,) if context is None else ()))


def _context(run: Run, data: Any, conditional: Conditional, site: Any, given: Any) -> Any:
    """Some values of the site that a prior is given; None without one."""
    if given is None:
        return None
    with calling(run, (data,)) as call:
        local, others = _latents(call)
        site, nodes = prior_site(local, others, site), call.model().nodes
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
    found = call.model().nodes[site]
    fn, value = found["fn"], found["value"]
    if isinstance(fn, CodePrior):
        check_indices(site, fn.positions, fn.codebook.num_codes, conditional, draws, given)
    else:
        check_event(site, tuple(fn.event_shape), conditional, given)
    if isinstance(fn, MaskedDistribution) or found["mask"] is not None:
        raise ValueError(not_replaced(site))
    log_prob = fn.log_prob(value)
    for frame in found["cond_indep_stack"]:
        moved = fn.log_prob(value.roll(1, frame.dim - fn.event_dim))
        if not torch.allclose(moved, log_prob.roll(1, frame.dim), rtol=1e-3, atol=1e-3):
            raise ValueError(depends(site))
    if not isinstance(fn, CodePrior) and not bool(fn.support.check(draws).all()):
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
) -> tuple[Tensor, ...]:
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
    own = [n for n, _ in prior.named_parameters() if not n.startswith(("encoder.", "posterior."))]
    return prior.encoder is not None and not own


def _with_parts(run: Run, site: str, prior: Any) -> Run:
    """The run with the weights of its encoder and posterior under the name of the prior as well."""
    known = {id(p) for network in run.networks for p in network.parameters()}
    if not all(id(p) in known for p in prior.parameters()):
        raise ValueError(not_the_guides(site))
    with in_force(run):
        own = {
            param_with_module_name(prior_name(site), path): weight.detach().clone()
            for path, weight in prior.named_parameters()
        }
    return replace(run, params={**run.params, **own})


def _combined(run: Run, fitted: Run | None, model: Callable, networks: list[nn.Module]) -> Run:
    """The run with another model, and the weights of the prior fitted."""
    with in_force(run), in_force(fitted or run):
        state = held_by_networks(networks)
    better = replace(run, model=model, networks=tuple(networks), mutable_state=state)
    if fitted is None:
        return better
    return replace(
        better,
        params={**run.params, **fitted.params},
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
    with calling(run, (data,)) as call, torch.no_grad():
        few = _few(call)
        joint = few.joint()
        values = {name: joint.values(name)[0] for name in joint.latent_sites}
        before = few.model(values).nodes[site]["fn"].log_prob(values[site])
    with calling(better, (data,)) as call, torch.no_grad():
        found = _few(call).model(values).nodes[site]["fn"]
        after = found.log_prob(values[site])
        context = context_of(conditional, None if given is None else values[given])
        prior = in_place(register(prior_name(site), conditional)(context), found)
        if not torch.allclose(after, prior.log_prob(values[site]), rtol=1e-3, atol=1e-3):
            raise ValueError(not_replaced(site))
    return less_likely(site, as_numpy(before), as_numpy(after))


def _few(call: Call) -> Call:
    """The same on the first data, where some of them can be had."""
    return call.part(np.arange(_LOOKS)) if splits(call, call.sketch().sizes, _LOOKS) else call
