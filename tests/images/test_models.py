"""Images given images and masked autoencoders: equal in both libraries at 1e-10, what each
promises, what is refused.
"""

from typing import Any

import numpy as np
import pytest

from dgm_core.restoration import hide
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.twins.copying import copy_weights, shake
from tests.twins.test_conditionals import assert_all_learn, compare

LIBRARIES = PyroLibrary(), NumPyroLibrary()
EACH = pytest.mark.parametrize("lib", LIBRARIES, ids=["pyro", "numpyro"])
SHAPE, COARSE, FINE = (1, 4, 4), (2, 2, 2), (1, 8, 8)
VISIBLE = np.array([[0, 3], [2, 1], [3, 1]])


def models(lib: Any, seed: int) -> list[Any]:
    """With a code, of fewer pixels; without one, of more pixels; a masked autoencoder."""
    small = {"channels": (3,), "pixel_features": 2, "seed": seed}
    code = {
        "prior": lib.build("conditionals", "DiagonalNormal", 2, context_shape=COARSE, seed=seed),
        "likelihood": lib.build("conditionals", "Laplace", SHAPE, context_shape=(2, 4, 4)),
    }
    coded = lib.build("models", "ImageToImage", SHAPE, COARSE, z_dim=2, features=3, **small, **code)
    plain = lib.build("models", "ImageToImage", SHAPE, FINE, **small)
    sizes = {"patch_size": 2, "hidden_ratio": 0.5, "dim": 4, "num_layers": 1, "num_heads": 2}
    hidden = lib.build("models", "MaskedAutoencoder", SHAPE, **sizes, decoder_dim=2, seed=seed)
    return [coded, plain, hidden]


def test_both_libraries_agree(x64: None) -> None:
    """Log-densities of all sites, with two draws of the code for each datum, and all gradients; y
    counts nothing, visible patches count nothing.
    """
    rng = np.random.default_rng(0)
    ours = shake(LIBRARIES[0].torch.nn.ModuleList(models(LIBRARIES[0], 0)))
    theirs = copy_weights(ours, models(LIBRARIES[1], 1))
    assert [*map(repr, ours)] == [*map(repr, theirs)]
    arrays = [rng.standard_normal((3, *shape)) for shape in (SHAPE, COARSE, FINE)]
    z, weights = rng.standard_normal((2, 3, 2)), rng.standard_normal((3, 2, 3))

    def scores(made: Any, x: Any, coarse: Any, fine: Any) -> list[Any]:
        lib = LIBRARIES[made is not ours]
        latent = {"z": lib.array(z)}

        def repeated(program: Any) -> Any:
            def run(*args: Any) -> None:
                with lib.plate("particles", 2, dim=-2):
                    program(*args)

            return run

        p = lib.trace(repeated(made[0].model), x, coarse, substituted=latent)
        q = lib.trace(repeated(made[0].guide), x, coarse, substituted=latent)
        plain = lib.trace(made[1].model, x, fine)
        hidden = lib.trace(made[2].model, x, VISIBLE)
        found = [p["x"]["log_prob"], p["z"]["log_prob"], q["z"]["log_prob"]]
        total = sum((lib.array(w) * part).sum() for w, part in zip(weights, found))
        total = total + plain["x"]["log_prob"].sum() + 3 * hidden["x"]["log_prob"].sum()
        given = p["y"]["log_prob"], plain["y"]["log_prob"]
        return [total, *found, plain["x"]["log_prob"], hidden["x"]["log_prob"], *given]

    gradients, by_array = compare(LIBRARIES, scores, (ours, theirs), *arrays)
    assert_all_learn(gradients, by_array, (1,))
    with LIBRARIES[0].torch.no_grad():
        out = scores(ours, *map(LIBRARIES[0].array, arrays))
    assert not out[-2].any() and not out[-1].any()
    assert [tuple(part.shape) for part in out[1:]] == [(2, 3)] * 3 + [(3,)] * 2 + [(2, 3), (3,)]


