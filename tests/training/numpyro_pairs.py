"""A model/guide pair with everything that has a state, for the tests of the NumPyro `fit`."""

import jax
import numpyro
import numpyro.distributions as dist

from numpyro_dgm.nn import MLP, register


class NoisyVAE:
    """A VAE whose encoder has drop-out and batch normalization."""

    def __init__(self) -> None:
        keys = jax.random.split(jax.random.key(0))
        self.encoder = MLP(6, (8,), 4, batch_norm=True, dropout=0.2, key=keys[0])
        self.decoder = MLP(2, (8,), 6, key=keys[1])

    def model(self, x):
        decoder = register("decoder", self.decoder)
        with numpyro.plate("data", len(x)):
            z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(self, x):
        encoder = register("encoder", self.encoder)
        with numpyro.plate("data", len(x)):
            h = encoder(x)
            numpyro.sample("z", dist.Normal(h[..., :2], jax.nn.softplus(h[..., 2:])).to_event(1))
