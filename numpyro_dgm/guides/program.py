"""Running a model's own program inside a guide: its latent statements are answered, its observed
statements are hidden, its plates are left alone."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
from jax import Array
from numpyro import handlers
from numpyro.primitives import Messenger

from dgm_core.guides import LatentSite, Outline
from numpyro_dgm.compat import mask_of
from numpyro_dgm.guides.supports import is_real, num_seen, real_line, seen
from numpyro_dgm.joints.handlers import PlateSizes, WiderPlates
from numpyro_dgm.joints.structure import (
    Trace,
    kind_of,
    masked_as,
    sites_of,
    step_mask_of,
    unmasked,
)
from numpyro_dgm.nn import evaluation_mode

__all__: list[str] = []  # for the package, not for users

Answer = Callable[[LatentSite, Any], Any]


class Call:
    """One call of a guide: its arguments, and what its run has met so far.

    Attributes:
        model, outline: the program, and what it does on arguments of this form.
        rows: the data that a subsampled plate holds, by plate.
        parts: of the guide, with their parameters.
        kept: what the parts of a guide keep for themselves during the call;  features: what they
            make of the data alone.
        masked: the sites met so far that lie under a mask in this run.
        outside: the sites whose answers are drawn before the program, and count once in log q,
            with the scale that the program gives them.
    """

    def __init__(
        self, model: Callable, outline: Outline, args: tuple, kwargs: Mapping[str, Any]
    ) -> None:
        self.model, self.outline, self.args, self.kwargs = model, outline, args, kwargs
        self.rows: dict[str, Array] = {}
        self.parts: tuple[Any, ...] = ()
        self.kept: dict[Any, Any] = {}
        self.features: dict[Any, Any] = {}
        self.outside: dict[str, Any] = {}
        self.masked: set[str] = set()
        self.fns: dict[str, Any] = {}  # what the model draws each latent from
        self.stated: dict[str, Any] = {}  # the same with its masks
        self.values: dict[str, Array] = {}

    def again(self) -> "Call":
        """A call for one more run of the program on the same data."""
        other = Call(self.model, self.outline, self.args, self.kwargs)
        other.parts, other.features = self.parts, self.features
        return other

    def answers(self) -> Answer:
        """What the parts answer; they begin."""
        owner = {name: part for part in self.parts for name in part.answers}
        for part in self.parts:
            part.begin(self)

        def answer(site: LatentSite, fn: Any) -> Any:
            part = owner.get(site.name)
            return None if part is None else part.answer(self, site, fn)

        return answer

    def sample(self, name: str, fn: Any, *, reverse: bool = False) -> Array:
        """Draws what the model does not have; with `reverse` what the extended model scores, or, on
        its side, how."""
        return numpyro.sample(name, fn, infer={"reverse" if reverse else "is_auxiliary": True})

    def sample_beside(self, name: str, fn: Any, site: str, *, reverse: bool = False) -> Array:
        """The same where the model draws a site: in its plates, under its masks."""
        return self.sample(name, masked_as(self.stated[site], fn), reverse=reverse)

    def vector(self, name: str) -> Array:
        """The value of a site met before, on the real line or one-hot: (*batch, width)."""
        return seen(self.fns[name], self.values[name])


class Finished(Exception):
    """The last latent statement of a program has been answered."""


class Noting(Messenger):
    """Notes what a program draws, for a call; what is stated meanwhile is none of it."""

    def __init__(self, call: Call) -> None:
        super().__init__(None)
        self.call, self.busy = call, False

    def met(self, msg: dict[str, Any], site: LatentSite) -> None:
        """At a latent statement, before it is drawn."""

    def drawn(self, site: LatentSite | None) -> None:
        """After it; None: one that an earlier run did not have."""

    def hidden(self, msg: dict[str, Any]) -> None:
        """At a statement that is not latent."""

    def process_message(self, msg: dict[str, Any]) -> None:
        if self.busy or msg["type"] not in ("sample", "deterministic"):
            return
        if kind_of(msg) != "latent":
            self.hidden(msg)
            return
        name, fn = msg["name"], msg["fn"]
        self.call.fns[name], self.call.stated[name] = unmasked(fn), fn
        if _is_masked(fn):
            self.call.masked.add(name)
        site = self.call.outline.sites.get(name)
        if site is not None and not site.scanned:
            self._meanwhile(self.met, msg, site)

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        if self.busy:
            return
        if msg["type"] == "plate":
            size, present = msg["args"]
            if present is not None and present != size:
                self.call.rows[msg["name"]] = msg["value"]
        elif msg["type"] == "sample" and msg["name"] in self.call.fns:
            self.call.values[msg["name"]] = msg["value"]
            self._meanwhile(self.drawn, self.call.outline.sites.get(msg["name"]))

    def _meanwhile(self, function: Callable, *args: Any) -> None:
        self.busy = True
        try:
            function(*args)
        finally:
            self.busy = False


class Answers(Noting):
    """Answers the latent statements of the program inside, and ends it after the last."""

    def __init__(self, call: Call, answer: Answer) -> None:
        super().__init__(call)
        self.answer = answer

    def hidden(self, msg: dict[str, Any]) -> None:
        msg["stop"] = True

    def met(self, msg: dict[str, Any], site: LatentSite) -> None:
        own = self.answer(site, self.call.fns[site.name])
        if own is not None:
            msg["fn"] = masked_as(msg["fn"], own)
            if site.name in self.call.outside:
                self.call.outside[site.name], msg["scale"] = msg["scale"], None
        else:
            msg["infer"] = {**msg["infer"], "answered": False}

    def drawn(self, site: LatentSite | None) -> None:
        if site is not None and site.name == self.call.outline.last:
            raise Finished(self)


def run_program(model: Callable, call: Call, answer: Answer) -> None:
    """Runs a model down to its last latent statement, all of which `answer` answers: with a
    distribution, or with None for the model's own conditional."""
    answers = Answers(call, answer)
    try:
        with answers:
            model(*call.args, **call.kwargs)
    except Finished as end:
        if end.args[0] is not answers:
            raise


