"""Sequences of similar lengths in one batch: the order, the loss, interruption, and what a model
makes of sequences that are cut.
"""

import re
from typing import Any

import numpy as np
import pytest

from dgm_core.training.bucketed import Bucketed, Buckets
from dgm_core.training.checkpoint import CheckpointError

LENGTHS = np.array([1, 9, 2, 10, 3, 8, 0, 4, 7, 12, 2])


def sequences(rng: np.random.Generator) -> np.ndarray:
    """Zeros and ones (11, 12, 3), NaN in the padding."""
    x = rng.integers(0, 2, (len(LENGTHS), 12, 3)).astype(float)
    return np.where((np.arange(12) < LENGTHS[:, None])[..., None], x, np.nan)


def test_the_order_of_an_epoch(rng: np.random.Generator) -> None:
    """Every row once; few lengths in a batch; the rows left over are any of them, equally often."""
    buckets = Buckets(LENGTHS, 12, 4)
    np.testing.assert_array_equal(buckets.rounded, [4, 12, 4, 12, 4, 8, 4, 4, 8, 12, 4])
    left, steps, firsts = np.zeros(11), [], set()
    for _ in range(3000):
        order = buckets.order(3, rng)
        assert sorted(order) == list(range(11))
        left[order[9:]] += 1
        steps.append([buckets.steps(order[i : i + 3]) for i in (0, 3, 6)])
        firsts.add(tuple(sorted(order[:3])))
    np.testing.assert_allclose(left / 3000, 2 / 11, atol=4 * np.sqrt(2 / 11 * 9 / 11 / 3000))
    steps = np.array(steps)
    assert (np.diff(np.sort(steps, 1)) >= 0).all() and steps.mean() < 9 < np.full(9, 12).mean()
    np.testing.assert_allclose(steps.mean(0), steps.mean(), atol=0.3)  # no order among batches
    assert len(firsts) > 20


def build(lib: Any, name: str, **parts: Any) -> Any:
    sizes = {"hidden": 4, "features": 5}
    return lib.build("models", name, 3, 2, 12, **sizes, **parts)


@pytest.mark.slow("numpyro")
def test_the_loss_of_an_epoch_is_that_of_the_data(
    lib: Any, rng: np.random.Generator, x64: None
) -> None:
    """Without noise and updates it is the same, in batches of any order and of any steps."""
    package, x, seen = lib.package, lib.array(sequences(rng)), set()
    network = lib.build("models", "RNN", 3, 12, hidden=4, features=5)

    def model(x: Any, lengths: Any) -> Any:
        seen.add(x.shape[1])
        return network.model(x, lengths)

    def loss_of(data: Any, batch_size: int) -> float:
        options = {"optim": package.nn.Adam(1e-30), "seed": 0, "batch_size": batch_size}
        run = package.fit(model, network.guide, data, loss=package.losses.NLL(), **options)
        return run.history.column("loss")[0]

    found = loss_of(Bucketed(x, LENGTHS, width=4), 3)
    assert {8} < seen <= {4, 8, 12}
    assert found == pytest.approx(loss_of((x, LENGTHS), 11), rel=1e-10)


@pytest.mark.long("[numpyro")
@pytest.mark.slow
def test_training_in_parts(lib: Any, rng: np.random.Generator, tmp_path: Any) -> None:
    """A run that was interrupted ends in the numbers of one that was not, and does not
    go on with other buckets.
    """
    package, x = lib.package, sequences(rng).astype(np.float32)

    def trained(num_epochs: int, folder: Any, width: int = 4) -> Any:
        dmm = lib.build("models", "DMM", 3, 2, 12, hidden=4, features=5)
        options = {"optim": package.nn.Adam(0.01), "batch_size": 3, "seed": 0}
        options |= {"num_epochs": num_epochs, "checkpoint": folder, "checkpoint_every": 1}
        data = Bucketed(x, LENGTHS, width=width)
        return package.fit(dmm.model, dmm.guide, data, loss=package.losses.ELBO(), **options)

    expected = trained(4, None).history.column("loss")
    trained(2, tmp_path)
    found = trained(4, tmp_path).history.column("loss")
    np.testing.assert_array_equal(found, expected)
    assert np.isfinite(found).all()
    with pytest.raises(CheckpointError, match="width was 4 and is 6"):
        trained(4, tmp_path, width=6)


def test_what_is_refused() -> None:
    x = np.zeros((3, 4, 2))
    for call, message in (
        (lambda: Bucketed([1], [1]), "x must be an array of sequences of shape (num_data, T, ...)"),
        (lambda: Bucketed(x, [1, 2, 3]), "lengths must be an array of integers"),
        (lambda: Bucketed(x, np.array([1.0, 2, 3])), "lengths must be an array of integers"),
        (lambda: Bucketed(x, np.array([1, 5, 3])), "integers from 0 to 4 of shape (3,)"),
        (lambda: Bucketed(x, np.array([1, 5])), "integers from 0 to 4 of shape (3,)"),
        (lambda: Bucketed(x, np.array([1, 2, 3]), np.ones((3, 5), bool)), "others must be arrays"),
        (lambda: Bucketed(x, np.array([1, 2, 3]), width=0), "width must be an integer of at least"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            call()
