"""The posterior of a model as a density of flat unconstrained values."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pyro.distributions import (
    ExpandedDistribution,
    Independent,
    MaskedDistribution,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
)
from pyro.poutine import Trace
from pyro.poutine.runtime import Message
from torch import Tensor

from dgm_core.posterior import Layout, noiseless, partial_plate, unguided_sites
from pyro_dgm.compat import as_graph
from pyro_dgm.evaluation.calls import Call, kept_sites
from pyro_dgm.flows import FlowDistribution
from pyro_dgm.guides.line import OnLine, line_of, stated
from pyro_dgm.joints.points import is_point
from pyro_dgm.joints.structure import kind_of

__all__: list[str] = []  # for the package, not for users


class Posterior:
    """log p(x, z(e)) + log |dz / de| for flat values e (size,) of all latents z.

    z(e) runs through the program: site by site through the bijection onto the support that the run
    at hand has, so that bounds may depend on other sites; or, `through` a guide, as the guide draws
    it from standard normal noise e.  Entries of a latent that a mask takes out belong to no
    posterior: they are standard normal on the real line.

    Attributes:
        size: the number of entries of e.

    Raises:
        ValueError: for a plate that holds a part of its data, discrete latents, supports that are
            not mapped to the real line, and guides whose noise is not normal.
    """

    def __init__(self, call: Call, *, through: bool = False) -> None:
        self.call, self.through = call, through
        self.layout = Layout()
        trace = self._run(_Placed(self.layout, None, through=through))
        for name, site in trace.nodes.items():
            for frame in site["cond_indep_stack"] if kind_of(site) else ():
                if frame.full_size not in (None, frame.size):
                    raise ValueError(partial_plate(frame.name, name))
        self.size = self.layout.checked_size()

    def log_density(self, e: Tensor) -> Tensor:
        """e (size,) -> ()."""
        placed = _Placed(self.layout, e, through=self.through)
        return stated(self._run(placed)) + placed.log_jacobian

    def values(self, e: Tensor) -> dict[str, Tensor]:
        """The values of the latent and deterministic sites of the model at e (size,)."""
        return {name: site["value"] for name, site in model_sites(self.trace(e)).items()}

    def start(self) -> Trace:
        """A run of the model at some values."""
        return self.trace(torch.zeros(self.size, device=self.call.device))

    def trace(self, e: Tensor) -> Trace:
        """A run of the model at e (size,)."""
        return self._run(_Placed(self.layout, e, through=self.through))

    def _run(self, placed: "_Placed") -> Trace:
        """A run of the model at the values that are placed."""
        if not self.through:
            with placed:
                return self.call.model()
        with placed:
            drawn = self.call.guide().nodes
        values = {n: s["value"] for n, s in drawn.items() if kind_of(s) == "latent"}
        trace = self.call.model(values, extended=True)
        latents = [name for name, site in trace.nodes.items() if kind_of(site) == "latent"]
        if missing := [name for name in latents if name not in drawn]:
            raise ValueError(unguided_sites(missing))
        return trace


def model_sites(trace: Trace) -> dict[str, Message]:
    """The latent and deterministic sites of a run of the model, in its order."""
    sites = kept_sites(trace).items()
    return {name: site for name, site in sites if kind_of(site) != "observed"}


def unconstrained(trace: Trace) -> Tensor:
    """All latent values of a run of the model through their supports, side by side."""
    sites = [(n, s) for n, s in trace.nodes.items() if kind_of(s) == "latent"]
    drawn = [(n, s) for n, s in sites if not is_point(s["fn"])]
    return torch.cat([line_of(name, s["fn"]).inv(s["value"]).reshape(-1) for name, s in drawn])


class _Placed(OnLine):
    """Hands out the latent values at e; without e, some values, noting what entries there are."""

    def __init__(self, layout: Layout, e: Tensor | None, *, through: bool) -> None:
        super().__init__(self._noise)
        self.layout, self.e, self.through = layout, e, through

    def _pyro_sample(self, msg: Message) -> None:
        name, fn = msg["name"], msg["fn"]
        if kind_of(msg) != "latent" or msg["done"]:
            return
        if is_point(fn):
            msg["value"] = fn.rsample()
            if self.through:  # the density that a guide states for what follows from other draws
                self.log_jacobian = self.log_jacobian - fn.log_prob(msg["value"]).sum()
        elif self.through:
            noise = self._noise(name, tuple(fn.batch_shape + fn.event_shape))
            msg["value"], log_jacobian = _from_noise(name, fn, noise)
            self.log_jacobian = self.log_jacobian + log_jacobian
        else:
            super()._pyro_sample(msg)
        msg["done"] = True

    def _noise(self, name: str, shape: tuple[int, ...]) -> Tensor:
        if self.e is None:
            self.layout.add(name, shape)
            return torch.zeros(shape)
        return self.e[self.layout.slice(name, shape)].reshape(shape)


def _from_noise(name: str, fn: Any, e: Tensor) -> tuple[Tensor, Tensor]:
    """A draw from standard normal noise, and log |dz / de| in all."""
    if isinstance(fn, MaskedDistribution | Independent | ExpandedDistribution):
        return _from_noise(name, fn.base_dist, e)
    if isinstance(fn, TransformedDistribution):
        value, total = _from_noise(name, fn.base_dist, e)
        for transform in fn.transforms:
            before, value = value, transform(value)
            total = total + transform.log_abs_det_jacobian(before, value).sum()
        return value, total
    if isinstance(fn, FlowDistribution):
        value, total = _from_noise(name, fn.base, e)
        value, log_det = fn.forward_and_log_det(value)
        return value, total + log_det.sum()
    if isinstance(fn, Normal):
        return fn.loc + fn.scale * e, fn.scale.log().expand(e.shape).sum()
    low_rank = "LowRank" in type(fn).__name__
    if isinstance(fn, MultivariateNormal) or low_rank:
        tril = torch.linalg.cholesky(fn.covariance_matrix) if low_rank else fn.scale_tril
        value = fn.loc + (tril @ e[..., None])[..., 0]
        return value, tril.diagonal(dim1=-2, dim2=-1).log().expand(e.shape).sum()
    raise ValueError(noiseless(name, type(fn).__name__))


class Scored(torch.autograd.Function):
    """A log-density (*batch,) of positions (*batch, *event) whose gradient comes with it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, both: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        """The log-density."""
        value, gradient = both(x.detach())
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None]:
        """Its gradient, times what comes from above."""
        (gradient,) = ctx.saved_tensors
        ones = (1,) * (gradient.ndim - above[0].ndim)
        return above[0].reshape(above[0].shape + ones) * gradient, None


def graph_of(
    function: Callable[..., tuple[Tensor, ...]], examples: Sequence[tuple[Tensor, ...]]
) -> Callable[..., tuple[Tensor, ...]]:
    """A function as one graph, which runs ten times faster than a program; the function itself
    where that has no graph, or where they differ at an example.

    Python that looks at a value ends the tracing with an error, so no branch is taken for all.
    """
    try:
        with warnings.catch_warnings():  # of what becomes a constant of the graph
            warnings.simplefilter("ignore")
            traced = as_graph(function)(*examples[0])
            graph = torch.jit.trace(traced, examples[0], check_trace=False)
        for example in examples:
            for found, expected in zip(graph(*example), function(*example), strict=True):
                torch.testing.assert_close(found, expected, equal_nan=True)
    except Exception:  # whatever a program does that has no graph
        return function
    return graph
