"""A sequence model or guide from one step."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dgm_core.arguments import check_choice, check_count
from dgm_core.paths import check_observed
from dgm_core.steps import IMPUTE, check_length, check_step
from pyro_dgm.compat import tree_map
from pyro_dgm.nn.sequences import checked_lengths, step_mask
from pyro_dgm.sequences.path import Sites, collecting, prefixes
from pyro_dgm.sequences.walk import Steps, as_array, length_of

__all__ = ["Unrolled", "continuing", "unroll"]


@dataclass(frozen=True)
class Unrolled:
    """What `unroll` has found.

    Attributes:
        values: of each statement, the path (*batch, T, *event); data that are missing are what the
            steps have seen in their place, zero in the padding.
        state: behind the last step of each sequence, from which `unroll` may go on.
        log_probs: of each statement, the log-density of each step (*batch, T) given what was
            before.
    """

    values: dict[str, Tensor]
    state: Any
    log_probs: dict[str, Tensor]


def unroll(
    step: Callable[[Any, Any, Any], Any],
    initial: Any,
    x: Any = None,
    *,
    length: int | None = None,
    lengths: Any = None,
    observed: Tensor | None = None,
    inputs: Any = None,
    event_dim: int = 1,
    impute: str | None = None,
) -> Unrolled:
    """A sequence model, or a guide, from its step:  state_t = step(state_{t-1}, inputs_t, x_t).

    A step makes ordinary sample statements. Each becomes one site, the path of its values (*batch,
    T, *event), whose density is that of all steps, each given what was before it; so every loss,
    guide and evaluation takes it as it is. What a step observes is x_t, or an array of it. Where
    the data are given, the steps see them; where they are drawn (x=None, a prediction, the
    generative joint), x_t is None, the statement returns the draw, and a step that goes on with
    what the statement returned never sees the data.

    Args:
        step: from a state, the inputs and the data of a step to the next state. Its networks are
            registered before; plates, scales and parameters stand around `unroll`.
        initial: the first state, an array or a tuple or dict of arrays (*batch, *event), whose
            batch dimensions may be missing.
        x: the data, an array (*batch, T, *event) or a tuple or dict of arrays; None: drawn.
        length: T, where neither x nor inputs say it.
        lengths: of the sequences (*batch,). What stands behind them, NaN included, is not looked
            at, and the state stays as it is there.
        observed: which steps of x are not missing (*batch, T). Those that are enter no density; the
            steps go on with a draw in their place, or as `impute` says. (A statement gets NaN and
            returns the draw; a guide, which does not observe x, sees zeros.)
        inputs: what each step is given beside, laid out as x: controls, or an encoder's features.
        event_dim: the dimensions of one step's data, inputs and state.
        impute: "draw" or "mean", what the steps see of data that are missing; None: a draw, where a
            gradient passes through it.

    Raises:
        ValueError: for a step with other statements, or with others from time to time, one that
            returns a state of another form, and for data, inputs or lengths that do not fit.

    Cost:
        T steps, once for draws and densities alike, and the first one more to find the statements;
        in NumPyro one compiled loop.

    Example:
        >>> import pyro
        >>> import pyro.distributions as dist
        >>> import torch
        >>> def step(last, inputs, x_t):
        ...     z = pyro.sample("z", dist.Normal(0.9 * last, 0.5).to_event(1))
        ...     pyro.sample("x", dist.Normal(z, 0.7).to_event(1), obs=x_t)
        ...     return z
        >>> with pyro.plate("data", 3):
        ...     path = unroll(step, torch.zeros(2), torch.zeros(3, 7, 2))
        >>> path.values["z"].shape, path.state.shape
        (torch.Size([3, 7, 2]), torch.Size([3, 2]))
    """
    check_step(step)
    event_dim = check_count("event_dim", event_dim, 0)
    impute = impute if impute is None else check_choice("impute", impute, IMPUTE)
    length = length if length is None else check_count("length", length)
    x, inputs, initial = tree_map(as_array, (x, inputs, initial))
    length = check_length(length_of({"x": x, "inputs": inputs}, event_dim, length))
    if lengths is not None:
        lengths = checked_lengths(lengths, length)
    if observed is not None:
        check_observed(observed, length)
        observed = torch.as_tensor(observed)
    steps = Steps(step, initial, x, inputs, length, event_dim, lengths, observed, impute)
    steps.check()
    steps = steps.with_statements()
    sites = Sites(steps)
    if (prefix := prefixes.get()) is not None:
        sites = _going_on(steps, *prefix)
    if (found := collecting.get()) is not None:
        found.append(sites)
        sites.state_rest()
        return _unknown(sites)
    walked = sites.settle()
    return Unrolled(walked.values, walked.state, walked.scores)


@contextmanager
def continuing(values: Mapping[str, Tensor], lengths: Any) -> Iterator[None]:
    """Inside this block `unroll` goes on from what is known: in the first `lengths` steps the sites
    named have these values, and all later steps are drawn, data as well.

    Args:
        values: paths (*batch, T, *event) by site name, whatever stands behind `lengths`.
        lengths: how many steps are known (*batch,).

    Raises:
        ValueError: for lengths that are no integers from 0 to T.
    """
    token = prefixes.set((values, lengths))
    try:
        yield
    finally:
        prefixes.reset(token)


def _going_on(steps: Steps, values: Mapping[str, Tensor], lengths: Any) -> Sites:
    """The sites of steps of which the first are known."""
    known = step_mask(lengths, steps.length)
    names = frozenset(s.name for s in steps.statements if s.name in values)
    latent = frozenset(s.name for s in steps.statements if s.leaf is None)
    seen = known if steps.observed is None else known & steps.observed
    sites = Sites(replace(steps, observed=seen, impute="draw", partial=names & latent))
    sites.prefix = {name: values[name] for name in names}
    return sites


def _unknown(sites: Sites) -> Unrolled:
    """What a program goes on with that is only asked what it unrolls."""
    values = {name: value for name, value in sites.values.items() if value is not None}
    return Unrolled(values, sites.steps.initial, {})
