"""Models of several modalities with a common code:  z_n ~ prior;  x_nm | z_n ~
likelihood_m(decoder_m(z_n)) for each modality m.

With private codes  w_nm ~ Normal(0, I)  the decoder of m sees (z_n, w_nm). How the guide puts
together what the modalities say of z is what the models differ in.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
from jax import Array

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
from numpyro_dgm.conditionals import Bernoulli, Categorical, Conditional, DiagonalNormal
from numpyro_dgm.conditionals.product import ProductOfExperts
from numpyro_dgm.models.multimodal.modality import Seen, all_of, cleared, filled, mask_of, visible
from numpyro_dgm.models.parts import check_conditionals, check_fit, check_network, features_of
from numpyro_dgm.nn import MLP, register

__all__ = ["Multimodal"]


class Multimodal(eqx.Module):
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

    modalities: dict[str, tuple[int, ...]] = eqx.field(static=True)
    z_dim: int = eqx.field(static=True)
    private: dict[str, int] = eqx.field(static=True)
    encoders: dict[str, Any]
    decoders: dict[str, Any]
    likelihoods: dict[str, Conditional]
    posterior: ProductOfExperts
    privates: dict[str, ProductOfExperts]
    # whether the guide draws which component z is from, at a site of its own
    component: bool = eqx.field(static=True)

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
        key: Array,
    ) -> None:
        self.modalities, z_dim = check_modalities(modalities), check_counts(z_dim=z_dim)[0]
        self.z_dim, names, hidden = z_dim, tuple(self.modalities), check_sizes("hidden", hidden)
        sizes = dict.fromkeys(names, private) if isinstance(private, int) else private
        sizes = check_parts("private", sizes, names)
        self.private = {n: s for n, s in sizes.items() if check_count(f"private[{n!r}]", s, 0)}
        encoders = check_parts("encoders", encoders, names)
        decoders = check_parts("decoders", decoders, names)
        experts = check_parts("experts", experts, names)
        likelihoods = check_parts("likelihoods", likelihoods, names)
        self.component = False
        for index, (name, shape) in enumerate(self.modalities.items()):
            keys = jax.random.split(jax.random.fold_in(key, index), 5)
            code = z_dim + self.private.get(name, 0)
            check_network(f"encoder of {name}", encoders.get(name))
            check_network(f"decoder of {name}", decoders.get(name), code)
            check_conditionals(expert=experts.get(name), likelihood=likelihoods.get(name))
            encoders[name] = encoders.get(name) or MLP(entries(shape), hidden, key=keys[0])
            decoders[name] = decoders.get(name) or MLP(code, hidden[::-1], key=keys[1])
            seen, made = features_of(encoders[name]), features_of(decoders[name])
            experts[name] = experts.get(name) or DiagonalNormal(
                z_dim, context_shape=seen, key=keys[2]
            )
            likelihoods[name] = likelihoods.get(name) or default_likelihood(
                shape, made, key=keys[3]
            )
            check_fit(f"expert of {name}", experts[name], (z_dim,), seen)
            check_fit(f"likelihood of {name}", likelihoods[name], event_shape(shape), made)
        if prior is not None:
            check_conditionals(prior=prior)
            check_fit("prior", prior, (z_dim,), 0)
        self.encoders = {name: encoders[name] for name in names}
        self.decoders = {name: decoders[name] for name in names}
        self.likelihoods = {name: likelihoods[name] for name in names}
        self.posterior = ProductOfExperts([experts[name] for name in names], prior)
        self.privates = {}
        for name, size in self.private.items():
            seen, own = features_of(encoders[name]), jax.random.fold_in(key, names.index(name))
            expert = DiagonalNormal(size, context_shape=seen, key=jax.random.split(own, 5)[4])
            self.privates[name] = ProductOfExperts([expert])

    def __repr__(self) -> str:
        parts = (self.modalities, self.z_dim, self.posterior)
        return f"{type(self).__name__}({', '.join(map(repr, parts))})"

    def model(self, *, has: Array | None = None, size: int = 1, **data: Any) -> dict[str, Array]:
        """Generate `size` data, or score the modalities that are there."""
        size, seen = self._seen(has, size, data)
        posterior = register("posterior", self.posterior)
        decoders = registered("decoders", self.decoders)
        likelihoods = registered("likelihoods", self.likelihoods)
        generated = not any(x is not None for x in data.values())
        drawn = {}
        with numpyro.plate("data", size):
            if self.component and not generated:
                index = self._index(posterior, size, seen)
                numpyro.sample("component", index, infer={"reverse": True})
            z = numpyro.sample("z", posterior.prior())
            for name in self.modalities:
                code = z
                if name in self.private:
                    w = numpyro.sample(f"private_{name}", self.privates[name].prior())
                    code = jnp.concatenate([z, w], -1)
                fn = likelihoods[name](decoders[name](code))
                if generated:
                    drawn[name] = numpyro.sample(name, fn)
                else:
                    x, mask = filled(fn, data.get(name), seen[name], size)
                    drawn[name] = numpyro.sample(name, fn if mask is True else fn.mask(mask), obs=x)
        return drawn

    def guide(self, *, has: Array | None = None, size: int = 1, **data: Any) -> Array:
        """Infer z, and private codes, from the modalities that are there."""
        if not any(x is not None for x in data.values()):
            raise ValueError(no_data(self.modalities))
        size, seen = self._seen(has, size, data)
        posterior = register("posterior", self.posterior)
        features = self._features(data, seen, size)
        with numpyro.plate("data", size):
            q = self.combined(posterior, features, data, seen, size)
            if self.component:
                q = q.at(numpyro.sample("component", self._index(posterior, size, seen)))
            z = numpyro.sample("z", q)
            privates = registered("privates", self.privates) if self.private else {}
            for name in self.private:
                mask = all_of({name: seen[name]}, size)
                q = privates[name]((features[name],), mask)
                numpyro.sample(f"private_{name}", q)
        return z

    def combined(
        self,
        posterior: ProductOfExperts,
        features: Mapping[str, Array],
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

    def _seen(self, has: Array | None, size: int, data: Mapping[str, Any]) -> tuple[int, Seen]:
        """The number of data, and which of them have each modality."""
        number = check_data(data, self.modalities, has, check_count("size", size))
        there = {name: data.get(name) is not None for name in self.modalities}
        return number, {name: mask_of(has, m, there[name]) for m, name in enumerate(there)}

    def _index(self, posterior: Any, size: int, seen: Seen) -> Any:
        return posterior.index((size,), all_of(seen, size))

    def _features(self, data: Mapping[str, Any], seen: Seen, size: int) -> dict[str, Array]:
        """What the encoders say, zeros of what is missing altogether."""
        encoders = registered("encoders", self.encoders)
        found = {}
        for name, shape in self.modalities.items():
            encoder, x = encoders[name], data.get(name)
            if x is None:
                out = features_of(encoder)
                found[name] = jnp.zeros((size, *((out,) if isinstance(out, int) else out)))
            else:
                found[name] = encoder(visible(encoder, cleared(x, seen[name]), shape))
        return found


def registered(name: str, parts: dict[str, Any]) -> dict[str, Any]:
    """The parts of all modalities, registered under one name."""
    module: Any = parts
    found: Any = register(name, module)
    return found


def default_likelihood(shape: tuple[int, ...], features: Any, *, key: Array) -> Conditional:
    """Of binary entries, or of a label."""
    if isinstance(shape, Labels):
        return Categorical(1, shape.num_classes, context_shape=features, key=key)
    return Bernoulli(shape, context_shape=features, key=key)
