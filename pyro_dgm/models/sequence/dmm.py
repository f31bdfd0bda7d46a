"""Deep Markov model:  z_{1:T} ~ prior, a Markov path;  x_t | z_t ~ likelihood(decoder(z_t));
q(z_{1:T} | x_{1:T}) = posterior(encoder(x_{1:T})), a path as well.

By default z_t | z_{t-1} is gated and normal, x_t Bernoulli, the encoder a GRU that runs backward,
whose features h_t see x_t, ..., x_T, and q(z_t | z_{t-1}, h_t) the combiner of the paper.
"""

from typing import Any

import pyro
from torch import Tensor, nn

from dgm_core.arguments import check_counts, check_instance
from dgm_core.paths import steps_given
from pyro_dgm.conditionals import Combiner, Conditional, GatedTransition, Markov, Path, Steps
from pyro_dgm.conditionals.bernoulli import Bernoulli
from pyro_dgm.models.parts import check_conditionals, check_fit, check_network
from pyro_dgm.models.sequence.parts import batch_of
from pyro_dgm.nn import GRU, MLP, register, without_padding


class DMM(nn.Module):
    """A deep Markov model of sequences (Krishnan et al. 2017); z is one site, a path.

    Args:
        x_dim: the features of a step.
        z_dim: of a state.
        length: T; shorter sequences are padded.
        hidden: units of the transition and the decoder.
        features: of a step in the encoder.
        encoder: from x (*batch, T, x_dim) and lengths to features (*batch, T, out_dim) (default
            GRU(x_dim, features, reverse=True)).
        decoder: of a state, with an attribute `out_dim` (default MLP of two layers).
        prior: of paths (T, z_dim) (default Markov(GatedTransition(z_dim, hidden), T)).
        posterior: of paths given the encoder's features (T, out_dim) (default
            Markov(Combiner(z_dim, out_dim), T)). AffineMarkov((T, z_dim), context_shape=(T,
            out_dim)) has no network in the loop. The IAF guide as published is Markov(flow, T) with
            flow = Flow(z_dim, [Autoregressive(z_dim), ...], base=Combiner(z_dim, out_dim),
            context_shape=(z_dim, (out_dim,))): the last state enters the base alone, through tanh;
            where it is a context of the layers too, as in IAF(...), states may grow without bound.
        likelihood: of sequences (T, x_dim) given the decoder's features (default Steps of
            Bernoulli). Sites: z (T, z_dim), x (T, x_dim), in the plate "data".

    Shapes:
        x (batch, T, x_dim), or of fewer steps; lengths (batch,) of integers from 0 to T, or None.

    Raises:
        ValueError: if a size, a part, the data or the lengths do not fit.

    References:
        Krishnan, Shalit & Sontag (2017), arXiv:1609.09869.

    Example:
        >>> DMM(8, 2, 7, hidden=16, features=16).model(size=5).shape
        torch.Size([5, 7, 8])
    """

    def __init__(
        self,
        x_dim: int,
        z_dim: int,
        length: int,
        *,
        hidden: int = 100,
        features: int = 200,
        encoder: Any = None,
        decoder: MLP | None = None,
        prior: Conditional | None = None,
        posterior: Conditional | None = None,
        likelihood: Conditional | None = None,
    ) -> None:
        super().__init__()
        x_dim, z_dim, length = check_counts(x_dim=x_dim, z_dim=z_dim, length=length)
        hidden, features = check_counts(hidden=hidden, features=features)
        check_network("encoder", encoder, x_dim)
        check_network("decoder", decoder, z_dim)
        check_conditionals(prior=prior, posterior=posterior, likelihood=likelihood)
        self.x_shape = (length, x_dim)
        self.encoder = encoder or GRU(x_dim, features, reverse=True)
        self.decoder = decoder or MLP(z_dim, (hidden, hidden))
        out, given = self.encoder.out_dim, self.decoder.out_dim
        self.prior = prior or Markov(GatedTransition(z_dim, hidden), length)
        self.posterior = posterior or Markov(Combiner(z_dim, out), length)
        self.likelihood = likelihood or Steps(Bernoulli(x_dim, context_shape=given), length)
        check_fit("prior", self.prior, (length, z_dim), 0)
        check_fit("posterior", self.posterior, (length, z_dim), (length, out))
        check_fit("likelihood", self.likelihood, (length, x_dim), (length, given))

    def model(self, x: Tensor | None = None, lengths: Any = None, size: int = 1) -> Tensor:
        """Generate `size` sequences, or score the data x (batch, T, x_dim)."""
        size, (steps, _) = batch_of(x, self.x_shape, lengths, size), steps_given(x, self.x_shape)
        prior, decoder = register("prior", self.prior), register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)
        with pyro.plate("data", size):
            z = pyro.sample("z", path_of("prior", prior, None, lengths, steps))
            seen = z if lengths is None else without_padding(z, lengths)
            found = path_of("likelihood", likelihood, decoder(seen), lengths, steps)
            return pyro.sample("x", found, obs=x)

    def guide(self, x: Tensor | None = None, lengths: Any = None, size: int = 1) -> Tensor:
        """Infer the path z from the data x (batch, T, x_dim)."""
        if x is None:
            raise ValueError(
                "The guide infers z from data: call it with x of shape (batch, "
                f"{self.x_shape[0]}, {self.x_shape[1]})."
            )
        batch_of(x, self.x_shape, lengths, size)
        encoder = register("encoder", self.encoder)
        posterior = register("posterior", self.posterior)
        features = encoder(x) if lengths is None else encoder(without_padding(x, lengths), lengths)
        with pyro.plate("data", len(x)):
            found = path_of("posterior", posterior, features, lengths, x.shape[1])
            return pyro.sample("z", found)


def path_of(role: str, conditional: Any, context: Any, lengths: Any, steps: int) -> Any:
    """The distribution of sequences of so many steps and some lengths; ValueError where a part
    cannot have these.
    """
    if lengths is None and conditional.event_shape[0] == steps:
        return conditional(context)
    what = "a path, such as Markov, AffineMarkov or Steps, where sequences are of other lengths"
    return check_instance(role, conditional, Path, what).up_to(steps)(context, lengths)
