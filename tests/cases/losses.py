"""Losses: terms with all that goes into them, recipes and sums, written as a user writes them."""

from dataclasses import dataclass
from typing import Any

from dgm_core.contexts import Labels

ALL = ("m", "W", "b", "A", "s")
MODEL, GUIDE = ("m", "W", "b"), ("A", "s")
LATENT, FIT = ("m", "A", "s"), ("W", "b", "A", "s")


@dataclass(frozen=True)
class Loss:
    """A loss: an expression in the public names, in which `critic(dim)` is a small critic.

    value: what is estimated, a bound (maximized), a divergence, a score or a cost (minimized), or a
    sum of several;  trains: the parameters of its programs that get a gradient, all others get
    none;  programs: the pair that it is evaluated on;  refused: another pair, and what it is told
    there;  reads: its `repr`, where that is not the expression without the critics.
    """

    written: str
    value: str
    trains: tuple[str, ...] = ALL
    programs: str = "vectors"
    refused: tuple[str, str] | None = None
    reads: str = ""


BOUNDS = [
    Loss("ELBO()", "bound"),
    Loss("ELBO(beta=0.3, num_particles=3)", "bound"),
    Loss("ELBO(beta=linear(10))", "bound"),
    Loss("ELBO(num_particles=3, estimator='stl')", "bound"),
    Loss("ELBO(estimator='score')", "bound"),
    Loss(
        "ELBO(analytic_kl=True)", "bound", refused=("chain", "draw their latent sites in the same")
    ),
    Loss("IWAE(num_particles=3)", "bound"),
    Loss(
        "IWAE(num_particles=3, estimator='dreg')",
        "bound",
        refused=("discrete", "'c'.*not reparameterized"),
    ),
    Loss(
        "ELBO(num_particles=2, enumerate=('c',))",
        "bound",
        ("m", "W", "b", "A", "s"),
        "labels",
        ("global", r"enumerate names \['c'\], which the model does not have"),
    ),
    Loss("ELBO(estimator='stl', enumerate=('c',))", "bound", ("m", "W", "b", "A", "s"), "labels"),
    Loss(
        "ELBO(beta=0.3, num_particles=2, estimator='score', enumerate=('c',))",
        "bound",
        ("m", "W", "b", "s"),
        "no labels",
    ),
    Loss("ELBO(analytic_kl=True, enumerate=('c',))", "bound", ("m", "W", "b", "s"), "no labels"),
    Loss("IWAE(num_particles=3, enumerate=('c',))", "bound", ("m", "W", "b", "s"), "labels"),
    Loss(
        "IWAE(num_particles=3, estimator='dreg', enumerate=('c',))",
        "bound",
        ("m", "W", "b", "s"),
        "no labels",
        ("vectors", r"enumerate names \['c'\], which the model does not have"),
    ),
    Loss("IWAE(num_particles=3, estimator='vimco')", "bound"),
    Loss("Renyi(0.4, num_particles=3)", "bound"),
    Loss("Renyi(1.0, num_particles=3)", "bound", ("W", "A", "s"), "codes"),
    Loss("Renyi(-0.5, num_particles=3)", "bound", ("W", "A", "s"), "codes"),
    Loss("Renyi(2.5, num_particles=3, enumerate=('c',))", "bound", ("m", "W", "b", "s"), "labels"),
    Loss("JVI(num_particles=4)", "bound"),
    Loss("JVI(order=2, num_particles=4)", "bound"),
    Loss(
        "TailAdaptive(num_particles=4)",
        "bound",
        refused=("discrete", "TailAdaptive differentiates .* 'c' .* is not reparameterized"),
    ),
    Loss("TailAdaptive(beta=-0.3, num_particles=3)", "bound"),
    Loss("WakeSleep(num_particles=3)", "bound"),
    Loss(
        "WakeSleep(num_particles=3, guide='sleep')",
        "bound",
        refused=("global", "The sleep phase draws data and latents datum by datum"),
    ),
    Loss("WakeSleep(num_particles=3, guide='both')", "bound", ("W", "A", "s"), "codes"),
    Loss("NLL()", "cost", ("b", "t"), "density", ("vectors", "sample sites are all observed")),
    Loss(
        "ScoreMatching('x')",
        "cost",
        ("b", "t"),
        "density",
    ),
    Loss(
        "DenoisingScoreMatching('x', 0.4) + ScoreMatching('x', method='sliced', num_projections=2)",
        "sum",
        FIT,
    ),
    Loss(
        "NLL() + linear(10) * KineticEnergy('x') + 0.2 * JacobianNorm('x')",
        "sum",
        ("W", "b"),
        "path",
        ("density", "KineticEnergy needs a distribution with a method transport_costs"),
    ),
    Loss("Reconstruction(num_particles=3)", "cost", FIT),
    Loss("ConditionalNLL('x', num_particles=3)", "cost", FIT),
    Loss("KL()", "divergence", LATENT),
    Loss("KL(num_particles=3, analytic_kl=True)", "divergence", LATENT),
    Loss(
        "Distillation(DiagonalNormal(3))",
        "divergence",
        ("b", "t"),
        "density",
        ("vectors", "needs a model with the one sample site 'x'"),
    ),
    Loss(
        "Distillation(DiagonalNormal(3), analytic_entropy=True)",
        "divergence",
        ("b", "t"),
        "density",
    ),
    Loss("Constraint(Reconstruction(), at_most=1.5, initial=3.0)", "cost", FIT),
    Loss("Constraint(KL(), equal=1.0, initial=-2.0, optim=Adam(0.05))", "cost", LATENT),
    Loss("Constraint(ELBO(), at_least=-9.0)", "cost"),
]