@pytest.mark.slow
def test_pixels_may_follow_from_each_other(x64: None) -> None:
    """A likelihood that is autoregressive: equal in both libraries, and its context is read."""
    rng, nets, found = np.random.default_rng(3), [], []
    x, y = (rng.random((3, *SHAPE)) > 0.5) * 1.0, rng.standard_normal((3, *SHAPE))
    for lib in LIBRARIES:
        sizes = {"hidden_channels": 4, "num_layers": 2, "context_shape": (2, 4, 4)}
        pixels = lib.build("conditionals", "GatedPixelCNN", SHAPE, **sizes, seed=0)
        settings = {"likelihood": pixels, "channels": (3,), "pixel_features": 2}
        nets.append(lib.build("models", "ImageToImage", SHAPE, **settings, seed=0))
    copy = copy_weights(shake(nets[0]), nets[1])
    for lib, net in zip(LIBRARIES, (nets[0], copy), strict=True):

        def run(x: Any, y: Any, lib: Any = lib, net: Any = net) -> Any:
            return lib.trace(net.model, x, y)["x"]["log_prob"]

        both = np.concatenate([x, x]), np.concatenate([y, y[::-1]])
        found.append(lib.numpy(lib.call(run, *map(lib.array, both))))
    np.testing.assert_allclose(*found, rtol=1e-10)
    assert abs(found[0][0] - found[0][3]) > 1e-3


@EACH
def test_the_loss_counts_hidden_patches_alone(lib: Any, x64: None) -> None:
    """log p(x) is the sum over hidden patches of a normal density around what was restored, not
    that over all; what is hidden has no influence on it.
    """
    made = models(lib, 0)[2]
    x = np.random.default_rng(1).standard_normal((3, *SHAPE))
    hidden = np.ones((3, 4), bool)
    np.put_along_axis(hidden, VISIBLE, False, 1)

    def run(x: Any) -> tuple[Any, ...]:
        site = lib.trace(made.model, x, VISIBLE)["x"]
        return site["log_prob"], made.network(made.to_patches(x), lib.array(VISIBLE))[1]

    log_prob, features = lib.call(run, lib.array(x))
    p = made.likelihood(features)
    patches = made.to_patches(lib.array(x))
    each = lib.numpy(p.log_prob(patches))
    np.testing.assert_allclose(lib.numpy(log_prob), (each * hidden).sum(1), rtol=1e-10)
    assert abs(lib.numpy(log_prob) - each.sum(1)).min() > 0.1
    moved = lib.numpy(patches).copy()
    moved[hidden] += 5.0
    moved = lib.numpy(made.from_patches(lib.array(moved)))
    again = lib.call(run, lib.array(moved))[1]
    np.testing.assert_allclose(lib.numpy(again), lib.numpy(features), rtol=1e-10)
    np.testing.assert_array_equal(lib.numpy(made.from_patches(patches)), x)
    first = lib.numpy(patches)[0, 1]
    np.testing.assert_array_equal(first, x[0, 0, :2, 2:].ravel())


def test_hidden_pixels_alone_are_scored_and_drawn(x64: None) -> None:
    """log p is the sum over hidden pixels, equal in both libraries; what is seen is seen in every
    draw, and its mean has no error."""
    rng, found = np.random.default_rng(2), []
    x, mask = rng.uniform(size=(3, *SHAPE)), rng.integers(0, 2, (3, 1, 4, 4)) * 1.0
    y, nets = hide(x, mask), []
    for lib in LIBRARIES:
        settings = {"channels": (2,), "pixel_features": 2, "hidden_only": True}
        nets.append(lib.build("models", "ImageToImage", SHAPE, **settings))
    copy_weights(shake(nets[0]), nets[1])
    nets[1] = copy_weights(nets[0], nets[1])
    for lib, net in zip(LIBRARIES, nets, strict=True):

        def run(x: Any, y: Any, lib: Any = lib, net: Any = net) -> tuple[Any, ...]:
            fn = lib.trace(net.model, x, y)["x"]
            drawn = lib.trace(net.model, None, y)["x"]["value"]
            each = net.likelihood(net.net(y)).base_dist.log_prob(x)
            return fn["log_prob"], each, fn["fn"].mean, fn["fn"].variance, drawn

        out = [lib.numpy(part) for part in lib.call(run, *map(lib.array, (x, y)))]
        np.testing.assert_allclose(out[0], (out[1] * (mask == 0)).sum((1, 2, 3)), rtol=1e-10)
        for part in (out[2], out[4]):
            np.testing.assert_allclose(part[mask == 1], x[mask == 1])
            assert abs(part - x)[mask == 0].min() > 1e-3
        assert not out[3][mask == 1].any() and out[3][mask == 0].min() > 0
        found.append(out[0])
    np.testing.assert_allclose(*found, rtol=1e-10)


