"""The registry: what there is to test, described once for both backends.

Constructors of the twins take the same arguments, so a case is a class name with its arguments and
values to feed it. A new conditional, network or model gets an entry here and with it every contract
and twin test.
"""

from tests.cases.conditionals import CONDITIONALS, IMAGE, PIXEL_CONTEXT, PIXELWISE
from tests.cases.flows import FLOWS, MASKED, NET, SCALARS
from tests.cases.models import GANS, MODELS, PAIRS, SMALL
from tests.cases.networks import NETWORKS

__all__ = [
    "CONDITIONALS",
    "FLOWS",
    "GANS",
    "IMAGE",
    "MASKED",
    "MODELS",
    "NET",
    "NETWORKS",
    "PAIRS",
    "PIXELWISE",
    "PIXEL_CONTEXT",
    "SCALARS",
    "SMALL",
]
