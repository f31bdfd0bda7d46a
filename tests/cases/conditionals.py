"""Conditionals: priors, guides' distributions and likelihoods."""

from dgm_core.contexts import Labels
from tests.kinds import Conditional

IMAGE = (2, 4, 6)
MAP = ((3, *IMAGE[1:]),)

CONDITIONALS: dict[str, Conditional] = {
    "StandardNormal": Conditional("StandardNormal", "conditionals", (IMAGE,), "real"),
    "StandardLogistic": Conditional("StandardLogistic", "conditionals", (IMAGE,), "real"),
    "DiagonalNormal": Conditional("DiagonalNormal", "conditionals", (3,), "real"),
    "DiagonalNormal-map": Conditional(
        "DiagonalNormal", "conditionals", (IMAGE,), "real", contexts=MAP
    ),
    "DiagonalNormal-label": Conditional(
        "DiagonalNormal", "conditionals", (3,), "real", contexts=(Labels(4),)
    ),
    "LowRankNormal": Conditional("LowRankNormal", "conditionals", (4, 2), "real", small=(2, 1)),
    "FullRankNormal": Conditional("FullRankNormal", "conditionals", (3,), "real", small=(2,)),
    "LinearNormal": Conditional("LinearNormal", "conditionals", (3,), "real", small=(2,)),
    "FullRankNormal-1": Conditional("FullRankNormal", "conditionals", (1,), "real"),
    "MixturePrior": Conditional(
        "MixturePrior", "conditionals", (3, 5), "real", small=(2, 3), rsample=False
    ),
    "Normal": Conditional("Normal", "conditionals", (3,), "real"),
    "Normal-fixed": Conditional("Normal", "conditionals", (3,), "real", {"scale": 0.5}),
    "Laplace": Conditional("Laplace", "conditionals", (3,), "real"),
    "StudentT": Conditional("StudentT", "conditionals", (3,), "real"),
    "StudentT-fixed": Conditional("StudentT", "conditionals", (3,), "real", {"df": 5.0}),
    "Bernoulli": Conditional(
        "Bernoulli", "conditionals", (3,), "binary", rsample=False, outside=0.3
    ),
    "Bernoulli-map": Conditional(
        "Bernoulli",
        "conditionals",
        (IMAGE,),
        "binary",
        rsample=False,
        contexts=MAP,
        outside=0.3,
    ),
    "ContinuousBernoulli": Conditional("ContinuousBernoulli", "conditionals", (3,), "unit"),
    "Beta": Conditional("Beta", "conditionals", (3,), "unit", outside=0.0),
    "Kumaraswamy": Conditional("Kumaraswamy", "conditionals", (3,), "unit", outside=1.0),
    "LogitNormal": Conditional("LogitNormal", "conditionals", (3,), "unit", outside=1.0),
    "Categorical": Conditional(
        "Categorical",
        "conditionals",
        (3, 4),
        "classes",
        small=(1, 4),
        rsample=False,
        mean=False,
        outside=4,
    ),
    "Categorical-label": Conditional(
        "Categorical",
        "conditionals",
        (3, 4),
        "classes",
        rsample=False,
        mean=False,
        contexts=(Labels(5),),
    ),
    "Categorical-image": Conditional(
        "Categorical",
        "conditionals",
        (IMAGE, 4),
        "classes",
        small=(1, 4),
        rsample=False,
        mean=False,
    ),
    "GumbelSoftmax-pairs": Conditional(
        "GumbelSoftmax", "conditionals", ((2, 4),), "simplex", {"learned": True}, mean=False
    ),
    "StraightThrough-pairs": Conditional("StraightThrough", "conditionals", ((2, 4),), "one-hot"),
    "RelaxedBernoulli-1.5": Conditional(
        "RelaxedBernoulli", "conditionals", (3,), "unit", {"temperature": 1.5}, mean=False
    ),
    "DiscretizedLogisticMixture": Conditional(
        "DiscretizedLogisticMixture",
        "conditionals",
        (3, 4),
        "levels",
        small=(1, 3),
        rsample=False,
        outside=0.3,
    ),
    "DiscretizedLogisticMixture-map": Conditional(
        "DiscretizedLogisticMixture",
        "conditionals",
        (IMAGE, 2),
        "levels",
        rsample=False,
        contexts=MAP,
        outside=0.3,
    ),
    "CoupledLogisticMixture": Conditional(
        "CoupledLogisticMixture",
        "conditionals",
        (3, 2),
        "levels",
        rsample=False,
        mean=False,
        outside=0.3,
    ),
    "CoupledLogisticMixture-map": Conditional(
        "CoupledLogisticMixture",
        "conditionals",
        (IMAGE, 2),
        "levels",
        rsample=False,
        mean=False,
        contexts=MAP,
        outside=0.3,
    ),
    "LogisticMixture": Conditional(
        "LogisticMixture", "conditionals", (3, 4), "real", small=(1, 3), rsample=False
    ),
}
