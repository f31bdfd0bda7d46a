"""ELBO surgery: what the KL part of a bound is made of, and how far the aggregate posterior q(z) =
E_data [q(z | x)] is from the prior.

mean KL(q(z | x), p(z)) = I(x; z) + KL(q(z), p(z)): the information that the codes carry, and a
mismatch that costs likelihood and spoils samples.
"""

from dgm_core.surgery.curves import RateDistortion
from dgm_core.surgery.parts import ELBOSurgery, elbo_surgery
from dgm_core.surgery.ratio import ratio_kl

__all__ = ["ELBOSurgery", "RateDistortion", "elbo_surgery", "ratio_kl"]
