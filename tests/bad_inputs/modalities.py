"""Constructors of models of several modalities and of groups, and of their experts."""

from typing import Any

PARTS = {
    "encoders": "network",
    "decoders": "network",
    "experts": "conditional",
    "likelihoods": "conditional",
}
MULTIMODAL = {
    "modalities": "module",
    "z_dim": "count",
    "hidden": "sizes",
    **PARTS,
    "prior": "conditional",
}
TWO: tuple[Any, ...] = ({"a": 3, "b": 2}, 2)

MODALITIES: dict[str, tuple[tuple[Any, ...], dict[str, str]]] = {
    "ProductOfExperts": (([],), {"experts": "module"}),
    "MixtureOfExperts": (([],), {"experts": "module"}),
    "MVAE": (TWO, MULTIMODAL),
    "MMVAE": (TWO, {**MULTIMODAL, "weights": "module", "stratified": "flag"}),
    "MoPoE": (
        TWO,
        {**MULTIMODAL, "subsets": "module", "weights": "numbers", "stratified": "flag"},
    ),
    "JMVAE": (TWO, {**MULTIMODAL, "joint_encoder": "network", "joint": "conditional"}),
    "MLVAE": (
        (4, 2, 1),
        {
            "x_dim": "shape",
            "content_dim": "count",
            "style_dim": "count",
            "hidden": "sizes",
            "encoder": "network",
            "decoder": "network",
            "content": "conditional",
            "style": "conditional",
            "style_sees_content": "flag",
            "likelihood": "conditional",
            "prior": "conditional",
            "style_prior": "conditional",
        },
    ),
}
