"""One face for both `fit`s, so that a test of training is written once and runs in each library.

`face.sample`, `.plate`, `.param`, `.dist` and `.np` have equal names and meanings in both; models
are functions of arrays, and results are numpy arrays.
"""

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

X = np.random.default_rng(0).normal(1.0, 2.0, (20, 3)).astype(np.float32)
BITS = (np.random.default_rng(1).random((40, 6)) < 0.4).astype(np.float32)
GRAY = np.full((20, 6), 0.25, np.float32)


class _Face:
    """What does not depend on the library, given `fit`, `losses`, `sample`, `plate`, `param`."""

    name: str
    fit: Any
    losses: Any
    np: Any
    dist: Any
    param: Any
    plate: Any
    sample: Any

    def quiet(self, model: Any, guide: Any, data: Any, **options: Any) -> Any:
        """`fit` without its progress line, from an empty parameter store."""
        self.forget()
        return self.fit(model, guide, data, **{"progress": False, **options})

    def forget(self) -> None:
        """Drop global state."""

    def mean_model(self, x: Any) -> None:
        """x_n ~ Normal(mu, 1): the gradient of the loss per datum is mu - mean(x)."""
        mu = self.param("mu", self.np.zeros(3))
        with self.plate("data", len(x)):
            self.sample("x", self.dist.Normal(mu, 1.0).to_event(1), obs=x)

    def regression(self, num_data: int | None = None) -> Callable:
        """w ~ Normal(0, 1), y_n ~ Normal(w x_n, 1), in a plate that declares all the data."""

        def model(x: Any, y: Any) -> None:
            w = self.sample("w", self.dist.Normal(0.0, 1.0))
            with self.plate("data", num_data or len(x), subsample_size=len(x)):
                self.sample("y", self.dist.Normal(w * x, 1.0), obs=y)

        return model

    def params(self, run: Any) -> dict[str, np.ndarray]:
        """The parameters of a run, by path."""
        return {name: np.asarray(value) for name, value in self.leaves(run.params).items()}

    def assert_equal(self, a: Any, b: Any) -> None:
        """Parameters, running statistics, critics and history are equal to the bit."""
        for left, right in ((self.state(a), self.state(b)),):
            assert left.keys() == right.keys()
            for name, value in left.items():
                np.testing.assert_array_equal(value, right[name], err_msg=name)
        assert self.rows(a) == self.rows(b)
        assert (a.epoch, a.best_epoch) == (b.epoch, b.best_epoch)

    def rows(self, run: Any) -> list[dict[str, float]]:
        """The history without the time it took."""
        return [{k: v for k, v in row.items() if k != "seconds"} for row in run.history]

    def leaves(self, tree: Any) -> dict[str, Any]:
        raise NotImplementedError

    def state(self, run: Any) -> dict[str, np.ndarray]:
        raise NotImplementedError


class PyroFace(_Face):
    """Pyro on torch."""

    name = "pyro"

    def __init__(self) -> None:
        import pyro
        import pyro.distributions as dist
        import torch

        from pyro_dgm import VAE, losses, training

        self.pyro, self.torch, self.dist, self.np = pyro, torch, dist, torch
        self.losses, self.training, self.fit = losses, training, training.fit
        self.sample, self.param, self.plate = pyro.sample, pyro.param, pyro.plate
        self._VAE, self.constraints = VAE, dist.constraints

    def forget(self) -> None:
        self.pyro.clear_param_store()

    def array(self, x: Any) -> Any:
        return self.torch.as_tensor(x)

    def vae(self, x_dim: int = 6, **options: Any) -> Any:
        self.torch.manual_seed(0)
        return self._VAE(x_dim, 2, hidden=(8,), **options)

    def normalized(self, *sizes: Any) -> Any:
        """A network with batch normalization."""
        from pyro_dgm.nn import MLP

        return MLP(*sizes, batch_norm=True)

    def conditional_vae(self) -> Any:
        from pyro_dgm import ConditionalVAE
        from pyro_dgm.conditionals import Labels

        self.torch.manual_seed(0)
        return ConditionalVAE(6, 2, Labels(3), hidden=(8,))

    def flow_model(self, dim: int) -> Any:
        from pyro_dgm import FlowGAN
        from pyro_dgm.flows import MAF

        self.torch.manual_seed(0)
        return FlowGAN(dim, flow=MAF(dim, num_layers=1, hidden=(8,))).model

    def sgd(self, rate: float) -> Any:
        return functools.partial(self.torch.optim.SGD, lr=abs(rate), maximize=rate < 0)

    def search(self) -> Any:
        return functools.partial(self.torch.optim.LBFGS, lr=0.5)

    def scaled(self, model: Any, factor: float) -> Any:
        return self.pyro.poutine.scale(model, scale=factor)

    def mask(self, mask: Any) -> Any:
        return self.pyro.poutine.mask(mask=mask)

    def network(self) -> Any:
        """A VAE with drop-out and batch normalization: all that has a state."""
        from tests.training.pyro_pairs import Network

        self.torch.manual_seed(0)
        return Network()

    def critic(self, dim: int) -> Any:
        self.torch.manual_seed(0)
        return self.losses.Critic(dim, hidden=(4,))

    def networks(self, dim: int, *, width: int, dropout: float, critic: str) -> SimpleNamespace:
        """A generator x = network(e) with drop-out, and a critic of x; weights are drawn anew."""
        from pyro_dgm.nn import MLP, register

        network = MLP(dim, (width,), dim, dropout=dropout)

        def model(x: Any) -> None:
            net = register("network", network)
            with self.plate("data", len(x)):
                e = self.sample("e", self.dist.Normal(self.np.zeros(dim), 1.0).to_event(1))
                self.sample("x", self.dist.Normal(net(e), 0.1).to_event(1), obs=x)

        return SimpleNamespace(
            model=model, critic=self.losses.Critic(dim, hidden=(width,), activation=critic)
        )

    def leaves(self, tree: Any) -> dict[str, Any]:
        return tree

    def state(self, run: Any) -> dict[str, np.ndarray]:
        owner = getattr(run.model, "__self__", None)
        buffers = dict(owner.named_buffers()) if hasattr(owner, "named_buffers") else {}
        return {name: np.asarray(value) for name, value in {**run.params, **buffers}.items()}