@EACH
def test_what_does_not_fit_is_refused(lib: Any) -> None:
    coded, plain, hidden = models(lib, 0)
    x, coarse, fine = (lib.array(np.zeros((3, *shape))) for shape in (SHAPE, COARSE, FINE))
    last = lib.array(np.zeros((3, 8, 8, 1)))

    def build(name: str, *sizes: Any, **settings: Any) -> Any:
        return lambda: lib.build("models", name, *sizes, **settings)

    normal = lib.build("conditionals", "StandardNormal", 2)
    small = {"channels": (2,), "pixel_features": 2, "hidden_only": True}
    holes = lib.build("models", "ImageToImage", SHAPE, **small)
    for call, sentence in (
        (
            lambda: lib.trace(plain.model, x, last),
            "got .3, 8, 8, 1.: move the channels to the front",
        ),
        (
            lambda: lib.trace(plain.model, x, 255 + fine),
            "y must be images of numbers between -30 and 30 .divide gray levels by",
        ),
        (
            lambda: lib.trace(plain.model, 255 + x, fine),
            "x must be images of numbers between -30 and 30 .divide gray levels by",
        ),
        (
            lambda: lib.trace(hidden.model, 255 + x, VISIBLE),
            "x must be images of numbers between -30 and 30 .divide gray levels by",
        ),
        (lambda: lib.trace(hidden.model, x, 0 * VISIBLE), "none is there twice, got 0"),
        (lambda: lib.trace(plain.model, x, fine[:2]), "same number of images, got 3 and 2"),
        (
            lambda: lib.trace(plain.model, fine, fine),
            r"x must be images of shape \(batch, 1, 4, 4\), got",
        ),
        (
            lambda: lib.trace(plain.model, x),
            r"y must be images of shape \(batch, 1, 8, 8\), got None",
        ),
        (lambda: lib.trace(coded.guide, None, coarse), "The guide infers z from data"),
        (lambda: lib.trace(hidden.model, fine), r"x must be images of shape \(batch, 1, 4, 4\)"),
        (
            lambda: lib.trace(hidden.model, x, VISIBLE[:2]),
            r"visible must be integers \(3, 1 to 4\)",
        ),
        (
            lambda: lib.trace(hidden.model, x, 0.5 * VISIBLE),
            r"visible must be integers \(3, 1 to 4\)",
        ),
        (lambda: lib.trace(hidden.model, x, 7 + 0 * VISIBLE), "patches from 0 to 3, got 7"),
        (
            build("ImageToImage", SHAPE, channels=(2,) * 5),
            r"channels must be at most 3, one for each scale of images of shape \(1, 4, 4\), got 5",
        ),
        (build("ImageToImage", SHAPE, (1, 5, 5)), "pad, crop or resize the images"),
        (build("ImageToImage", SHAPE, prior=normal), "prior is that of a code z: give z_dim"),
        (build("ImageToImage", SHAPE, z_dim=3, prior=normal), "prior must give values of shape"),
        (
            build("ImageToImage", SHAPE, SHAPE, hidden_only=True),
            r"given_shape must be \(2, 4, 4\), the channels of x and the mask, got",
        ),
        (
            lambda: lib.trace(holes.model, x, 0.5 + 0 * lib.array(np.zeros((3, 2, 4, 4)))),
            "y must be images whose last channel is a mask, 1 where .* got 0.5",
        ),
        (build("MaskedAutoencoder", SHAPE, patch_size=3), "patch_size must be a divisor"),
        (build("MaskedAutoencoder", SHAPE, patch_size=2, hidden_ratio=0.9), "some visible"),
        (build("MaskedAutoencoder", SHAPE, patch_size=2, num_heads=3), "num_heads must divide"),
    ):
        with pytest.raises(ValueError, match=sentence):
            call()
