"""Every kind of context for every member: what is a vector to its networks gives what the vector
gives, maps of images are seen pixel by pixel, and labels out of range never pass.
"""

from typing import Any

import numpy as np
import pytest

from dgm_core.contexts import Labels
from tests.cases import CONDITIONALS, FLOWS, IMAGE, MAP
from tests.kinds import Conditional

EACH = [
    pytest.param(case, id=name)
    for name, case in (CONDITIONALS | FLOWS).items()
    if case.contexts == (0, 4) and not name.endswith(("-1", "-fixed"))
]


@pytest.mark.parametrize("case", EACH)
def test_arrays_labels_and_several_contexts_are_seen_as_a_vector(
    lib: Any, case: Conditional, rng: np.random.Generator
) -> None:
    array, labels = rng.standard_normal((5, 4)), np.array([0, 3, 1, 2, 3])
    both = np.concatenate([array[:, :1], np.eye(3)[labels % 3]], -1)
    given: list[tuple[Any, Any]] = [
        ((2, 2), lib.array(array.reshape(5, 2, 2))),
        (Labels(4), lib.array(labels)),
        ((1, Labels(3)), (lib.array(array[:, :1]), lib.array(labels % 3))),
    ]
    vectors = lib.array(np.stack([array, np.eye(4)[labels], both]))
    modules = [lib.shaken(lib.conditional(case, shape), 0.1) for shape, _ in given]
    plain = lib.shaken(lib.conditional(case, 4), 0.1)
    value = lib.array(case.values(rng, 5))

    def run() -> list[Any]:
        ours = [module(context).log_prob(value) for module, (_, context) in zip(modules, given)]
        return [*ours, plain(vectors).log_prob(value)]

    *ours, theirs = (lib.numpy(score) for score in lib.call(run))
    assert np.isfinite(ours).all() and np.isfinite(theirs).all()
    assert case.name.startswith("Standard") or np.ptp(ours) > 0
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_map_and_labels_of_an_image_pixel_by_pixel(
    lib: Any, x64: None, rng: np.random.Generator
) -> None:
    """One affine map for all pixels, of the map's own pixel and of the label."""
    context_shape = (*MAP, Labels(4))
    module = lib.shaken(
        lib.build("conditionals", "DiagonalNormal", IMAGE, context_shape=context_shape), 0.3
    )
    image, label = rng.standard_normal((5, *MAP[0])), np.array([0, 3, 1, 2, 3])
    context = lib.array(image), lib.array(label)
    mean = lib.numpy(lib.call(lambda: module(context).mean))
    weights = lib.weights(module)
    weight, bias = weights["head.weight"][: IMAGE[0]], weights["head.bias"][: IMAGE[0]]
    expected = np.einsum("of,nfhw->nohw", weight[:, :3], image)
    expected += (weight[:, 3 + label].T + bias)[..., None, None]
    np.testing.assert_allclose(mean, expected, rtol=1e-10)


def test_blocks_of_a_map_with_more_pixels(lib: Any, rng: np.random.Generator) -> None:
    """A pixel sees its block of the map and nothing else."""
    module = lib.build("conditionals", "Normal", (1, 2, 3), context_shape=(2, 4, 6), scale=1.0)
    image = rng.standard_normal((2, 4, 6))
    moved = image.copy()
    moved[1, 3, 2] += 1.0  # in the block of pixel (1, 1)
    means = lib.call(lambda: [module(lib.array(x)).mean for x in (image, moved)])
    changed = lib.numpy(means[0]) != lib.numpy(means[1])
    assert np.argwhere(changed).tolist() == [[0, 1, 1]]


def test_several_contexts_of_another_number_or_shape_are_refused(lib: Any) -> None:
    module = lib.build("conditionals", "DiagonalNormal", 2, context_shape=((2, 3), Labels(4)))
    array, labels = lib.array(np.zeros((5, 2, 3))), lib.array(np.zeros(5, int))
    assert tuple(module((array, labels)).batch_shape) == (5,)
    for context, message in (
        (array, r"needs 2 contexts side by side, .* got \(5, 2, 3\)"),
        ((array,), r"needs 2 contexts side by side"),
        ((labels, array), r"as context 0, an array of shape \(\*batch, 2, 3\), got \(5,\)"),
        (
            (array, array),
            r"as context 1, an array of integer labels of shape \(\*batch,\), got float",
        ),
        ((array, lib.array(np.full(5, 4))), "context must be labels from 0 to 3, got 4"),
        (None, "needs 2 contexts side by side, .* got none"),
    ):
        with pytest.raises(ValueError, match=message):
            module(context)


@pytest.mark.parametrize("case", [CONDITIONALS["DiagonalNormal-label"], FLOWS["MAF-label"]])
def test_a_label_out_of_range_is_nan_where_values_are_not_known(
    lib: Any, case: Conditional, rng: np.random.Generator
) -> None:
    module = lib.conditional(case, case.contexts[0])
    value, labels = lib.array(case.values(rng, 3)), lib.array(np.array([0, 4, -1]))

    def score(module: Any, labels: Any) -> Any:
        return module(labels).log_prob(value)

    known = lib.package.__name__ == "pyro_dgm"
    run = lib.exported if known else lib.call
    scores = lib.numpy(run(score, module, labels))
    np.testing.assert_array_equal(np.isnan(scores), [False, True, True])


def test_the_context_of_a_transform_is_that_of_its_flow(lib: Any) -> None:
    transform = lib.build("flows", "Autoregressive", 2, context_shape=(3, 2))
    for context_shape in (0, 6, Labels(6)):
        with pytest.raises(ValueError, match=r"The transforms of a flow must .*=\(3, 2\)\."):
            lib.build("flows", "Flow", 2, [transform], context_shape=context_shape)


def test_contexts_of_other_numbers_of_cases_are_refused(lib: Any) -> None:
    module = lib.build("conditionals", "DiagonalNormal", 2, context_shape=(Labels(3), 4))
    context = lib.array(np.array([0, 1])), lib.array(np.zeros((3, 4)))
    with pytest.raises(
        ValueError, match=r"batch shapes that broadcast together, got \(2,\), \(3,\)"
    ):
        module(context)
