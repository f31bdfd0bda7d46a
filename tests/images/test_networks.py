"""The U-Net, the features of a time, attention of all to all: equal in both libraries at 1e-10,
with a time and contexts of every kind; refusals.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_core.attention import causal_attention, full_attention
from dgm_core.contexts import Labels
from numpyro_dgm.nn import Conv2d
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.twins.copying import copy_weights, shake
from tests.twins.test_conditionals import assert_all_learn, close, compare

LIBRARIES = PyroLibrary(), NumPyroLibrary()
EACH = pytest.mark.parametrize("lib", LIBRARIES, ids=["pyro", "numpyro"])
LABELS = np.array([0, 2])


def parts(lib: Any, seed: int) -> list[Any]:
    """A U-Net that is given all it can be, features of a time, attention after a prefix."""
    settings = {"channels": (4, 5), "out_channels": 3, "num_heads": 1, "embedding_dim": 6}
    time = lib.build("nn", "TimeFeatures", 4, lowest=0.5, highest=20.0, seed=seed)
    shapes = ((1, 6, 10), Labels(3), 2)  # a map of two times the pixels
    net = lib.build("nn", "UNet", (2, 3, 5), time=time, context_shape=shapes, seed=seed, **settings)
    return [net, time, lib.build("nn", "MaskedAttention", 4, full_attention(3), seed=seed + 1)]


def test_both_libraries_agree(x64: None) -> None:
    """Values and gradients, where the batches of image, time and contexts broadcast."""
    rng = np.random.default_rng(0)
    ours = shake(LIBRARIES[0].torch.nn.ModuleList(parts(LIBRARIES[0], 0)))
    theirs = copy_weights(ours, parts(LIBRARIES[1], 1))
    shapes = (2, 2, 3, 5), (2,), (4, 1, 1, 6, 10), (4, 2, 2), (2, 3, 4), (2, 2, 4)
    arrays = [rng.standard_normal(shape) for shape in shapes]
    weights = rng.standard_normal((4, 2, 3, 3, 5))

    def run(made: Any, x: Any, t: Any, chart: Any, vector: Any, rows: Any, prefix: Any) -> Any:
        lib = LIBRARIES[made is not ours]
        labels = lib.torch.as_tensor(LABELS) if made is ours else jnp.asarray(LABELS)
        out = made[0](x, t, (chart, labels, vector))
        assert tuple(out.shape) == (4, 2, *made[0].out_shape)
        attended = made[2](rows, prefix=prefix)
        total = (out * lib.array(weights)).sum() + made[1](t).sum() + (attended**3).sum()
        return [total, out, made[1](t)]

    assert_all_learn(*compare(LIBRARIES, run, (ours, theirs), *arrays), (1,))
    assert [*map(repr, ours)] == [*map(repr, theirs)]


def test_the_features_of_a_time_are_sines_and_cosines(x64: None) -> None:
    for lib in LIBRARIES:
        layer = lib.build("nn", "TimeFeatures", 6, lowest=1.0, highest=4.0)
        angles = 0.3 * np.array([1.0, 2.0, 4.0])
        expected = np.concatenate([np.sin(angles), np.cos(angles)])
        close(expected, lib.numpy(layer(lib.array(0.3))))


def test_two_ways_to_convolve_are_one(x64: None) -> None:
    rng = np.random.default_rng(1)
    x, weight = (jnp.asarray(rng.standard_normal(s)) for s in ((2, 3, 4, 5), (6, 3, 3, 3)))
    layer = Conv2d(3, 6, key=jax.random.key(0))
    close(jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME"), layer.convolved(x, weight))


@EACH
def test_a_batch_of_one_and_what_it_stands_in(lib: Any, x64: None) -> None:
    """An image comes out the same alone and beside others: no statistics of a batch."""
    net = lib.build("nn", "UNet", (1, 4, 4), channels=(4, 4))
    x = lib.array(np.random.default_rng(2).standard_normal((3, 1, 4, 4)))
    both = lib.call(lambda x: (net(x)[1], net(x[1])), x)
    close(*map(lib.numpy, both))


@EACH
def test_what_does_not_fit_is_refused(lib: Any) -> None:
    time = lib.build("nn", "TimeFeatures", 4)
    net = lib.build("nn", "UNet", (1, 4, 6), channels=(4,))
    timed = lib.build("nn", "UNet", (1, 4, 6), channels=(4,), time=time, context_shape=2)
    x, t = lib.array(np.zeros((2, 1, 4, 6))), lib.array(np.zeros(2))
    full = lib.build("nn", "MaskedAttention", 4, full_attention(3))
    assert "full" not in repr(causal_attention(3))
    for call, sentence in (
        (lambda: net(lib.array(np.zeros((2, 4, 6, 1)))), "move the channels to the front"),
        (lambda: net(lib.array(np.zeros((2, 1, 5, 6)))), r"images of shape \(1, 4, 6\), got"),
        (lambda: net(x, t), "takes no time; build it with time=TimeFeatures"),
        (lambda: net(x, context=t), "takes no context, got"),
        (lambda: timed(x, t, t[:1]), r"needs a context of shape \(\*batch, 2\), got \(1,\)"),
        (lambda: timed(x, context=lib.array(np.zeros((2, 2)))), r"needs a time t: call it with"),
        (lambda: lib.build("nn", "UNet", (1, 3, 9), channels=(2, 2, 2, 2)), "one for each scale"),
        (lambda: lib.build("nn", "UNet", (1, 8, 8), context_shape=(1, 3, 3)), "height and width"),
        (lambda: lib.build("nn", "UNet", (1, 8, 8), time=3), "the features of a time or None"),
        (lambda: lib.build("nn", "UNet", (1, 8, 8), num_heads=5), "num_heads must divide"),
        (lambda: lib.build("nn", "TimeFeatures", 3), "dim must be an even integer, got 3"),
        (lambda: lib.build("nn", "TimeFeatures", 4, lowest=5.0, highest=5.0), "above 5, got 5.0"),
        (lambda: full.begin(2), "it runs in one pass, not in steps"),
    ):
        with pytest.raises(ValueError, match=sentence):
            call()
