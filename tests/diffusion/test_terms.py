"""Terms of diffusions in models: the chain of sites, latents, masks, minibatches, engines."""

from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from dgm_core.contexts import Labels
from dgm_core.diffusion import VP, Linear
from tests.diffusion.toys import drawn, log_normal, of_normal, sampled

X = np.random.default_rng(0).standard_normal((60, 2)) * 0.7


def built(backend: Any, module: str, name: str, *sizes: Any, **settings: Any) -> Any:
    """A module of either library, in double precision."""
    made = getattr(import_module(f"{backend.name}_dgm.{module}"), name)
    if backend.name == "pyro":
        backend.torch.manual_seed(3)
        return made(*sizes, **settings)
    return made(*sizes, **settings, key=backend.jax.random.key(3))


def density(backend: Any, net: Any, context: Any = None, mask: Any = None, size: int = 60) -> Any:
    """x ~ diffusion, some rows masked, in minibatches."""
    nn = import_module(f"{backend.name}_dgm.nn")

    def model(x: Any) -> None:
        own = nn.register("net", net)
        with backend.plate("data", size, subsample_size=len(x)):
            p = own(context)
            backend.sample("x", p if mask is None else p.expand((len(x),)).mask(mask), obs=x)

    return model


def nothing(*args: Any) -> None:
    """A guide that draws nothing."""


@pytest.mark.slow("numpyro")
def test_the_chain_has_the_bound_on_average(backend: Any) -> None:
    """ELBO of ten ordinary sites and DenoisingELBO of one network call have one mean, of a network
    that has learned nothing; and in the same budget, 120 calls of it, the latter sees ten times as
    many data and has the smaller variance. The engine's own bound is that of the chain as well."""
    settings = {"hidden": (6,), "schedule": VP(10), "variance": "large"}
    net = built(backend, "conditionals", "Diffusion", 2, **settings)
    chain, losses, num = net.chain(), backend.losses, 30
    model, rng = density(backend, net, size=120), np.random.default_rng(1)
    data = rng.standard_normal((120, 2)) * 0.7
    runs = [
        (losses.ELBO(), chain.model, chain.guide, 12),
        (losses.ELBO(analytic_kl=True), chain.model, chain.guide, 12),
        (losses.DenoisingELBO("x", num_times=None), model, nothing, 12),
        (losses.DenoisingELBO("x", kl="sampled", num_times=5), model, nothing, 120),
        (losses.DenoisingELBO("x"), model, nothing, 120),
    ]
    found = []
    for loss, own, guide, size in runs:
        batches = [data[rng.permutation(120)[:size]] for _ in range(num)]
        terms = [backend.evaluate(loss, own, guide, x, seed=s)[1] for s, x in enumerate(batches)]
        found.append(np.array([term[loss.name] for term in terms]))
    for one, other in pairwise(found):
        error = ((one.var(ddof=1) + other.var(ddof=1)) / num) ** 0.5
        assert abs(one.mean() - other.mean()) < 4 * error
    assert found[-1].var() < min(found[0].var(), found[1].var())
    if backend.name == "pyro":
        backend.pyro.clear_param_store()
        stock = backend.pyro.infer.Trace_ELBO()
        found.append(
            [-stock.loss(chain.model, chain.guide, backend.array(data)) / 120 for _ in range(num)]
        )
    else:
        from numpyro.infer import Trace_ELBO

        jax, x = backend.jax, backend.array(data)
        own = jax.jit(lambda key: -Trace_ELBO().loss(key, {}, chain.model, chain.guide, x) / 120)
        found.append([float(own(jax.random.key(s))) for s in range(num)])
    error = ((np.var(found[0]) + np.var(found[-1])) / num) ** 0.5
    assert abs(np.mean(found[0]) - np.mean(found[-1])) < 4 * error


def test_masks_minibatches_and_other_names(backend: Any) -> None:
    """At the best variances the sampled path is log p(x): masked rows count zero, a minibatch
    counts N / B times; the same for `Objective` and the error of the noise."""
    s2, losses = 0.49, backend.losses
    settings = {"schedule": VP(10), "variance": "optimal", "data_variance": s2}
    net = backend.conditionals.Diffusion(2, of_normal(backend, VP(10), s2), **settings)
    mask = backend.array([1, 0, 1, 1]) > 0
    model = density(backend, net, mask=mask, size=20)
    terms = losses.DenoisingELBO("x", num_times=None, kl="sampled")
    loss = terms + losses.Objective("x") + losses.DenoisingError("x", "data", num_times=40)
    total, found, _ = backend.evaluate(loss, model, nothing, X[:4])
    wanted = log_normal(X[[0, 2, 3]], s2).sum() / 4
    assert found["DenoisingELBO(x)"] == pytest.approx(wanted, abs=1e-3)
    assert found["DenoisingELBO(x)/KL"] == 0.0
    own = found["Objective(x)"] + found["DenoisingError(x, data)"]
    assert total == pytest.approx(20 * (own - found["DenoisingELBO(x)"]))
    assert 0 < found["DenoisingError(x, data)"] < s2
    assert repr(terms) == "DenoisingELBO('x', num_times=None, kl='sampled')"
    assert repr(loss.terms[2][1]) == "DenoisingError('x', weight='data', num_times=40)"


