"""The density that NUTS samples is the same function of flat values in both backends."""

from typing import Any

import numpy as np
import pytest

from tests.backends import NumPyroBackend, PyroBackend
from tests.evaluation import other_models as m
from tests.evaluation.posteriors import density

E = np.random.default_rng(5).normal(size=60)
KINDS = (m.schools, m.volatility, m.crossed, m.hidden_markov, m.factorization, m.supports)


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_posteriors_agree(make: Any) -> None:
    found = []
    for b in (PyroBackend(), NumPyroBackend()):
        with b.double_precision():
            kind = make(b)
            found.append(density(b, kind.model, (kind.data,), E))
    (value, gradient, values), (twin, twin_gradient, twin_values) = found
    assert value == pytest.approx(twin, rel=1e-10)
    np.testing.assert_allclose(gradient, twin_gradient, rtol=1e-10, atol=1e-10)
    assert values.keys() == twin_values.keys()
    for name, x in values.items():
        np.testing.assert_allclose(x, twin_values[name], rtol=1e-10, atol=1e-12, err_msg=name)
    assert np.abs(gradient).min() > 1e-6
