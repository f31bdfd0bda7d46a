"""Terms that compare samples of the two joints directly, without a critic: MMD, energy score,
sliced Wasserstein distance.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import (
    check_choice,
    check_count,
    check_flag,
    check_instance,
    check_names,
    check_number,
)
from dgm_core.terms import sites_written, written
from numpyro_dgm.joints.joints import Joints
from numpyro_dgm.losses.base import Term
from numpyro_dgm.losses.samples.kernels import RBF, Kernel, linear_mmd2, mmd2
from numpyro_dgm.losses.samples.spectra import mean_power
from numpyro_dgm.losses.samples.statistics import energy_score, sliced_wasserstein

__all__ = ["MMD", "EnergyScore", "PowerLoss", "SlicedWasserstein"]


class _Discrepancy(Term):
    """A term on the samples of some sites."""

    guided = False

    def __init__(self, sites: str | tuple[str, ...]) -> None:
        super().__init__()
        self.sites = check_names("sites", sites)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The class and the sites."""
        return f"{type(self).__name__}({', '.join(self.sites)})"

    def __repr__(self) -> str:
        return written(self, sites_written(self.sites), **self._shown())

    def _shown(self) -> dict[str, Any]:
        """The arguments that `repr` shows where they differ from these defaults."""
        return {}


class MMD(_Discrepancy):
    """The squared maximum mean discrepancy of the two joints at the named sites: E k(x, x') + E
    k(y, y') - 2 E k(x, y),  x ~ P,  y ~ Q.

    `Reconstruction() + 10.0 * MMD("z")` is WAE-MMD, `ELBO() + 9.0 * MMD("z")` of the InfoVAE
    family, `MMD("x")` alone a generative moment matching network.

    Args:
        sites: a name or a tuple of names, flattened and side by side.
        kernel: (default RBF(), a mixture around the median distance).
        unbiased: the U-statistic, which can be negative.
        linear: the estimate in linear time.

    Logged:
        "MMD(<sites>)", MMD squared.

    Cost:
        one run of the model (and of the guide, if latent sites are compared) and batch^2 kernel
        values (linear: batch).

    References:
        Gretton et al. (2012), JMLR 13; Li, Swersky and Zemel (2015), arXiv:1502.02761.

    Example:
        >>> MMD("z")
        MMD('z')
    """

    def __init__(
        self,
        sites: str | tuple[str, ...],
        kernel: Kernel | None = None,
        *,
        unbiased: bool = True,
        linear: bool = False,
    ) -> None:
        super().__init__(sites)
        if kernel is not None:
            check_instance("kernel", kernel, Kernel, "a Kernel such as RBF() or IMQ()")
        self.kernel = kernel or RBF()
        self.unbiased, self.linear = check_flag("unbiased", unbiased), check_flag("linear", linear)

    def estimate(self, joints: Joints, step: int | Array) -> tuple[Array, dict[str, Array]]:
        real, fake = joints.samples(self.sites)
        if self.linear:
            return linear_mmd2(real, fake, self.kernel), {}
        return mmd2(real, fake, self.kernel, self.unbiased), {}

    def __repr__(self) -> str:
        kernel = () if repr(self.kernel) == "RBF()" else (repr(self.kernel),)
        first = (sites_written(self.sites), *kernel)
        return written(self, *first, unbiased=True, linear=False)


class EnergyScore(_Discrepancy):
    """The energy score of the model's draws for each datum:  E |Y - y|^beta - E |Y - Y'|^beta / 2,
    Y, Y' ~ model: DISCO nets.

    Strictly proper: least only where the model's distribution, given what the datum is conditioned
    on, is the data's.

    Args:
        sites: observed ones.
        beta: in (0, 2).
        num_samples: draws of the model per datum, at least 2.

    Logged:
        "EnergyScore(<sites>)", half the energy distance plus a constant of the data.

    Cost:
        num_samples runs of the model.

    Raises:
        ValueError: for arguments out of range, and sites that are not observed.

    References:
        Bouchacourt, Mudigonda and Nowozin (2016), arXiv:1606.02556; Gneiting and Raftery (2007), J.
        Am. Stat. Assoc. 102.

    Example:
        >>> EnergyScore("x", num_samples=4)
        EnergyScore('x', num_samples=4)
    """

    def __init__(
        self, sites: str | tuple[str, ...], *, beta: float = 1.0, num_samples: int = 2
    ) -> None:
        super().__init__(sites)
        beta = check_number("beta", beta, above=0, below=2)
        num_samples = check_count("num_samples", num_samples, 2)
        self.beta, self.num_samples = beta, num_samples

    def estimate(self, joints: Joints, step: int | Array) -> tuple[Array, dict[str, Array]]:
        y, _ = joints.samples(self.sites)
        return energy_score(y, joints.redrawn(self.sites, self.num_samples), self.beta).mean(), {}

    def _shown(self) -> dict[str, Any]:
        return {"beta": 1.0, "num_samples": 2}


