"""What newcomers try: arguments of other forms, in both twins."""

import importlib
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pyro
import pytest
import torch
from numpyro.handlers import seed

import numpyro_dgm
import pyro_dgm
from numpyro_dgm import conditionals as numpyro_conditionals
from numpyro_dgm import models as numpyro_models
from pyro_dgm import conditionals as pyro_conditionals
from pyro_dgm import models as pyro_models

KEY = jax.random.key(0)
X = (np.random.default_rng(0).random((12, 6)) < 0.4).astype(np.float32)
TWINS = {
    "pyro": SimpleNamespace(
        array=torch.as_tensor,
        package=pyro_dgm,
        conditionals=pyro_conditionals,
        models=pyro_models,
        key={},
    ),
    "numpyro": SimpleNamespace(
        array=jnp.asarray,
        package=numpyro_dgm,
        conditionals=numpyro_conditionals,
        models=numpyro_models,
        key={"key": KEY},
    ),
}


@pytest.fixture(params=sorted(TWINS))
def lib(request: pytest.FixtureRequest) -> Any:
    return TWINS[request.param]


def test_uniform_numbers_of_a_draw(lib: Any) -> None:
    c = lib.conditionals
    family = partial(c.Categorical, num_classes=4)
    net = c.WaveNet(8, family, channels=4, dilations=(1, 2), **lib.key)()
    for shape in ((3, 5, 1, 1), (3, 12, 1, 1), (3, 8, 1), (3, 8, 1, 3), (8,)):
        with pytest.raises(ValueError, match=r"shape \(\*batch, 8, 1, 1\), got"):
            net.sample_from(lib.array(np.full(shape, 0.5, np.float32)))
    for number in (1.5, -0.1, np.nan):
        with pytest.raises(ValueError, match=r"uniform numbers in \[0, 1\], got others"):
            net.sample_from(lib.array(np.full((3, 8, 1, 1), number, np.float32)))


@pytest.mark.slow("[numpyro")
def test_validation_scores_what_the_loss_enumerates(lib: Any) -> None:
    """A guide that draws no y needs it, without a `validation_loss` of its own."""
    gmvae = lib.models.GMVAE(6, 2, 3, hidden=(), summed=True, **lib.key)
    loss = lib.package.ELBO(enumerate="y")
    settings = {"num_epochs": 1, "batch_size": 12, "validation": X, "progress": False}
    run = lib.package.fit(gmvae.model, gmvae.guide, X, loss=loss, **settings)
    assert np.isfinite(run.history.column("validation")).all()


def test_labels_of_any_integer_type(lib: Any) -> None:
    m2 = lib.models.M2(6, 2, 3, hidden=(), **lib.key)
    model = seed(m2.model, 0) if lib.key else m2.model
    for kind in (np.uint8, np.int16):
        y = (np.arange(12) % 3).astype(kind)
        assert model(y=lib.array(y)).shape == (12, 6)
        with pytest.raises(ValueError, match=r"y must be labels from 0 to 2, or -1 .*, got 3"):
            model(y=lib.array(y + kind(1)))


def test_classes_that_are_no_integers(lib: Any) -> None:
    """Whole numbers are classes whatever their type; others and NaN are refused in words."""
    p = lib.conditionals.Categorical(2, 3, **lib.key)()
    whole = p.log_prob(lib.array(np.float32([2.0, 0.0])))
    np.testing.assert_allclose(whole.tolist(), 2 * np.log(1 / 3), rtol=1e-6)
    for x in ([0.5, 1.0], [np.nan, 1.0], [3.0, 1.0]):
        with pytest.raises(
            ValueError, match=r"Categorical expects values 0, \.\.\., 2, got others"
        ):
            p.log_prob(lib.array(np.float32(x)))


def test_a_label_between_two_classes(lib: Any) -> None:
    """Where the guide alone runs no likelihood looks at the label: no encoder sees it as none."""
    shapes = {"row": 2, "label": lib.conditionals.Labels(3)}
    guide = lib.models.MVAE(shapes, 2, hidden=(), **lib.key).guide
    guide = seed(guide, 0) if lib.key else guide
    with pytest.raises(ValueError, match=r"labels from 0 to 2, got 0\.5"):
        guide(label=lib.array(np.float32([[1.0], [0.5]])))


def test_classes_that_compiled_code_cannot_look_at() -> None:
    p = numpyro_conditionals.Categorical(3, 3, key=KEY)().base_dist
    found = jax.jit(p.log_prob)(jnp.array([jnp.nan, 0.5, 1.0]))
    np.testing.assert_allclose(found, [np.nan, -np.inf, np.log(1 / 3)], rtol=1e-6)


def test_labels_of_a_network_in_double_precision() -> None:
    for member in (pyro_conditionals.PixelSNAIL, pyro_conditionals.PixelCNNPlusPlus):
        net = member((1, 4, 4), context_shape=pyro_conditionals.Labels(2)).double()
        p = net(torch.tensor([0, 1]))
        assert p.log_prob(p.sample()).dtype == torch.float64