def test_the_prior_of_a_latent(backend: Any) -> None:
    """x ~ Normal(z, 0.6), z ~ diffusion of Normal(0, 0.49), the exact posterior as a guide: the
    bound is log p(x), and so is that of ELBO with the density of the flow."""
    s2, noise, losses, dist = 0.49, 0.36, backend.losses, backend.dist
    settings = {"schedule": VP(10), "variance": "optimal", "data_variance": s2, "ode_steps": 6}
    net = backend.conditionals.Diffusion(2, of_normal(backend, VP(10), s2), **settings)
    x, gain = X[:5], s2 / (s2 + noise)

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            z = backend.sample("z", net())
            backend.sample("x", dist.Normal(z, backend.array(noise**0.5)).to_event(1), obs=x)

    def guide(x: Any) -> None:
        with backend.plate("data", len(x)):
            scale = backend.array((gain * noise) ** 0.5)
            backend.sample("z", dist.Normal(gain * x, scale).to_event(1))

    loss = losses.DenoisingELBO("z", num_times=None, kl="sampled") + losses.ELBO()
    _, found, _ = backend.evaluate(loss, model, guide, x)
    wanted = log_normal(x, s2 + noise).mean()
    assert found["DenoisingELBO(z)"] == pytest.approx(wanted, abs=2e-3)
    assert found["ELBO"] == pytest.approx(wanted, abs=2e-2)  # the first level of ten is coarse
    for site, message in (
        ("x", "DenoisingELBO needs a diffusion at site 'x', .* got Normal"),
        ("y", r"no sample site \['y'\]; it has"),
    ):
        with pytest.raises(ValueError, match=message):
            backend.evaluate(losses.DenoisingELBO(site), model, guide, x)


@pytest.mark.slow("numpyro")
def test_levels_are_a_mass(backend: Any) -> None:
    """Of three levels the bound on all values sums to at most one, draws are levels, and other
    values are refused."""
    made = backend.conditionals
    settings = {"schedule": VP(3), "variance": "large", "num_levels": 3}
    net = made.Diffusion(1, of_normal(backend, VP(3), 0.7), **settings)
    x = np.array([[0.0], [0.5], [1.0]])

    def run(how: Any) -> list[Any]:
        wide = backend.array(np.tile(x, (400, 1)))
        bound = net().bound(wide, num_times=None, kl="sampled", **how)
        return [bound, sampled(net(), how, (50,))]

    bound, draws = drawn(backend, run)
    weights = np.exp(bound.reshape(400, 3)).sum(1)  # exp of a log-ratio is unbiased
    assert abs(weights.mean() - 1) < 4 * weights.std() / 20 < 0.4
    assert set(np.unique(draws)) <= {0.0, 0.5, 1.0}
    with pytest.raises(made.NoDensityError, match="use DenoisingELBO") as caught:
        net().log_prob(backend.array(x))
    assert str(caught.value.at("x")).startswith("Site 'x' has no density here. Diffusion(")
    with pytest.raises(ValueError, match="its chain is that of DenoisingELBO alone"):
        net.chain(2)
    how = {} if backend.name == "pyro" else {"key": backend.jax.random.key(0)}
    with pytest.raises(ValueError, match=r"one of 3 levels in \[0, 1\], got 0.3"):
        net().bound(backend.array([[0.3]]), **how)


@pytest.mark.slow("numpyro")
def test_contexts_guidance_and_what_is_known(backend: Any) -> None:
    """Labels and vectors side by side; guided draws; the known part of a draw stays as it is."""
    shape = (Labels(3), 2)
    settings = {"schedule": VP(6), "variance": "learned", "context_shape": shape}
    net = built(
        backend, "conditionals", "Diffusion", (3, 2), hidden=(5,), drop_context=0.4, **settings
    )
    labels = backend.np.asarray(np.array([0, 2, 1, 1]))
    context = (labels, backend.array(X[:4]))
    known, mask = np.full((3, 2), 7.0), np.array([[True], [False], [True]])

    def run(how: Any) -> list[Any]:
        p = net(context)
        part = {"known": backend.array(known), "mask": backend.np.asarray(mask)}
        return [
            sampled(net.guided(context, 1.5), how, (2,)),
            sampled(p, how, (2,), **part),
            sampled(p, how, (), method="ddim", eta=1.0, num_steps=3, **part),
            p.bound(backend.array(np.ones((4, 3, 2))), **how),
        ]

    guided, filled, steps, bound = drawn(backend, run)
    assert guided.shape == (2, 4, 3, 2) and bound.shape == (4,)
    for draws in (filled, steps):
        np.testing.assert_array_equal(draws[..., [0, 2], :], 7.0)
        assert np.isfinite(draws).all() and (draws[..., 1, :] != 7.0).all()
    assert np.isfinite(guided).all() and np.isfinite(bound).all()