class NumPyroFace(_Face):
    """NumPyro on jax."""

    name = "numpyro"

    def __init__(self) -> None:
        import jax
        import jax.numpy as jnp
        import numpyro
        import numpyro.distributions as dist
        import optax

        from numpyro_dgm import VAE, losses, training

        self.jax, self.np, self.dist, self.optax, self.numpyro = jax, jnp, dist, optax, numpyro
        self.losses, self.training, self.fit = losses, training, training.fit
        self.sample, self.param, self.plate = numpyro.sample, numpyro.param, numpyro.plate
        self._VAE, self.constraints = VAE, dist.constraints

    def array(self, x: Any) -> Any:
        return self.np.asarray(x)

    def vae(self, x_dim: int = 6, **options: Any) -> Any:
        return self._VAE(x_dim, 2, hidden=(8,), key=self.jax.random.key(0), **options)

    def normalized(self, *sizes: Any) -> Any:
        """A network with batch normalization."""
        from numpyro_dgm.nn import MLP

        return MLP(*sizes, batch_norm=True, key=self.jax.random.key(0))

    def conditional_vae(self) -> Any:
        from numpyro_dgm import ConditionalVAE
        from numpyro_dgm.conditionals import Labels

        return ConditionalVAE(6, 2, Labels(3), hidden=(8,), key=self.jax.random.key(0))

    def flow_model(self, dim: int) -> Any:
        from numpyro_dgm import FlowGAN
        from numpyro_dgm.flows import MAF

        key = self.jax.random.key(0)
        return FlowGAN(dim, flow=MAF(dim, num_layers=1, hidden=(8,), key=key), key=key).model

    def sgd(self, rate: float) -> Any:
        return self.optax.sgd(rate)

    def search(self) -> Any:
        return self.optax.lbfgs()

    def scaled(self, model: Any, factor: float) -> Any:
        return self.numpyro.handlers.scale(model, factor)

    def mask(self, mask: Any) -> Any:
        return self.numpyro.handlers.mask(mask=mask)

    def network(self) -> Any:
        """A VAE with drop-out and batch normalization: all that has a state."""
        from tests.training.numpyro_pairs import NoisyVAE

        return NoisyVAE()

    def critic(self, dim: int) -> Any:
        return self.losses.Critic(dim, hidden=(4,), key=self.jax.random.key(0))

    def networks(self, dim: int, *, width: int, dropout: float, critic: str) -> SimpleNamespace:
        """A generator x = network(e) with drop-out, and a critic of x; weights are drawn anew."""
        from numpyro_dgm.nn import MLP, register

        seed = int(np.random.default_rng().integers(2**31))
        keys = self.jax.random.split(self.jax.random.key(seed))
        network = MLP(dim, (width,), dim, dropout=dropout, key=keys[0])

        def model(x: Any) -> None:
            net = register("network", network)
            with self.plate("data", len(x)):
                e = self.sample("e", self.dist.Normal(self.np.zeros(dim), 1.0).to_event(1))
                self.sample("x", self.dist.Normal(net(e), 0.1).to_event(1), obs=x)

        other = self.losses.Critic(dim, hidden=(width,), activation=critic, key=keys[1])
        return SimpleNamespace(model=model, critic=other)

    def leaves(self, tree: Any) -> dict[str, Any]:
        pairs = self.jax.tree_util.tree_leaves_with_path(tree)
        return {self.jax.tree_util.keystr(path): leaf for path, leaf in pairs}

    def state(self, run: Any) -> dict[str, np.ndarray]:
        leaves = self.leaves((run.params, run.mutable_state))
        return {name: np.asarray(leaf) for name, leaf in leaves.items()}
