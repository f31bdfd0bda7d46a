"""The bounds on programs of other kinds, in both libraries: global latents, several sites, a latent
of each datum with parameters of its own, discrete ones.
"""

import pytest

from tests.cases import Loss
from tests.contracts.evaluating import Found

ONE = (
    "ELBO(beta=0.3) + 0.7 * ELBO(beta=linear(10)) + 1.3 * ELBO(estimator='score') "
    "+ 0.2 * Reconstruction() + 0.6 * KL()"
)
CLOSED = "0.4 * ELBO(analytic_kl=True) + 0.9 * KL(analytic_kl=True) + 0.3 * ELBO(estimator='stl')"
SEVERAL = (
    "0.3 * ELBO(beta=0.7, num_particles=4) + 1.3 * ELBO(num_particles=4, estimator='score') "
    "+ 0.6 * IWAE(num_particles=4) + 0.2 * Reconstruction(num_particles=4) + IWAE(num_particles=1)"
)
PATHS = (
    "0.7 * ELBO(num_particles=4, estimator='stl') + 0.9 * IWAE(num_particles=4, estimator='dreg')"
)
CONTINUOUS = ("conjugate", "subsampled", "global", "global, subsampled", "chain")
CASES = [(programs, loss) for programs in (*CONTINUOUS, "discrete") for loss in (ONE, SEVERAL)]
CASES += [(programs, PATHS) for programs in CONTINUOUS]
CASES += [(programs, CLOSED) for programs in CONTINUOUS if programs != "chain"]


@pytest.mark.parametrize(("programs", "written"), CASES)
def test_bounds_agree(x64: None, programs: str, written: str) -> None:
    Found(Loss(written, "sum", programs=programs)).assert_twins_agree()
