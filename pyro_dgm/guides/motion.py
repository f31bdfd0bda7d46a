"""The momenta of a Hamiltonian guide, and the way that they and what the base draws take."""

from collections.abc import Callable, Mapping
from functools import partial
from math import log
from typing import Any

import torch
from torch import Tensor, nn

from dgm_core.guides import LatentSite
from dgm_core.hamiltonian import (
    Moved,
)
from pyro_dgm.conditionals import StandardNormal
from pyro_dgm.guides.base import Part
from pyro_dgm.guides.determined import Determined
from pyro_dgm.guides.passes import First, Given, Position, log_density
from pyro_dgm.guides.program import Answer, Call
from pyro_dgm.guides.reverse import Reverse
from pyro_dgm.guides.supports import beside
from pyro_dgm.mcmc import bounded, leapfrog, start

__all__: list[str] = []  # for the package, not for users

HIDDEN = (32,)  # of the reverse model


class Motion(Part):
    """The momenta of some draws, and the way that both take together."""

    answers = ()
    reverses = True

    def __init__(
        self,
        name: str,
        groups: tuple[Moved, ...],
        sizes: list[int],
        *,
        num_steps: int,
        step_size: float,
        max_step: float,
        max_force: float,
        reverse: Any,
        annealed: bool,
    ) -> None:
        super().__init__()
        self.name, self.groups, self.num_steps = name, groups, num_steps
        self.max_step, self.max_force, self.annealed = max_step, max_force, annealed
        raw = log(step_size / (max_step - step_size))
        self.steps = nn.ParameterList(torch.full((group.width,), raw) for group in groups)
        self.models = nn.ModuleList()
        if annealed:
            self.path = nn.Parameter(torch.zeros(num_steps + 1))
            self.kept = nn.Parameter(torch.zeros(()))
        else:
            self.models = nn.ModuleList(
                Reverse(reverse, group.width, size, HIDDEN)
                for group, size in zip(groups, sizes, strict=True)
            )

    def momentum(self, group: Moved) -> str:
        """The name of a momentum."""
        return f"{self.name}.momentum{group.suffix()}"

    def draw(self, call: Call, site: LatentSite | None) -> None:
        """Draws the momenta that belong to a site, with the noise of all refreshments beside."""
        for group in self._at(site):
            width = group.width * (self.num_steps if self.annealed else 1)
            self._state(call, group, StandardNormal(width)(), reverse=False)

    def reverse(self, call: Call, site: LatentSite | None) -> None:
        """r of the last momentum, given where the draws are."""
        for group in self._at(site):
            if self.annealed:
                own = StandardNormal(group.width * self.num_steps)()
            else:
                own = self.models[self.groups.index(group)](self._seen(call, group))
            self._state(call, group, own)

    def moved(self, model: Callable, call: Call, first: First) -> "Moves":
        """Where the draws and momenta of a first run come to."""
        position = Position(first, [(group.draws, group.depth) for group in self.groups])
        parts = position.start()
        momenta = [first.values[self.momentum(group)] for group in self.groups]
        scales = [group.scale(call.outline) for group in self.groups]
        sizes = [self.max_step * raw.sigmoid() for raw in self.steps]
        steps = position.flat([size.expand(x.shape) for size, x in zip(sizes, parts, strict=True)])

        def force(x: Tensor, share: Tensor | None = None) -> Tensor:
            def energy(x: Tensor) -> Tensor:
                return self._log_density(model, call, position, position.parts(x, parts), share)

            pulls = position.parts(start(energy, x).gradient, parts)
            own = [bounded(s * pull, self.max_force) for s, pull in zip(scales, pulls, strict=True)]
            return position.flat(own)

        x = position.flat(parts)
        if self.annealed:
            x, momenta = self._annealed(force, x, momenta, steps, position, parts)
        else:
            x, v = leapfrog(force, x, position.flat(momenta), steps, self.num_steps)
            momenta = position.parts(v, momenta)
        jacobians = [position.log_jacobian(parts, index) for index in range(len(parts))]
        return Moves(self, position, position.parts(x, parts), momenta, jacobians)

    def _annealed(
        self,
        force: Callable,
        x: Tensor,
        momenta: list[Tensor],
        steps: Tensor,
        position: Position,
        parts: list[Tensor],
    ) -> tuple[Tensor, list[Tensor]]:
        """Steps towards densities between q0 and the posterior, with the momentum refreshed before
        each but the first: a rotation of momentum and noise."""
        shares = self.path.softmax(0).cumsum(0)
        kept = self.kept.sigmoid()
        fresh = (1 - kept**2).sqrt()
        noises = zip(*(x.chunk(self.num_steps, -1) for x in momenta), strict=True)
        v, *rest = (position.flat(list(noise)) for noise in noises)
        turned = []
        for index in range(self.num_steps):
            if index:
                noise = rest[index - 1]
                v, back = kept * v + fresh * noise, fresh * v - kept * noise
                turned.append(back)
            x, v = leapfrog(partial(force, share=shares[index]), x, v, steps)
        ends = [position.parts(end, parts) for end in (v, *turned)]
        return x, [torch.cat(own, -1) for own in zip(*ends, strict=True)]

    def _log_density(
        self, model: Callable, call: Call, position: Position, parts: list[Tensor], share: Any
    ) -> Tensor:
        """log p on the real line in all, or between that and log q0."""
        given = Given(position.values(parts), position.first.indices, hides=True)
        total = log_density(model, call, given)
        if share is not None:
            total = share * total + (1 - share) * given.log_prob()
        for index, group in enumerate(self.groups):
            jacobian = position.log_jacobian(parts, index).sum()
            total = total + jacobian / group.scale(call.outline)
        return total

    def _at(self, site: LatentSite | None) -> list[Moved]:
        name = None if site is None else site.name
        return [group for group in self.groups if group.site == name]

    def _state(self, call: Call, group: Moved, fn: Any, *, reverse: bool = True) -> None:
        if group.site is None:
            call.sample(self.momentum(group), fn, reverse=reverse)
        else:
            call.sample_beside(self.momentum(group), fn, group.site, reverse=reverse)

    def _seen(self, call: Call, group: Moved) -> Tensor:
        vectors = [call.parts[number] for number in group.vectors]
        own = group.site is None
        known = [part.noise(call) if own else part.standard(call) for part in vectors]
        return beside([*known, *map(call.vector, group.sees)])


class Moves:
    """Where the draws of a base and their momenta have come to."""

    def __init__(
        self,
        motion: Motion,
        position: Position,
        parts: list[Tensor],
        momenta: list[Tensor],
        jacobians: list[Tensor],
    ) -> None:
        self.motion, self.position, self.parts = motion, position, parts
        self.momenta, self.jacobians = momenta, jacobians

    def given(self, sites: Mapping[str, Any]) -> Given:
        """What hands out the draws beyond the model."""
        values = self.position.values(self.parts)
        beyond = {name: value for name, value in values.items() if name not in sites}
        return Given(beyond, self.position.first.indices, hides=False)

    def answered(self, call: Call, answer: Answer) -> Answer:
        """The sites at the draws, the momenta beside them."""

        def moved(site: LatentSite, fn: Any) -> Any:
            own = answer(site, fn)
            if site.name in self.position.first.fns:
                own = self.position.determined(site.name, self.parts)
            self.state(call, site)
            return own

        return moved

    def state(self, call: Call, site: LatentSite | None) -> None:
        """The last momenta that belong to a site."""
        for group in self.motion._at(site):
            index = self.motion.groups.index(group)
            fn = Determined(self.momenta[index], self.jacobians[index], 1)
            self.motion._state(call, group, fn)
