"""Models of several modalities with a common code:  z_n ~ prior;  x_nm | z_n ~
likelihood_m(decoder_m(z_n)) for each modality m.

With private codes  w_nm ~ Normal(0, I)  the decoder of m sees (z_n, w_nm). How the guide puts
together what the modalities say of z is what the models differ in.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from dgm_core.arguments import check_count, check_counts, check_sizes
from dgm_core.contexts import Labels
from dgm_core.modalities import (
    check_data,
    check_modalities,
    check_parts,
    entries,
    event_shape,
    left,
    no_data,
)
from pyro_dgm.conditionals import Bernoulli, Categorical, Conditional, DiagonalNormal
from pyro_dgm.conditionals.product import ProductOfExperts
from pyro_dgm.models.multimodal.modality import Seen, all_of, cleared, filled, mask_of, visible
from pyro_dgm.models.parts import check_conditionals, check_fit, check_network, features_of
from pyro_dgm.nn import MLP, register

__all__ = ["Multimodal"]


class Multimodal(nn.Module):
    """What the models of several modalities share: their parts, the model, and the guide around
    `combined`, which says what the modalities together say of z.

    Args:
        modalities: {name: size, shape or Labels(num_classes)} of a datum.
        z_dim: the size of the common code.
        private: the size of a private code of each modality, or {name: size}; 0 for none.
        hidden: the sizes of the encoders' hidden layers, which the decoders have in reverse order.
        encoders, decoders: {name: network}, those left out are MLPs of vectors.
        experts: {name: conditional} of z given the features of an encoder (default
            DiagonalNormal); each is multiplied with the prior.
        likelihoods: {name: conditional} of x given the features of a decoder (default Bernoulli,
            of labels Categorical).
        prior: of z, also the prior expert (default StandardNormal(z_dim)).

    Sites: z (z_dim,), one for each modality under its name, and "private_<name>" for its private
    code, in the plate "data".

    Shapes:
        each modality by its name (batch, *shape), a label (batch, 1) integers; one that is left out
        or None is missing. has (batch, M) booleans, in the order of the modalities: which of them
        each datum has. What stands elsewhere changes nothing, NaN included.

    Raises:
        ValueError: if a size, a part, the data or the mask do not fit.
    """

    component = False  # whether the guide draws which component z is from, at a site of its own

    def __init__(
        self,
        modalities: Mapping[str, Any],
        z_dim: int,
        *,
        private: int | Mapping[str, int] = 0,
        hidden: Sequence[int] = (200, 200),
        encoders: Mapping[str, Any] | None = None,
        decoders: Mapping[str, Any] | None = None,
        experts: Mapping[str, Conditional] | None = None,
        likelihoods: Mapping[str, Conditional] | None = None,
        prior: Conditional | None = None,
    ) -> None:
        super().__init__()
        self.modalities, z_dim = check_modalities(modalities), check_counts(z_dim=z_dim)[0]
        self.z_dim, names, hidden = z_dim, tuple(self.modalities), check_sizes("hidden", hidden)
        sizes = dict.fromkeys(names, private) if isinstance(private, int) else private
        sizes = check_parts("private", sizes, names)
        self.private = {n: s for n, s in sizes.items() if check_count(f"private[{n!r}]", s, 0)}
        encoders = check_parts("encoders", encoders, names)
        decoders = check_parts("decoders", decoders, names)
        experts = check_parts("experts", experts, names)
        likelihoods = check_parts("likelihoods", likelihoods, names)
        for name, shape in self.modalities.items():
            code = z_dim + self.private.get(name, 0)
            check_network(f"encoder of {name}", encoders.get(name))
            check_network(f"decoder of {name}", decoders.get(name), code)
            check_conditionals(expert=experts.get(name), likelihood=likelihoods.get(name))
            encoders[name] = encoders.get(name) or MLP(entries(shape), hidden)
            decoders[name] = decoders.get(name) or MLP(code, hidden[::-1])
            seen, made = features_of(encoders[name]), features_of(decoders[name])
            experts[name] = experts.get(name) or DiagonalNormal(z_dim, context_shape=seen)
            likelihoods[name] = likelihoods.get(name) or default_likelihood(shape, made)
            check_fit(f"expert of {name}", experts[name], (z_dim,), seen)
            check_fit(f"likelihood of {name}", likelihoods[name], event_shape(shape), made)
        if prior is not None:
            check_conditionals(prior=prior)
            check_fit("prior", prior, (z_dim,), 0)
        self.encoders = nn.ModuleDict({name: encoders[name] for name in names})
        self.decoders = nn.ModuleDict({name: decoders[name] for name in names})
        self.likelihoods = nn.ModuleDict({name: likelihoods[name] for name in names})
        self.posterior = ProductOfExperts([experts[name] for name in names], prior)
        self.privates = nn.ModuleDict()
        for name, size in self.private.items():
            seen = features_of(encoders[name])
            self.privates[name] = ProductOfExperts([DiagonalNormal(size, context_shape=seen)])

    def model(self, *, has: Tensor | None = None, size: int = 1, **data: Any) -> dict[str, Tensor]:
        """Generate `size` data, or score the modalities that are there."""
        size, seen = self._seen(has, size, data)
        posterior = register("posterior", self.posterior)
        decoders: Any = register("decoders", self.decoders)
        likelihoods: Any = register("likelihoods", self.likelihoods)
        generated = not any(x is not None for x in data.values())
        drawn = {}
        with pyro.plate("data", size):
            if self.component and not generated:
                index = self._index(posterior, size, seen)
                pyro.sample("component", index, infer={"reverse": True})
            z = pyro.sample("z", posterior.prior())
            for name in self.modalities:
                code = z
                if name in self.private:
                    own: Any = self.privates[name]
                    w = pyro.sample(f"private_{name}", own.prior())
                    code = torch.cat([z, w], -1)
                fn = likelihoods[name](decoders[name](code))
                if generated:
                    drawn[name] = pyro.sample(name, fn)
                else:
                    x, mask = filled(fn, data.get(name), seen[name], size)
                    drawn[name] = pyro.sample(name, fn if mask is True else fn.mask(mask), obs=x)
        return drawn

    def guide(self, *, has: Tensor | None = None, size: int = 1, **data: Any) -> Tensor:
        """Infer z, and private codes, from the modalities that are there."""
        if not any(x is not None for x in data.values()):
            raise ValueError(no_data(self.modalities))
        size, seen = self._seen(has, size, data)
        posterior = register("posterior", self.posterior)
        features = self._features(data, seen, size)
        with pyro.plate("data", size):
            q = self.combined(posterior, features, data, seen, size)
            if self.component:
                q = q.at(pyro.sample("component", self._index(posterior, size, seen)))
            z = pyro.sample("z", q)
            privates: Any = register("privates", self.privates) if self.private else {}
            for name in self.private:
                mask = all_of({name: seen[name]}, size)
                q = privates[name]((features[name],), mask)
                pyro.sample(f"private_{name}", q)
        return z

    def combined(
        self,
        posterior: ProductOfExperts,
        features: Mapping[str, Tensor],
        data: Mapping[str, Any],
        seen: Seen,
        size: int,
    ) -> Any:
        """The distribution of z given what is there."""
        return posterior(tuple(features.values()), all_of(seen, size))

    def given(
        self, names: tuple[str, ...], args: tuple, kwargs: Mapping[str, Any]
    ) -> tuple[tuple, dict[str, Any]]:
        """The arguments in which these modalities alone are there."""
        return args, left(names, self.modalities, kwargs)

    def _seen(self, has: Tensor | None, size: int, data: Mapping[str, Any]) -> tuple[int, Seen]:
        """The number of data, and which of them have each modality."""
        number = check_data(data, self.modalities, has, check_count("size", size))
        there = {name: data.get(name) is not None for name in self.modalities}
        return number, {name: mask_of(has, m, there[name]) for m, name in enumerate(there)}

    def _index(self, posterior: Any, size: int, seen: Seen) -> Any:
        return posterior.index((size,), all_of(seen, size))

    def _features(self, data: Mapping[str, Any], seen: Seen, size: int) -> dict[str, Tensor]:
        """What the encoders say, zeros of what is missing altogether."""
        encoders: Any = register("encoders", self.encoders)
        found = {}
        for name, shape in self.modalities.items():
            encoder, x = encoders[name], data.get(name)
            if x is None:
                out = features_of(encoder)
                out = (out,) if isinstance(out, int) else out
                found[name] = next(self.parameters()).new_zeros(size, *out)
            else:
                found[name] = encoder(visible(encoder, cleared(x, seen[name]), shape))
        return found


def default_likelihood(shape: tuple[int, ...], features: Any) -> Conditional:
    """Of binary entries, or of a label."""
    if isinstance(shape, Labels):
        return Categorical(1, shape.num_classes, context_shape=features)
    return Bernoulli(shape, context_shape=features)
