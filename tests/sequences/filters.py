"""Sequence models written as steps, in both libraries, and FIVO at given draws."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from tests.sequences.particles import Chain, Paths

Program = Callable[..., None]


def part(backend: Any, name: str) -> Any:
    """A module of the library."""
    return import_module(f"{backend.name}_dgm.{name}")


def shares(table: Any) -> Any:
    """Its rows, each with a total of one."""
    return table / table.sum(-1)[..., None]


def tables(chain: Chain) -> dict[str, np.ndarray]:
    """The parameters of `hidden_markov`, rows that need not add up to one; the last moves are those
    to the first state.
    """
    moves = np.concatenate([chain.moves, chain.start[None]])
    return {"moves": 1.7 * moves, "emits": 0.6 * chain.emits}


def chain_of(params: dict[str, np.ndarray], x: tuple[int, ...], *, informed: bool) -> Chain:
    """The chain with these parameters; informed, it proposes from p(z_t | z_{t-1}, x_t)."""
    moves, emits = shares(params["moves"]), shares(params["emits"])
    chain = Chain(moves[-1], moves[:-1], emits, x)
    seen = emits.T[list(x)][:, None]
    return (
        Chain(*vars(chain).values())
        if not informed
        else Chain(chain.start, chain.moves, emits, x, shares(chain.priors() * seen))
    )


def hidden_markov(backend: Any, *, informed: bool) -> tuple[Program, Program]:
    """A chain of states as model, and as guide the same or, informed, p(z_t | z_{t-1}, x_t)."""
    d, log, unroll = backend.dist, backend.np.log, part(backend, "sequences").unroll

    def program(x: Any, lengths: Any, *, model: bool) -> None:
        moves, emits = shares(backend.param("moves")), shares(backend.param("emits"))

        def step(last: Any, inputs: Any, x_t: Any) -> Any:
            probs = moves[last]
            if informed and not model:
                probs = shares(probs * emits.T[x_t])
            z = backend.sample("z", d.Categorical(logits=log(probs)))
            if model:
                backend.sample("x", d.Categorical(logits=log(emits[z])), obs=x_t)
            return z

        first = backend.np.asarray(len(moves) - 1)
        with backend.plate("data", len(x)):
            unroll(step, first, x, lengths=lengths, event_dim=0)

    def model(x: Any, lengths: Any = None) -> None:
        program(x, lengths, model=True)

    def guide(x: Any, lengths: Any = None) -> None:
        program(x, lengths, model=False)

    return model, guide


class Given:
    """Steps whose draws are given (time, num_particles, *batch, ...), by site; sequence by sequence
    the bound counts `scale` times.
    """

    def __init__(self, pair: Any, draws: dict[str, Any], scale: Any) -> None:
        self.pair, self.draws = pair, draws
        self.scale = pair.scale if scale is None else scale

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pair, name)

    @property
    def slices(self) -> Any:
        """What a scan is given."""
        return self._with(self.pair.slices, self.draws)

    def at(self, t: int) -> Any:
        """What one step is given."""
        return self._with(self.pair.at(t), {name: draw[t] for name, draw in self.draws.items()})

    def _with(self, parts: Any, draws: dict[str, Any]) -> Any:
        *others, last = parts
        return (*others, {**last, "values": {**last["values"], **draws}})


def given(
    monkeypatch: Any,
    backend: Any,
    draws: dict[str, np.ndarray],
    points: np.ndarray,
    scale: Any = None,
) -> None:
    """FIVO meets these draws (time, num_particles, *batch) and uniform numbers (time - 1 or more,
    num, *batch).
    """
    step_pair = part(backend, "sequences.pairs").step_pair
    draws, points = (
        {n: backend.np.asarray(draw) for n, draw in draws.items()},
        backend.array(points),
    )
    scale = None if scale is None else backend.array(scale)

    def pair(*args: Any) -> Given:
        return Given(step_pair(*args), draws, scale)

    monkeypatch.setattr(part(backend, "losses.bounds.fivo"), "step_pair", pair)
    monkeypatch.setattr(
        part(backend, "sequences.filtering"),
        "uniform_numbers",
        lambda log_w, rule, t, **key: points[t % len(points)],
    )


def at_paths(monkeypatch: Any, backend: Any, paths: Paths) -> None:
    """FIVO meets these draws and ancestors row by row, each with its probability: its value and its
    gradient are expectations.
    """
    z, points = (np.ascontiguousarray(np.moveaxis(v, 0, -1)) for v in (paths.draws, paths.uniforms))
    probs = np.exp(paths.log_prob)
    given(monkeypatch, backend, {"z": z}, points, len(probs) * probs)


def linear_gaussian(
    backend: Any, m: Any, *, optimal: bool, start: float = 0.0
) -> tuple[Program, Program]:
    """The states and the data of `oracle.Model`; the guide proposes as the model does or, optimal,
    by p(z_t | z_{t-1}, x_t), all its locations moved by a parameter "shift".
    """
    d, unroll, array = backend.dist, part(backend, "sequences").unroll, backend.array
    eye = np.eye(len(m.F))
    F, H, b, offset = array(m.F), array(m.H), array(m.b), array(m.d)
    gains, proposals, moves = [], [], []
    for cov in (m.Q, eye):
        gain = cov @ m.H.T @ np.linalg.inv(m.H @ cov @ m.H.T + m.R) if optimal else 0 * m.H.T
        gains.append(array(gain))
        proposals.append(array(np.linalg.cholesky(cov - gain @ m.H @ cov)))
        moves.append(array(np.linalg.cholesky(cov)))
    noise = array(np.linalg.cholesky(m.R))

    def program(x: Any, lengths: Any, model: bool, shift: Any) -> None:
        def step(last: Any, first: Any, x_t: Any) -> Any:
            def blend(pair: list[Any]) -> Any:
                return pair[0] + first[..., None] * (pair[1] - pair[0])

            mean = last @ F.T + (1 - first) * b
            if model:
                z = backend.sample("z", d.MultivariateNormal(mean, scale_tril=blend(moves)))
                seen = d.MultivariateNormal(z @ H.T + offset, scale_tril=noise)
                backend.sample("x", seen, obs=x_t)
                return z
            rest = x_t - mean @ H.T - offset
            mean = mean + (blend(gains) @ rest[..., None])[..., 0] + shift
            return backend.sample("z", d.MultivariateNormal(mean, scale_tril=blend(proposals)))

        first = array((np.arange(x.shape[1]) == 0)[:, None].astype(float))
        with backend.plate("data", len(x)):
            unroll(step, array(np.zeros(len(m.F))), x, inputs=first, lengths=lengths)

    def model(x: Any, lengths: Any = None) -> None:
        program(x, lengths, True, 0.0)

    def guide(x: Any, lengths: Any = None) -> None:
        program(x, lengths, False, backend.param("shift", array(np.full(len(m.F), start))))

    return model, guide
