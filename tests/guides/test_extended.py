"""What a guide draws beyond its model is scored by the extended model."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.guides.programs import LOG_SEEN, PRIORS
from tests.guides.test_amortized import key
from tests.losses.training import package
from tests.losses.user_models import MODELS, PARAMS

# q(a) = Normal(0, 1), q(z | a) = Normal(M + K a, S);  r(a | z) = Normal(C z + D, R)
M, K, S, C, D, R = 0.4, 0.7, 0.6, 0.5, -0.3, 0.9
X = 1.3
DATA = np.array([X])


def one(b: Any) -> Callable:
    """z ~ Normal(0, 1);  x ~ Normal(z, 1), of one datum."""

    def model(x: Any) -> None:
        z = b.sample("z", b.dist.Normal(b.array(0.0), b.array(1.0)))
        with b.plate("data", 1):
            b.sample("x", b.dist.Normal(z, b.array(1.0)), obs=x)

    return model


def linear(b: Any) -> Callable[..., Any]:
    """A part with an auxiliary variable, for one number."""
    d = b.dist
    part: Any = b.guides.base.Part
    fields: dict[str, Any] = {"answers": ("z",), "reverses": True}
    if b.name == "numpyro":
        fields["__annotations__"] = {}

    def begin(self: Any, call: Any) -> None:
        normal = d.Normal(b.array(0.0), b.array(1.0))
        call.kept["a"] = call.sample("g.a", normal, reverse=True)

    def answer(self: Any, call: Any, site: Any, fn: Any) -> Any:
        return d.Normal(M + K * call.kept["a"], b.array(S))

    def reverse(self: Any, call: Any, site: Any) -> None:
        if site is None:
            call.sample("g.a", d.Normal(C * call.values["z"] + D, b.array(R)), reverse=True)

    made = type("Linear", (part,), {**fields, "begin": begin, "answer": answer, "reverse": reverse})
    return lambda *args, **kwargs: made()


def exact() -> float:
    """E_q [log p(x, z) + log r(a | z) - log q(a, z)]."""

    def mean_log(variance: float, square: float) -> float:
        return -0.5 * np.log(2 * np.pi * variance) - 0.5 * square / variance

    var_z = K**2 + S**2
    prior = mean_log(1.0, M**2 + var_z)
    likelihood = mean_log(1.0, (X - M) ** 2 + var_z)
    slip = (1 - C * K) ** 2 + C**2 * S**2 + (C * M + D) ** 2  # E (a - C z - D)^2
    entropy = -mean_log(1.0, 1.0) - mean_log(S**2, S**2)
    return prior + likelihood + mean_log(R**2, slip) + entropy


def test_bound_in_closed_form(backend: Any) -> None:
    """By our losses with the model, or with `guide.extended`; the importance-weighted bound tends
    to the evidence of the user's model."""
    b = backend
    model, x = one(b), DATA
    guide = b.guides.Guide(model, [linear(b)], name="g")
    values = [
        -b.evaluate(b.losses.ELBO(num_particles=40_000), wanted, guide, x)[0]
        for wanted in (model, guide.extended)
    ]
    assert values[0] == pytest.approx(exact(), abs=0.03)
    assert values[0] == values[1]
    assert guide.extended.plain is model and guide.extension(guide.extended).plain is model
    bound = -b.evaluate(b.losses.IWAE(num_particles=40_000), model, guide, x)[0]
    assert bound == pytest.approx(-0.5 * np.log(4 * np.pi) - X**2 / 4, abs=0.03)
    with pytest.raises(ValueError, match=r"draws \['g.a'\] beyond the model"):
        b.evaluate(b.losses.ELBO(), model, lambda x: guide(x), x)


def test_evaluation_sees_the_latents_of_the_model_alone(backend: Any) -> None:
    b = backend
    model = one(b)
    guide = b.guides.Guide(model, [linear(b)], name="g")
    e = b.evaluation
    for run in (b.run(model, guide), b.run(guide.extended, guide)):
        assert list(e.sample_posterior(run, DATA, num_draws=3)) == ["z"]
        assert set(e.generate(run, DATA)) == {"z", "x"}
        assert set(e.predict(run, DATA, num_draws=2)) == {"z", "x"}
        log_w = np.asarray(e.log_weights(run, DATA, num_particles=4000))
        assert log_w.mean() == pytest.approx(exact(), abs=0.1)
        means = e.latents(run, DATA, means=True, num_draws=2000)
        assert means["z"] == pytest.approx(M, abs=0.1)
    drawn = e.resample(run, DATA, num_draws=2000, num_particles=8000, force=True).draws
    assert set(drawn) == {"z"}
    assert drawn["z"].mean() == pytest.approx(X / 2, abs=0.1)


