"""Data of every type, order and container are the same data; what the author of a model switched
off stays off; a model may have no arguments.
"""

import functools
import types
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.training.faces import BITS, GRAY

FEW = BITS[:8]
FORMS: dict[str, Any] = {
    "uint8": FEW.astype(np.uint8),
    "int64": FEW.astype(np.int64),
    "bool": FEW.astype(bool),
    "half": FEW.astype(np.float16),
    "double": FEW.astype(np.float64),
    "long double": FEW.astype(np.longdouble),
    "big-endian": FEW.astype(">f4"),
    "big-endian integers": FEW.astype(">i2"),
    "unsigned": FEW.astype(np.uint32),
    "reversed strides": FEW[::-1].copy()[::-1],
    "columns first": np.asfortranarray(FEW),
    "every second": np.repeat(FEW, 2, axis=0)[::2],
    "read only": np.frombuffer(FEW.tobytes(), np.float32).reshape(FEW.shape),
    "a mask that hides nothing": np.ma.masked_array(FEW, np.zeros_like(FEW)),
    "a table": pd.DataFrame(FEW),
    "a table of several types": pd.DataFrame(FEW).astype({0: bool, 1: int, 2: "Int64"}),
    "a tuple": (FEW,),
    "a dict": {"x": FEW},
    "a list of batches": [FEW.astype(np.uint8)],
    "a function of batches": lambda: iter([FEW]),
}


def first_loss(face: Any, model: Any, guide: Any, data: Any, **options: Any) -> float:
    run = face.quiet(model, guide, data, compile=False, **options)
    return float(run.history.column("loss")[0])


@pytest.fixture(scope="module")
def expected(face: Any) -> dict[bool, float]:
    """Of data in memory, and of batches, which meet other random numbers."""
    pairs = {memory: face.vae() for memory in (True, False)}
    return {
        memory: first_loss(face, vae.model, vae.guide, FEW if memory else [FEW])
        for memory, vae in pairs.items()
    }


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_numbers_is_taken(
    face: Any, form: str, expected: dict[bool, float]
) -> None:
    vae = face.vae()
    found = first_loss(face, vae.model, vae.guide, FORMS[form])
    np.testing.assert_allclose(found, expected["batches" not in form], rtol=1e-5)


def test_numbers_that_do_not_fit_are_not_wrapped_around(face: Any) -> None:
    x = np.array([3e9, 1.0])
    if face.name == "numpyro":  # 32 bits of integers; torch has 64
        with pytest.raises(ValueError, match="data holds 3000000000, which int32 cannot"):
            face.quiet(face.mean_model, None, x.astype(np.int64), loss=face.losses.NLL())
    with pytest.raises(ValueError, match=r"data holds 1e\+300, which float32 cannot"):
        face.quiet(face.mean_model, None, np.array([1e300, 1.0]), loss=face.losses.NLL())


def test_a_model_without_arguments(face: Any) -> None:
    x = face.array(np.float32([1.0, 2.0, 6.0]))

    def model() -> None:
        mu = face.param("mu", face.np.zeros(()))
        with face.plate("data", 3):
            face.sample("x", face.dist.Normal(mu, 1.0), obs=x)

    for nothing in ((), {}):
        run = face.quiet(
            model, None, nothing, loss=face.losses.NLL(), optim=face.sgd(1.0), num_epochs=3
        )
        (mu,) = face.params(run).values()
        np.testing.assert_allclose(mu, 3.0, rtol=1e-6)


def test_seeds_of_64_bits_are_different_seeds(face: Any) -> None:
    """Half of the bits alone would make these three one."""
    pairs = [face.vae() for _ in range(3)]
    losses = {
        first_loss(face, vae.model, vae.guide, FEW, seed=s)
        for vae, s in zip(pairs, (3, 3 + 2**32, -3), strict=True)
    }
    assert len(losses) == 3


def gray(face: Any, **options: Any) -> Any:
    def model(x: Any) -> None:
        logits = face.param("logits", face.np.zeros(6))
        with face.plate("data", len(x)):
            face.sample("x", face.dist.Bernoulli(logits=logits, **options).to_event(1), obs=x)

    return functools.partial(face.quiet, model, None, GRAY, loss=face.losses.NLL())


