"""Autoregressive conditionals: networks with an order, and a family of what is drawn at a step."""

from dgm_core.contexts import Labels
from tests.kinds import Autoregressive

TRANSFORMER = {"hidden_dim": 8, "num_layers": 2, "num_heads": 2}
SMALL = {"hidden_channels": 4, "num_layers": 3}
AUTOREGRESSIVE: dict[str, Autoregressive] = {
    "GatedPixelCNN": Autoregressive(
        "GatedPixelCNN",
        sizes=((1, 3, 4),),
        settings={"hidden_channels": 3, "num_layers": 6},
        small=((1, 2, 4),),
        levels=2,
    ),
    "GatedPixelCNN-map": Autoregressive(
        "GatedPixelCNN",
        sizes=((2, 3, 4),),
        settings={**SMALL, "kernel_size": 5},
        family=("CoupledLogisticMixture", {"num_components": 2, "num_levels": 3}),
        support="thirds",
        small=((2, 2, 2),),
        levels=3,
        contexts=((3, 3, 4),),
    ),
    "PixelCNN-label": Autoregressive(
        "PixelCNN",
        sizes=((2, 3, 4),),
        settings={**SMALL, "one_hot": True},
        family=("Categorical", {"num_classes": 4}),
        support="classes",
        small=((2, 1, 2),),
        levels=4,
        contexts=(Labels(3),),
        blind=True,
    ),
    "PixelCNNPlusPlus-map": Autoregressive(
        "PixelCNNPlusPlus",
        sizes=((2, 3, 4),),
        settings={"hidden_channels": 4, "num_layers": 1, "num_scales": 2},
        family=("CoupledLogisticMixture", {"num_components": 2, "num_levels": 3}),
        support="thirds",
        small=((2, 2, 2),),
        levels=3,
        contexts=((3, 3, 4),),
    ),
    "PixelSNAIL-map": Autoregressive(
        "PixelSNAIL",
        sizes=((2, 3, 4),),
        settings={"hidden_channels": 4, "num_layers": 2, "head_dim": 2},
        small=((2, 2, 2),),
        levels=2,
        contexts=((3, 3, 4),),
    ),
    "CausalTransformer": Autoregressive(
        "CausalTransformer",
        sizes=(5,),
        settings={**TRANSFORMER, "one_hot": True},
        family=("Categorical", {"num_classes": 4}),
        support="classes",
        small=(4,),
        levels=4,
    ),
    "ImageTransformer-map": Autoregressive(
        "ImageTransformer",
        sizes=((2, 3, 4),),
        settings={**TRANSFORMER, "block": (1, 2), "memory": (2, 3)},
        family=("CoupledLogisticMixture", {"num_components": 2, "num_levels": 3}),
        support="thirds",
        small=((2, 2, 2),),
        levels=3,
        contexts=((3, 3, 4),),
    ),
    "SparseTransformer-label": Autoregressive(
        "SparseTransformer",
        sizes=((7, 2),),
        settings={**TRANSFORMER, "context_as": "prefix", "pattern": "fixed", "stride": 3},
        small=((4, 2),),
        levels=2,
        contexts=(Labels(3),),
    ),
}
