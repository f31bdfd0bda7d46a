"""Lower bounds on the mutual information of two sites of the model, which model, guide and critic
maximize together.
"""

from collections.abc import Mapping
from math import log, prod
from typing import Any

import torch
from torch import Tensor, nn

from dgm_core.arguments import check_choice, check_name
from dgm_core.terms import check_places
from pyro_dgm.joints.joints import Joints
from pyro_dgm.joints.on_draws import guide_on_draws
from pyro_dgm.joints.structure import random_sites
from pyro_dgm.joints.values import side_by_side, with_vectors
from pyro_dgm.losses.adversarial.regularizers import Regularizer
from pyro_dgm.losses.adversarial.term import AdversarialTerm

__all__ = ["MutualInformation"]


class MutualInformation(AdversarialTerm):
    """A lower bound on the mutual information I(c; x) under the model.

    "barber_agakov":  E_p(c, x) [log q(c | x)] + H(c): the guide is run on what the model generates
        and scores the code c that was drawn there, as InfoGAN does in
        `JensenShannon("x") + MutualInformation("c")`.  Exact where q is the model's posterior.
    "nwj":  E_p(c, x) [T] - E_p(c) p(x) [exp(T - 1)]; "infonce":  E [log(exp T(c_i, x_i) / mean_j
        exp T(c_j, x_i))], at most the log of the batch size: a critic T sees pairs of the two
        sites, and there may be no guide.

    Args:
        site: c.
        other: the site x that the critic sees beside it ("barber_agakov" has none: the guide sees
            all that is observed).
        critic: from c and x, flattened side by side, to one number.
        estimator: of the bound.
        arguments: for "barber_agakov": in which argument, by position or keyword, the guide takes
            the draws of an observed site, {"x": 0}; needed only where the model does not observe an
            argument as it is.
        optim, critic_steps, regularizer: of the critic.

    Logged:
        "MutualInformation(<sites>)", the bound in nats per datum, with "/log_q" and "/entropy" (of
        c, where it is known, else -log p at the draws) or the critic's mean outputs "/real" and
        "/fake".

    Cost:
        one run of the model, and one of the guide ("barber_agakov") or batch (nwj) or batch^2
        (infonce) further passes of the critic.

    Raises:
        ValueError: for bad arguments, sites that model and guide have not, an x through which no
            gradient passes, and an argument that is not found.

    References:
        Barber and Agakov (2003), NeurIPS 16; Chen et al. (2016), arXiv:1606.03657, eq. (5); Nguyen,
        Wainwright and Jordan (2010), arXiv:0809.0853; van den Oord, Li and Vinyals (2018),
        arXiv:1807.03748; Poole et al. (2019), arXiv:1905.06922.

    Example:
        >>> MutualInformation("c")
        MutualInformation('c')
        >>> MutualInformation("c", "x", estimator="infonce")
        MutualInformation('c', 'x', estimator='infonce')
    """

    sign = -1

    def __init__(
        self,
        site: str,
        other: str | None = None,
        critic: nn.Module | None = None,
        *,
        estimator: str = "barber_agakov",
        arguments: Mapping[str, int | str] | None = None,
        optim: Any = None,
        critic_steps: int = 1,
        regularizer: Regularizer | None = None,
    ) -> None:
        self.estimator = check_choice("estimator", estimator, ("barber_agakov", "nwj", "infonce"))
        check_name("site", site)
        by_guide = estimator == "barber_agakov"
        if by_guide and (other is not None or critic is not None):
            raise ValueError(
                'estimator="barber_agakov" scores c by the guide and takes no other site and '
                "no "
                'critic; "nwj" and "infonce" do.'
            )
        if not by_guide and other is None:
            raise ValueError(
                f"estimator={estimator!r} needs the other site of the pairs, got none."
            )
        self.compared = (site,) if other is None else (site, other)
        super().__init__(
            self.compared, critic, optim=optim, critic_steps=critic_steps, regularizer=regularizer
        )
        self.arguments = check_places(arguments)
        self.sites = ()  # nothing is compared with draws of the guide
        if by_guide:
            self.critic_steps, self.guided, self.details = 0, True, ("log_q", "entropy")

    @property
    def name(self) -> str:  # type: ignore[override]
        """The class and the sites."""
        return f"MutualInformation({', '.join(self.compared)})"

    def samples(self, joints: Joints) -> tuple[Tensor, Tensor]:
        """Pairs as the model draws them, and pairs from the product: each with its neighbor's
        (nwj), or all with all, (num^2, entries) (infonce).
        """
        nodes = _model_sites(joints, self.compared)
        c, x = (
            side_by_side([with_vectors((site["value"], site["fn"].event_dim), site["fn"])])
            for site in (nodes[name] for name in self.compared)
        )
        if len(c) != len(x):
            raise ValueError(
                f"{self.name} needs as many values of one site as of the other, got {len(c)} "
                "and "
                f"{len(x)}."
            )
        num = len(x)
        x = x.reshape(num, -1)
        c = c.reshape(num, -1).to(x.dtype)
        real = torch.cat([c, x], 1)
        if self.estimator == "nwj":
            return real, torch.cat([c.roll(1, 0), x], 1)
        return real, torch.cat([c.repeat(num, 1), x.repeat_interleave(num, 0)], 1)

    def bound(self, real: Tensor, fake: Tensor) -> Tensor:
        """The bound of a critic, which it maximizes like everyone."""
        if self.estimator == "nwj":
            return real.mean() - (fake - 1).exp().mean()
        return real.mean() - fake.reshape(len(real), -1).logsumexp(1).mean() + log(len(real))

    def estimate(self, joints: Joints, step: int | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if self.estimator != "barber_agakov":
            return super().estimate(joints, step)
        name = self.compared[0]
        scored = guide_on_draws(joints, (name,), self.arguments).nodes[name]
        site = _model_sites(joints, ())[name]
        num = _num_data(joints, name)
        log_q = scored["fn"].log_prob(scored["value"]).sum() / num
        entropy = _entropy(site).sum() / num
        return log_q + entropy, {"log_q": log_q, "entropy": entropy}

    def _given(self) -> tuple[str, ...]:
        return tuple(map(repr, self.compared))

    def _shown(self) -> dict[str, Any]:
        by_guide = self.estimator == "barber_agakov"
        own = {"estimator": "barber_agakov", "arguments": {}}
        return {**own, **super()._shown(), "critic_steps": 0 if by_guide else 1}


def _model_sites(joints: Joints, names: tuple[str, ...]) -> dict[str, Any]:
    """The sites of the model's run, after a check that the named ones are among them and gradients
    pass through the observed ones.
    """
    nodes = random_sites(joints.generative())
    if unknown := [name for name in names if name not in nodes]:
        raise ValueError(f"The model has no sample site {unknown}; it has {sorted(nodes)}.")
    observed = tuple(
        name
        for name, site in nodes.items()
        if site["infer"].get("was_observed") and name in (names or nodes)
    )
    if observed:
        joints.samples(observed)
    return nodes


def _num_data(joints: Joints, name: str) -> int:
    """By what sums over the site are divided: the data of this batch, or for a site outside their
    plates all data.
    """
    nodes = random_sites(joints.generative())
    around = [
        {frame.name for frame in site["cond_indep_stack"]}
        for site in nodes.values()
        if site["infer"].get("was_observed")
    ]
    shared = [
        frame.size
        for frame in nodes[name]["cond_indep_stack"]
        if all(frame.name in names for names in around)
    ]
    return prod(shared) if shared else joints.data_size


def _entropy(site: Any) -> Tensor:
    try:
        return site["fn"].entropy()
    except NotImplementedError:
        return -site["fn"].log_prob(site["value"])
