"""Steps and draws of a diffusion, and of a continuous flow, beside other libraries on PyTorch.

    python benchmarks/diffusion_peers.py [--epochs 7] [--record]

Protocol: the sizes of `diffusion_step.py` (data of 64 numbers, a network of 256-256-256 with 32
features of the time, batches of 128, 256 draws by 50 steps), one thread, float32, PyTorch. Every
peer has the same plain network. "step" is one of the error of the noise with Adam: ours by `fit`,
compiled and not; lucidrains' `GaussianDiffusion1D`; the `DDPMScheduler` of diffusers, whose
`add_noise` stands in a loop written by hand. "ancestral" and "ddim" are draws: lucidrains' of a
chain of 50 steps (it draws by all of them) and by 50 of 1,000; those of diffusers by its two
schedulers, 50 of 1,000. "flow step" is NLL with Adam of a continuous flow of 2 numbers, 64-64-64,
exact trace, on batches of 128: ours by 8 steps of RK4 (32 evaluations), zuko's CNF by its adaptive
solver and adjoint at its default tolerances and with them a thousand times as large; "flow draw" is
256 draws. Milliseconds of processor time per step, the least of so many epochs, everything in turns
in one run. What is not installed is left out.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch
from diffusion_step import BATCH, DIM, DRAWS, FREQUENCIES, HIDDEN, SCHEDULE, STEPS, torch_by_hand
from torch import nn

import pyro_dgm
from dgm_core.results import format_table

RECORD = Path(__file__).parent / "results" / "diffusion_peers.md"
FLOW_STEPS = 10  # of a flow, to an epoch


class Noise(nn.Module):
    """The network of the peers: the noise in x at step t of 1,000."""

    channels, self_condition = 1, False

    def __init__(self) -> None:
        super().__init__()
        sizes, layers = (DIM + 32, *HIDDEN), []
        for a, b in zip(sizes, HIDDEN, strict=False):
            layers += [nn.Linear(a, b), nn.SiLU()]
        self.net = nn.Sequential(*layers, nn.Linear(HIDDEN[-1], DIM))
        self.frequencies = torch.as_tensor(FREQUENCIES)

    def forward(self, x: Any, t: Any, **_: Any) -> Any:
        angles = t[:, None] / 1000 * self.frequencies
        noise = self.net(torch.cat((x.reshape(len(x), DIM), angles.sin(), angles.cos()), -1))
        return noise.reshape(x.shape)


def training(loss: Callable[[Any], Any], params: Any, data: Any, batch: int) -> Callable[[], None]:
    """An epoch of Adam."""
    optim = torch.optim.Adam(params, 1e-3, fused=True)

    def epoch() -> None:
        for rows in torch.randperm(len(data)).split(batch):
            optim.zero_grad()
            value = loss(data[rows])
            value.backward()
            optim.step()
            value.item()

    return epoch


def in_turns(model: Any, loss: Any, x: Any, compiled: bool, peers: dict, epochs: int) -> dict:
    """The least milliseconds of an epoch of `fit`, "ours", and of each peer run between these."""
    times: dict[str, list[float]] = {name: [] for name in ("ours", *peers)}
    mark = [time.process_time()]

    def turn(run: Any) -> None:
        times["ours"].append(time.process_time() - mark[0])
        for name, epoch in peers.items():
            began = time.process_time()
            epoch()
            times[name].append(time.process_time() - began)
        mark[0] = time.process_time()

    settings = {"batch_size": BATCH, "compile": compiled, "callbacks": (turn,)}
    pyro_dgm.fit(model, None, x, loss=loss, num_epochs=epochs + 2, progress=False, **settings)
    return {name: 1e3 * min(found[2:]) for name, found in times.items()}


def drawn_in_turns(draws: dict[str, Callable[[], Any]], epochs: int) -> dict:
    """The least milliseconds of each kind of draws."""
    times: dict[str, list[float]] = {name: [] for name in draws}
    for _ in range(epochs + 2):
        for name, draw in draws.items():
            began = time.process_time()
            draw()
            times[name].append(time.process_time() - began)
    return {name: 1e3 * min(found[2:]) for name, found in times.items()}


def density(made: Any) -> Callable[[Any], None]:
    """The model of a density."""

    def model(x: Any) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", pyro_dgm.nn.register("density", made)(), obs=x)

    return model


def lucidrains(**settings: Any) -> Any:
    """Its diffusion of vectors as sequences of one channel."""
    from denoising_diffusion_pytorch import denoising_diffusion_pytorch_1d as theirs

    theirs.tqdm = lambda steps, **_: steps  # its bar costs time
    return theirs.GaussianDiffusion1D(Noise(), seq_length=DIM, auto_normalize=False, **settings)


def scheduled(scheduler: Any) -> Callable[[], None]:
    """Draws by a scheduler of diffusers."""
    scheduler.set_timesteps(50)
    net = Noise()

    @torch.no_grad()
    def draw() -> None:
        x = torch.randn(DRAWS, DIM)
        for t in scheduler.timesteps:
            x = scheduler.step(net(x, t.expand(DRAWS)), t, x).prev_sample

    return draw


def peers_of_diffusions(x: Any) -> tuple[dict, dict, dict]:
    """Epochs, ancestral draws and deterministic ones of the other libraries that are installed."""
    epochs: dict[str, Any] = {}
    ancestral: dict[str, Any] = {}
    ddim: dict[str, Any] = {}
    if importlib.util.find_spec("denoising_diffusion_pytorch"):
        made = lucidrains()
        epochs["lucidrains"] = training(made, made.parameters(), x[:, None], BATCH)
        ancestral["lucidrains"] = partial(lucidrains(timesteps=50).sample, DRAWS)
        ddim["lucidrains"] = partial(lucidrains(sampling_timesteps=50).sample, DRAWS)
    if importlib.util.find_spec("diffusers"):
        from diffusers import DDIMScheduler, DDPMScheduler

        scheduler, net = DDPMScheduler(1000), Noise()

        def error(batch: Any) -> Any:
            noise, t = torch.randn_like(batch), torch.randint(0, 1000, (len(batch),))
            return ((net(scheduler.add_noise(batch, noise, t), t) - noise) ** 2).mean()

        epochs["diffusers"] = training(error, net.parameters(), x, BATCH)
        ancestral["diffusers"] = scheduled(DDPMScheduler(1000, clip_sample=False))
        ddim["diffusers"] = scheduled(DDIMScheduler(1000, clip_sample=False))
    return epochs, ancestral, ddim


def peers_of_flows(x: Any) -> tuple[dict, dict]:
    """Epochs and draws of zuko's flow."""
    if not importlib.util.find_spec("zuko"):
        return {}, {}
    import zuko

    epochs, draws = {}, {}
    for name, factor in (("zuko", 1.0), ("zuko, coarse", 1000.0)):
        flow = zuko.flows.CNF(
            2, hidden_features=(64, 64, 64), atol=1e-6 * factor, rtol=1e-5 * factor
        )
        loss = lambda batch, flow=flow: -flow().log_prob(batch).mean()  # noqa: E731
        epochs[name] = training(loss, flow.parameters(), x, BATCH)
        draws[name] = torch.no_grad()(lambda flow=flow: flow().sample((DRAWS,)))
    return epochs, draws


