"""Runs of a program for a Hamiltonian guide: the base's draws under names of their own, the density
at given draws, and the program at where they have moved."""

from collections.abc import Mapping
from math import prod
from typing import Any

import jax.numpy as jnp
from jax import Array
from numpyro import handlers
from numpyro.distributions.transforms import IdentityTransform, Transform
from numpyro.primitives import Messenger

from dgm_core.guides import LatentSite
from dgm_core.hamiltonian import Draw
from numpyro_dgm.guides.determined import Determined
from numpyro_dgm.guides.program import Answers, Call
from numpyro_dgm.guides.supports import is_real, real_line
from numpyro_dgm.joints.handlers import WiderPlates
from numpyro_dgm.joints.structure import Site, draws_nothing, kind_of, plates_of, unmasked

__all__: list[str] = []  # for the package, not for users


class First(Messenger):
    """What the program inside draws is called "<name>/0" outside and belongs to the guide alone;
    what follows from draws is hidden.

    Attributes:
        fns, values, dims: of the draws, by name.
        indices: of the plates.
    """

    def __init__(self) -> None:
        super().__init__(None)
        self.fns: dict[str, Any] = {}
        self.values: dict[str, Array] = {}
        self.dims: dict[str, tuple[tuple[str, int], ...]] = {}
        self.indices: dict[str, Array] = {}

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] != "sample":
            return
        if draws_nothing(msg["fn"]):
            msg["stop"] = True
            return
        name = msg["name"]
        self.fns[name] = unmasked(msg["fn"])
        self.dims[name] = tuple(sorted(plates_of(msg).items()))
        msg["name"], msg["infer"] = f"{name}/0", {**msg["infer"], "is_auxiliary": True}

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "plate":
            self.indices[msg["name"]] = msg["value"]
        elif msg["type"] == "sample" and not draws_nothing(msg["fn"]):
            msg["name"] = msg["name"].removesuffix("/0")
            self.values[msg["name"]] = msg["value"]


class Given(Messenger):
    """Hands out draws and the indices of plates; with `hides` nothing of the program inside is seen
    outside, and parameters are handed out as in the first run with these `params`: the later ones
    are traced.

    Attributes:
        scored: the statements of the draws handed out.
    """

    def __init__(
        self,
        values: Mapping[str, Array],
        indices: Mapping[str, Array],
        params: dict[str, Any] | None = None,
        *,
        hides: bool,
    ) -> None:
        super().__init__(None)
        self.values, self.indices, self.hides = values, indices, hides
        self.params = {} if params is None else params
        self.scored: list[Site] = []

    def log_prob(self) -> Any:
        """log q of these draws, in all, under what they are drawn from here."""
        return sum(map(total_log_prob, self.scored))

    def process_message(self, msg: dict[str, Any]) -> None:
        name, sample = msg.get("name", ""), msg["type"] == "sample"
        if msg["type"] == "param":
            if self.hides and name in self.params:
                msg["value"], msg["stop"] = self.params[name], True
        elif msg["type"] == "plate":
            msg["value"], msg["stop"] = self.indices.get(name, msg["value"]), True
        elif sample and name in self.values and not msg["is_observed"]:
            msg["value"], msg["stop"] = self.values[name], True
        elif self.hides:
            msg["stop"] = True

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "param" and self.hides:
            self.params[msg["name"]] = msg["value"]
        handed = msg["type"] == "sample" and msg["name"] in self.values
        if self.hides and handed and not msg["is_observed"]:
            self.scored.append(msg.copy())


class Scoring(Answers):
    """Answers the program inside and scores it to its end.

    Attributes:
        log_prob: log p of the model, and log |dz / de| for what follows from draws e.
    """

    log_prob: Array | float = 0.0

    def hidden(self, msg: dict[str, Any]) -> None:
        pass

    def drawn(self, site: LatentSite | None) -> None:
        pass

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        super().postprocess_message(msg)
        if self.busy or kind_of(msg) in ("", "deterministic"):
            return
        if kind_of(msg) == "latent":
            if draws_nothing(msg["fn"]):
                self.log_prob = self.log_prob - total_log_prob(msg)
            scales = [msg["scale"], self.call.outside.get(msg["name"])]
            scale = prod(scale for scale in scales if scale is not None)
            msg = {**msg, "fn": self.call.stated[msg["name"]], "scale": scale}
        self.log_prob = self.log_prob + total_log_prob(msg)


