"""Runs of a program for a Hamiltonian guide: the base's draws under names of their own, the density
at given draws, and the program at where they have moved."""

from collections.abc import Mapping
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions.transforms import Transform, identity_transform

from dgm_core.guides import LatentSite
from dgm_core.hamiltonian import Draw
from pyro_dgm.guides.determined import Determined
from pyro_dgm.guides.program import Answers, Call
from pyro_dgm.guides.supports import is_real, real_line
from pyro_dgm.joints.handlers import WiderPlates
from pyro_dgm.joints.reading import total_log_prob
from pyro_dgm.joints.structure import draws_nothing, kind_of, plates_of, unmasked

__all__: list[str] = []  # for the package, not for users


class First(Messenger):
    """What the program inside draws is called "<name>/0" outside and belongs to the guide alone;
    what follows from draws is hidden.

    Attributes:
        fns, values, dims: of the draws, by name.
        indices: of the plates.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fns: dict[str, Any] = {}
        self.values: dict[str, Tensor] = {}
        self.dims: dict[str, tuple[tuple[str, int], ...]] = {}
        self.indices: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Message) -> None:
        if site_is_subsample(msg):
            return
        if draws_nothing(msg["fn"]):
            msg["stop"] = True
            return
        name = msg["name"]
        self.fns[name] = unmasked(msg["fn"])
        self.dims[name] = tuple(sorted(plates_of(msg).items()))
        msg["name"], msg["infer"] = f"{name}/0", {**msg["infer"], "is_auxiliary": True}

    def _pyro_post_sample(self, msg: Message) -> None:
        if site_is_subsample(msg):
            self.indices[msg["name"]] = msg["value"]
        elif not draws_nothing(msg["fn"]):
            msg["name"] = msg["name"].removesuffix("/0")
            self.values[msg["name"]] = msg["value"]


class Given(Messenger):
    """Hands out draws and the indices of plates; with `hides` nothing of the program inside is seen
    outside.

    Attributes:
        scored: the statements of the draws handed out.
    """

    def __init__(
        self, values: Mapping[str, Tensor], indices: Mapping[str, Tensor], *, hides: bool
    ) -> None:
        super().__init__()
        self.values, self.indices, self.hides = values, indices, hides
        self.scored: list[Message] = []

    def log_prob(self) -> Any:
        """log q of these draws, in all, under what they are drawn from here."""
        return sum(map(total_log_prob, self.scored))

    def _pyro_sample(self, msg: Message) -> None:
        name = msg["name"]
        if site_is_subsample(msg):
            msg["stop"] = True
            if name in self.indices:
                msg["value"], msg["done"] = self.indices[name], True
        elif name in self.values and not msg["is_observed"]:
            msg["value"], msg["done"], msg["stop"] = self.values[name], True, True
        else:
            msg["stop"] = self.hides

    def _pyro_post_sample(self, msg: Message) -> None:
        if self.hides and msg["name"] in self.values and not msg["is_observed"]:
            self.scored.append(msg.copy())


class Scoring(Answers):
    """Answers the program inside and scores it to its end.

    Attributes:
        log_prob: log p of the model, and log |dz / de| for what follows from draws e.
    """

    log_prob: Tensor | float = 0.0

    def hidden(self, msg: Message) -> None:
        pass

    def drawn(self, site: LatentSite | None) -> None:
        pass

    def _pyro_post_sample(self, msg: Message) -> None:
        super()._pyro_post_sample(msg)
        if self.busy or kind_of(msg) in ("", "deterministic"):
            return
        if kind_of(msg) == "latent":
            if draws_nothing(msg["fn"]):
                self.log_prob = self.log_prob - total_log_prob(msg)
            scale = msg["scale"] * self.call.outside.get(msg["name"], 1.0)
            msg = {**msg, "fn": self.call.stated[msg["name"]], "scale": scale}
        self.log_prob = self.log_prob + total_log_prob(msg)


class Position:
    """Where the draws of a base are, on the real line: (particles, entries) side by side.

    Args:
        first: the run that drew them.
        draws: by groups.
    """

    def __init__(self, first: First, groups: list[tuple[tuple[Draw, ...], int]]) -> None:
        self.first, self.groups = first, groups
        self.lines = {name: _line(fn) for name, fn in first.fns.items()}

    def start(self) -> list[Tensor]:
        """The vectors of each group where they were drawn, (*batch, width)."""
        return [torch.cat([self._flat(draw.name) for draw in own], -1) for own, _ in self.groups]

    def log_jacobian(self, parts: list[Tensor], index: int) -> Tensor:
        """log |de / du| of the draws e of a group at their places u, (*batch,)."""
        values = self._split(parts)
        total: Any = torch.zeros(parts[index].shape[:-1])
        for draw in self.groups[index][0]:
            total = total + self.jacobian_of(draw.name, values[draw.name])
        return total

    def jacobian_of(self, name: str, u: Tensor) -> Tensor:
        """log |de / du| of one draw, (*batch,)."""
        fn, line = self.first.fns[name], self.lines[name]
        value = line(u)
        batch = value.shape[: value.ndim - len(fn.event_shape)]
        return line.log_abs_det_jacobian(u, value).reshape(*batch, -1).sum(-1)

    def width(self, name: str) -> int:
        """The entries of one event of a draw on the real line."""
        return self.lines[name].inverse_shape(self.first.fns[name].event_shape).numel()

    def values(self, parts: list[Tensor]) -> dict[str, Tensor]:
        """The draws at some places."""
        return {name: self.lines[name](u) for name, u in self._split(parts).items()}

    def determined(self, name: str, parts: list[Tensor]) -> Determined:
        """A draw as a value that follows from its place."""
        u = self._split(parts)[name]
        log_density = -self.jacobian_of(name, u)
        return Determined(self.lines[name](u), log_density, len(self.first.fns[name].event_shape))

    def flat(self, parts: list[Tensor]) -> Tensor:
        """The vectors of all groups side by side, (particles, entries)."""
        rows = [
            part.reshape(part[..., 0].numel() // max(1, _entries(part, depth)), -1)
            for part, (_, depth) in zip(parts, self.groups, strict=True)
        ]
        return torch.cat(rows, -1)

    def parts(self, flat: Tensor, like: list[Tensor]) -> list[Tensor]:
        """The vectors of each group, shaped as others."""
        sizes = [part.numel() // len(flat) for part in like]
        return [x.reshape(part.shape) for x, part in zip(flat.split(sizes, -1), like, strict=True)]

    def _flat(self, name: str) -> Tensor:
        value, fn = self.first.values[name], self.first.fns[name]
        batch = value.shape[: value.ndim - len(fn.event_shape)]
        return self.lines[name].inv(value).reshape(*batch, -1)

    def _split(self, parts: list[Tensor]) -> dict[str, Tensor]:
        found = {}
        for part, (draws, _) in zip(parts, self.groups, strict=True):
            for draw, u in zip(draws, part.split([d.width for d in draws], -1), strict=True):
                fn = self.first.fns[draw.name]
                event = self.lines[draw.name].inverse_shape(fn.event_shape)
                found[draw.name] = u.reshape((*u.shape[:-1], *event))
        return found


def log_density(model: Any, call: Call, given: Given) -> Tensor:
    """log p(x, z(e)) + log |dz / de| in all, at given draws e of the base's parts."""
    call = call.again()
    with given, WiderPlates():
        scoring = Scoring(call, call.answers())
        with scoring:
            model(*call.args, **call.kwargs)
    return torch.as_tensor(scoring.log_prob)


def _entries(part: Tensor, depth: int) -> int:
    """The entries of the plates of a vector (*particles, *plates, width)."""
    return part.shape[part.ndim - 1 - depth : part.ndim - 1].numel()


def _line(fn: Any) -> Transform:
    return identity_transform if is_real(fn) else real_line(fn)
