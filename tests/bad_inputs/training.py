"""`fit`: each of its arguments, data of wrong forms, and what model, guide and data must be to each
other.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse

from dgm_core.schedules import linear
from tests.bad_inputs.base import BAD, INF, NAN, Row, Twin, table

X = np.zeros((6, 2), np.float32)
RAGGED = [[1.0, 2.0], [3.0]]


def nothing(*args: Any, **kwargs: Any) -> None:
    """A model or guide without sites."""


def half(batch: Any, **keyed: Any) -> Any:
    """A transform that drops rows."""
    return batch[::2]


def arguments_of_fit(twin: Twin) -> Iterator[Row]:
    """Every argument of `fit`."""
    given: dict[str, Any] = {"model": nothing, "guide": nothing, "data": X, "progress": False}
    loss = (0, "", [], "ELBO", twin.ELBO, None.__class__, 3.5)
    bad: dict[str, tuple[tuple[Any, ...], str]] = {
        "model": ((None, 3, "vae"), "^model must be callable, got"),
        "guide": ((3, "auto"), "^guide must be callable, got"),
        "loss": (loss, r"^loss must be a loss such as ELBO\(\), got"),
        "optim": (("adam", 0.001, [], 0), "^optim must be"),
        "num_epochs": (
            (*BAD["count or none"], 0),
            "^num_epochs must be an integer of at least 1, got",
        ),
        "num_steps": (
            (*BAD["count or none"], 0),
            "^num_steps must be an integer of at least 1, got",
        ),
        "batch_size": (
            ("2", 2.5, True, 0, -1, NAN),
            "^batch_size must be an integer of at least 1, got",
        ),
        "drop_last": (BAD["flag"], "^drop_last must be True or False, got"),
        "resume": (BAD["flag"], "^resume must be True or False, got"),
        "progress": (BAD["flag"], "^progress must be True or False, got"),
        "clip_norm": (("1", NAN, INF, 0, -1.0, True), "^clip_norm must be a positive number, got"),
        "average": (("0.9", NAN, 0, 1, 1.5, True), r"^average must be a number in \(0, 1\), got"),
        "lr_schedule": ((3, "linear", linear(10, start=-1.0)), "^lr_schedule must be"),
        "transform": ((3, "binarize"), "^transform must be a function of a batch, got"),
        "callbacks": ((nothing, "abc", None, 3), "^callbacks must be a sequence of functions"),
        "checkpoint_every": (
            (*BAD["count"], 0),
            "^checkpoint_every must be an integer of at least 1, got",
        ),
        "seed": (
            ("0", 1.5, True, None, 2**63, -(2**63) - 1),
            r"^seed must be an integer from -2\^63 to 2\^63 - 1, got",
        ),
        "compile": ((0, 1, "yes", None, 1.0), '^compile must be True, False or "auto", got'),
        "device": (("nosuch", 3.5), "^device must be"),
    }
    yield from table(twin.fit, given, bad)
    validated = {**given, "validation": X}
    bad = {
        "validation_loss": (loss, r"^validation_loss must be a loss such as ELBO\(\), got"),
        "patience": ((*BAD["count or none"], 0), "^patience must be an integer of at least 1, got"),
    }
    yield from table(twin.fit, validated, bad)
    alone = {
        "patience": (3, "^patience counts epochs"),
        "validation_loss": (twin.ELBO(), "^validation_loss scores validation data"),
        "checkpoint_every": (3, "^checkpoint_every counts epochs between checkpoints"),
    }
    for name, (value, match) in alone.items():
        yield Row(f"{name} alone", partial(twin.fit, **given, **{name: value}), match)
    stream = {**given, "data": [X, X], "drop_last": True}
    yield Row("drop_last of a stream", partial(twin.fit, **stream), "^drop_last is for arrays")
    yield Row(
        "callbacks=[3]",
        partial(twin.fit, **given, callbacks=[3]),
        "^callbacks must be functions that take the run, got 3",
    )


def forms_of_data(twin: Twin) -> Iterator[Row]:
    """Data of a wrong form, type or size."""
    masked = np.ma.masked_array(X, np.eye(6, 2))
    numbers = "must be an array of numbers with one row per datum, got"
    bad: dict[str, tuple[Any, str]] = {
        "a number": (3.5, "^data must be an array, a tuple or a dict of arrays, or an iterable"),
        "none": (None, "^data must be an array, a tuple or a dict of arrays, or an iterable"),
        "text": ("abc", "^data must be an array, a tuple or a dict of arrays, or an iterable"),
        "a single number in an array": (np.float32(3), f"^data {numbers} a single number"),
        "text in an array": (np.array(["a", "b"]), f"^data {numbers} ndarray of shape"),
        "objects": (np.array([1, "a"], object), f"^data {numbers} ndarray of shape"),
        "dates": (np.array(["2020-01-01"], "datetime64[D]"), f"^data {numbers} ndarray of shape"),
        "records": (np.zeros(3, [("a", "f4")]), f"^data {numbers} ndarray of shape"),
        "a table with text": (pd.DataFrame({"a": ["x", "y"]}), f"^data {numbers} DataFrame"),
        "a mask": (masked, "^data has 2 masked entries"),
        "a mask in a tuple": ((X, masked), r"^data\[1\] has 2 masked entries"),
        "a list in a tuple": ((X, RAGGED), rf"^data\[1\] {numbers} list"),
        "text in a dict": ({"x": "abc"}, rf"^data\['x'\] {numbers} 'abc'"),
        "no rows": (X[:0], "^The data are empty: data has no rows"),
        "no rows in a dict": ({"x": X[:0]}, r"^The data are empty: data\['x'\] has no rows"),
        "nothing but None": ((None,), "^The data hold no arrays"),
        "unequal rows": ((X, X[:3]), "^All arrays of the data must have equally many rows"),
        "unequal rows in a dict": (
            {"x": X, "y": X[:3]},
            "^All arrays of the data must have equally many rows",
        ),
        "keys that are no names": (
            {0: X},
            "^The keys of a dict of data are the names of the model's arguments, got 0",
        ),
        "an empty list": ([], "^The data are empty: the iterable gives no batches"),
        "an iterator that is used up": (
            iter(()),
            "^The data are empty: the iterable gives no batches",
        ),
        "a function that gives nothing to iterate": (
            lambda: None,
            "^data must be a function that returns an iterable",
        ),
        "a sparse matrix": (scipy.sparse.eye(6).tocsr(), f"^data {numbers} csr_matrix"),
        "rows of numbers": ([[1.0, 2.0], [3.0, 4.0]], rf"^data\[0\] {numbers} a single number"),
        "text in a batch": ([np.array(["a"])], f"^data {numbers} ndarray"),
    }
    for situation, (data, sentence) in bad.items():
        yield Row(situation, partial(twin.fit, nothing, nothing, data, progress=False), sentence)
    called = {
        "a wrong key": ({"y": X}, "^model does not take the data as they are, called with y=...: "),
        "too many arrays": (
            (X, X),
            "^model does not take the data as they are, called with ..., ...: ",
        ),
        "no array": ((), "^model does not take the data as they are, called with nothing: "),
    }
    for situation, (data, sentence) in called.items():
        yield Row(
            situation, partial(twin.fit, lambda x: None, nothing, data, progress=False), sentence
        )
    guide = partial(twin.fit, nothing, lambda y: None, {"x": X}, progress=False)
    yield Row(
        "a guide with other arguments",
        guide,
        "^guide does not take the data as they are, called with x=...: ",
    )
    iterator = partial(twin.fit, nothing, nothing, iter([X]), num_epochs=2, progress=False)
    yield Row(
        "an iterator for two epochs",
        iterator,
        "^The data are an iterator, which is used up after one epoch",
    )
    sized = partial(twin.fit, nothing, nothing, [X], batch_size=2, progress=False)
    yield Row("batch_size for batches", sized, "^batch_size is for arrays")
    large = partial(twin.fit, nothing, nothing, X, batch_size=7, progress=False)
    yield Row(
        "batch_size beyond the data",
        large,
        "^batch_size must lie between 1 and the number of data 6, got 7",
    )


def models_and_data(twin: Twin) -> Iterator[Row]:
    """What a model, its guide and the data must be to each other, seen before the first step."""
    vae = twin.VAE(2, 1, hidden=(3,))
    fit = partial(twin.fit, vae.model, vae.guide, progress=False)
    x = np.tile(np.float32([0, 1]), (6, 1))
    forms: dict[str, tuple[Any, str]] = {
        "a tuple for an array": (
            (x,),
            "^validation must have the form of the data, one array, got a tuple",
        ),
        "a dict for an array": (
            {"x": x},
            "^validation must have the form of the data, one array, got a dict",
        ),
        "no rows": (x[:0], "^The validation are empty|^The validation data are empty"),
        "a number": (3, "^validation must be an array"),
        "text": ("abc", "^validation must be an array"),
        "a mask": (np.ma.masked_array(x, x), "^validation has 6 masked entries"),
        "gray levels": (x / 2, "^Site 'x' observes 0.5, outside the support of Bernoulli"),
        "another width": (x[:, :1], r"^x must have shape \(batch, 2\), got \(6, 1\)"),
    }
    for situation, (validation, sentence) in forms.items():
        yield Row(f"validation: {situation}", partial(fit, x, validation=validation), sentence)
    yield Row(
        "gray levels",
        partial(fit, x / 2),
        "^Site 'x' observes 0.5, outside the support of Bernoulli.*binarize",
    )
    yield Row(
        "missing values", partial(fit, np.where(x == 1, np.nan, x)), "^Site 'x' observes nan.*mask"
    )
    yield Row(
        "another width", partial(fit, x[:, :1]), r"^x must have shape \(batch, 2\), got \(6, 1\)"
    )
    yield Row(
        "a dropping transform",
        partial(fit, x, transform=half),
        "^transform must keep the rows of a batch, got 3 rows from 6",
    )
    yield Row(
        "a transform without result",
        partial(fit, x, transform=nothing),
        "^transform must return a batch of arrays, got",
    )
    rate = partial(fit, x, lr_schedule=lambda step: -1.0 - 0 * step)
    yield Row("negative rates", rate, r"^lr_schedule\(0\) must be a number of at least 0, got")
    for words, beta in {"beta": lambda step: 1 - step, "one": {"z": lambda step: 1 - step}}.items():
        weighed = partial(fit, x, loss=twin.ELBO(beta=beta), num_steps=100)
        sentence = "^a weight inside ELBO at step 6 must be a number of at least 0, got -5.0"
        yield Row(f"negative weights, {words}", weighed, sentence)
    swapped = partial(twin.fit, vae.guide, vae.model, x, progress=False)
    yield Row("model and guide swapped", swapped, r"^The guide observes \['x'\].* not swapped")
    for family in ("Beta", "Kumaraswamy", "LogitNormal"):
        likelihood = getattr(twin, family)(2, context_shape=3)
        model = twin.VAE(2, 1, hidden=(3,), likelihood=likelihood)
        ends = partial(twin.fit, model.model, model.guide, x, progress=False)
        yield Row(
            f"zeros and ones for {family}", ends, f"^Site 'x' observes [01], .*{family}.*dequantize"
        )
    labels = twin.ConditionalVAE(2, 1, twin.Labels(3), hidden=(3,))
    y = np.array([0, 1, 2, 3, 0, 1])
    outside = partial(twin.fit, labels.model, labels.guide, (x, y), progress=False)
    yield Row("a label too large", outside, "^y must be labels from 0 to 2, got 3")
    outside = partial(twin.fit, labels.model, labels.guide, (x, y - 4), progress=False)
    yield Row("a label below zero", outside, "^y must be labels from 0 to 2, got -4")