class PowerLoss(_Discrepancy):
    """The squared distance between the mean power spectra of a waveform that the model drew and of
    the datum:  mean_f (phi_f(x) - phi_f(y))^2,  phi the power |STFT|^2 averaged over time; with
    scale="log" of ln(phi + floor).

    Beside a `Distillation` it keeps a student from whispering. Both waveforms of a pair have the
    context of the datum, as of a model whose arguments are data and contexts. The gradient of a
    power falls with the amplitude of the draw, and with it the pull away from silence: of a student
    that whispers already, only the logarithm is felt. It counts a quiet frequency as much as a loud
    one, down to the floor.

    Args:
        sites: one observed site of waveforms (steps,) or (steps, channels).
        frame: samples of a Hann window.
        hop: samples from one window to the next (default frame // 4, at least 1).
        scale: "power" or "log".
        floor: a power that is added before the logarithm, above 0 (default 1e-5, which is 50 dB
            below a white noise of variance one; at least the smallest normal number).

    Logged:
        "PowerLoss(<sites>)", the mean over data, channels and frequencies; that over frequencies
        is the paper's sum by frame // 2 + 1.

    Cost:
        one run of the model, Fourier transforms of steps / hop frames.

    Raises:
        ValueError: for arguments out of range, a floor without a logarithm, and waveforms shorter
            than a frame.

    References:
        van den Oord et al. (2018), arXiv:1711.10433, power loss; Arik, Jun and Diamos (2019),
        arXiv:1808.06719, the logarithm.

    Example:
        >>> PowerLoss("x", frame=64)
        PowerLoss('x', frame=64)
    """

    def __init__(
        self,
        sites: str | tuple[str, ...],
        *,
        frame: int = 256,
        hop: int | None = None,
        scale: str = "power",
        floor: float | None = None,
    ) -> None:
        super().__init__(sites)
        self.scale = check_choice("scale", scale, ("power", "log"))
        self.floor = check_number("floor", 1e-5 if floor is None else floor, above=0)
        if floor is not None and scale == "power":
            raise ValueError('floor is part of the logarithm: leave it out, or take scale="log".')
        self.frame = check_count("frame", frame, 2)
        self.hop = hop if hop is None else check_count("hop", hop)

    def estimate(self, joints: Joints, step: int | Array) -> tuple[Array, dict[str, Array]]:
        real, fake = joints.samples(self.sites)
        powers = [mean_power(x, self.frame, self.hop) for x in (real, fake)]
        if self.scale == "log":
            floor = max(self.floor, float(jnp.finfo(fake.dtype).tiny))
            powers = [jnp.log(power + floor) for power in powers]
        left, right = powers
        return jnp.square(left - right).mean(), {}

    def _shown(self) -> dict[str, Any]:
        return {"frame": 256, "hop": None, "scale": "power", "floor": 1e-5}


class SlicedWasserstein(_Discrepancy):
    """The mean over random directions of W_p^p between the projected samples of the two joints.

    Args:
        sites: a name or a tuple of names, flattened and side by side.
        num_directions: drawn anew at each step.
        p: at least 1.

    Logged:
        "SlicedWasserstein(<sites>)".

    Cost:
        num_directions projections and sorts.

    Raises:
        ValueError: for arguments out of range.

    References:
        Bonneel et al. (2015), J. Math. Imaging Vis. 51; Deshpande, Zhang and Schwing (2018),
        arXiv:1803.11188.

    Example:
        >>> SlicedWasserstein("x")
        SlicedWasserstein('x')
    """

    def __init__(
        self, sites: str | tuple[str, ...], *, num_directions: int = 64, p: float = 2.0
    ) -> None:
        super().__init__(sites)
        num_directions = check_count("num_directions", num_directions)
        p = check_number("p", p, least=1)
        self.num_directions, self.p = num_directions, p

    def estimate(self, joints: Joints, step: int | Array) -> tuple[Array, dict[str, Array]]:
        real, fake = joints.samples(self.sites)
        directions = jax.random.normal(
            joints.key(self.name), (self.num_directions, *fake.shape[1:]), fake.dtype
        )
        return sliced_wasserstein(real, fake, directions, self.p), {}

    def _shown(self) -> dict[str, Any]:
        return {"num_directions": 64, "p": 2.0}