def test_validation_that_the_author_switched_off_stays_off(face: Any) -> None:
    with pytest.raises(ValueError, match=r"observes 0.25, outside .* Bernoulli"):
        gray(face)()
    with pytest.warns(UserWarning, match="observes 0.25, outside .* scored all the same") as told:
        run = gray(face, validate_args=False)(batch_size=5)
    assert len(told) == 1
    np.testing.assert_allclose(run.history.column("loss")[0], 6 * np.log(2.0), rtol=1e-3)


def test_the_support_of_each_batch_counts(face: Any) -> None:
    """An upper bound that is another one in another batch."""

    def model(x: Any, top: Any) -> None:
        logit = face.param("logit", face.np.zeros(()))
        with face.plate("data", len(x)):
            face.sample("x", face.dist.Binomial(top, logits=logit), obs=x)

    x, top = np.float32([1, 2, 9, 8]), np.float32([2, 2, 9, 9])
    fit = functools.partial(face.quiet, model, None, loss=face.losses.NLL(), batch_size=2)
    assert fit((x, top)).epoch == 1
    with pytest.raises(ValueError, match="Site 'x' observes 9"):
        fit((x, np.float32([2, 2, 9, 8])[[0, 1, 3, 2]]))


def test_missing_values_under_a_mask_are_no_reason_to_refuse(face: Any) -> None:
    def model(x: Any, seen: Any) -> None:
        mu = face.param("mu", face.np.zeros(()))
        with face.plate("data", len(x)):
            face.sample("x", face.dist.Normal(mu, 1.0).mask(seen), obs=x)

    x = np.float32([1.0, np.nan, 3.0])
    fit = functools.partial(face.quiet, model, None, loss=face.losses.NLL(), optim=face.sgd(1e-9))
    run = fit((x, ~np.isnan(x)))
    np.testing.assert_allclose(run.history.column("loss")[0] * 3, np.log(2 * np.pi) + 5, rtol=1e-5)
    with pytest.raises(ValueError, match="Site 'x' observes nan"):
        fit((x, np.ones(3, bool)))


def test_a_last_batch_of_one_with_batch_normalization(face: Any) -> None:
    vae = face.vae(encoder=face.normalized(6, (8,)))
    with pytest.raises(ValueError, match=r"single datum, which batch normalization .* drop_last"):
        face.quiet(vae.model, vae.guide, BITS[:9], batch_size=4)
    assert face.quiet(vae.model, vae.guide, BITS[:9], batch_size=4, drop_last=True).epoch == 1


def test_labels_out_of_range_in_a_late_batch(face: Any) -> None:
    vae = face.conditional_vae()
    y = np.arange(8) % 3
    fit = functools.partial(face.quiet, vae.model, vae.guide, batch_size=4)
    assert fit((FEW, y)).epoch == 1
    with pytest.raises(ValueError, match="y must be labels from 0 to 2, got 3"):
        fit((FEW, np.where(np.arange(8) == 7, 3, y)))


@pytest.mark.parametrize("kind", ["array", "table"])
def test_integers_in_flows(face: Any, kind: str) -> None:
    x = FEW.astype(np.int64) if kind == "array" else pd.DataFrame(FEW.astype(int))
    losses = [
        first_loss(face, face.flow_model(6), None, data, loss=face.losses.NLL())
        for data in (x, FEW)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_a_function_without_module_or_name(face: Any) -> None:
    made = face.mean_model.__func__
    bare = types.FunctionType(made.__code__, {"len": len})
    nameless = functools.partial(bare, face)
    run = face.quiet(nameless, None, np.zeros((4, 3), np.float32), loss=face.losses.NLL())
    assert bare.__module__ is None and run.epoch == 1


def test_packed_sequences_are_passed_through() -> None:
    """They are torch's; a batch that is one, and a batch that holds one."""
    import pyro
    import torch
    from torch.nn.utils.rnn import pack_sequence

    from pyro_dgm import NLL, fit

    network = torch.nn.GRU(2, 1)

    def model(packed: Any, y: Any = None) -> None:
        pyro.module("network", network)
        _, last = network(packed)
        y = torch.zeros(2) if y is None else y
        with pyro.plate("data", len(y)):
            pyro.sample("y", pyro.distributions.Normal(last[0, :, 0], 1.0), obs=y)

    packed = pack_sequence([torch.ones(4, 2), torch.ones(2, 2)])
    for batch in (packed, (packed, torch.zeros(2))):
        run = fit(model, None, [batch], loss=NLL(), num_epochs=2, progress=False)
        first, second = run.history.column("loss")
        assert second < first