class Position:
    """Where the draws of a base are, on the real line, all entries side by side.

    Args:
        first: the run that drew them.
        draws: by groups.
    """

    def __init__(self, first: First, groups: list[tuple[Draw, ...]]) -> None:
        self.first, self.groups = first, groups
        self.lines = {name: _line(fn) for name, fn in first.fns.items()}

    def start(self) -> list[Array]:
        """The vectors of each group where they were drawn, (*batch, width)."""
        return [jnp.concatenate([self._flat(draw.name) for draw in own], -1) for own in self.groups]

    def log_jacobian(self, parts: list[Array], index: int) -> Array:
        """log |de / du| of the draws e of a group at their places u, (*batch,)."""
        values = self._split(parts)
        total: Any = jnp.zeros(parts[index].shape[:-1])
        for draw in self.groups[index]:
            total = total + self.jacobian_of(draw.name, values[draw.name])
        return total

    def jacobian_of(self, name: str, u: Array) -> Array:
        """log |de / du| of one draw, (*batch,)."""
        fn, line = self.first.fns[name], self.lines[name]
        value = line(u)
        batch = value.shape[: value.ndim - len(fn.event_shape)]
        jacobian = jnp.asarray(line.log_abs_det_jacobian(u, value))
        return (
            jnp.broadcast_to(jacobian, (*batch, *jacobian.shape[len(batch) :]))
            .reshape(*batch, -1)
            .sum(-1)
        )

    def width(self, name: str) -> int:
        """The entries of one event of a draw on the real line."""
        return prod(self.lines[name].inverse_shape(self.first.fns[name].event_shape))

    def values(self, parts: list[Array]) -> dict[str, Array]:
        """The draws at some places."""
        return {name: self.lines[name](u) for name, u in self._split(parts).items()}

    def determined(self, name: str, parts: list[Array]) -> Determined:
        """A draw as a value that follows from its place."""
        u = self._split(parts)[name]
        log_density = -self.jacobian_of(name, u)
        return Determined(self.lines[name](u), log_density, len(self.first.fns[name].event_shape))

    def flat(self, parts: list[Array]) -> Array:
        """The vectors of all groups side by side."""
        return jnp.concatenate([part.reshape(-1) for part in parts])

    def parts(self, flat: Array, like: list[Array]) -> list[Array]:
        """The vectors of each group, shaped as others."""
        found, begin = [], 0
        for part in like:
            found.append(flat[begin : begin + part.size].reshape(part.shape))
            begin += part.size
        return found

    def _flat(self, name: str) -> Array:
        value, fn = self.first.values[name], self.first.fns[name]
        batch = value.shape[: value.ndim - len(fn.event_shape)]
        return self.lines[name].inv(value).reshape(*batch, -1)

    def _split(self, parts: list[Array]) -> dict[str, Array]:
        found = {}
        for part, draws in zip(parts, self.groups, strict=True):
            begin = 0
            for draw in draws:
                u, fn = part[..., begin : begin + draw.width], self.first.fns[draw.name]
                event = self.lines[draw.name].inverse_shape(fn.event_shape)
                found[draw.name] = u.reshape((*u.shape[:-1], *event))
                begin += draw.width
        return found


def log_density(model: Any, call: Call, given: Given) -> Array:
    """log p(x, z(e)) + log |dz / de| in all, at given draws e of the base's parts."""
    call = call.again()
    with given, handlers.seed(rng_seed=0), WiderPlates(None):
        scoring = Scoring(call, call.answers())
        with scoring:
            model(*call.args, **call.kwargs)
    return jnp.asarray(scoring.log_prob)


def total_log_prob(site: Site) -> Array:
    """The log-density of a site in all, with its scale and mask, a number."""
    log_prob = jnp.asarray(site["fn"].log_prob(site["value"]))
    return (log_prob if site["scale"] is None else log_prob * site["scale"]).sum()


def _line(fn: Any) -> Transform:
    return IdentityTransform() if is_real(fn) else real_line(fn)
