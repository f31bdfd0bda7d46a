"""Mixtures over modalities:  q(z | x) = sum_s w_s q_s(z | x),  q_s ~ p(z) prod_{m in s} N(z;
mu_m(x_m), s_m(x_m)^2), over each modality by itself, or over all sets of modalities.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dgm_core.arguments import check_flag
from dgm_core.experts import all_subsets
from dgm_core.modalities import in_order, numbered
from pyro_dgm.conditionals import Conditional
from pyro_dgm.conditionals.product import MixtureOfExperts
from pyro_dgm.models.multimodal.base import Multimodal

__all__ = ["MMVAE", "MoPoE"]


class MMVAE(Multimodal):
    """A VAE of several modalities whose guide is a mixture of the modalities (Shi et al. 2019).

    The density is that of the mixture. The guide draws the modality that z is from at the site
    "component", so that a loss may take one draw of each (stratified) in place of a drawn one:

    - `ELBO(enumerate="component")`: the mean over the components of log p(x, z) / q(z | x);
    - `IWAE(K, enumerate="component")`: the tight bound, K draws of each component in one logarithm;
    - `IWAE(K, enumerate="component", looser=True)`: the loose one, a logarithm for each component.

    Args and Shapes: as `Multimodal`, and

    Args:
        weights: {modality: number} of the components, constants (equal where left out).
        stratified: False: z alone is drawn, a reparameterized site without "component".

    Cost:
        an encoder and an expert of each modality; every decoder once for each draw. Of data that
        lack modalities the components of the others count.

    Raises:
        ValueError: if a size, a part, the data or the mask do not fit.

    References:
        Shi, Siddharth, Paige & Torr (2019), arXiv:1911.03393.

    Example:
        >>> import torch
        >>> from pyro_dgm.losses import ELBO
        >>> mmvae = MMVAE({"left": 32, "right": 32}, 2, hidden=(20,))
        >>> loss, halves = ELBO(enumerate="component"), torch.ones(5, 32)
        >>> loss(mmvae.model, mmvae.guide, left=halves, right=halves).item() > 0
        True
    """

    def __init__(
        self,
        modalities: Mapping[str, Any],
        z_dim: int,
        *,
        weights: Mapping[str, float] | None = None,
        stratified: bool = True,
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
        self.component = check_flag("stratified", stratified)
        in_turn = in_order("weights", weights, tuple(self.modalities))
        self.posterior = mixture_of(self.posterior, None, in_turn)


class MoPoE(Multimodal):
    """A VAE of several modalities whose guide is a mixture over all sets of modalities of their
    products of experts (Sutter et al. 2021).

    Of one set, all modalities, it is the MVAE, of the single ones the MMVAE. "component" is the set
    that z is from; losses as for `MMVAE`: with `enumerate="component"` all sets run at once, their
    draws stacked before the decoders.

    Args and Shapes: as `Multimodal`, and

    Args:
        subsets: tuples of modalities; all 2^M - 1 sets but the empty one where left out.
        weights: of the subsets, constants (equal where left out).
        stratified: False: z alone is drawn, a reparameterized site without "component".

    Cost:
        an encoder and an expert of each modality, all products in one operation; every decoder once
        for each draw. Of data that lack modalities the sets of the others count.

    Raises:
        ValueError: if a size, a part, the data or the mask do not fit.

    References:
        Sutter, Daunhawer & Vogt (2021), arXiv:2105.02470.

    Example:
        >>> mopoe = MoPoE({"a": 8, "b": 8, "c": 8}, 2, hidden=(20,))
        >>> len(mopoe.posterior.chosen)
        7
    """

    def __init__(
        self,
        modalities: Mapping[str, Any],
        z_dim: int,
        *,
        subsets: Sequence[Sequence[str]] | None = None,
        weights: Sequence[float] | None = None,
        stratified: bool = True,
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
        self.component = check_flag("stratified", stratified)
        names = tuple(self.modalities)
        chosen = all_subsets(len(names)) if subsets is None else numbered(subsets, names)
        self.posterior = mixture_of(self.posterior, chosen, weights)


def mixture_of(product: Any, subsets: Any, weights: Any) -> MixtureOfExperts:
    """The mixture of some products of the experts of one product."""
    return MixtureOfExperts(
        list(product.experts), subsets=subsets, weights=weights, prior=product.prior
    )
