"""Hand-written epochs of SNGAN, SAGAN, BigGAN and CycleGAN, for gan_step.py: in PyTorch with its
own layers (`parametrizations.spectral_norm`, `BatchNorm2d`, `Upsample`), in JAX with the networks
of the package in one jitted `lax.scan`; the U-Nets of CycleGAN are the package's in both.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

SHAPE, Z_DIM, CLASSES = (1, 28, 28), 64, 10
WIDE = (32, 16)  # of generators; critics have it reversed
CYCLE = 10.0
NAMES = ("SNGAN", "SAGAN", "BigGAN", "CycleGAN")


def in_torch(name: str, x: np.ndarray, y: np.ndarray, batch_size: int) -> Callable[[], None]:
    """An epoch in plain PyTorch."""
    if name == "CycleGAN":
        return _cycle_in_torch(x, y, batch_size)
    import torch
    from torch import nn
    from torch.nn.functional import avg_pool2d, one_hot
    from torch.nn.utils.parametrizations import spectral_norm

    def plain(layer: nn.Module) -> nn.Module:
        return layer

    of_generator = plain if name == "SNGAN" else spectral_norm
    given = CLASSES + Z_DIM if name == "BigGAN" else 0

    class Norm(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(size)
            self.given = nn.Linear(given, 2 * size) if given else None

        def forward(self, h: Any, c: Any) -> Any:
            h = self.norm(h)
            if self.given is None:
                return h
            gain, shift = self.given(c)[..., None, None].chunk(2, 1)
            return h + gain * h + shift

    class Attention(nn.Module):
        def __init__(self, size: int, normed: Callable) -> None:
            super().__init__()
            keys = max(1, size // 8)
            self.q, self.k = (normed(nn.Conv2d(size, keys, 1, bias=False)) for _ in range(2))
            self.v = normed(nn.Conv2d(size, size // 2, 1, bias=False))
            self.o = normed(nn.Conv2d(size // 2, size, 1, bias=False))
            self.gamma = nn.Parameter(torch.zeros(()))

        def forward(self, h: Any) -> Any:
            q, k, v = (part(h).flatten(2) for part in (self.q, self.k, self.v))
            seen = v @ (q.mT @ k).softmax(-1).mT
            return h + self.gamma * self.o(seen.unflatten(2, h.shape[2:]))

    class Up(nn.Module):
        def __init__(self, a: int, b: int) -> None:
            super().__init__()
            self.norms = nn.ModuleList([Norm(a), Norm(b)])
            self.one = of_generator(nn.Conv2d(a, b, 3, padding=1, bias=False))
            self.two = of_generator(nn.Conv2d(b, b, 3, padding=1, bias=False))
            self.skip = of_generator(nn.Conv2d(a, b, 1, bias=False))
            self.up = nn.Upsample(scale_factor=2)

        def forward(self, h: Any, c: Any) -> Any:
            new = self.one(self.up(self.norms[0](h, c).relu()))
            return self.up(self.skip(h)) + self.two(self.norms[1](new, c).relu())

    class Down(nn.Module):
        def __init__(self, a: int, b: int, first: bool) -> None:
            super().__init__()
            self.one = spectral_norm(nn.Conv2d(a, b, 3, padding=1))
            self.two = spectral_norm(nn.Conv2d(b, b, 3, padding=1))
            self.skip, self.first = spectral_norm(nn.Conv2d(a, b, 1)), first

        def forward(self, h: Any) -> Any:
            new = self.two(self.one(h if self.first else h.relu()).relu())
            return avg_pool2d(new, 2) + self.skip(avg_pool2d(h, 2))

    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.input = of_generator(nn.Linear(Z_DIM, WIDE[0] * 49))
            self.blocks = nn.ModuleList([Up(WIDE[0], WIDE[1]), Up(WIDE[1], WIDE[1])])
            self.attention = None if name == "SNGAN" else Attention(WIDE[1], of_generator)
            self.norm = nn.BatchNorm2d(WIDE[1])
            self.output = of_generator(nn.Conv2d(WIDE[1], 1, 3, padding=1))

        def forward(self, z: Any, c: Any) -> Any:
            h = self.blocks[0](self.input(z).unflatten(1, (WIDE[0], 7, 7)), c)
            h = h if self.attention is None else self.attention(h)
            return self.output(self.norm(self.blocks[1](h, c)).relu()).sigmoid()

    class Critic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([Down(1, WIDE[1], True), Down(WIDE[1], WIDE[0], False)])
            self.attention = None if name == "SNGAN" else Attention(WIDE[1], spectral_norm)
            self.output = spectral_norm(nn.Linear(WIDE[0], 1))
            self.classes = spectral_norm(nn.Linear(WIDE[0], CLASSES)) if given else None

        def forward(self, x: Any, y: Any) -> Any:
            h = self.blocks[0](x)
            h = h if self.attention is None else self.attention(h)
            h = self.blocks[1](h).relu().sum((2, 3))
            out = self.output(h).squeeze(1)
            return out if self.classes is None else out + (y * self.classes(h)).sum(1)

    generator, critic = Generator(), Critic()
    data, labels = torch.as_tensor(x), torch.as_tensor(y) if given else None
    optim = torch.optim.Adam(generator.parameters(), 1e-3, fused=True)
    critic_optim = torch.optim.Adam(critic.parameters(), 1e-3, betas=(0.5, 0.99), fused=True)

    def epoch() -> None:
        for rows in torch.randperm(len(data)).split(batch_size):
            z, seen = torch.randn(batch_size, Z_DIM), None
            drawn = context = None
            if labels is not None:
                seen = one_hot(labels[rows], CLASSES).float()
                drawn = one_hot(torch.randint(CLASSES, (batch_size,)), CLASSES).float()
                context = torch.cat([drawn, z], 1)
            fake = generator(z, context)
            critic_optim.zero_grad()
            at_real, at_fake = critic(data[rows], seen), critic(fake.detach(), drawn)
            loss = (1 - at_real).relu().mean() + (1 + at_fake).relu().mean()
            loss.backward()
            critic_optim.step()
            optim.zero_grad()
            critic.requires_grad_(False)
            (-critic(fake, drawn).mean()).backward()
            critic.requires_grad_(True)
            optim.step()
            loss.item()

    return epoch


def _cycle_in_torch(x: np.ndarray, y: np.ndarray, batch_size: int) -> Callable[[], None]:
    """Two U-Nets and two critics."""
    import torch
    from torch.nn.functional import softplus

    from pyro_dgm.losses import ImageCritic
    from pyro_dgm.nn import UNet

    nets = [UNet(SHAPE, out_channels=1, channels=WIDE[::-1]) for _ in range(2)]
    critics = [ImageCritic(SHAPE) for _ in range(2)]
    data = torch.as_tensor(x), torch.as_tensor(1 - x)
    weights = [weight for net in nets for weight in net.parameters()]
    optim = torch.optim.Adam(weights, 1e-3, fused=True)
    others = [
        torch.optim.Adam(critic.parameters(), 1e-3, betas=(0.5, 0.99), fused=True)
        for critic in critics
    ]

    def epoch() -> None:
        for rows in zip(*(torch.randperm(len(x)).split(batch_size) for _ in range(2))):
            real = [array[row] for array, row in zip(data, rows)]
            fakes = [net(a).sigmoid() for net, a in zip(nets, real)][::-1]  # of the first, second
            total = 0.0
            for critic, other, a, fake in zip(critics, others, real, fakes):
                other.zero_grad()
                loss = softplus(-critic(a)).mean() + softplus(critic(fake.detach())).mean()
                loss.backward()
                other.step()
                total = total + loss.detach()
            optim.zero_grad()
            cost = 0.0
            for critic, fake in zip(critics, fakes):
                critic.requires_grad_(False)
                cost = cost + softplus(-critic(fake)).mean()
            again = [net(a).sigmoid() for net, a in zip(nets, fakes)][::-1]
            cost = cost + CYCLE * sum((a - b).abs().mean() for a, b in zip(again, real))
            cost.backward()
            for critic in critics:
                critic.requires_grad_(True)
            optim.step()
            total.item()

    return epoch


def in_jax(name: str, x: np.ndarray, y: np.ndarray, batch_size: int) -> Callable[[], None]:
    """An epoch in plain JAX."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optax
    from jax.nn import sigmoid, softplus

    from dgm_core.contexts import Labels
    from numpyro_dgm.losses import ImageCritic, ResidualCritic
    from numpyro_dgm.nn import ResidualGenerator, UNet
    from numpyro_dgm.nn.register import initial_states, with_states
    from numpyro_dgm.nn.states import repeated
    from numpyro_dgm.nn.weights import advance

    keys, cycle, big = jax.random.split(jax.random.key(0), 4), name == "CycleGAN", name == "BigGAN"
    made: list[Any]
    if cycle:
        made = [UNet(SHAPE, out_channels=1, channels=WIDE[::-1], key=key) for key in keys[:2]]
        judges: list[Any] = [ImageCritic(SHAPE, key=key) for key in keys[2:]]
    else:
        looks = {"attention": name != "SNGAN"}
        context = {"context_shape": (Labels(CLASSES), Z_DIM)} if big else {}
        spectral = {"spectral_norm": "none" if name == "SNGAN" else "matrix"}
        wide = {"hidden_channels": WIDE, **looks, **context, **spectral}
        made = [ResidualGenerator(Z_DIM, SHAPE, **wide, key=keys[0])]
        settings = {"num_classes": CLASSES if big else 0, "hidden_channels": WIDE[::-1], **looks}
        judges = [ResidualCritic(SHAPE, **settings, key=keys[1])]
    g, g_rest = eqx.partition(made, eqx.is_inexact_array)
    d, d_rest = eqx.partition(judges, eqx.is_inexact_array)
    optim, critic_optim = optax.adam(1e-3), optax.adam(1e-3, b1=0.5, b2=0.99)
    data = jax.device_put(x), jax.device_put(1 - x if cycle else y)

    def networks(weights: Any, rest: Any, kept: Any) -> tuple[Any, Any]:
        kept = dict(kept)
        return with_states(eqx.combine(weights, rest), kept), kept

    def draw(g: Any, kept: Any, real: Any, key: Any) -> Any:
        nets, kept = networks(g, g_rest, kept)
        if cycle:
            return [sigmoid(net(a)) for net, a in zip(nets, real)][::-1], kept
        z = jax.random.normal(key, (batch_size, Z_DIM))
        if not big:
            return [sigmoid(nets[0](z))], kept
        drawn = jax.random.randint(key, (batch_size,), 0, CLASSES)
        return [pair(sigmoid(nets[0](z, (drawn, z))), drawn)], kept

    def pair(image: Any, label: Any) -> Any:
        return jnp.concatenate([image.reshape(len(image), -1), jax.nn.one_hot(label, CLASSES)], 1)

    def score(d: Any, kept: Any, shown: Any) -> list[Any]:
        nets, _ = networks(d, d_rest, kept)
        with repeated():
            return [net(a) for net, a in zip(nets, shown)]

    def critic_loss(d: Any, kept: Any, real: Any, fake: Any) -> Any:
        low, high = (softplus, softplus) if cycle else (_hinge, _hinge)
        sides = zip(score(d, kept, real), score(d, kept, fake))
        return sum(low(-one).mean() + high(two).mean() for one, two in sides)

    def _hinge(v: Any) -> Any:
        return jax.nn.relu(1 + v)

    def cost(fakes: Any, d: Any, kept: Any) -> Any:
        rule = (lambda v: softplus(-v).mean()) if cycle else (lambda v: -v.mean())
        return sum(map(rule, score(d, kept, fakes)))

    @jax.jit
    def epoch(carry: tuple, key: Any) -> tuple:
        def step(carry: tuple, batch: tuple) -> tuple:
            (g, g_kept, g_state, d, d_kept, d_state), (rows, key) = carry, batch
            real = [array[row] for array, row in zip(data, rows)]
            shown = real if cycle else [pair(*real)] if big else real[:1]

            def drawn(g: Any) -> Any:
                fakes, kept = draw(g, g_kept, real, key)
                again = draw(g, kept, fakes, key)[0] if cycle else fakes
                back = sum(abs(a - b).mean() for a, b in zip(again, real)) if cycle else 0.0
                return (fakes, back), kept

            (fakes, back), pull, new = jax.vjp(drawn, g, has_aux=True)
            loss, grads = jax.value_and_grad(critic_loss)(d, d_kept, shown, fakes)
            updates, d_state = critic_optim.update(grads, d_state, d)
            d = optax.apply_updates(d, updates)
            nets, d_kept = networks(d, d_rest, d_kept)
            advance(nets)
            slope = jax.grad(cost)(fakes, d, d_kept)
            (grads,) = pull((slope, CYCLE * jnp.ones_like(back) if cycle else 0.0))
            updates, g_state = optim.update(grads, g_state, g)
            return (optax.apply_updates(g, updates), new, g_state, d, d_kept, d_state), loss

        order_key, step_key = jax.random.split(key)
        orders = [
            jax.random.permutation(k, len(x)).reshape(-1, batch_size)
            for k in jax.random.split(order_key)
        ]
        if not cycle:
            orders[1] = orders[0]
        return jax.lax.scan(
            step, carry, (jnp.stack(orders, 1), jax.random.split(step_key, len(orders[0])))
        )

    kept = initial_states(made), initial_states(judges)
    state = [(g, kept[0], optim.init(g), d, kept[1], critic_optim.init(d))]

    def run() -> None:
        state[0], losses = epoch(state[0], jax.random.key(0))
        losses.block_until_ready()

    return run
