"""Joint multimodal VAE:  q(z | x) = posterior(encoder(x_1, ..., x_M)) where all modalities are
there, else the product of the experts of those that are,  q(z | x) ~ p(z) prod_m N(z; mu_m, s_m^2).

The guides of fewer modalities are fitted to the joint one, by the term `KL(given=...)`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dgm_core.modalities import entries
from pyro_dgm.conditionals import Conditional, DiagonalNormal
from pyro_dgm.conditionals.product import ProductOfExperts, normal_of
from pyro_dgm.models.multimodal.base import Multimodal
from pyro_dgm.models.multimodal.modality import Seen, all_of, cleared, visible
from pyro_dgm.models.parts import check_conditionals, check_fit, check_network, features_of
from pyro_dgm.nn import MLP, register

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
        >>> from pyro_dgm.losses import ELBO, KL
        >>> jmvae = JMVAE({"left": 32, "right": 32}, 2, hidden=(20,))
        >>> loss, halves = ELBO() + 0.1 * KL(given="left"), torch.ones(5, 32)
        >>> loss(jmvae.model, jmvae.guide, left=halves, right=halves).item() > 0
        True
    """

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
        )
        size = sum(map(entries, self.modalities.values()))
        check_network("joint_encoder", joint_encoder, size)
        check_conditionals(joint=joint)
        self.joint_encoder = joint_encoder or MLP(size, hidden)
        features = features_of(self.joint_encoder)
        self.joint = joint or DiagonalNormal(z_dim, context_shape=features)
        check_fit("joint", self.joint, (self.z_dim,), features)

    def combined(
        self,
        posterior: ProductOfExperts,
        features: Mapping[str, Tensor],
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
        q = joint(encoder(torch.cat([part.flatten(1) for part in parts], -1)))
        if mask is None:
            return q
        whole = mask.all(-1, keepdim=True)
        pairs = zip(
            normal_of(joint, q),
            normal_of(posterior, posterior(tuple(features.values()), mask)),
            strict=True,
        )
        return posterior.normal(*(torch.where(whole, a, b) for a, b in pairs))
