"""Energies trained by the difference of data and model: contrastive divergence.

d log p(x) / d theta = -dE(x) / d theta + E_p [dE / d theta], where draws of p are the ends of
Markov chains that start at the data (CD-k), or go on from step to step (persistent chains).
"""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from dgm_core.arguments import (
    check_count,
    check_fraction,
    check_instance,
    check_name,
)
from dgm_core.energies import check_batch, in_plates, no_energy, not_shared, tempered
from dgm_core.kernels import check_kernel
from dgm_core.terms import written
from pyro_dgm.conditionals.base import Conditional
from pyro_dgm.conditionals.energy import UnnormalizedDistribution
from pyro_dgm.joints.joints import Joints
from pyro_dgm.losses.base import Term
from pyro_dgm.losses.scores.events import Events, events
from pyro_dgm.mcmc import Kernel, Langevin, State, chain
from pyro_dgm.mcmc.base import spread
from pyro_dgm.nn.states import rank, summed

__all__ = ["ContrastiveDivergence", "Persistent"]


class Persistent:
    """Chains that go on from step to step, a replay buffer where only some of them move in each.

    Args:
        num: how many there are.
        per_step: how many move in a step, in turn; a divisor of `num` (None: all).
        restart: the share of these that start anew before they move.
        start: a conditional without context whose draws they start from (default: the base of the
            energy).

    References:
        Tieleman (2008), Training restricted Boltzmann machines using approximations to the
        likelihood gradient, ICML; Du and Mordatch (2019), arXiv:1903.08689, for the buffer.

    Example:
        >>> Persistent(4096, per_step=128, restart=0.05)
        Persistent(4096, per_step=128, restart=0.05)
    """

    def __init__(
        self,
        num: int,
        *,
        per_step: int | None = None,
        restart: float = 0.0,
        start: Conditional | None = None,
    ) -> None:
        self.num = check_count("num", num)
        self.per_step = check_batch("per_step", self.num, per_step)
        self.restart = check_fraction("restart", restart)
        if start is not None:
            check_instance("start", start, Conditional, "a conditional such as StandardNormal(2)")
        self.start = start

    def __repr__(self) -> str:
        shown = {"per_step": self.num, "restart": 0.0, "start": None}
        return written(self, str(self.num), **shown)