NO_SITE = ("density", r"The model has no sample site \['z'\]")
ROWS = ("total_variation", "kl", "reverse_kl", "pearson", "neyman", "squared_hellinger", "jeffrey")
ROWS = (*ROWS, "jensen_shannon", "gan")
ADVERSARIAL = [
    Loss("JensenShannon('x', critic(3))", "divergence", MODEL),
    Loss(
        "JensenShannon(('x', 'z'), critic(5), optim=Adam(0.01, betas=(0.5, 0.99)), critic_steps=2, "
        "regularizer=R1(0.4))",
        "divergence",
        refused=NO_SITE,
    ),
    Loss(
        "JensenShannon('z', critic(2), generator='saturating', regularizer=R2(0.4), "
        "instance_noise=0.3)",
        "divergence",
        LATENT,
        refused=("discrete", r"The model has no sample site \['z'\]"),
    ),
    Loss(
        "JensenShannon('x', critic(3), regularizer=NoiseRegularizer(0.4), "
        "instance_noise=linear(10))",
        "divergence",
        MODEL,
    ),
    Loss(
        " + ".join(
            f"{0.5 + index} * FDivergence('x', critic(3), f='{f}'{settings})"
            for index, (f, settings) in enumerate(
                [(f, "") for f in ROWS]
                + [(f, ", generator='non_saturating'") for f in ("kl", "pearson")]
            )
        ),
        "sum",
        MODEL,
    ),
    Loss(
        "FDivergence('z', critic(2), f=divergence('alpha', alpha=0.3), generator='non_saturating', "
        "regularizer=NoiseRegularizer(0.4, f='jeffrey'))",
        "divergence",
        LATENT,
        refused=NO_SITE,
    ),
    Loss(
        "FDivergence('x', critic(3), f=divergence('weighted_jensen_shannon', pi=0.3), "
        "regularizer=NoiseRegularizer(0.4, f=divergence('alpha', alpha=1.5)))",
        "divergence",
        MODEL,
    ),
    Loss("Hinge('x', critic(3), critic_steps=2)", "divergence", MODEL),
    Loss("Hinge(('x', 'z'), critic(5))", "divergence", refused=NO_SITE),
    Loss("DensityRatio('x', critic(3), f='pearson')", "divergence", MODEL),
    Loss("DensityRatio('z', critic(2), f='kl')", "divergence", ("m",), refused=NO_SITE),
    Loss("Wasserstein('x', critic(3))", "divergence", MODEL),
    Loss("Wasserstein('z', critic(2), one_sided=True, critic_steps=1)", "divergence", LATENT),
    Loss("Wasserstein(('x', 'z'), critic(5), clip=0.2)", "divergence", refused=NO_SITE),
    Loss("Wasserstein('x', critic(3), penalty=GradientPenalty(3.0))", "divergence", MODEL),
    Loss("Wasserstein('x', critic(3), penalty=None)", "divergence", MODEL),
    Loss(
        "TotalCorrelation('z', critic(2), num_particles=3)",
        "divergence",
        GUIDE,
        refused=("density", "compares latent sites inside the data plates"),
    ),
    Loss("RatioELBO(critic(5))", "bound", FIT, refused=("density", "RatioELBO needs latent sites")),
    Loss("RatioELBO(critic(5), contrast='adaptive', num_particles=3)", "bound"),
    Loss("RatioELBO(critic(5), contrast='joint', regularizer=R1(0.4))", "bound", GUIDE),
    Loss(
        "MutualInformation('c')",
        "bound",
        ("W", "A"),
        "codes",
        ("vectors", "Model and guide must both draw 'c'"),
    ),
    Loss(
        "MutualInformation('c', 'x', critic(5), estimator='nwj', optim=Adam(0.05))",
        "bound",
        ("W",),
        "codes",
        ("vectors", r"The model has no sample site \['c'\]"),
    ),
    Loss(
        "MutualInformation('z', 'x', critic(5), estimator='infonce', critic_steps=2)",
        "bound",
        MODEL,
        refused=NO_SITE,
    ),
]

