"""Joint multimodal VAE:  q(z | x) = posterior(encoder(x_1, ..., x_M)) where all modalities are
there, else the product of the experts of those that are,  q(z | x) ~ p(z) prod_m N(z; mu_m, s_m^2).

The guides of fewer modalities are fitted to the joint one, by the term `KL(given=...)`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.modalities import entries
from numpyro_dgm.conditionals import Conditional, DiagonalNormal
from numpyro_dgm.conditionals.product import ProductOfExperts, normal_of
from numpyro_dgm.models.multimodal.base import Multimodal
from numpyro_dgm.models.multimodal.modality import Seen, all_of, cleared, visible
from numpyro_dgm.models.parts import check_conditionals, check_fit, check_network, features_of
from numpyro_dgm.nn import MLP, register

__all__ = ["JMVAE"]


class JMVAE(Multimodal):
    """A VAE of several modalities with a joint encoder (Suzuki et al. 2016).

    `losses.jmvae(names, alpha)` is its objective JMVAE-kl: the bound and alpha times the KL from
    the joint posterior to that of each modality by itself.

    Args and Shapes: as `Multimodal`, and

    Args:
        joint_encoder: of all modalities, flat and side by side (default MLP).
        joint: of z given its features, normal with independent entries (default DiagonalNormal).

    Cost:
        the joint encoder, and an encoder, an expert and a decoder of each modality.

    Raises:
        ValueError: if a size, a part, the data or the mask do not fit.

    References:
        Suzuki, Nakayama & Matsuo (2016), arXiv:1611.01891.

    Example:
        >>> from numpyro_dgm.losses import ELBO, KL
        >>> key = jax.random.key(0)
        >>> jmvae = JMVAE({"left": 32, "right": 32}, 2, hidden=(20,), key=key)
        >>> data = {name: jax.numpy.ones((5, 32)) for name in ("left", "right")}
        >>> loss = ELBO() + 0.1 * KL(given="left")
        >>> import numpyro
        >>> svi = numpyro.infer.SVI(jmvae.model, jmvae.guide, numpyro.optim.Adam(1e-3), loss)
        >>> bool(svi.evaluate(svi.init(key, **data), **data) > 0)
        True
    """

    joint_encoder: Any
    joint: Conditional

    def __init__(
        self,
        modalities: Mapping[str, Any],
        z_dim: int,
        *,
        joint_encoder: MLP | None = None,
        joint: Conditional | None = None,
        private: int | Mapping[str, int] = 0,
        hidden: Sequence[int] = (200, 200),
        encoders: Mapping[str, Any] | None = None,
        decoders: Mapping[str, Any] | None = None,
        experts: Mapping[str, Conditional] | None = None,
        likelihoods: Mapping[str, Conditional] | None = None,
        prior: Conditional | None = None,
        key: Array,
    ) -> None:
        super().__init__(
            modalities,
            z_dim,
            private=private,
            hidden=hidden,
            encoders=encoders,
            decoders=decoders,
            experts=experts,
            likelihoods=likelihoods,
            prior=prior,
            key=key,
        )
        keys = jax.random.split(jax.random.fold_in(key, len(self.modalities)))
        size = sum(map(entries, self.modalities.values()))
        check_network("joint_encoder", joint_encoder, size)
        check_conditionals(joint=joint)
        self.joint_encoder = joint_encoder or MLP(size, hidden, key=keys[0])
        features = features_of(self.joint_encoder)
        self.joint = joint or DiagonalNormal(z_dim, context_shape=features, key=keys[1])
        check_fit("joint", self.joint, (self.z_dim,), features)

    def combined(
        self,
        posterior: ProductOfExperts,
        features: Mapping[str, Array],
        data: Mapping[str, Any],
        seen: Seen,
        size: int,
    ) -> Any:
        """The joint posterior of data that have all modalities, else the product of experts."""
        mask = all_of(seen, size)
        if any(there is False for there in seen.values()):
            return posterior(tuple(features.values()), mask)
        encoder, joint = (
            register("joint_encoder", self.joint_encoder),
            register("joint", self.joint),
        )
        parts = [
            visible(encoder, cleared(data[name], seen[name]), shape)
            for name, shape in self.modalities.items()
        ]
        q = joint(encoder(jnp.concatenate([part.reshape(size, -1) for part in parts], -1)))
        if mask is None:
            return q
        whole = mask.all(-1, keepdims=True)
        pairs = zip(
            normal_of(joint, q),
            normal_of(posterior, posterior(tuple(features.values()), mask)),
            strict=True,
        )
        return posterior.normal(*(jnp.where(whole, a, b) for a, b in pairs))
