"""Which class a datum belongs to, as guide and model say."""

from typing import Any

import numpy as np
import torch

from dgm_core.arguments import check_choice, check_count, check_name
from dgm_core.enumeration import is_labeled, not_one_plate
from dgm_core.evaluation import check_no_nan
from dgm_core.training.threads import one_at_a_time
from pyro_dgm.evaluation.calls import calling
from pyro_dgm.joints import InferenceJoint

__all__ = ["class_probabilities"]

_CHUNK = 1000  # rows at once


@one_at_a_time
def class_probabilities(
    run: Any,
    *data: Any,
    site: str = "y",
    by: str = "guide",
    num_draws: int = 1,
    rows: Any = None,
    seed: int = 0,
) -> np.ndarray:
    """The probabilities of all values of a discrete latent of each datum, such as its label or
    cluster.

    Args:
        run, data, rows: as `log_weights` takes them; the data without labels.
        site: a discrete latent of each datum, whose values can be listed.
        by: "guide": q(y | x), averaged over the draws of what the guide draws before y; where it
            does not draw y, p(y | z, x), averaged over its draws of z. "bayes": p(y | x) by Bayes'
            rule, proportional to the mean over the draws of p(x, y, z) / q(z | x, y), whatever the
            guide says of y; exact as the draws grow in number.
        num_draws: of the other latents, for each value.
        seed: of the draws.

    Returns:
        (num_data, num_values), each row adding up to one; `.argmax(1)` predicts, and the share of
        what differs from known labels is the label error.

    Cost:
        num_values num_draws runs of guide and model, 1,000 rows at once.

    Raises:
        ValueError: for bad arguments, for a site that cannot be enumerated, for data that have
            labels, and probabilities that are NaN.

    Example:
        >>> from pyro_dgm import GMVAE
        >>> model = GMVAE(4, 2, 3, hidden=(8,))
        >>> class_probabilities(model, np.ones((5, 4))).shape
        (5, 3)
    """
    check_name("site", site)
    check_choice("by", by, ("guide", "bayes"))
    num_draws = check_count("num_draws", num_draws)
    read = _of_guide if by == "guide" else _by_bayes
    with calling(run, data, seed=seed, rows=rows, enumerated=(site,)) as call:
        sketch = call.sketch()
        if len(sketch.sizes) != 1:
            raise ValueError(not_one_plate(site, len(sketch.sizes)))
        if call.num_rows != sketch.sizes[0]:
            parts = [call.read(read, num_draws)]
        else:
            chunks = np.array_split(np.arange(call.num_rows), -(-call.num_rows // _CHUNK))
            parts = [call.read(read, num_draws, chunk) for chunk in chunks]
    log_p = np.concatenate([part["log"] for part in parts], 1).astype(float)  # (values, num_data)
    if labeled := int(sum(part["labeled"].sum() for part in parts)):
        raise ValueError(is_labeled(site, labeled))
    check_no_nan({site: log_p}, "The probability")
    p = np.exp(log_p - log_p.max(0))
    return (p / p.sum(0)).T


def _of_guide(joint: InferenceJoint) -> dict[str, Any]:
    return {"log": torch.logsumexp(joint.log_odds(), 1), "labeled": _labeled(joint)}


def _by_bayes(joint: InferenceJoint) -> dict[str, Any]:
    return {"log": torch.logsumexp(joint.log_masses(), 1), "labeled": _labeled(joint)}


def _labeled(joint: InferenceJoint) -> Any:
    """Where the value of the site is known."""
    (name,) = joint.enumerated_sites
    return ~joint.counts(name)[0]
