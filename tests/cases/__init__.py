"""The registry: what there is to test, described once for both backends.

Constructors of the twins take the same arguments, so a case is a class name with its arguments and
values to feed it. A new conditional, network or model gets an entry here and with it every contract
and twin test.
"""

from tests.cases.autoregressive import AUTOREGRESSIVE
from tests.cases.conditionals import CONDITIONALS, IMAGE, MAP
from tests.cases.flows import FLOWS, MASKED, NET, SCALARS
from tests.cases.losses import CRITICS, LOSSES, Loss
from tests.cases.models import GANS, MODELS, PAIRS, SMALL
from tests.cases.networks import NETWORKS
from tests.cases.paths import PATHS
from tests.cases.programs import PROGRAMS, Programs

__all__ = [
    "AUTOREGRESSIVE",
    "CONDITIONALS",
    "CRITICS",
    "FLOWS",
    "GANS",
    "IMAGE",
    "LOSSES",
    "MAP",
    "MASKED",
    "MODELS",
    "NET",
    "NETWORKS",
    "PAIRS",
    "PATHS",
    "PROGRAMS",
    "SCALARS",
    "SMALL",
    "Loss",
    "Programs",
]
