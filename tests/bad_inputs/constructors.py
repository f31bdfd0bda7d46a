"""Every argument of every public constructor, with every bad value of its kind.

A new class needs one line here: good arguments, and the kinds of all others.
"""

import inspect
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from tests.bad_inputs.adversarial import PLAYERS
from tests.bad_inputs.base import BAD, Row, Twin
from tests.bad_inputs.families import FAMILIES

CONTEXT = {"context_shape": "context"}
HIDDEN = {"hidden": "sizes", "activation": "word"}
FLOW = {"dim": "count", **CONTEXT, "num_layers": "count", "base": "conditional"}
COUPLINGS = {**FLOW, **HIDDEN}
PARTS = {"prior": "conditional", "posterior": "conditional", "likelihood": "conditional"}
CODERS = {"encoder": "network", "decoder": "network"}

CONSTRUCTORS: dict[str, tuple[tuple[Any, ...], dict[str, str]]] = {
