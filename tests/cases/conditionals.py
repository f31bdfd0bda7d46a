"""Conditionals: priors, guides' distributions and likelihoods."""

from math import prod

from tests.kinds import Conditional

IMAGE = (2, 4, 6)
PIXELWISE = {"pixelwise": True}
PIXEL_CONTEXT = (3 * prod(IMAGE[1:]),)

CONDITIONALS: dict[str, Conditional] = {
    "StandardNormal": Conditional("StandardNormal", "conditionals", (IMAGE,), "real"),
    "StandardLogistic": Conditional("StandardLogistic", "conditionals", (IMAGE,), "real"),
    "DiagonalNormal": Conditional("DiagonalNormal", "conditionals", (3,), "real"),
    "DiagonalNormal-pixelwise": Conditional(
        "DiagonalNormal", "conditionals", (IMAGE,), "real", PIXELWISE, contexts=PIXEL_CONTEXT
    ),
    "LowRankNormal": Conditional("LowRankNormal", "conditionals", (4, 2), "real", small=(2, 1)),
    "FullRankNormal": Conditional("FullRankNormal", "conditionals", (3,), "real", small=(2,)),
    "FullRankNormal-1": Conditional("FullRankNormal", "conditionals", (1,), "real"),
    "MixturePrior": Conditional(
        "MixturePrior", "conditionals", (3, 5), "real", small=(2, 3), rsample=False
    ),
    "Normal": Conditional("Normal", "conditionals", (3,), "real"),
    "Normal-fixed": Conditional("Normal", "conditionals", (3,), "real", {"scale": 0.5}),
    "StudentT": Conditional("StudentT", "conditionals", (3,), "real"),
    "StudentT-fixed": Conditional("StudentT", "conditionals", (3,), "real", {"df": 5.0}),
    "Bernoulli": Conditional(
        "Bernoulli", "conditionals", (3,), "binary", rsample=False, outside=0.3
    ),
    "Bernoulli-pixelwise": Conditional(
        "Bernoulli",
        "conditionals",
        (IMAGE,),
        "binary",
        PIXELWISE,
        rsample=False,
        contexts=PIXEL_CONTEXT,
        outside=0.3,
    ),
    "ContinuousBernoulli": Conditional("ContinuousBernoulli", "conditionals", (3,), "unit"),
    "Beta": Conditional("Beta", "conditionals", (3,), "unit", outside=0.0),
    "Kumaraswamy": Conditional("Kumaraswamy", "conditionals", (3,), "unit", outside=1.0),
    "LogitNormal": Conditional("LogitNormal", "conditionals", (3,), "unit", outside=1.0),
    "Categorical": Conditional(
        "Categorical", "conditionals", (3, 4), "classes", small=(1, 4), rsample=False
    ),
    "Categorical-image": Conditional(
        "Categorical", "conditionals", (IMAGE, 4), "classes", small=(1, 4), rsample=False
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
    "DiscretizedLogisticMixture-pixelwise": Conditional(
        "DiscretizedLogisticMixture",
        "conditionals",
        (IMAGE, 2),
        "levels",
        PIXELWISE,
        rsample=False,
        contexts=PIXEL_CONTEXT,
        outside=0.3,
    ),
}
