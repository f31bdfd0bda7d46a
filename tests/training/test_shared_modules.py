"""A module in two places is one set of weights, in both backends and whatever places these are."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.contracts.libraries import LIBRARIES

X = np.random.default_rng(0).standard_normal((12, 2)).astype(np.float32)


@pytest.fixture(params=sorted(LIBRARIES))
def lib(request: pytest.FixtureRequest) -> Any:
    return LIBRARIES[request.param]()


def fitted(lib: Any, model: Any, guide: Any, num_epochs: int = 3) -> Any:
    package = lib.package
    loss = package.NLL() if guide is None else package.ELBO()
    return package.fit(model, guide, X, loss=loss, num_epochs=num_epochs, progress=False)


def test_a_layer_twice_in_a_flow(lib: Any) -> None:
    """Four numbers where there would be eight, as many of them moved, and equal in both places."""
    flows, package = lib.package.flows, lib.package
    layer = lib.build("flows", "Diagonal", 2)
    flow = flows.Flow(2, [layer, lib.build("flows", "Permutation", (1, 0)), layer])

    def model(x: Any) -> None:
        with lib.plate("data", len(x)):
            lib.sample("x", package.nn.register("flow", flow)(), obs=x)

    run = fitted(lib, model, None)
    if package.__name__ == "numpyro_dgm":
        leaves = lib.jax.tree.leaves(run.params)
        assert [leaf.shape for leaf in leaves] == [(2,)]
        trained = lib.numpy(leaves[0])
    else:
        assert len(list(flow.parameters())) == 1
        trained = lib.numpy(run.params["flow$$$transforms.0.log_scale"])
    # log p(x) = sum_i log Normal(e^(-s_0 - s_1) x_i) - s_0 - s_1: both entries move alike.
    assert abs(trained).min() > 1e-4
    np.testing.assert_allclose(trained[0], trained[1], rtol=1e-5)


def pair(lib: Any) -> SimpleNamespace:
    """An encoder that the guide uses and the prior as well, at pseudo-data, under another name."""
    package = lib.package
    encoder = lib.build("nn", "Linear", 2, 3)
    pseudo = lib.array(X[:1])
    if package.__name__ == "numpyro_dgm":

        class Prior(lib.eqx.Module):
            encoder: Any

            def __call__(self) -> Any:
                return lib.dist.Normal(self.encoder(pseudo)[0, :2], 1.0).to_event(1)

        prior = Prior(encoder)
    else:

        class Pseudo(lib.torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.encoder = encoder

            def forward(self) -> Any:
                return lib.dist.Normal(self.encoder(pseudo)[0, :2], 1.0).to_event(1)

        prior = Pseudo()

    def model(x: Any) -> None:
        own = package.nn.register("prior", prior)
        with lib.plate("data", len(x)):
            z = lib.sample("z", own())
            lib.sample("x", lib.dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x: Any) -> None:
        own = package.nn.register("encoder", encoder)
        with lib.plate("data", len(x)):
            lib.sample("z", lib.dist.Normal(own(x)[:, :2], 0.5).to_event(1))

    return SimpleNamespace(model=model, guide=guide, encoder=encoder, prior=prior)


def test_an_encoder_of_the_guide_in_the_prior(lib: Any) -> None:
    both = pair(lib)
    run = fitted(lib, both.model, both.guide)
    if lib.package.__name__ == "numpyro_dgm":
        ours, theirs = run.params["encoder$params"], run.params["prior$params"].encoder
        before = both.encoder
    else:
        names = ("encoder$$$weight", "prior$$$encoder.weight")
        ours, theirs = (SimpleNamespace(weight=run.params[name]) for name in names)
        before = pair(lib).encoder
    np.testing.assert_array_equal(lib.numpy(ours.weight), lib.numpy(theirs.weight))
    assert np.abs(lib.numpy(ours.weight) - lib.numpy(before.weight)).max() > 1e-4


@pytest.mark.parametrize("lib", ["numpyro"], indirect=True)
def test_an_engine_that_would_train_two_sets_is_refused(lib: Any) -> None:
    both = pair(lib)
    svi = lib.numpyro.infer.SVI(
        both.model, both.guide, lib.numpyro.optim.Adam(1e-2), lib.package.ELBO()
    )
    state = svi.init(lib.jax.random.key(0), lib.array(X))
    with pytest.raises(ValueError, match=r"registered as \['encoder', 'prior'\] share weights"):
        svi.update(state, lib.array(X))


def test_a_run_that_is_read_from_a_file_is_tied(lib: Any, tmp_path: Path) -> None:
    both = pair(lib)
    run = fitted(lib, both.model, both.guide)
    run.save(tmp_path / "file")
    read = lib.package.load_run(tmp_path / "file", both.model, both.guide)
    ours, theirs = (lib.package.log_weights(r, X, num_particles=2) for r in (run, read))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow("numpyro")
def test_a_vamp_prior_is_averaged_and_goes_on(lib: Any, tmp_path: Path) -> None:
    """One set of weights in encoder and prior, of which the run has the average; a run in two parts
    ends in the numbers of one."""
    package, bits = lib.package, (X > 0).astype(np.float32)

    def run(folder: Path | None, num_epochs: int, average: float | None = 0.8) -> Any:
        if package.__name__ == "pyro_dgm":
            lib.pyro.clear_param_store()
        prior = lib.build("conditionals", "VampPrior", num_components=2)
        vae = lib.build("models", "VAE", 2, 1, hidden=(3,), prior=prior)
        options = {"optim": package.Adam(0.1), "batch_size": 6, "average": average}
        return package.fit(
            vae.model,
            vae.guide,
            bits,
            num_epochs=num_epochs,
            checkpoint=folder,
            progress=False,
            **options,
        )

    def scored(run: Any) -> np.ndarray:
        return package.log_weights(run, bits, num_particles=2)

    whole = scored(run(None, 4))
    run(tmp_path, 2)
    parts = run(tmp_path, 4)
    own = [name for name in parts.params if name.startswith("prior")]
    assert len(own) == 1
    if package.__name__ == "numpyro_dgm":
        assert len(lib.jax.tree.leaves(parts.params[own[0]])) == 1
    np.testing.assert_array_equal(scored(parts), whole)
    assert np.abs(scored(run(None, 4, None)) - whole).max() > 1e-3