def test_normalization_in_a_step(lib: Any) -> None:
    """Batch normalization in a step would count padding, and move with every step."""
    package = importlib.import_module(lib.package.__name__ + ".sequences")
    nn = importlib.import_module(lib.package.__name__ + ".nn")
    module = numpyro if lib.key else pyro
    norm, p = nn.BatchNorm(2), lib.conditionals.DiagonalNormal(2, context_shape=2, **lib.key)

    def model(x: Any) -> None:
        own = nn.register("norm", norm)
        with module.plate("data", 4):
            package.unroll(
                lambda h, inputs, x_t: module.sample("x", p(own(h)), obs=x_t), x[:, 0], x
            )

    with pytest.raises(ValueError, match=r"moves with every batch, got BatchNorm.* LayerNorm"):
        (seed(model, 0) if lib.key else model)(lib.array(np.ones((4, 3, 2), np.float32)))


def test_imputed_steps_run_at_once() -> None:
    """Draws in place of missing steps are no reason to run particles one by one (a warning, which
    is an error here), and NaN among the steps that are there is named.
    """
    x = torch.as_tensor(np.float32(np.random.default_rng(1).random((4, 3, 2)) < 0.5))
    observed = torch.tensor([[True, False, True]] * 4)
    vrnn = pyro_models.VRNN(2, 2, 3, hidden=4, features=4, impute="draw")
    data = torch.where(observed[..., None], x, torch.nan), None, observed
    assert pyro_dgm.IWAE(3)(vrnn.model, vrnn.guide, *data).isfinite()
    settings = {"num_steps": 1, "progress": False}
    with pytest.raises(ValueError, match="Site 'x' observes nan"):
        pyro_dgm.fit(vrnn.model, vrnn.guide, torch.where(x == 0, torch.nan, x), **settings)


def test_enumeration_is_planned_once() -> None:
    """A step runs the pair once, so that plain and compiled steps draw the same numbers."""
    gmvae, count = pyro_models.GMVAE(6, 2, 3, hidden=()), []

    def guide(x: torch.Tensor) -> Any:
        count.append(1)
        return gmvae.guide(x)

    loss = pyro_dgm.ELBO(enumerate="y")
    loss(gmvae.model, guide, torch.as_tensor(X))
    count.clear()
    loss(gmvae.model, guide, torch.as_tensor(X))
    assert len(count) == 1


def test_codes_and_temperatures_out_of_range(lib: Any) -> None:
    c = lib.conditionals
    key = (KEY,) if lib.key else ()
    for quantizer in (c.VectorQuantizer(2, 3, **lib.key), c.FiniteScalarQuantizer(2, levels=3)):
        last = quantizer.num_codes - 1
        assert np.isfinite(quantizer.embedded(lib.array([0, last])).tolist()).all()
        for wrong in (-1, last + 1):
            with pytest.raises(ValueError, match=f"numbers of codes from 0 to {last}, got {wrong}"):
                quantizer.embedded(lib.array([0, wrong]))
    p = c.GumbelSoftmax(3, temperature=lambda step: -1.0, **lib.key)
    with pytest.raises(ValueError, match=r"temperature must be a schedule of positive .*, got -1"):
        p().sample(*key)


@pytest.mark.parametrize("name", ["DMM", "VRNN", "SRNN", "RNN"])
def test_sequences_in_double_precision(name: str) -> None:
    """The first state is where, and what, the weights are."""
    sizes = (3, 2) if name == "RNN" else (3, 2, 2)
    model = getattr(pyro_models, name)(*sizes, hidden=4, features=4).double()
    x = torch.ones(4, 2, 3, dtype=torch.float64)
    loss = pyro_dgm.ELBO()(model.model, model.guide, x, torch.tensor([2, 0, 1, 2]))
    assert loss.dtype == model.model(size=2).dtype == torch.float64


def test_codes_that_are_nearly_equal(lib: Any) -> None:
    """A search by squared lengths takes one for the other in single precision: both are codes."""
    codes = np.random.default_rng(0).normal(0, 3, (64, 1, 3)).astype(np.float32)
    codes = np.concatenate([codes, codes + np.float32(2e-4)], 1)
    books = importlib.import_module(f"{lib.package.__name__}.conditionals.codebooks")
    found = []
    for pair in codes:
        book = books.Nearest(lib.array(pair))
        z = lib.array(pair)
        found.append(np.asarray(books.CodePrior(book, ()).log_prob(z)))
    np.testing.assert_allclose(found, -np.log(2), rtol=1e-6)
    far = lib.array(codes[:, 0] + np.float32(0.1))
    assert np.isneginf(np.asarray(books.CodePrior(book, ()).log_prob(far))).all()
