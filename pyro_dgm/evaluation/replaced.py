"""A model whose latent has another prior, perhaps given another latent."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message

from dgm_core.arguments import check_instance, check_name
from dgm_core.guides import plain
from dgm_core.prior_fits import not_met, prior_name
from pyro_dgm.conditionals import CodePrior, Conditional
from pyro_dgm.nn import register

__all__ = ["with_prior"]


def with_prior(
    model: Callable, site: str, conditional: Conditional, *, given: str | None = None
) -> Callable:
    """A model whose latent site has another prior: what `fit_prior` fits, and `load_run` needs to
    read it.

    Args:
        model: any program.
        site: the name of the latent.
        conditional: the prior, registered as `{site}_prior`.
        given: a latent that the model states before, whose values are the context of the prior.

    Raises:
        ValueError: for a site without a name, or what is no conditional; when run, for a model
            without the site, or that states it before `given`.

    Example:
        >>> from pyro_dgm import VAE, generate
        >>> from pyro_dgm.conditionals import MixturePrior
        >>> from types import SimpleNamespace
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> model = with_prior(vae.model, "z", MixturePrior(2, 3))
        >>> generate(SimpleNamespace(model=model, guide=vae.guide), size=6)["z"].shape
        (6, 2)
    """
    check_instance("conditional", conditional, Conditional, "a conditional such as MixturePrior(2)")
    given = None if given is None else check_name("given", given)
    return partial(replaced, plain(model), (check_name("site", site), given), conditional)


def replaced(model: Callable, names: tuple, conditional: Any, *args: Any, **kwargs: Any) -> Any:
    site, given = names
    handler = _Prior(site, given, register(prior_name(site), conditional))
    with handler:
        result = model(*args, **kwargs)
    if not handler.met:
        raise ValueError(not_met(site, given))
    return result


class _Prior(Messenger):
    """Gives a site another distribution, perhaps given the value of another one."""

    def __init__(self, site: str, given: str | None, prior: Conditional) -> None:
        super().__init__()
        self.site, self.given, self.met, self.context = site, given, False, None
        self.prior, self.known = prior, None if given is not None else prior()

    def _pyro_sample(self, msg: Message) -> None:
        if msg["name"] == self.site and (self.given is None or self.context is not None):
            self.met = True
            found = self.known
            if found is None:
                found = self.prior(context_of(self.prior, self.context))
            batch = torch.broadcast_shapes(found.batch_shape, msg["fn"].batch_shape)
            msg["fn"] = in_place(found.expand(batch), msg["fn"])

    def _pyro_post_sample(self, msg: Message) -> None:
        if msg["name"] == self.given:
            self.context = msg["value"]


def context_of(conditional: Conditional, value: Any) -> Any:
    """The value of a site as a conditional sees it, its pixels repeated."""
    shape: Any = conditional.context_shape
    if value is None or not isinstance(shape, tuple) or len(shape) != 3:
        return value
    for dim in (-2, -1):
        value = value.repeat_interleave(shape[dim] // value.shape[dim], dim)
    return value


def in_place(prior: Any, fn: Any) -> Any:
    """A prior in the place of another: of index maps, where values are arrays of codes."""
    return fn.of(prior) if isinstance(fn, CodePrior) else prior
