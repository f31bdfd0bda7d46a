"""Contexts that are not what a member was built for."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from tests.bad_inputs.base import Row, Twin


def contexts(twin: Twin) -> Iterator[Row]:
    """Calls with other contexts, and shapes of contexts that no member can have."""
    array = twin.array
    four, given = array(np.zeros((5, 4), np.float32)), twin.DiagonalNormal(2, context_shape=3)
    cases: dict[str, tuple[Callable[[], Any], str]] = {
        "no context": (given, r"needs a context of shape \(\*batch, 3\), got none"),
        "another context": (
            partial(given, four),
            r"needs a context of shape \(\*batch, 3\), got \(5, 4\)",
        ),
        "a context too many": (
            partial(twin.DiagonalNormal(2), four),
            "takes no context, got",
        ),
        "a context of another rank": (
            partial(twin.MAF(2, context_shape=(3, 2)), four),
            r"needs a context of shape \(\*batch, 3, 2\), got \(5, 4\)",
        ),
        "numbers as labels": (
            partial(twin.MAF(2, context_shape=twin.Labels(3)), four),
            r"needs a context of integer labels of shape \(\*batch,\), got float32 \(5, 4\)",
        ),
        "truths as labels": (
            partial(twin.Bernoulli(2, context_shape=twin.Labels(3)), four > 0),
            r"needs a context of integer labels of shape \(\*batch,\), got bool \(5, 4\)",
        ),
        "label 3 of 3 as context": (
            partial(twin.RealNVP(2, context_shape=twin.Labels(3)), array(np.array([0, 3]))),
            "^context must be labels from 0 to 2, got 3",
        ),
        "the former name of context_shape": (
            partial(twin.DiagonalNormal, 2, context_dim=3),
            "^DiagonalNormal takes context_shape=3; context_dim was its name before",
        ),
        "the same of a flow": (
            partial(twin.IAF, 2, context_dim=3),
            "^IAF takes context_shape=3; context_dim was",
        ),
        "one context of two": (
            partial(twin.Normal(2, context_shape=((3, 2), twin.Labels(3))), four),
            r"needs 2 contexts side by side, .* got \(5, 4\)",
        ),
        "no classes": (partial(twin.Labels, 0), "^num_classes must be an integer of at least 1"),
        "a number as context": (
            partial(given, 3.0),
            r"needs a context of shape \(\*batch, 3\), got 3.0",
        ),
        "text as context": (
            partial(given, "context"),
            r"needs a context of shape \(\*batch, 3\), got 'context'",
        ),
        "a map with fewer pixels": (
            partial(twin.Bernoulli, (1, 4, 4), context_shape=(3, 2, 2)),
            r"^A map as context of an image must .* got \(3, 2, 2\); give it flattened",
        ),
        "a map with others beside labels": (
            partial(twin.Bernoulli, (1, 4, 4), context_shape=((3, 8, 4), twin.Labels(3))),
            r"^A map as context of an image must .* got \(3, 8, 4\); give it flattened",
        ),
    }
    for situation, (call, sentence) in cases.items():
        yield Row(f"contexts: {situation}", call, sentence)
