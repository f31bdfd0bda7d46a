"""The constructors of all families that have a file of their own."""

from typing import Any

from tests.bad_inputs.adversarial import ADVERSARIAL
from tests.bad_inputs.continuous import CONTINUOUS
from tests.bad_inputs.diffusions import DIFFUSIONS
from tests.bad_inputs.energies import ENERGIES
from tests.bad_inputs.images import IMAGES
from tests.bad_inputs.modalities import MODALITIES
from tests.bad_inputs.over_time import OVER_TIME
from tests.bad_inputs.quantized import QUANTIZED
from tests.bad_inputs.structured import STRUCTURED

FAMILIES: dict[str, tuple[tuple[Any, ...], dict[str, str]]] = {
    **ADVERSARIAL,
    **DIFFUSIONS,
    **CONTINUOUS,
    **ENERGIES,
    **IMAGES,
    **MODALITIES,
    **OVER_TIME,
    **QUANTIZED,
    **STRUCTURED,
}
