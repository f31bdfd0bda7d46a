"""Multi-level VAE of groups:  c_g ~ prior for each group;  s_gn ~ style prior for each member;
x_gn | c_g, s_gn ~ likelihood(decoder(c_g, s_gn)).

q(c_g | x_g) ~ p(c) prod_n N(c; mu(x_gn), s(x_gn)^2), the evidence of the members accumulated, with
the prior counted once; q(s_gn | x_gn) ~ p(s) N(s; mu'(x_gn), s'(x_gn)^2).
"""

from collections.abc import Sequence
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from dgm_core.arguments import check_counts, check_flag, check_shape, check_sizes
from dgm_core.members import check_groups
from dgm_core.modalities import entries
from pyro_dgm.conditionals import Bernoulli, Conditional, DiagonalNormal, StandardNormal
from pyro_dgm.conditionals.product import ProductOfExperts, normal_of, product_of_normals
from pyro_dgm.models.multimodal.modality import filled, visible
from pyro_dgm.models.parts import check_conditionals, check_fit, check_network, features_of
from pyro_dgm.nn import MLP, register

__all__ = ["MLVAE"]


class MLVAE(nn.Module):
    """A VAE of groups with a content of the group and a style of each member (Bouchacourt et al.
    2018).

    Args:
        x_dim: the size or shape of a member.
        content_dim, style_dim: of the codes.
        hidden: the sizes of the encoder's hidden layers, which the decoder has in reverse order.
        encoder, decoder: networks of a member, and of its codes side by side (default MLP).
        content: of c given the features of a member, an expert (default DiagonalNormal).
        style: of s given the features of a member, an expert (default DiagonalNormal).
        style_sees_content: whether the style's expert is given the content as well, behind the
            features, as the exact posterior is.
        group_encoder: a network of a whole group, `network(x, has)` such as nn.Pooled, with
            features of this size as `group_features`: then c is normal given these, and there are
            no experts.
        likelihood: of x given the decoder's features (default Bernoulli).
        prior, style_prior: normal with independent entries (default StandardNormal).

    Sites: content (content_dim,) in the plate "data", style (style_dim,) and x in "data" and
    "members". The data are the groups: losses are in nats per group (`dgm_core.members.per_member`
    divides them).

    Shapes:
        x (groups, members, *x_dim); has (groups, members) booleans, where there is a member. What
        stands elsewhere changes nothing, NaN included.

    Raises:
        ValueError: if a size, a part, the data or the mask do not fit.

    References:
        Bouchacourt, Tomioka & Nowozin (2018), arXiv:1705.08841. Its printed product of the
        posteriors of members counts the prior once for each; here it counts once.

    Example:
        >>> mlvae = MLVAE(64, 4, 2, hidden=(20,))
        >>> mlvae.model(size=5, members=3).shape
        torch.Size([5, 3, 64])
    """

    def __init__(
        self,
        x_dim: int | tuple[int, ...],
        content_dim: int,
        style_dim: int,
        *,
        hidden: Sequence[int] = (200, 200),
        encoder: Any = None,
        decoder: Any = None,
        content: Conditional | None = None,
        style: Conditional | None = None,
        style_sees_content: bool = False,
        group_encoder: Any = None,
        group_features: int | None = None,
        likelihood: Conditional | None = None,
        prior: Conditional | None = None,
        style_prior: Conditional | None = None,
    ) -> None:
        super().__init__()
        sizes = check_counts(content_dim=content_dim, style_dim=style_dim)
        self.x_shape, hidden = check_shape("x_dim", x_dim), check_sizes("hidden", hidden)
        self.content_dim, self.style_dim = sizes
        self.style_sees_content = check_flag("style_sees_content", style_sees_content)
        check_network("encoder", encoder)
        check_network("decoder", decoder, sum(sizes))
        check_conditionals(content=content, style=style, likelihood=likelihood)
        check_conditionals(prior=prior, style_prior=style_prior)
        self.encoder = encoder or MLP(entries(self.x_shape), hidden)
        self.decoder = decoder or MLP(sum(sizes), hidden[::-1])
        seen, made = features_of(self.encoder), features_of(self.decoder)
        self.group_encoder = group_encoder
        if group_encoder is not None:
            seen_content: Any = check_counts(group_features=group_features)[0]
        else:
            seen_content = seen
        self.content = content or DiagonalNormal(content_dim, context_shape=seen_content)
        if self.style_sees_content:
            seen = seen + content_dim if isinstance(seen, int) else seen
        style = style or DiagonalNormal(style_dim, context_shape=seen)
        self.likelihood = likelihood or Bernoulli(self.x_shape, context_shape=made)
        self.prior = prior or StandardNormal(content_dim)
        self.style = ProductOfExperts([style], style_prior)
        check_fit("content", self.content, (content_dim,), seen_content)
        check_fit("style", style, (style_dim,), seen)
        check_fit("likelihood", self.likelihood, self.x_shape, made)
        check_fit("prior", self.prior, (content_dim,), 0)

    def model(
        self,
        x: Tensor | None = None,
        has: Tensor | None = None,
        *,
        size: int = 1,
        members: int = 1,
    ) -> Tensor:
        """Generate `size` groups of `members`, or score the groups x."""
        groups, number = check_groups(x, has, self.x_shape, size, members)
        prior, style = register("prior", self.prior), register("style", self.style)
        decoder = register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)
        data = pyro.plate("data", groups, dim=-2)
        inner = pyro.plate("members", number, dim=-1)
        with data:
            c = pyro.sample("content", prior())
            with inner:
                s = pyro.sample("style", style.prior())
                fn = likelihood(decoder(torch.cat([wide(c, s), s], -1)))
                if has is None:
                    return pyro.sample("x", fn, obs=x)
                found = filled(fn, x, has, groups)[0]
                return pyro.sample("x", fn.mask(has), obs=found)

    def guide(
        self,
        x: Tensor | None = None,
        has: Tensor | None = None,
        *,
        size: int = 1,
        members: int = 1,
    ) -> Tensor:
        """Infer the content of each group and the style of each member."""
        if x is None:
            raise ValueError("The guide infers content and style from data: call it with x.")
        groups, number = check_groups(x, has, self.x_shape, size, members)
        if has is not None:
            x = torch.where(has[(..., *[None] * len(self.x_shape))], x, torch.zeros_like(x))
        encoder, style = register("encoder", self.encoder), register("style", self.style)
        features = encoder(visible(encoder, x.flatten(0, 1), self.x_shape))
        features = features.unflatten(0, (groups, number))
        data = pyro.plate("data", groups, dim=-2)
        inner = pyro.plate("members", number, dim=-1)
        with data:
            c = pyro.sample("content", self._content(x, has, features))
            with inner:
                seen = features
                if self.style_sees_content:
                    given = wide(c, features)
                    batch = (*given.shape[:-1], features.shape[-1])
                    seen = torch.cat([features.expand(batch), given], -1)
                mask = None if has is None else has[..., None]
                pyro.sample("style", style((seen,), mask))
        return c

    def _content(self, x: Tensor, has: Tensor | None, features: Tensor) -> Any:
        """The distribution of the content of each group, of batch shape (groups, 1)."""
        content, prior = register("content", self.content), register("prior", self.prior)
        if self.group_encoder is not None:
            network = register("group_encoder", self.group_encoder)
            return content(network(x.flatten(2), has)[:, None])
        loc, scale = normal_of(content, content(features))  # (groups, members, content_dim)
        seen = None if has is None else has.mT[..., None]
        priors = normal_of(prior, prior())
        pair = product_of_normals(loc.movedim(1, 0), scale.movedim(1, 0), *priors, seen=seen)
        return self.style.normal(*(part[:, None] for part in pair))


def wide(c: Tensor, like: Tensor) -> Tensor:
    """The content (*particles, groups, 1, dim) beside something of each member."""
    batch = torch.broadcast_shapes(c.shape[:-1], like.shape[:-1])
    return c.expand(*batch, -1)