class ContrastiveDivergence(Term):
    """E_data [E(x)] - E_chains [E(x)],  per datum, whose gradient is that of -log p(x) where the
    chains have arrived.

    Chains that start at the data give the gradient of CD-k, persistent ones that of PCD. Steps
    without a correction (`Langevin`) leave a bias at every k: what they converge to is the energy
    that the *discretized* chain has the data as its stationary distribution of; `MALA` and `HMC`
    have none. At a latent site the guide's draws are the data, detached: the term trains the
    density, the bound the guide.

    Args:
        site: with an Energy, a Tilted or another unnormalized distribution; observed, or a latent
            one.
        kernel: of `mcmc`, such as Langevin(0.1, 20) (default: that of the distribution, which for
            an RBM takes block Gibbs steps).
        steps: transitions of a chain in each step.
        chains: None, they start at the data; `Persistent(...)`.
        log_z: for a latent site, how many draws of its base estimate ln Z in each step, by their
            log mean exponential: the bounds beside this term then have log p(z), with the
            potential as a constant that this term trains. That is a lower bound of ln Z in
            expectation, hence what ELBO logs may be too high: state an interval of ln Z by
            `annealed_log_z` before it is reported.

    Logged:
        "ContrastiveDivergence(<site>)", the difference; "<name>/data" and "<name>/model", its
        parts; "<name>/acceptance" of the transitions; "<name>/restarts", the chains that were
        started anew since a number in them was not finite, so far (of chains from the data, now);
        with log_z "<name>/log_z".

    Cost:
        steps times those of the kernel, on as many chains as data, or as `per_step` says.

    Raises:
        ValueError: for bad arguments, a site with a known likelihood, and persistent chains where
            the distribution depends on the datum.

    Warns:
        UserWarning: for Langevin steps at another temperature than 1, with what is learned then.

    References:
        Hinton (2002), Training products of experts by minimizing contrastive divergence, Neural
        Computation 14; Nijkamp et al. (2020), arXiv:1903.12370.

    Example:
        >>> from pyro_dgm.mcmc import MALA
        >>> ContrastiveDivergence("x", kernel=MALA(0.3), steps=5, chains=Persistent(64)).name
        'ContrastiveDivergence(x)'
    """

    guided = False

    def __init__(
        self,
        site: str,
        *,
        kernel: Kernel | None = None,
        steps: int = 1,
        chains: Persistent | None = None,
        log_z: int = 0,
    ) -> None:
        super().__init__()
        self.site = check_name("site", site)
        self.sites = (self.site,)
        if kernel is not None:
            check_kernel("kernel", kernel)
        self.kernel, self.steps = kernel, check_count("steps", steps)
        if chains is not None:
            check_instance("chains", chains, Persistent, "Persistent(num), or None")
        self.chains, self.log_z = chains, check_count("log_z", log_z, least=0)
        if isinstance(kernel, Langevin) and kernel.temperature != 1:
            warnings.warn(tempered(self.name, kernel.temperature), UserWarning, stacklevel=2)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The class and the site."""
        return f"{type(self).__name__}({self.site})"

    @property
    def details(self) -> tuple[str, ...]:  # type: ignore[override]
        """What is logged beside the difference."""
        return ("data", "model", "acceptance", "restarts") + (("log_z",) if self.log_z else ())

    @property
    def has_state(self) -> bool:
        return self.chains is not None

    @property
    def log_zs(self) -> Mapping[str, Callable]:  # type: ignore[override]
        """What finds ln Z of the site."""
        return {self.site: self._log_z} if self.log_z else {}

    def init_state(self, joints: Joints) -> dict[str, Any]:
        chains, fn = self._persistent(), self._shared(self._events(joints))
        start = fn.base if chains.start is None else chains.start()
        with torch.no_grad():
            positions = start.sample((chains.num,))
        return {
            "chains": positions,
            "restarts": positions.new_zeros(()),
            "acceptance": positions.new_ones(()),
            "turn": torch.zeros((), dtype=torch.int64, device=positions.device),
        }

    def update(self, state: dict[str, Any], joints: Joints, step: int | Tensor) -> dict[str, Any]:
        chains, fn = self._persistent(), self._shared(self._events(joints))
        start = fn.base if chains.start is None else chains.start()
        process, processes = rank()
        if chains.per_step % processes:
            raise ValueError(not_shared(processes, chains.per_step))
        block = self._block(state["turn"], state["chains"].device)
        own = block.chunk(processes)[process]
        with torch.no_grad():
            old, fresh = state["chains"][own], start.sample((len(own),))
            if chains.restart:
                anew = torch.rand(len(own), device=own.device) < chains.restart
                old = torch.where(spread(anew, old), fresh, old)
            moved, acceptance, bad = self._moved(fn, old, fresh)
            mine = state["chains"].new_zeros((chains.per_step, *old.shape[1:]))
            mine = mine.index_copy(0, own - block[0], moved)
            moved, acceptance, bad = summed(mine, acceptance / processes, bad)
        return {
            "chains": state["chains"].index_copy(0, block, moved),
            "restarts": state["restarts"] + bad,
            "acceptance": acceptance,
            "turn": state["turn"] + 1,
        }

    def estimate(self, joints: Joints, step: int | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        found = self._events(joints)
        if self.chains is None:
            with torch.no_grad():
                start = found.value
                ends, acceptance, restarts = self._moved(found.fn, start, start)
            model = -found.per_datum(found.log_density(ends))
        else:
            fn, state = self._shared(found), joints.state(self)
            process, processes = rank()
            block = self._block(state["turn"] - 1, state["chains"].device)
            ends = state["chains"][block.chunk(processes)[process]]
            acceptance, restarts = state["acceptance"], state["restarts"]
            mean = fn.unnormalized_log_prob(ends).mean()
            model = -found.per_datum(mean.expand(found.weights.shape))
        data = -found.per_datum(found.log_density(found.value))
        details = {"data": data, "model": model, "acceptance": acceptance, "restarts": restarts}
        if self.log_z:
            details["log_z"] = self._log_z(self._shared(found, "log_z"))
        return data - model, details

    def _events(self, joints: Joints) -> Events:
        found = events(joints, self.site)
        if not isinstance(found.fn, UnnormalizedDistribution):
            raise ValueError(no_energy(type(self).__name__, self.site, type(found.fn).__name__))
        return found

    def _persistent(self) -> Persistent:
        assert self.chains is not None
        return self.chains

    def _shared(self, found: Events, what: str = "chains") -> UnnormalizedDistribution:
        """The distribution of all data."""
        if batch_shape := found.fn.alone.batch_shape:
            raise ValueError(in_plates(self.site, batch_shape, what))
        return found.fn.alone

    def _block(self, turn: Tensor, device: Any) -> Tensor:
        """The rows of the chains whose turn it is."""
        chains = self._persistent()
        first = turn % (chains.num // chains.per_step) * chains.per_step
        return first + torch.arange(chains.per_step, device=device)

    def _moved(
        self, fn: UnnormalizedDistribution, position: Tensor, fresh: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The ends of chains, from `fresh` where a number is not finite; their acceptance, and how
        many these are."""
        kernel = self.kernel or fn.kernel
        last, _, info = chain(kernel, fn.unnormalized_log_prob, position, self.steps)
        ends, bad = _restarted(last, fresh)
        return ends, info.acceptance.mean(), bad

    def _log_z(self, fn: UnnormalizedDistribution) -> Tensor:
        """log 1/K sum_k exp(log ratio) of draws of the base."""
        with torch.no_grad():
            ratios = fn.log_ratio(fn.base.sample((self.log_z,)))
            return ratios.logsumexp(0) - math.log(self.log_z)

    def __repr__(self) -> str:
        shown: dict[str, Any] = {"kernel": None, "steps": 1, "chains": None, "log_z": 0}
        return written(self, repr(self.site), **shown)


def _restarted(state: State, fresh: Tensor) -> tuple[Tensor, Tensor]:
    """The positions, from `fresh` where a number is not finite, and how many these are."""
    position, log_density = state.position, state.log_density
    finite = position.reshape(*log_density.shape, -1).isfinite().all(-1) & log_density.isfinite()
    return torch.where(spread(finite, position), position, fresh), (~finite).sum().to(
        position.dtype
    )