@contextmanager
def aside(*callables: Callable) -> Iterator[None]:
    """A block whose statements nobody outside sees; networks are in evaluation mode."""

    def ours(msg: dict[str, Any]) -> bool:  # all but the question whether there is a value already
        return msg["type"] not in ("param", "mutable") or not any(x is None for x in msg["args"])

    with evaluation_mode(*callables), handlers.block(hide_fn=ours), WiderPlates(None):
        yield


class Placed(Messenger):
    """Latent sites that cannot be drawn, as of an improper prior, lie where zero is mapped to;
    `names` are theirs."""

    def __init__(self, fn: Callable) -> None:
        super().__init__(fn)
        self.names: set[str] = set()

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] != "sample" or msg["is_observed"] or msg["value"] is not None:
            return
        try:
            jax.eval_shape(lambda: msg["fn"].sample(jax.random.key(0)))
        except NotImplementedError:
            fn = msg["fn"]
            line = real_line(fn)
            msg["value"] = line(jnp.zeros(line.inverse_shape(fn.batch_shape + fn.event_shape)))
            self.names.add(msg["name"])


def outline_of(model: Callable, args: tuple, kwargs: Mapping[str, Any]) -> Outline:
    """What a program does on these arguments, from one run of it on shapes alone."""
    found: list[Outline] = []

    def run() -> None:
        with aside(model):
            placed = Placed(model)
            plates = PlateSizes(handlers.seed(placed, jax.random.key(0)))
            trace = handlers.trace(plates).get_trace(*args, **kwargs)
        for name, size in plates.sizes.items():  # of the bodies of scans, without rows
            trace.setdefault(name, {"type": "plate", "name": name, "args": (size,), "value": None})
        found.append(_outline(trace, placed.names))

    jax.eval_shape(run)
    return found[0]


def _outline(trace: Trace, flat: set[str]) -> Outline:
    records = sites_of(trace)
    sites = {
        name: LatentSite(
            name,
            site.plates,
            site.batch_shape,
            site.event_shape,
            _unconstrained(trace[name]["fn"]),
            num_seen=num_seen(trace[name]["fn"]),
            real=is_real(trace[name]["fn"]),
            discrete=_is_discrete(trace[name]["fn"]),
            masked=_is_masked(trace[name]["fn"]),
            scanned=site.scanned,
            flat=name in flat,
        )
        for name, site in records.items()
        if site.kind == "latent"
    }
    return Outline.of(records, sites)


def _unconstrained(fn: Any) -> tuple[int, ...] | None:
    try:
        shape = real_line(fn).inverse_shape(fn.batch_shape + fn.event_shape)
    except NotImplementedError:
        return None
    return tuple(shape[len(fn.batch_shape) :])


def _is_discrete(fn: Any) -> bool:
    return bool(getattr(fn.support, "is_discrete", False))


def _is_masked(fn: Any) -> bool:
    while hasattr(fn, "base_dist"):
        if mask_of(fn) is not None:
            return True
        fn = fn.base_dist
    return step_mask_of(fn) is not None
