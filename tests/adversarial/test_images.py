"""What generators of images take as data, and what is asked of them after training."""

from typing import Any

import numpy as np
import pytest

from dgm_core.truncation import truncated

X = np.random.default_rng(0).random((6, 1, 4, 4)).astype(np.float32)


def trained(
    lib: Any, x: np.ndarray, labels: np.ndarray | None = None, sites: Any = ("x", "y"), **more: Any
) -> Any:
    """A run of one step."""
    classes = 0 if labels is None else 3
    settings: dict[str, Any] = {"hidden_channels": (2,), "num_classes": classes}
    critic = lib.build("losses", "ResidualCritic", (1, 4, 4), **settings)
    name, data = ("SNGAN", x) if labels is None else ("BigGAN", (x, labels))
    gan = lib.build(
        "models", name, (1, 4, 4), 2, *([classes] if classes else []), hidden_channels=(2,)
    )
    loss = lib.package.losses.Hinge(sites if classes else "x", critic)
    quick = {"compile": False} if hasattr(lib, "torch") else {}
    settings = {"batch_size": 6, "num_steps": 1, "progress": False, **quick, **more}
    return lib.package.fit(gan.model, None, data, loss=loss, **settings)


def test_values_outside_the_unit_interval_are_refused(lib: Any) -> None:
    with pytest.raises(ValueError, match=r"Site 'x' observes .* images of bytes by x / 255"):
        trained(lib, (255 * X).astype(np.uint8))


@pytest.mark.slow("numpyro")
@pytest.mark.parametrize("sites", [("y", "x"), "x"])
def test_labels_come_last(lib: Any, sites: Any) -> None:
    with pytest.raises(ValueError, match=r"name the site of the labels last, as in .*, or take a"):
        trained(lib, X, np.arange(6) % 3, sites)


@pytest.mark.slow("numpyro")
def test_a_last_batch_of_one(lib: Any) -> None:
    """Normalizations of maps see its pixels."""
    run = trained(lib, X[:5], batch_size=4, num_steps=2)
    assert run.history.last["step"] == 2 and np.isfinite(run.history.last["loss"])


@pytest.mark.slow("numpyro")
def test_integers_are_seen_as_real_numbers(lib: Any) -> None:
    whole, real = ((X > 0.5).astype(kind) for kind in (np.uint8, np.float32))
    losses = [trained(lib, x).history.last["loss"] for x in (whole, real)]
    assert losses[0] == losses[1]


@pytest.mark.slow("numpyro")
def test_codes_and_labels_that_are_given(lib: Any) -> None:
    """The image of a code depends on the code and the label alone."""
    run = trained(lib, X, np.arange(6) % 3)
    z, y = np.random.default_rng(1).standard_normal((4, 2)), np.array([0, 1, 2, 2])
    sweep = [
        lib.package.generate(run, size=4, given={"z": truncated(z, bound), "y": y}, seed=seed)
        for bound, seed in ((30.0, 0), (30.0, 1), (0.5, 0))
    ]
    np.testing.assert_array_equal(sweep[0]["y"], y)
    np.testing.assert_allclose(sweep[0]["z"], z, rtol=1e-5)
    np.testing.assert_array_equal(sweep[0]["x"], sweep[1]["x"])
    assert abs(sweep[2]["z"]).max() <= 0.5 and abs(sweep[0]["x"] - sweep[2]["x"]).max() > 1e-3
    with pytest.raises(ValueError, match="Codes of site 'y' leave its support"):
        lib.package.generate(run, size=4, given={"y": y + 1})


@pytest.mark.slow("numpyro")
def test_orthogonal_weights_as_a_term(lib: Any) -> None:
    """The penalty of a registered network is part of the loss, by its weight; other names are
    refused."""
    gan = lib.build("models", "SNGAN", (1, 4, 4), 2, hidden_channels=(2,))
    critic = lib.build("losses", "ResidualCritic", (1, 4, 4), hidden_channels=(2,))
    weights = lib.weights(gan.generator).values()
    grams = [w.reshape(len(w), -1) @ w.reshape(len(w), -1).T for w in weights if w.ndim > 1]
    exact = sum((gram**2).sum() - (np.diag(gram) ** 2).sum() for gram in grams)
    losses, quick = lib.package.losses, {"compile": False} if hasattr(lib, "torch") else {}
    settings: dict[str, Any] = {"batch_size": 6, "num_steps": 1, "progress": False, **quick}
    for name in ("generator", "decoder"):
        loss = losses.Hinge("x", critic) + 0.5 * losses.OrthogonalPenalty(name)
        if name == "decoder":
            with pytest.raises(ValueError, match="No network is registered as 'decoder'"):
                lib.package.fit(gan.model, None, X, loss=loss, **settings)
            continue
        found = lib.package.fit(gan.model, None, X, loss=loss, **settings).history.last
        assert found["OrthogonalPenalty(generator)"] == pytest.approx(exact, rel=1e-5)
        assert found["loss"] == pytest.approx(found["Hinge(x)"] + 0.5 * exact, rel=1e-5)
