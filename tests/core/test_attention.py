"""Patterns of attention: how many ones, which, what their composition covers; refusals."""

import numpy as np
import pytest

from dgm_core.attention import (
    Pattern,
    block_attention,
    causal_attention,
    check_patterns,
    composed,
    full_attention,
    local_attention,
    strided_attention,
    summary_attention,
)

PATTERNS = [
    pattern
    for n, stride in ((16, 4), (17, 5), (6, 6), (3, 5), (1, 1))
    for pattern in (
        causal_attention(n),
        causal_attention(n, strict=True),
        local_attention(n, stride),
        strided_attention(n, stride),
        summary_attention(n, stride, count=min(2, stride)),
        full_attention(n),
        block_attention(n, stride),
        block_attention(n, stride, memory=3),
    )
] + [block_attention((5, 7), (2, 3), memory=(1, 2)), block_attention((4, 4), (2, 2))]


def test_published_counts():
    """Toy B4, n = 16, stride 4."""
    local, strided = local_attention(16, 4), strided_attention(16, 4)
    counts = [causal_attention(16), causal_attention(16, strict=True), local, strided]
    assert [pattern.mask.sum() for pattern in counts] == [136, 120, 70, 40]
    assert (local.mask | strided.mask).sum() == 82
    fixed = block_attention(16, 4), summary_attention(16, 4)
    assert [pattern.mask.sum() for pattern in fixed] == [40, 28]


def sees(pattern: Pattern, i: int, j: int) -> bool:
    """The definitions, a pair at a time."""
    sizes = pattern.sizes
    if pattern.kind == "blocks" and len(pattern.shape) == 2:
        (row, column), (r, c) = divmod(i, pattern.shape[1]), divmod(j, pattern.shape[1])
        top, left = row - row % sizes[0], column - column % sizes[1]
        inside = top - sizes[2] <= r and left - sizes[3] <= c < left + sizes[1] + sizes[3]
        return j <= i and inside
    return {
        "causal": lambda: j <= i,
        "strict": lambda: j < i,
        "full": lambda: True,
        "local": lambda: i - sizes[0] <= j <= i,
        "strided": lambda: j in range(i, -1, -sizes[0]),
        "summary": lambda: j <= i and j % sizes[0] in range(sizes[0] - sizes[1], sizes[0]),
        "blocks": lambda: i - i % sizes[0] - sizes[1] <= j <= i,
    }[pattern.kind]()


@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_masks_groups_and_steps_agree_with_the_definition(pattern):
    n = pattern.num_positions
    expected = np.array([[sees(pattern, i, j) for j in range(n)] for i in range(n)])
    np.testing.assert_array_equal(pattern.mask, expected)
    in_groups = np.zeros((pattern.rows.size, n), int)
    for place, allowed in enumerate(pattern.allowed.reshape(-1, pattern.keys.shape[1])):
        np.add.at(in_groups[place], pattern.keys[place // pattern.rows.shape[1]], allowed)
    np.testing.assert_array_equal(in_groups[pattern.places], expected)  # each once
    for i in range(n):
        seen = pattern.seen[i]
        assert sorted(seen[seen >= 0]) == list(np.flatnonzero(expected[i]))
        step = [] if pattern.steps[i] is None else np.arange(n)[pattern.steps[i]]
        assert list(step) == list(np.flatnonzero(expected[i]))


@pytest.mark.parametrize(("n", "stride"), [(16, 4), (20, 3), (30, 7), (9, 9)])
def test_two_layers_cover_the_triangle(n, stride):
    triangle = causal_attention(n).mask
    local, strided = local_attention(n, stride), strided_attention(n, stride)
    blocks = block_attention(n, stride)
    for pair in ((local, strided), (strided, local), (blocks, summary_attention(n, stride))):
        np.testing.assert_array_equal(composed(*pair), triangle)
    wrong_way = composed(summary_attention(n, stride), blocks)
    assert (wrong_way == triangle).all() == (n <= stride)
    assert not composed(blocks, blocks, blocks)[-1, 0] or n <= stride


def test_bad_patterns_are_refused():
    for make, message in (
        (lambda: causal_attention(0), "length must be an integer of at least 1, got 0"),
        (lambda: causal_attention(3, strict=1), "strict must be True or False"),
        (lambda: local_attention(3, 0), "span must be an integer of at least 1, got 0"),
        (lambda: strided_attention(3, 1.5), "stride must be an integer of at least 1, got 1.5"),
        (lambda: summary_attention(9, 3, count=4), "count must be an integer from 1 to 3, got 4"),
        (lambda: block_attention(9, 3, memory=-1), "memory must be .* at least 0, got -1"),
        (lambda: block_attention((4, 4), 2), r"block must be of as many entries .* got \(2,\)"),
        (lambda: block_attention((2, 2, 2), (1, 1, 1)), r"length must be a number of positions"),
        (lambda: composed(causal_attention(3), causal_attention(4)), "one number of positions"),
        (lambda: composed(), "one number of positions"),
        (lambda: check_patterns([causal_attention(3), 4]), "patterns must be a sequence of"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
