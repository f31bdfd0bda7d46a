"""A run on some of its observed sites alone."""

from copy import copy

from dgm_core.modalities import check_left, conditioned, tells
from numpyro_dgm.evaluation.calls import Call

__all__: list[str] = []  # for the package, not for users


def given_alone(call: Call, names: tuple[str, ...]) -> Call:
    """The same model with the sites named observed alone, and its guide, which sees these alone
    where it knows how.

    Raises:
        ValueError: for names that are not observed, and where no other site is.
    """
    check_left(names, call.sketch().structure.observed_sites)
    own = copy(call)
    if tells(call.run.guide) is None:
        own.scored = names
    else:
        own.args, own.kwargs = conditioned(call.run.guide, names, call.args, call.kwargs)
        own.compiled = {}  # what was compiled holds the arguments that are no arrays
    return own
