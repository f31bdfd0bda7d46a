"""Bad inputs are refused in one sentence that says what was expected and what came; nothing passes
in silence.
"""

import re
import warnings
from collections.abc import Callable, Iterable

import pytest

from tests.bad_inputs.base import Row, Twin
from tests.bad_inputs.calls import parts, values
from tests.bad_inputs.constructors import CONSTRUCTORS, constructors
from tests.bad_inputs.core import core
from tests.bad_inputs.evaluation import evaluation
from tests.bad_inputs.training import arguments_of_fit, forms_of_data, models_and_data
from tests.source_tree import TWINS

TABLES: tuple[Callable[[Twin], Iterable[Row]], ...] = (
    constructors,
    values,
    parts,
    arguments_of_fit,
    forms_of_data,
    models_and_data,
    evaluation,
)
# Made by the library, wrapped around what another library made, or made of functions alone; a
# constraint is in the table of parts, data without pairs in adversarial/test_unpaired.py, sequences
# in buckets in sequences/test_bucketed.py.
ELSEWHERE = {
    "AdversarialTerm",
    "AutoregressiveDistribution",
    "Bucketed",
    "Chain",
    "CodePrior",
    "Constraint",
    "DiffusionDistribution",
    "Divergence",
    "Evaluation",
    "ExternalFlow",
    "FlowDistribution",
    "ImplicitDistribution",
    "Kernel",
    "Loss",
    "NoiseContrastive",
    "NonFiniteError",
    "NormalizedDistribution",
    "ProgressiveDistillation",
    "Quantized",
    "Run",
    "Tilted",
    "UnnormalizedDistribution",
    "Unpaired",
}


def wrong(row: Row) -> str | None:
    """What is wrong with the answer to a bad input, if anything."""
    try:
        row.call()
    except (ValueError, TypeError) as error:
        answer = str(error)
        if re.search(row.sentence, answer) and answer.endswith("."):
            return None
        return f"{row.situation}: {type(error).__name__}: {answer}\n    instead of {row.sentence}"
    except Exception as error:
        return f"{row.situation}: {type(error).__name__}: {error}\n    instead of {row.sentence}"
    return f"{row.situation}: nothing\n    instead of {row.sentence}"


def check(rows: Iterable[Row], least: int) -> None:
    rows = list(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [text for row in rows if (text := wrong(row)) is not None]
    assert not found, f"{len(found)} of {len(rows)}:\n" + "\n".join(found)
    assert len(rows) >= least


@pytest.mark.parametrize("rows", TABLES, ids=lambda rows: rows.__name__)
@pytest.mark.parametrize("name", TWINS)
def test_bad_inputs_are_refused_in_words(name: str, rows: Callable[[Twin], Iterable[Row]]) -> None:
    check(rows(Twin(name)), least=20)


def test_bad_inputs_without_a_backend_are_refused_in_words() -> None:
    check(core(), least=300)


@pytest.mark.parametrize("name", TWINS)
def test_every_public_constructor_is_in_the_table(name: str) -> None:
    assert Twin(name).constructors() - CONSTRUCTORS.keys() == ELSEWHERE
