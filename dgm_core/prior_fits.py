"""Fitting a prior to the codes of a trained model: what is decided without a tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from dgm_core.arguments import check_name, shown

__all__ = [
    "Codes",
    "check_event",
    "check_given_site",
    "check_indices",
    "depends",
    "less_likely",
    "not_inside",
    "not_met",
    "not_replaced",
    "not_the_guides",
    "prior_name",
    "prior_site",
    "shares_weights",
]

_KEPT = 2**26  # numbers of codes that are drawn ahead


def prior_site(local: Sequence[str], others: Sequence[str], site: Any) -> str:
    """The latent site whose prior is fitted, of those with a code for each datum.

    Raises:
        ValueError: with global latents, without a latent, and for several of which none is named.

    Example:
        >>> prior_site(["z"], [], None)
        'z'
        >>> prior_site(["z1", "z2"], [], None)
        Traceback (most recent call last):
        ValueError: The model has several latent sites, ['z1', 'z2']: say whose prior is fitted, \
site='z1'.
    """
    if others:
        raise ValueError(
            "fit_prior needs one code per datum, and the model has global latents, "
            f"{list(others)}, on whose draws all codes depend: condition the model on them first."
        )
    if not local:
        raise ValueError("The model has no latent site that the guide draws for each datum.")
    if site is None:
        if len(local) > 1:
            raise ValueError(
                f"The model has several latent sites, {list(local)}: say whose prior is fitted, "
                f"site={local[0]!r}."
            )
        return local[0]
    if check_name("site", site) not in local:
        raise ValueError(f"site must be one of the latent sites {list(local)}, got {site!r}.")
    return site


def prior_name(site: str) -> str:
    """The name under which the new prior of a site is registered.

    Example:
        >>> prior_name("z")
        'z_prior'
    """
    return f"{site}_prior"


def check_given_site(
    site: str, given: Any, before: Sequence[str], shape: tuple[int, ...], conditional: Any
) -> None:
    """Raise a ValueError unless the latent `given`, with values of this shape, comes before a site
    and is the context of a conditional: as it is, or a map with fewer pixels.

    Example:
        >>> from types import SimpleNamespace
        >>> check_given_site("b", "a", ["a"], (3, 2, 2), SimpleNamespace(context_shape=(3, 4, 4)))
    """
    if check_name("given", given) not in before:
        raise ValueError(
            f"given must be a latent site that the model states before '{site}', one of "
            f"{list(before)}, got {given!r}."
        )
    wanted, shape = conditional.context_shape, tuple(shape)
    if wanted == shape:
        return
    maps = isinstance(wanted, tuple) and len(shape) == 3 == len(wanted) and wanted[0] == shape[0]
    if not maps or any(not isinstance(n, int) or n % m for n, m in zip(wanted, shape, strict=True)):
        raise ValueError(
            f"The prior of site '{site}' given '{given}' must have its values as context, "
            f"context_shape={shape}, or of maps a multiple of their height and width, got "
            f"context_shape={wanted}."
        )


def check_event(
    site: str, event_shape: tuple[int, ...], conditional: Any, given: str | None = None
) -> None:
    """Raise a ValueError unless a conditional gives values like those of a site, without a
    context where no other site is `given`."""
    if not event_shape:
        raise ValueError(
            f"The values of site '{site}' are single numbers, and those of a conditional "
            "arrays: state the site with an event dimension of one, .to_event(1)."
        )
    found, context = tuple(conditional.event_shape), conditional.context_shape
    if found != tuple(event_shape) or (context and given is None):
        raise ValueError(
            f"The prior of site '{site}' must give values of shape {tuple(event_shape)} without a "
            f"context, got {conditional!r} with values of shape {found} and context_shape="
            f"{context or 0}."
        )


def check_indices(
    site: str,
    positions: tuple[int, ...],
    num_codes: int,
    conditional: Any,
    draws: Any,
    given: str | None = None,
) -> None:
    """Raise a ValueError unless a conditional gives index maps of codes, without a context where no
    other site is `given`."""
    found, context = tuple(conditional.event_shape), conditional.context_shape
    whole = draws is not None and np.isin(draws, np.arange(num_codes)).all()
    classes = getattr(getattr(conditional, "family", conditional), "num_classes", num_codes)
    fits = prod(found) == prod(positions) and whole and classes == num_codes
    if not fits or (context and given is None):
        raise ValueError(
            f"The prior of site '{site}' must give the numbers of its codes, {prod(positions)} "
            f"integers 0, ..., {num_codes - 1}, without a context, such as "
            f"Categorical({prod(positions)}, {num_codes}), got {conditional!r}."
        )


def shares_weights(conditional: Any) -> str:
    """What to say of a prior that is made of encoder and posterior and learns."""
    return (
        "fit_prior fits a prior with weights of its own, and this one has those of encoder and "
        f"posterior: train it with the model, VAE(prior={type(conditional).__name__}(...)), or "
        "take it as it is, VampPrior(encoder, posterior, pseudo_inputs=..., learned=False)."
    )


def not_the_guides(site: str) -> str:
    """What to say of encoder and posterior that the run does not have."""
    return (
        f"The prior of site '{site}' is made of an encoder and a posterior that the guide of the "
        "run does not have: hand over those of the guide."
    )


def depends(site: str) -> str:
    """What to say of a site whose prior is not the same for all data."""
    return (
        f"The prior of site '{site}' differs from datum to datum: it has parents, other latents or "
        "arguments of the model, which a prior of the codes alone would forget. Fit the prior of a "
        "site without parents, the first one of a hierarchy."
    )


def not_inside(site: str, conditional: Any) -> str:
    """What to say of a conditional that draws what a site cannot be."""
    return (
        f"The prior of site '{site}' must give values inside its support, and draws of "
        f"{shown(conditional)} are not: take a conditional with that support."
    )


def not_met(site: str, given: str | None = None) -> str:
    """What to say of a model without the site, or without the one that it is given before it."""
    early = "" if given is None else f", or states it before '{given}', which may be missing too"
    return (
        f"The prior of site '{site}' cannot be replaced: the model has no site of this name, or "
        f"states it inside a scan{early}. Give the name of one of its latents."
    )


def less_likely(site: str, before: np.ndarray, after: np.ndarray) -> str | None:
    """What to say of a fitted prior under which the codes are less likely than under the one before
    it, by more than three standard errors; None where they are not.

    Args:
        before, after: the log-densities of the same codes.

    Example:
        >>> print(less_likely("z", np.zeros(4), np.array([0.3, 0.1, -0.2, 0.4])))
        None
    """
    gain = np.asarray(after, np.float64).ravel() - np.asarray(before, np.float64).ravel()
    if len(gain) < 2 or not np.isfinite(gain).all():
        return None
    mean, error = gain.mean(), gain.std(ddof=1) / np.sqrt(len(gain))
    if not mean < -3 * error:
        return None
    return (
        f"The codes of site '{site}' are {-mean:.3g} +- {error:.1g} nats less likely under the "
        "fitted prior than under the one before, and so are the data: fit it for more epochs or "
        "with a smaller rate, or keep the prior of the model."
    )


def not_replaced(site: str) -> str:
    """What to say where the statement of a site is out of reach."""
    return (
        f"The prior of site '{site}' cannot be replaced: it is masked, or stated inside a scan. "
        "State it in the program itself."
    )


class Codes:
    """Minibatches of codes, others in every epoch: one fresh draw per datum, in random order.

    Args:
        draw: `draw(num_epochs, seed)` gives for each epoch arrays of N codes, (N, *event): of a
            site, and of the one that it is given.
        first: the arrays of one draw.
    """

    def __init__(
        self,
        draw: Callable[[int, int], Sequence[tuple[np.ndarray, ...]]],
        first: tuple[np.ndarray, ...],
        batch_size: int,
        num_epochs: int,
        seed: int,
    ) -> None:
        self.draw, self.batch_size, self.seed = draw, batch_size, seed
        size = sum(part.size for part in first)
        self.ahead = max(1, min(num_epochs, _KEPT // max(1, size)))
        self.left: list[tuple[np.ndarray, ...]] = []
        self.rng = np.random.default_rng(seed % 2**63)
        self.num_draws = 0

    def __call__(self) -> Iterator[tuple[np.ndarray, ...]]:
        """The batches of an epoch."""
        if not self.left:
            self.num_draws += 1
            self.left = list(self.draw(self.ahead, self.seed + self.num_draws))
        codes = self.left.pop()
        order = self.rng.permutation(len(codes[0]))
        rows = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        return (tuple(part[row] for part in codes) for row in rows)
