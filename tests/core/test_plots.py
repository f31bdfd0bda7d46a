"""Pictures: what is drawn is what was given, without a display and without pyplot."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from dgm_core import plots
from dgm_core.results import History

RNG, OTHER = np.random.default_rng(0), np.random.default_rng(1)
HISTORY = History(
    {
        "epoch": i,
        "step": 10 * i,
        "loss": 9.0 / i,
        "ELBO": -9.0 / i,
        "ELBO/KL": 1.0 * i,
        "validation": 9.5 / i,
        "validation/ELBO": -9.5 / i,
        "seconds": 1.0,
    }
    for i in range(1, 6)
)
FIGURES = {
    "grid": lambda: plots.samples_grid(RNG.random((10, 64)), (1, 8, 8), title="samples"),
    "color grid": lambda: plots.samples_grid(RNG.random((4, 3, 5, 7)), (3, 5, 7)),
    "one image": lambda: plots.samples_grid(RNG.random((1, 784)), (1, 28, 28)),
    "reconstructions": lambda: plots.reconstructions(
        RNG.random((13, 64)), RNG.random((13, 64)), (1, 8, 8)
    ),
    "latent 1": lambda: plots.latent_scatter(RNG.normal(size=(30, 1)), RNG.integers(3, size=30)),
    "latent 2": lambda: plots.latent_scatter(RNG.normal(size=(30, 2))),
    "latent 20": lambda: plots.latent_scatter(
        RNG.normal(size=(30, 20)), RNG.integers(10, size=30), title="latent space"
    ),
    "many classes": lambda: plots.latent_scatter(RNG.normal(size=(60, 5)), np.arange(60)),
    "one datum": lambda: plots.latent_scatter(np.ones((1, 5)), np.array([3])),
    "losses": lambda: plots.loss_curves(HISTORY),
    "one epoch": lambda: plots.loss_curves(History([{"loss": 1.0}])),
    "pairs": lambda: plots.pair_plot(RNG.normal(size=(50, 3)), names=["mu", "tau", "theta"]),
    "two sets": lambda: plots.pair_plot(
        {"guide": RNG.normal(size=(50, 9)), "reference": RNG.normal(size=(40, 9))}
    ),
    "one dimension": lambda: plots.pair_plot(RNG.normal(size=(50, 1))),
    "rate and distortion": lambda: plots.rate_distortion(
        np.array([9.0, 2.0]), np.array([80.0, 95.0]), ["1", "4"]
    ),
    "one run": lambda: plots.rate_distortion(np.array([9.0]), np.array([80.0])),
    "traversals": lambda: plots.traversals(
        OTHER.random((3, 5, 64)), (1, 8, 8), names=["a", "b", "c"], ticks=np.linspace(-3, 3, 5)
    ),
    "curves": lambda: plots.traversals(
        OTHER.normal(size=(6, 5, 12, 1)), names=list("abcdef"), ticks=[-2, -1, 0, 1, 2]
    ),
    "bands": lambda: plots.bands(
        OTHER.normal(size=(50, 6, 2)), x=OTHER.normal(size=(9, 2)), start=4, names=["a", "b"]
    ),
    "bands of two": lambda: plots.bands({"guide": np.ones((3, 1, 1)), "prior": np.ones((2, 4, 1))}),
    "piano rolls": lambda: plots.piano_rolls(
        {"data": OTHER.random((5, 9, 12)) < 0.2, "draws": OTHER.random((5, 9, 12))},
        lengths=[9, 3, 1, 2, 9],
    ),
    "silence": lambda: plots.piano_rolls({"data": np.zeros((1, 4, 88))}),
    "numbers": lambda: plots.traversals(OTHER.normal(size=(1, 4, 1))),
}


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_every_picture_is_written(draw, tmp_path):
    figure = draw()
    assert isinstance(figure, Figure)
    path = tmp_path / "pictures" / "one.png"
    plots.save(figure, path)
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    plots.save(figure, path.with_suffix(".pdf"))
    assert path.with_suffix(".pdf").read_bytes()[:4] == b"%PDF"


def pixels(figure):
    return figure.axes[0].images[0].get_array()


def test_grid_holds_the_images_in_order():
    x = RNG.random((5, 64))
    picture = pixels(
        plots.samples_grid(x, (1, 8, 8))
    )  # each pixel enlarged to 8x8, a white margin of 8 around each image
    assert picture.shape == (2 * 72 + 8, 3 * 72 + 8)
    np.testing.assert_array_equal(picture[8:72:8, 8:72:8], x[0].reshape(8, 8))
    np.testing.assert_array_equal(picture[80:144:8, 80:144:8], x[4].reshape(8, 8))
    np.testing.assert_array_equal(picture[80:144, 152:], 1.0)  # an empty place is white


def test_color_images_are_channel_first():
    x = np.zeros((1, 3, 64, 64))
    x[:, 0] = 1.0
    picture = pixels(plots.samples_grid(x, (3, 64, 64)))
    np.testing.assert_array_equal(
        picture[8:72, 8:72], np.broadcast_to([1.0, 0.0, 0.0], (64, 64, 3))
    )


def test_values_outside_the_unit_interval_are_clipped():
    assert pixels(plots.samples_grid(np.full((1, 64), 3.0), (1, 8, 8))).max() == 1.0


def test_reconstructions_lie_below_their_data():
    data, means = np.full((12, 64), 0.25), np.full((12, 64), 0.75)
    picture = pixels(plots.reconstructions(data, means, (1, 8, 8)))
    column = picture[:, 40]
    changes = [column[0], *column[1:][np.diff(column) != 0]]
    assert changes == [1.0, 0.25, 1.0, 0.75, 1.0, 0.25, 1.0, 0.75, 1.0]


def test_latent_points_and_classes():
    z, labels = RNG.normal(size=(30, 2)), np.repeat([0, 1, 2], 10)
    axes = plots.latent_scatter(z, labels).axes[0]
    points = np.concatenate([collection.get_offsets() for collection in axes.collections])
    np.testing.assert_array_equal(points, z)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["0", "1", "2"]


def test_many_latent_dimensions_are_projected_on_their_principal_components():
    z = RNG.normal(size=(500, 5)) * np.array([10.0, 1e-3, 5.0, 1e-3, 1e-3])
    axes = plots.latent_scatter(z).axes[0]
    points = axes.collections[0].get_offsets()
    np.testing.assert_allclose(np.abs(points), np.abs((z - z.mean(0))[:, [0, 2]]), atol=2.0)
    variances = np.linalg.eigvalsh(np.cov(z.T))
    share = variances[-1] / variances.sum()
    assert axes.get_xlabel() == f"principal component 1 ({share:.0%} of the variance)"


def test_rows_of_traversals_are_lines():
    x = OTHER.random((3, 5, 64))
    axes = plots.traversals(x, (1, 8, 8), names=["a", "b", "c"], ticks=range(5)).axes[0]
    picture = axes.images[0].get_array()
    np.testing.assert_array_equal(picture[152:216:8, 80:144:8], x[2, 1].reshape(8, 8))
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b", "c"]
    np.testing.assert_array_equal(axes.get_yticks(), [40, 112, 184])  # the middle of each row
    curves = plots.traversals(x).axes
    np.testing.assert_array_equal(curves[2].lines[4].get_ydata(), x[2, 4])


def test_isolines_are_those_of_the_elbo():
    """Along a line rate and distortion trade one for one."""
    axes = plots.rate_distortion(np.array([9.0, 2.0]), np.array([80.0, 95.0])).axes[0]
    lines = axes.collections[0]
    for level, path in zip(lines.levels, lines.get_paths(), strict=True):
        if len(path.vertices):
            np.testing.assert_allclose(-path.vertices.sum(1), level)


def test_loss_panels():
    figure = plots.loss_curves(HISTORY)
    visible = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in visible] == ["loss", "ELBO", "ELBO/KL"]
    training, validation = visible[0].lines
    np.testing.assert_array_equal(training.get_ydata(), HISTORY.column("loss"))
    np.testing.assert_array_equal(validation.get_ydata(), HISTORY.column("validation"))
    np.testing.assert_array_equal(training.get_xdata(), [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(
        visible[1].lines[1].get_ydata(), HISTORY.column("validation/ELBO")
    )
    assert len(visible[2].lines) == 1
    four = History([{"loss": 1.0, "a": 1.0, "b": 1.0, "c": 2.0, "note": "text"}])
    assert [axes.get_title() for axes in plots.loss_curves(four).axes if axes.get_visible()] == [
        "loss",
        "a",
        "b",
        "c",
    ]


def test_pair_plot_shows_the_first_dimensions():
    figure = plots.pair_plot(RNG.normal(size=(50, 9)), max_dims=3)
    assert sum(axes.get_visible() for axes in figure.axes) == 6


@pytest.mark.parametrize(
    ("use", "match"),
    [
        (
            lambda: plots.samples_grid(np.zeros((2, 63)), (1, 8, 8)),
            r"shape \(1, 8, 8\), one at least, got .* \(2, 63\)",
        ),
        (lambda: plots.samples_grid(np.zeros((0, 64)), (1, 8, 8)), "one at least"),
        (lambda: plots.samples_grid(np.zeros((1, 128)), (2, 8, 8)), "1 or 3 channels"),
        (
            lambda: plots.reconstructions(np.zeros((2, 64)), np.zeros((1, 64)), (1, 8, 8)),
            "got 2 data and 1",
        ),
        (lambda: plots.latent_scatter(np.zeros(5)), r"got shape \(5,\)"),
        (lambda: plots.latent_scatter(np.zeros((5, 2)), np.zeros(4)), "one number per datum"),
        (lambda: plots.loss_curves(History()), "history is empty"),
        (
            lambda: plots.pair_plot({"a": np.zeros((5, 2)), "b": np.zeros((5, 3))}),
            "one dim for all",
        ),
        (lambda: plots.pair_plot(np.zeros((5, 2)), names=["z"]), "got 1 for 2"),
        (lambda: plots.rate_distortion(np.zeros(2), np.zeros(3)), r"shapes \(2,\) and \(3,\)"),
        (lambda: plots.rate_distortion(np.zeros(2), np.zeros(2), ["a"]), "got 1 for 2 runs"),
        (lambda: plots.traversals(np.zeros((2, 64)), (1, 8, 8)), r"got shape \(2, 64\)"),
        (lambda: plots.traversals(np.zeros((2, 3, 4)), names=["a"]), "names must be 2"),
        (lambda: plots.traversals(np.zeros((2, 3, 4)), ticks=[1.0]), "ticks must be 3"),
        (lambda: plots.bands(np.zeros((3, 4))), r"draws must be \(num_draws, T, dim\)"),
        (lambda: plots.bands(np.zeros((3, 4, 2)), x=np.zeros((4, 1))), r"x must be \(length, 2\)"),
        (lambda: plots.bands(np.zeros((3, 4, 2)), names=["a"]), "one per dimension, got 1 for 2"),
        (
            lambda: plots.piano_rolls({"a": np.zeros((1, 2, 3)), "b": np.zeros((1, 2, 4))}),
            "rolls must be arrays",
        ),
        (lambda: plots.piano_rolls({"a": np.full((1, 2, 3), 2.0)}), "a must be values from 0 to 1"),
        (
            lambda: plots.piano_rolls({"a": np.zeros((1, 2, 3))}, lengths=[3]),
            "integers from 1 to 2",
        ),
        (
            lambda: plots.save(FIGURES["grid"](), "samples.xyz"),
            "must end in one of .*png.*, got 'samples.xyz'",
        ),
    ],
)
def test_bad_input(use, match):
    with pytest.raises(ValueError, match=match):
        use()


def test_pyplot_is_left_alone():
    script = "import sys; import dgm_core.plots; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.samples_grid(np.full((2, 4), np.nan), (1, 2, 2)),
        lambda: plots.latent_scatter(np.full((3, 2), np.inf)),
        lambda: plots.pair_plot({"guide": np.full((3, 2), np.nan)}),
        lambda: plots.traversals(np.full((1, 2, 4), np.nan), (1, 2, 2)),
        lambda: plots.rate_distortion(np.array([np.nan]), np.zeros(1)),
    ],
)
def test_numbers_that_cannot_be_drawn(draw):
    with pytest.raises(ValueError, match=r"must be finite to be drawn, \d of \d numbers are not"):
        draw()


def test_bands_and_rolls_show_what_they_are_given():
    """Quantiles in their place in time; each sequence to its own end, low keys below."""
    draws = OTHER.normal(size=(200, 3, 1))
    panel = plots.bands(draws, x=np.arange(7.0)[:, None], start=4, levels=(0.8,)).axes[0]
    median, known = panel.lines
    np.testing.assert_allclose(median.get_xydata(), np.c_[[4, 5, 6], np.median(draws, 0)])
    np.testing.assert_array_equal(known.get_ydata(), np.arange(7))
    corners = panel.collections[0].get_paths()[0].vertices
    assert corners[corners[:, 0] == 5][:, 1].max() == pytest.approx(np.quantile(draws[:, 1], 0.9))
    roll = np.zeros((2, 5, 88))
    roll[1, 2, 40] = roll[0, 4, 43] = 1
    figure = plots.piano_rolls({"data": roll}, lengths=[5, 3])
    image = figure.axes[1].images[0]
    assert image.get_array().shape == (4, 3) and image.get_array()[0, 2] == 1
    assert image.origin == "lower" and list(image.get_extent()) == [-0.5, 2.5, 39.5, 43.5]


def test_swaps_have_the_data_in_the_margins() -> None:
    x, grid = np.zeros((2, 4)), np.full((2, 2, 4), 0.5)
    picture = plots.swaps(x, grid, (1, 2, 2), title="swapped").axes[0].images[0].get_array()
    height, width = picture.shape
    assert picture[height // 6, width // 6] == 1.0  # the corner
    assert picture[height // 6, width // 2] == picture[height // 2, width // 6] == 0.0
    assert picture[height // 2, width // 2] == 0.5
    with pytest.raises(ValueError, match=r"grid must be an array \(2, 2, \*image\) for 2 data"):
        plots.swaps(x, grid[:, :1], (1, 2, 2))