def test_what_is_refused(backend: Any) -> None:
    """In words: what was expected, and what came."""
    made = backend.conditionals.Diffusion
    net = of_normal(backend, Linear(10, beta_max=0.009), 1.0)
    p = made(1, net, schedule=Linear(10, beta_max=0.009))()
    key = () if backend.name == "pyro" else (backend.jax.random.key(0),)
    how = {"key": key[0]} if key else {}
    x = backend.array(np.zeros((2, 1)))
    images = made((1, 4, 4), net)()
    for function, message in (
        (lambda: Linear(0), "num_steps must be an integer of at least 1, got 0"),
        (lambda: Linear(10), r"a beta of 2, 100 times .* use VP\(10\)"),
        (lambda: Linear(beta_min=0.1, beta_max=0.01), "beta_max must be .* at least 0.1, got 0.01"),
        (lambda: VP(beta_min=-1.0), "beta_min must be a positive number, got -1.0"),
        (lambda: made(1, net, predict="x0"), "predict must be one of 'noise', 'data', .* got 'x0'"),
        (lambda: made(1, net, variance="big"), "variance must be one of 'small', .* got 'big'"),
        (lambda: made(1, net, schedule="cosine"), "schedule must be a schedule of noise such as"),
        (lambda: made(1, 3.0), "net must be a network that is called"),
        (lambda: made(1, net, schedule=VP(), variance="learned"), "continuous time has none"),
        (lambda: made(1, net, drop_context=0.1), "needs a context that training leaves out"),
        (lambda: made(1, net, eta=0.5), 'eta is of method="ddim" alone'),
        (lambda: made(1, net, num_levels=1), "num_levels must be an integer of at least 2, got 1"),
        (lambda: p.sample(*key, (2,), num_steps=11), "num_steps must be an integer from 1 to 10"),
        (
            lambda: p.sample(*key, (2,), method="euler"),
            "method must be one of 'ancestral', 'ddim', 'ode'",
        ),
        (lambda: p.sample(*key, (2,), known=x), "Inpainting needs known, .* and mask"),
        (
            lambda: p.sample(*key, (2,), method="ode", known=x, mask=x > 0),
            "Inpainting is of method",
        ),
        (lambda: p.bound(x, num_steps=11, **how), "num_steps must be an integer from 1 to 10"),
        (lambda: p.bound(x, num_times=0, **how), "num_times must be an integer of at least 1"),
        (
            lambda: p.bound(x, kl="exact", **how),
            "kl must be one of 'closed', 'sampled', got 'exact'",
        ),
        (lambda: p.bound(x * float("nan"), **how), "must be a finite number, got nan"),
        (lambda: p.log_prob(x / 0), "must be a finite number, got nan"),
        (lambda: p.denoising(x, weight="snr", **how), "weight must be one of 'simple', 'data', "),
        (
            lambda: made(1, net, schedule=VP())().bound(x, num_times=None, **how),
            "no steps, of which",
        ),
        (lambda: made(1, net, schedule=VP()).chain(), "A schedule in continuous time has no steps"),
        (lambda: made(1, net).guided(None), "Guidance needs one of w, .* and scale"),
        (lambda: made(1, net).guided(None, 1.0), "Guidance needs a context that training leaves"),
        (lambda: images.log_prob(backend.array(np.zeros((2, 4, 4, 1)))), "channels before height"),
        (
            lambda: made(2, lambda x, t: x[:, :1])().encode(backend.array(np.zeros((3, 2)))),
            "network of .* must give",
        ),
        (
            lambda: made(2, lambda x, t: (x, x))().encode(backend.array(np.zeros((3, 2)))),
            r"must give arrays of shape \(3, 2\) for .*, got .*tuple",
        ),
        (lambda: p.score(x, 0.0), r"t must be a number in \(0, 1\], got 0.0"),
        (lambda: p.noise(x, 1.5), r"t must be a number in \(0, 1\], got 1.5"),
        (lambda: p.data(x, -0.1), r"t must be a number in \(0, 1\], got -0.1"),
        (lambda: p.decode(x, method="ddim", num_steps=0), "num_steps must be .* from 1 to 10, got"),
        (
            lambda: p.sample(*key, (2,), known=backend.array(np.zeros(3)), mask=x > 0),
            r"known must broadcast to the shape \(2, 1\) of the draws, got shape \(3,\)",
        ),
        (
            lambda: p.sample(*key, (2,), known=x, mask=x + 0.5),
            "mask must be true or false, got 0.5",
        ),
        (
            lambda: p.expand((3,)).log_prob(x),
            r"has the batch shape \(3,\), and values of batch shape \(2,\) do not broadcast",
        ),
        (lambda: backend.losses.DenoisingELBO(""), "site must be the name of a sample site"),
        (lambda: backend.losses.DenoisingELBO("x", num_steps=0), "num_steps must be an integer"),
        (lambda: backend.losses.DenoisingError("x", "snr"), "weight must be one of 'simple'"),
    ):
        with pytest.raises(ValueError, match=message):
            function()
    for name in ("mean", "variance"):
        with pytest.raises(NotImplementedError, match="in closed form"):
            getattr(p, name)
    with pytest.raises(NotImplementedError, match="have no gradient"):
        p.rsample(*key)