SAMPLES = [
    Loss("MMD('x')", "divergence", MODEL),
    Loss("MMD('z', IMQ((0.7,)), unbiased=False)", "divergence", LATENT, refused=NO_SITE),
    Loss("MMD(('x', 'z'), RationalQuadratic(), linear=True)", "divergence", refused=NO_SITE),
    Loss("MMD('x', RBF((0.5, 1.0)))", "divergence", MODEL),
    Loss(
        "EnergyScore('x', beta=1.3, num_samples=3)",
        "score",
        MODEL,
    ),
    Loss("PowerLoss('x', frame=2, hop=1)", "divergence", MODEL),
    Loss("PowerLoss('x', frame=2, hop=1, scale='log', floor=0.01)", "divergence", MODEL),
    Loss("SlicedWasserstein('x', num_directions=5, p=1.5)", "divergence", MODEL),
    Loss("SlicedWasserstein(('x', 'z'))", "divergence", refused=NO_SITE),
]

RECIPES = [
    Loss("info_vae(0.5, 10.0)", "sum", reads="ELBO(beta=0.5) + 9.5 * MMD('z')"),
    Loss(
        "aae(2.0, JensenShannon('z', critic(2)))",
        "sum",
        reads="Reconstruction() + 2.0 * JensenShannon('z')",
    ),
    Loss("wae(5.0)", "sum", reads="Reconstruction() + 5.0 * MMD('z', IMQ((1.0,)))"),
    Loss(
        "vae_gan(0.5, JensenShannon('x', critic(3)))",
        "sum",
        reads="ELBO() + 0.5 * JensenShannon('x')",
    ),
    Loss("factor_vae(6.4)", "sum", reads="ELBO() + 6.4 * TotalCorrelation('z')"),
    Loss(
        "message_passing(model, x, term=MMD)",
        "sum",
        programs="chain",
        trains=("slope1", "log_scale1", "slope2", "log_scale2"),
        reads="MMD('z1') + MMD(('z1', 'z2')) + MMD(('z2', 'x'))",
    ),
    Loss(
        "message_passing(model, x, term=MMD, separators=True)",
        "sum",
        programs="chain",
        trains=("slope1", "log_scale1", "slope2", "log_scale2"),
        reads="MMD(('z1', 'z2')) + MMD(('z2', 'x')) + -1.0 * MMD('z2')",
    ),
    Loss(
        "2.0 * ELBO(beta=0.5) + linear(8) * Reconstruction() + 0.1 * IWAE(num_particles=3)", "sum"
    ),
]

LOSSES: dict[str, Loss] = {
    case.written: case for case in (*BOUNDS, *ADVERSARIAL, *SAMPLES, *RECIPES)
}

# Critics by themselves: class, sizes, settings (an encoder likewise), the shape that they see.
IMAGES = {"hidden_channels": (3, 4), "out_dim": 5, "activation": "tanh"}
IMAGE_CRITIC = {"hidden_channels": (3, 4), "features": 5, "activation": "tanh"}
CRITICS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = {
    "plain": ("Critic", (3,), {"hidden": (6, 4), "activation": "tanh"}, (3,)),
    "spectral": ("Critic", (3,), {"hidden": (6, 4), "spectral_norm": True}, (3,)),
    "image": ("ImageCritic", ((2, 8, 9),), IMAGE_CRITIC, (2, 8, 9)),
    "image, spectral": (
        "ImageCritic",
        ((2, 8, 9),),
        IMAGE_CRITIC | {"spectral_norm": True},
        (2, 8, 9),
    ),
    "image with a map and labels": (
        "ImageCritic",
        ((2, 8, 9),),
        IMAGE_CRITIC | {"context_shape": ((1, 8, 9), Labels(3))},
        (2 * 72 + 72 + 3,),
    ),
    "image with labels": (
        "ImageCritic",
        ((1, 4, 4),),
        {**IMAGE_CRITIC, "context_shape": Labels(3)},
        (19,),
    ),
    "projection": (
        "ProjectionCritic",
        (3, 4),
        {"encoder": ("MLP", (3, (6, 5)), {"activation": "tanh"})},
        (7,),
    ),
    "projection, spectral image": (
        "ProjectionCritic",
        ((1, 4, 4), 3),
        {"spectral_norm": True, "encoder": ("ConvEncoder", ((1, 4, 4),), IMAGES)},
        (19,),
    ),
    "multiplier": ("Multiplier", (2.0,), {}, ()),
    "multiplier, signed": ("Multiplier", (-2.0,), {"signed": True}, ()),
}