def rows_of(what: str, times: dict[str, float], steps: int) -> list[dict[str, Any]]:
    """A row for each, with its ratio to ours."""
    return [
        {"what": what, "who": who, "ms": found / steps, "ours / it": times["ours"] / found}
        for who, found in times.items()
    ]


def measure(epochs: int) -> list[dict[str, Any]]:
    """All rows."""
    x = np.random.default_rng(0).standard_normal((STEPS * BATCH, DIM)).astype(np.float32)
    data = torch.as_tensor(x)
    hand, (steps, ancestral, ddim) = torch_by_hand(x), peers_of_diffusions(data)
    loss = pyro_dgm.losses.DenoisingError("x")
    made = pyro_dgm.conditionals.Diffusion(DIM, hidden=HIDDEN, schedule=SCHEDULE)
    rows = []
    for compiled, what in ((True, "step, ours compiled"), (False, "step, ours uncompiled")):
        peers = {"by hand": lambda: hand["error"](), **steps}
        rows += rows_of(what, in_turns(density(made), loss, data, compiled, peers, epochs), STEPS)
    for method, others in (("ancestral", ancestral), ("ddim", ddim)):
        draws = {
            "ours": lambda m=method: made().sample((DRAWS,), method=m, num_steps=50),
            "by hand": hand[method],
        }
        rows += rows_of(method, drawn_in_turns({**draws, **others}, epochs), 50)
    flat = data[: FLOW_STEPS * BATCH, :2]
    transform = pyro_dgm.flows.ContinuousTransform(2, hidden=(64, 64, 64))
    flow = pyro_dgm.flows.Flow(2, [transform])
    steps, draws = peers_of_flows(flat)
    loss = pyro_dgm.losses.NLL()
    rows += rows_of(
        "flow step", in_turns(density(flow), loss, flat, True, steps, epochs), FLOW_STEPS
    )
    own = torch.no_grad()(lambda: flow().sample((DRAWS,)))
    return rows + rows_of("flow draw", drawn_in_turns({"ours": own, **draws}, epochs), 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pyro.enable_validation(False)
    text = format_table(measure(arguments.epochs))
    print(text)
    if arguments.record:
        protocol = (__doc__ or "").split("Protocol: ")[1].strip()
        head = ["# Diffusions and continuous flows beside other libraries", "", protocol, ""]
        RECORD.write_text("\n".join([*head, "2 shared CPU cores.", "", "```", text, "```", ""]))


if __name__ == "__main__":
    main()