def test_a_fit_keeps_the_model_of_the_user(backend: Any) -> None:
    """Chains of that model start from the run."""
    b = backend
    model = one(b)
    settings = {"num_steps": 1, "progress": False, "loss": b.losses.ELBO()}
    run = package(b).fit(
        model, b.guides.AuxiliaryGuide(model, hidden=(), **key(b)), DATA, **settings
    )
    assert run.model is model
    numbers = {"num_draws": 8, "num_warmup": 8, "num_chains": 1}
    assert list(b.evaluation.nuts(model, DATA, start=run, **numbers)) == ["z"]


def both(b: Any, model: Callable) -> list[tuple[Any, str]]:
    """A guide of each kind, and what it draws beyond the model."""
    g = b.guides
    auxiliary = g.AuxiliaryGuide(model, hidden=(3,), **key(b))
    moved = g.HamiltonianGuide(g.JointGuide(model), num_steps=2, **key(b))
    return [(auxiliary, "auxiliary.vector.a"), (moved, "latent.momentum")]


@pytest.mark.slow("numpyro")
def test_stock_engines_agree(backend: Any) -> None:
    """The library's own ELBO of `guide.extended` is ours, draw by draw."""
    b = backend
    model = one(b)
    for guide, _ in both(b, model):
        guide.prepare(b.array(DATA))
        if b.name == "pyro":
            ours = b.evaluate(b.losses.ELBO(), model, guide, DATA)[0]
            b.torch.manual_seed(0)
            theirs = b.pyro.infer.Trace_ELBO().loss(guide.extended, guide, b.array(DATA))
        else:
            handlers, seed = b.numpyro.handlers, b.jax.random.key(0)
            trace = handlers.trace(handlers.seed(guide, seed)).get_trace(b.array(DATA))
            names = [n for n, s in trace.items() if s["type"] == "sample"]
            drawn = {n: trace[n]["value"] for n in names if n not in ("z", "latent.momentum")}
            fixed = handlers.substitute(guide, data=drawn)
            ours = b.evaluate(b.losses.ELBO(), guide.extended, fixed, DATA)[0]
            elbo = b.numpyro.infer.Trace_ELBO()
            theirs = elbo.loss(seed, {}, guide.extended, fixed, b.array(DATA))
        assert ours == pytest.approx(float(theirs), abs=1e-10)


@pytest.mark.slow("numpyro")
def test_the_model_by_itself_draws_what_is_reversed(backend: Any) -> None:
    b = backend
    model = one(b)
    for guide, name in both(b, model):
        guide.prepare(b.array(DATA))
        loss = b.losses.ELBO(num_particles=5)
        if b.name == "pyro":
            joints = loss.joints(model, guide, (b.array(DATA),))
            nodes = joints.generative().nodes
        else:
            joints = loss.joints(b.jax.random.key(0), {}, model, guide, (b.array(DATA),))
            nodes = joints.generative()
        assert not nodes[name]["is_observed"] and not nodes[name]["infer"].get("was_observed")
        assert nodes["x"]["infer"]["was_observed"]
        assert joints.inference().structure.reverse_sites == (name,)
        assert joints.inference().model_sites == ["z"]
        drawn = joints.prior(("z", name))
        assert len(np.unique(np.asarray(drawn[name])[:, 0])) == 5


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.slow("numpyro")
def test_models_of_users(backend: Any, name: str) -> None:
    """A bound on any of them, or a refusal that names the site."""
    b = backend
    build, y = MODELS[name]
    model, _ = build(b)
    loss = b.losses.ELBO(num_particles=3)
    for guide, _ in both(b, model):
        moved = isinstance(guide, b.guides.HamiltonianGuide)
        if name == "nested" or (moved and name in ("partly observed", "two likelihoods")):
            with pytest.raises(ValueError, match=r"site '(v|w|x_unobserved)'"):
                b.evaluate(loss, model, guide, y, params=PARAMS)
            continue
        value, _, gradients = b.evaluate(loss, model, guide, y, params=PARAMS)
        assert np.isfinite(value)
        assert all(np.isfinite(gradient).all() for gradient in gradients.values())


@pytest.mark.parametrize("name", ["bounded", "vectors", "circle"])
@pytest.mark.slow("numpyro")
def test_density_on_any_support(backend: Any, name: str) -> None:
    """The mean of the weights is the integral of the model, whatever the guide."""
    b = backend
    model = PRIORS[name](b)
    base = b.guides.JointGuide(model, init_scale=1.3)
    guide = b.guides.HamiltonianGuide(base, num_steps=2, **key(b))
    bound = -b.evaluate(b.losses.IWAE(20_000), model, guide)[0]
    assert bound == pytest.approx(LOG_SEEN, abs=0.12)
