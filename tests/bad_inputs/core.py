"""What needs no backend: schedules, metrics, preprocessing, loaders."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from dgm_core import data, diagnostics, representation, results, schedules, surgery
from dgm_core.data import dataset, preprocessing, sequences, toys
from dgm_core.samples import quality, two_sample
from dgm_core.training.patience import Patience
from tests.bad_inputs.base import BAD, INF, NAN, Row, table


def core() -> Iterator[Row]:
    """What needs no backend: schedules, metrics, preprocessing, loaders, plots."""
    log_w, z = np.zeros((30, 3)), np.random.default_rng(0).standard_normal((30, 2))
    numbers, text = (NAN, "1", True, None), np.array(["a", "b"])
    labels = np.stack([np.arange(30) % 2, np.arange(30) % 3], 1)
    codes = (text, 3, z[0], z[:0], np.full_like(z, NAN))
    counts = (0, -1, 2.5, "2", True, NAN, None)
    tables: list[tuple[Callable[..., Any], dict[str, Any], dict[str, tuple[Any, ...]]]] = [
        (
            schedules.linear,
            {"num_steps": 10},
            {"num_steps": (0, -1, *numbers), "start": numbers, "end": numbers},
        ),
        (schedules.constant, {"value": 1.0}, {"value": numbers}),
        (
            schedules.cyclical,
            {"period": 10},
            {
                "period": (0, -1, *numbers),
                "ratio": (0, 1.5, *numbers),
                "start": numbers,
                "end": numbers,
            },
        ),
        (
            schedules.Schedule,
            {"steps": (0, 1), "values": (0.0, 1.0)},
            {
                "steps": ((), (0,), (1, 0), (0, NAN), "01", 3, None),
                "values": ((), (0.0,), (0, INF), "01", 3, None, (0, "1")),
            },
        ),
        (diagnostics.jvi_bound, {"log_w": log_w}, {"order": (-1, 3, 0.5, "1", None)}),
        (
            diagnostics.jvi_coefficients,
            {"num_particles": 8, "order": 1},
            {"num_particles": (0, "8", 2.5), "order": (-1, 9, 0.5, "1")},
        ),
        (
            diagnostics.bits_per_dim,
            {"log_likelihood": -1.0, "num_dims": 4},
            {"num_dims": counts, "levels": counts},
        ),
        (
            diagnostics.active_units,
            {"z": z},
            {
                "threshold": ("0", NAN, -1.0, None),
                "z": (z[0], z[:1], text, 3, None, "z", np.full((3, 2), NAN)),
            },
        ),
        (
            quality.neighbor_scores,
            {"real": z, "fake": z},
            {
                "k": counts,
                "real": (3, text, z[:3], z[:, :1], np.full_like(z, NAN)),
                "fake": (3, text, z[:3], z[:, :1]),
            },
        ),
        (
            quality.mode_counts,
            {"x": z, "modes": z[:2], "sd": 0.1},
            {
                "sd": (0, -1, "1", NAN, None),
                "radius": (0, "1", NAN),
                "least": counts,
                "modes": (z[:, :1], text, 3),
            },
        ),
        (
            quality.frechet_distance,
            {"real": z, "fake": z},
            {"real": (z[:1], text, 3, None), "fake": (z[:, :1], "z")},
        ),
        (
            quality.classifier_score,
            {"probabilities": np.eye(3)},
            {"probabilities": (-np.eye(3), z, text, 3, None)},
        ),
        (
            quality.FeatureClassifier,
            {"x": z, "labels": np.arange(30) % 2},
            {
                "labels": (np.zeros(30), np.arange(3), None, "ab"),
                "hidden": BAD["sizes"],
                "num_epochs": counts,
                "seed": ("0", 1.5, -1, None),
                "x": (text, 3, None),
            },
        ),
        (
            two_sample.mmd_test,
            {"x": z, "y": z},
            {
                "length_scales": (0, -1, "1", NAN, (), (1.0, "a")),
                "num_permutations": counts,
                "seed": ("0", 1.5, -1),
                "x": (z[:1], z[:, :1], text, 3, None),
            },
        ),
        (
            two_sample.energy_test,
            {"x": z, "y": z},
            {
                "beta": (0, 2, "1", NAN, None),
                "num_permutations": counts,
                "y": (z[:1], z[:, :1], text),
            },
        ),
        (
            two_sample.classifier_test,
            {"x": z, "y": z},
            {
                "test_share": (0, 1, "0.5", NAN, None),
                "seed": ("0", 1.5, -1),
                "x": (z[:5], text),
            },
        ),
        (
            surgery.elbo_surgery,
            {"log_q": np.zeros((3, 3)), "log_p": np.zeros(3)},
            {"log_q": (np.zeros((3, 2)), "q", None), "log_p": (np.zeros(2), "p")},
        ),
        (
            representation.mutual_information_gap,
            {"codes": z, "factors": labels},
            {"codes": codes, "factors": (text, 3, z, labels[:3]), "num_bins": (1, 2.5, "5", None)},
        ),
        (
            representation.dci,
            {"codes": z, "factors": labels},
            {
                "codes": codes,
                "factors": (text, 3, labels[:3], labels[:, :1], np.full_like(z, NAN)),
                "held_out": (0, 1, "0", NAN, None),
                "seed": (-1, 1.5, "0", None),
                "predictor": (3, "forest"),
            },
        ),
        (
            representation.linear_probe,
            {"codes": z, "labels": labels[:, 0]},
            {
                "codes": codes,
                "labels": (text, 3, labels, labels[:3, 0], z[:, 0]),
                "num_folds": (0, 1, 2.5, "5", None),
                "seed": (-1, 1.5, "0", None),
                "classifier": (3, "logistic"),
            },
        ),
        (
            representation.clustering_accuracy,
            {"labels": labels[:, 0], "clusters": labels[:, 0]},
            {"labels": (text, 3, labels, z[:, 0]), "clusters": (text, labels[:3, 0], z[:, 0])},
        ),
        (
            surgery.ratio_kl,
            {"x": z, "y": z},
            {
                "num_folds": (0, 1, 2.5, "5", None),
                "x": (z[:3], z[:, :1], text),
            },
        ),
        (
            preprocessing.binarize,
            {"x": np.zeros(3)},
            {
                "protocol": ("nosuch", 3, None),
                "x": (np.array([2.0]), np.array([NAN]), text, "x", None),
                "seed": ("0", 1.5, -1, None),
                "epoch": ("0", 1.5, -1, None),
            },
        ),
        (
            preprocessing.dequantize,
            {"x": np.zeros(3)},
            {
                "levels": (1, 0, "2", 2.5, True, None),
                "x": (np.array([-1.0]), text, None),
                "seed": ("0", -1),
            },
        ),
        (
            preprocessing.logit_transform,
            {"x": np.zeros((2, 3))},
            {"alpha": (0.5, -0.1, "0", NAN, None, 0), "x": (np.array([2.0]), text, None)},
        ),
        (
            preprocessing.inverse_logit_transform,
            {"y": np.zeros(3)},
            {"alpha": (0.5, -0.1, "0", NAN, None)},
        ),
        (toys.two_moons, {"num_samples": 5}, {"num_samples": counts, "seed": ("0", 1.5, -1, None)}),
        (
            data.load,
            {"name": "two_moons"},
            {
                "name": ("nosuch", 3, None),
                "seed": ("0", 1.5, -1, None),
                "num_test": (3,),
                "nosuch": (1,),
            },
        ),
        (
            data.load,
            {"name": "digits"},
            {
                "num_validation": (-1, 10**6, "3", 2.5, True),
                "num_test": (-1, 10**6, "3", 2.5),
                "seed": ("0", -1),
            },
        ),
        (data.describe, {}, {"name": ("nosuch", 3, None)}),
        (
            dataset.split_indices,
            {"num_data": 10, "sizes": (2, 3), "seed": 0},
            {
                "num_data": (0, 5, "10", 2.5),
                "sizes": ((11,), (-1,), ("2",), 3, None),
                "seed": ("0", -1),
            },
        ),
        (
            sequences.pad,
            {"sequences": [z, z[:3]]},
            {"sequences": ([], [z, z[:, :1]], [3], "abc", None, 3)},
        ),
        (
            results.format_table,
            {"rows": [{"a": 1.0}]},
            {"columns": (("b",), "a", 3), "digits": (-1, 2.5, "3", None), "rows": (3, [3])},
        ),
        (Patience, {}, {"limit": (0, -1, 2.5, "3", True)}),
    ]
    for function, given, bad in tables:
        for name, wrong in bad.items():
            yield from table(
                function,
                given,
                {
                    name: (
                        wrong,
                        (
                            r"(must|needs?|has|leave|no |holds?|takes|unequal)\b.*, "
                            r"(got|there|held)|^The |^There is |^No row |^log q|"
                            r"^All |^With |^Both |^Every "
                            r"|^Both |^Every "
                        ),
                    )
                },
            )
        del name
    for name in ("summary", "psis_khat", "effective_sample_size", "iwae_bound"):
        sentence = "^log_w must be|^log_w holds"
        wrong = (
            3.0,
            "abc",
            np.zeros((0, 3)),
            np.full((30, 2), NAN),
            np.full((30, 2), INF),
            text,
            None,
        )
        yield from table(getattr(diagnostics, name), {}, {"log_w": (wrong, sentence)})
    yield Row(
        "k-hat of few",
        partial(diagnostics.psis_khat, log_w[:5]),
        "^k-hat needs at least 25 particles, got 5",
    )
    yield Row(
        "a summary of nothing",
        partial(diagnostics.summary, np.zeros((30, 0))),
        "^log_w holds no data",
    )
    history = results.History()
    yield Row("the last of none", lambda: history.last, "^The history is empty")
    yield Row(
        "a column of none", partial(history.column, "loss"), "^The history has no column 'loss'"
    )
