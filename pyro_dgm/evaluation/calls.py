"""A run on data: model and guide called with the run's own weights, its rows and random numbers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from functools import cached_property
from typing import Any

import numpy as np
import pyro
import torch
from pyro.distributions.util import scale_and_mask
from pyro.infer.autoguide import AutoGuide
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor, nn

from dgm_core.arguments import check_seed
from dgm_core.evaluation import as_numbers, check_run, settled_rows, stacked
from dgm_core.guides import extended, plain
from dgm_core.missing import missing_named
from dgm_core.training.batches import check_accepts
from dgm_core.training.saved import fingerprint
from pyro_dgm.compat import tree_map
from pyro_dgm.joints import InferenceJoint, Joints
from pyro_dgm.joints.entries import draws_and_densities
from pyro_dgm.joints.handlers import Drawable, DrawnData, GivenDraws, Scored, WiderPlates
from pyro_dgm.joints.reading import seen_value
from pyro_dgm.joints.structure import kind_of, random_sites, trace_of
from pyro_dgm.losses.state import restored
from pyro_dgm.nn import evaluation_mode
from pyro_dgm.nn.modes import owners
from pyro_dgm.nn.register import watched
from pyro_dgm.sequences.pairs import step_pair
from pyro_dgm.training.batches import Form
from pyro_dgm.training.rows import Rows
from pyro_dgm.training.weights import in_force, networks_of

__all__: list[str] = []  # for the package, not for users


@contextmanager
def calling(
    run: Any,
    data: tuple[Any, ...],
    *,
    seed: int = 0,
    rows: Any = None,
    vectorize: bool | None = None,
    more: Mapping[str, Any] | None = None,
    settle: bool = True,
    enumerated: tuple[str, ...] = (),
) -> Iterator["Call"]:
    """Inside this block model and guide of a run can be called on data: in evaluation mode, on the
    run's weights, with random numbers from `seed`, and leaving no trace.

    Args:
        run: what `fit` returns, or any object with .model and .guide.
        data: in any of the forms of `fit`; more, further arguments by name.
        rows, vectorize, enumerated: see `log_weights`;  settle, whether to find out which rows
            these are.
    """
    check_run(run)
    seed = check_seed("seed", seed)
    with (
        torch.no_grad(),
        torch.random.fork_rng(),
        in_force(run),
        evaluation_mode(run.model, run.guide),
    ):
        torch.manual_seed(seed)
        form, entries = Form.of(data[0] if len(data) == 1 else data)
        like = weight_like(run)
        tensors = {label: tensor_of(x, label, like) for label, x in form.labeled(entries).items()}
        args, kwargs = form.call(tuple(tensors.values()))
        further = {name: tensor_of(x, name, like) for name, x in (more or {}).items()}
        call = Call(run, args, {**kwargs, **further}, vectorize, like.device)
        call.enumerated = enumerated
        check_accepts("model", run.model, call.args, call.kwargs)
        with missing_named(tensors, as_numpy):
            if settle:
                check_accepts("guide", run.guide, call.args, call.kwargs)
                call.settle(rows)
                torch.manual_seed(seed)  # what was found out beforehand changes no draw
            yield call


class Call:
    """Model and guide of a run with their arguments.

    Attributes:
        enumerated: the sites that the joints enumerate; scored, the observed ones that count.
        num_rows: of the data; None where no argument is an array.
        num_data: of the data of the fit; None where that is unknown.
        rows: the numbers of the data in the data of the fit; None where nothing depends on them.
    """

    def __init__(
        self,
        run: Any,
        args: tuple,
        kwargs: dict[str, Any],
        vectorize: bool | None,
        device: torch.device,
    ) -> None:
        self.device = device
        self.run, self.args, self.kwargs, self.vectorize = run, args, kwargs, vectorize
        arrays = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.ndim]
        self.num_rows = len(arrays[0]) if arrays else None
        self.num_data: int | None = getattr(run, "data_size", None)
        self.rows: np.ndarray | None = None
        self.enumerated, self.scored = (), ()  # type: tuple[str, ...], tuple[str, ...]
        self._plans: dict[Any, Any] = {}

    @cached_property
    def networks(self) -> Sequence[nn.Module]:
        """Those that model and guide use."""
        known = getattr(self.run, "networks", ())
        return known or networks_of(self.run.model, self.run.guide, self.args, self.kwargs)

    def settle(self, rows: Any) -> None:
        """Find out which rows the data are. Raises ValueError as `settled_rows`."""
        self.rows = settled_rows(self, rows)

    def replace(self, args: tuple, kwargs: dict[str, Any]) -> None:
        """Other arguments from here on, of the same forms."""

        def taken(x: Any) -> Any:
            return torch.as_tensor(x, device=self.device) if isinstance(x, np.ndarray) else x

        self.args, self.kwargs = tuple(map(taken, args)), {n: taken(x) for n, x in kwargs.items()}

    def part(self, rows: np.ndarray) -> "Call":
        """The same on some rows of the data, which may be repeated."""
        own = copy(self)
        own.args, own.kwargs = self._mapped(lambda x: x[torch.as_tensor(rows)])
        own.rows = None if self.rows is None else self.rows[rows]
        own.num_rows = len(rows)
        return own

    def joint(self, num_particles: int = 1, rows: np.ndarray | None = None) -> InferenceJoint:
        """Guide and model replayed against it, on some rows of the data (None: all of them)."""
        args, kwargs = self._mapped(lambda x: x if rows is None else x[torch.as_tensor(rows)])
        numbers = self.rows if rows is None or self.rows is None else self.rows[rows]
        with self._numbered(numbers):
            return self._joints(args, kwargs, num_particles).inference(enumerate=self.enumerated)

    def sketch(self) -> InferenceJoint:
        """A joint of one draw, to look at its structure and at shapes."""
        return self.joint()

    def read(
        self,
        function: Callable[[InferenceJoint], Any],
        num_particles: int = 1,
        rows: np.ndarray | None = None,
        given: Mapping[str, Any] | None = None,
    ) -> Any:
        """What a function of a joint gives, a tree of arrays, in numpy; compiled in NumPyro.  The
        guide draws what is `given`, by site, as it is."""
        values = {n: torch.as_tensor(x, device=self.device) for n, x in (given or {}).items()}
        with GivenDraws(values):
            tree = function(self.joint(num_particles, rows))
        return tree_map(as_numpy, tree)

    def stepped(
        self, function: Callable, rows: np.ndarray | None = None, *, bootstrap: bool = False
    ) -> Any:
        """What a function of the steps of model and guide gives (with the model's own draws for
        the guide's), as `read`."""
        guide = None if bootstrap else self.run.guide
        args, kwargs = self._mapped(lambda x: x if rows is None else x[torch.as_tensor(rows)])
        numbers = self.rows if rows is None or self.rows is None else self.rows[rows]
        with self._numbered(numbers):
            tree = function(step_pair(self._extended, guide, args, kwargs))
        return tree_map(as_numpy, tree)

    def repeat(
        self,
        function: Callable[["Call", dict[str, Any]], dict[Any, Any]],
        num_draws: int,
        given: Mapping[str, Any] | None = None,
    ) -> dict[Any, np.ndarray]:
        """What `function(call, values)` gives in so many runs, each with its own random numbers and
        its own of the values given (num_draws, ...): arrays (num_draws, ...) by name."""
        draws = []
        for index in range(num_draws):
            values = {name: value[index] for name, value in (given or {}).items()}
            draws.append({n: as_numpy(x) for n, x in function(self, values).items()})
        return stacked(draws)

    def terms(self, loss: Any, step: int, num_draws: int) -> dict[str, np.ndarray]:
        """A loss and its terms on these data, in nats per datum, (num_draws,) each; with the
        critics of the run, in evaluation mode."""
        own, kept = deepcopy(loss), getattr(self.run, "term_state", None)  # critics of its own
        pair = self._extended, self.run.guide, self.args, self.kwargs
        with self._numbered(self.rows):
            states = restored(own.init_states(own.joints(*pair)), kept) if own.stateful else {}
        for critic in own.critics(states).values():
            critic.eval()

        def evaluated(call: Call, _: Any) -> dict[str, Tensor]:
            options = {"step": step, "states": states, "vectorize": self.vectorize}
            with self._numbered(self.rows):
                found = own.evaluate(*pair, **options)
            return {"loss": found.per_datum, **found.terms}

        return self.repeat(evaluated, num_draws)

    def traces(self) -> tuple[Trace, Trace]:
        """One run of the model and of the guide that it is replayed against."""
        with self._numbered(self.rows):
            return self._joints(self.args, self.kwargs, 1).traces()

    def forward(self, values: Mapping[str, Any] | None = None) -> Trace:
        """One run of the model that ignores the data, with some of its draws given."""
        return self._run(DrawnData()(plain(self.run.model)), values)

    def model(self, values: Mapping[str, Any] | None = None, *, extended: bool = False) -> Trace:
        """One run of the model on the data, with some of its draws given; the `extended` one also
        scores what the guide draws beyond it."""
        model = self._extended if extended else plain(self.run.model)
        return self._run(model, values)

    def guide(self, values: Mapping[str, Any] | None = None) -> Trace:
        """One run of the guide, with some of its draws given."""
        return self._run(self.run.guide, values)

    def guide_plates(self) -> list[tuple[int, int]]:
        """(size, declared size) of the plates in a run of the guide."""
        with self._numbered(self.rows), _Plates() as plates:  # not traced: errors stay as they are
            self.run.guide(*self.args, **self.kwargs)
        return list(plates.sizes.values())

    def guide_draws(self, rows: np.ndarray | None, *, rolled: bool = False) -> dict[str, Any]:
        """What the guide draws as these rows, always from the same random numbers, and how it
        scores that; rolled: from the data moved by one."""
        args, kwargs = self._mapped(lambda x: x.roll(1, 0)) if rolled else (self.args, self.kwargs)
        torch.manual_seed(0)
        with self._numbered(rows):
            sites = random_sites(trace_of(self.run.guide, args, kwargs))
        return draws_and_densities(sites)

    def is_other_data(self) -> bool:
        """Whether these are known not to be the data of the fit."""
        known = getattr(self.run, "config", {}).get("seen", {}).get("fingerprint")
        if known is None or self.num_rows is None:
            return False
        return fingerprint((*self.args, *self.kwargs.values()), self.num_rows) != known

    def differs_by_row(self, rows: np.ndarray) -> bool:
        """Whether the guide's distributions at these rows differ from row to row."""
        own = copy(self)
        own.rows = rows
        for site in random_sites(own.guide()).values():
            fn, value = site["fn"], site["value"]
            for frame in site["cond_indep_stack"]:
                if not frame.vectorized or frame.size != self.num_rows:
                    continue
                moved = fn.log_prob(value.roll(1, frame.dim - fn.event_dim))
                if not torch.allclose(moved, fn.log_prob(value).roll(1, frame.dim)):
                    return True
        return False

    @property
    def _extended(self) -> Callable:
        model = extended(self.run.model, self.run.guide)
        return Scored(self.scored)(model) if self.scored else model

    def _run(self, fn: Callable, values: Mapping[str, Any] | None) -> Trace:
        given = {n: torch.as_tensor(x, device=self.device) for n, x in (values or {}).items()}
        with self._numbered(self.rows), Drawable(), GivenDraws(given, {}):
            return trace_of(fn, self.args, self.kwargs)

    def _joints(self, args: tuple, kwargs: dict[str, Any], num_particles: int) -> Joints:
        return Joints(
            self._extended,
            self.run.guide,
            args,
            kwargs,
            num_particles=num_particles,
            vectorize=self.vectorize,
            plans=self._plans,
        )

    def _numbered(self, rows: np.ndarray | None) -> Any:
        """What tells the plates which data these are, and how many."""
        if rows is None:
            return WiderPlates()
        found = (part for network in self.networks for part in network.modules())
        guides = [part for part in found if isinstance(part, AutoGuide)]
        numbers = torch.as_tensor(rows, device=self.device)
        return Rows(numbers, self.num_data, guides)

    def _mapped(self, change: Callable) -> tuple[tuple, dict[str, Any]]:
        """The arguments, changed where they have a row for each datum."""

        def changed(x: Any) -> Any:
            has_rows = isinstance(x, Tensor) and x.ndim and len(x) == self.num_rows
            return change(x) if has_rows else x

        args = tuple(map(changed, self.args))
        return args, {name: changed(x) for name, x in self.kwargs.items()}


class _Plates(Messenger):
    """Notes the plates around sample sites: name -> (size, declared size)."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[str, tuple[int, int]] = {}

    def _pyro_post_sample(self, msg: Message) -> None:
        for frame in msg["cond_indep_stack"]:
            if frame.vectorized and frame.size > 0:
                self.sizes[frame.name] = frame.size, frame.full_size or frame.size


def learned_in(program: Callable[[], Trace]) -> tuple[dict[int, nn.Parameter], list[Message]]:
    """What a run of a program learns: the parameters of its registered networks, by their
    identity, and the sites of those that it states by itself.
    """
    met: list[nn.Module] = []
    with watched(met.append):
        sites = program().nodes.values()
    networks = {id(p): p for module in met for p in module.parameters() if p.requires_grad}
    stated = [s for s in sites if s["type"] == "param" and id(s["value"]) not in networks]
    return networks, stated


def kept_sites(trace: Trace) -> dict[str, Message]:
    """The latent, observed and deterministic sites of a run of the model, in its order, without
    what is stated beyond the user's."""
    kinds = ("latent", "observed", "deterministic")
    found = {name: site for name, site in trace.nodes.items() if kind_of(site) in kinds}
    return {name: site for name, site in found.items() if not site["infer"].get("reverse")}


def elementwise(site: Message) -> Tensor:
    """The log-density of an observed site, of its batch shape; masks are applied,
    scales are not.
    """
    value, fn = site["value"], site["fn"]
    log_prob = scale_and_mask(fn.log_prob(seen_value(site)), mask=site["mask"])
    batch = value.shape[: value.ndim - fn.event_dim]
    return log_prob.expand(torch.broadcast_shapes(batch, log_prob.shape))


def observed(site: Message) -> np.ndarray:
    """What a site observes, of the full batch shape."""
    value, event_dim = as_numpy(site["value"]), site["fn"].event_dim
    batch, event = value.shape[: value.ndim - event_dim], value.shape[value.ndim - event_dim :]
    return np.broadcast_to(value, (*np.broadcast_shapes(batch, site["fn"].batch_shape), *event))


def as_numpy(x: Any) -> np.ndarray:
    """An array as numpy's."""
    return x.numpy(force=True) if isinstance(x, Tensor) else np.asarray(x)


def weight_like(run: Any) -> Tensor:
    """A real weight of the run, whose device and precision its data take."""
    networks = getattr(run, "networks", ()) or owners(run.model, run.guide)
    weights = [p for module in networks for p in module.parameters()]
    weights += getattr(run, "params", {}).values()
    weights += [weight for _, weight in pyro.get_param_store().named_parameters()]
    return next((weight for weight in weights if weight.is_floating_point()), torch.zeros(()))


def tensor_of(entry: Any, label: str, like: Tensor) -> Any:
    """An array, a table or a list of numbers as a tensor; what is none of these stays."""
    if isinstance(entry, Tensor):
        x = entry.detach()
    elif hasattr(entry, "__array__") or isinstance(entry, list | str):
        x = torch.tensor(as_numbers(entry, label))
    else:
        return entry
    return x.to(like.device, like.dtype if x.is_floating_point() else None)
