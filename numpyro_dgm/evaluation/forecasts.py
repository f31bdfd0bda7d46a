"""Forecasts: sequences continued at their own ends."""

from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np
from jax import Array
from numpyro.primitives import Messenger

from dgm_core.arguments import check_count, check_name
from dgm_core.evaluation import check_no_nan
from dgm_core.forecasting import Forecast, following
from dgm_core.forecasting.asking import (
    check_any,
    check_continued,
    is_by_step,
    num_steps,
    place_of,
    replaced,
)
from dgm_core.forecasting.forecast import check_room
from dgm_core.training.batches import check_accepts
from dgm_core.training.threads import one_at_a_time
from numpyro_dgm.evaluation.calls import Call, calling
from numpyro_dgm.joints.structure import random_sites
from numpyro_dgm.sequences import continuing
from numpyro_dgm.sequences.path import SitePath

__all__ = ["forecast"]


@one_at_a_time
def forecast(
    run: Any,
    *data: Any,
    horizon: int,
    num_draws: int = 1000,
    lengths: str = "lengths",
    rows: Any = None,
    chunk_size: int = 32_768,
    seed: int = 0,
) -> Forecast:
    """Draws of the steps that follow sequences: the guide draws the latents of the steps that are
    known, and the model runs on from there.

    Sequences are padded to the model's T steps, each continued at its own end: lengths + horizon
    must not be more than T, so build the model with room behind the longest. Paths of states go
    on from the guide's draw of the last one, in the prior; paths of data from the states, or, where
    these are summed out (LinearGaussian, HiddenMarkov), from their exact filter. Steps that are
    missing are known by the arguments of the model, such as `observed`.

    Args:
        run, data, rows, seed: as `log_weights` takes them; the data as in the fit, with lengths.
        horizon: how many steps.
        num_draws: of each sequence.
        lengths: the name of the model's argument that holds the lengths.
        chunk_size: sequences times draws that are held at once.

    Returns:
        `dgm_core.forecasting.Forecast`: draws {site: (num_draws, num_data, horizon, *step)} of all
        paths of the model, mean, quantiles, intervals, scores.

    Cost:
        num_draws runs of guide and model, as many sequences as `chunk_size` at once; one by one
        where there are global latents.

    Raises:
        ValueError: where there is no room, no argument with the lengths, no path; for paths that
            are not continued (flows over all steps, a site for each step), and draws that are NaN.

    Example:
        >>> from numpyro_dgm.models import DMM
        >>> dmm = DMM(4, 2, 7, hidden=8, features=8, key=jax.random.key(0))
        >>> x, lengths = np.zeros((3, 7, 4)), np.array([5, 2, 0])
        >>> found = forecast(dmm, x, lengths, horizon=2, num_draws=10)
        >>> {name: draws.shape for name, draws in found.draws.items()}
        {'z': (10, 3, 2, 2), 'x': (10, 3, 2, 4)}
    """
    horizon, num_draws = check_count("horizon", horizon), check_count("num_draws", num_draws)
    chunk_size = check_count("chunk_size", chunk_size)
    name = check_name("lengths", lengths, "the name of an argument")
    with calling(run, data, seed=seed, settle=False) as call:
        place = place_of(name, run.model, call.args, call.kwargs)
        ends = (call.kwargs if isinstance(place, str) else call.args)[place]
        length = num_steps([*call.args, *call.kwargs.values()], ends)
        known = np.asarray(ends)
        check_room(known, horizon, length)
        check_accepts("guide", run.guide, call.args, call.kwargs)
        call.settle(rows)
        copies = min(num_draws, max(1, chunk_size // len(known)))
        if call.sketch().structure.global_sites:
            copies = 1
        many = call.part(np.tile(np.arange(len(known)), copies))
        many.vectorize = False

        def draw(call: Call, _: Any) -> dict[str, Any]:
            return _continued(call, place, horizon, length)

        found = many.repeat(draw, -(-num_draws // copies))
    values = {
        site: x.reshape(-1, len(known), *x.shape[2:])[:num_draws] for site, x in found.items()
    }
    draws = {site: following(x, known, horizon, axis=1) for site, x in values.items()}
    check_no_nan(draws, "The forecast")
    return Forecast(draws, known)


def _continued(call: Call, place: Any, horizon: int, length: int) -> dict[str, Array]:
    """Paths of the model whose first steps are the data, and the guide's draws."""
    arguments = call.kwargs if isinstance(place, str) else call.args
    lengths = arguments[place]
    drawn = {name: site["value"] for name, site in random_sites(call.guide()).items()}
    longer = copy(call)
    longer.args, longer.kwargs = replaced(call.args, call.kwargs, place, lengths + horizon)
    handler = _Continued(drawn, lengths, length)
    with handler, continuing(drawn, lengths):
        longer.forward()
    check_any(list(handler.paths))
    return handler.paths


class _Continued(Messenger):
    """Paths go on from those that are given, or observed; what has no steps is as it is given."""

    def __init__(self, values: Mapping[str, Array], lengths: Array, length: int) -> None:
        super().__init__()
        self.values, self.lengths, self.length = values, lengths, length
        self.paths: dict[str, Any] = {}

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] != "sample" or msg["is_observed"] or msg["value"] is not None:
            return
        name, fn = msg["name"], msg["fn"]
        if isinstance(fn, SitePath):  # `unroll` goes on by itself
            self.paths[name] = None
            return
        was_observed = msg["infer"].get("was_observed")
        value = msg["infer"]["obs"] if was_observed else self.values.get(name)
        if value is None:
            return
        if is_by_step(value.shape, fn.event_dim, self.length):
            check_continued(name, fn, fn.batch_shape, len(self.lengths))
            key = msg["kwargs"]["rng_key"]
            msg["value"] = self.paths[name] = fn.continued(key, value, self.lengths)
        elif not was_observed:
            msg["value"] = value

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        if isinstance(msg.get("fn"), SitePath):
            self.paths[msg["name"]] = msg["value"]
