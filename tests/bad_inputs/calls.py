"""Arrays that do not fit what they are given to, and parts that do not fit each other."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from tests.bad_inputs.base import INF, NAN, Row, Twin
from tests.bad_inputs.contexts import contexts


def values(twin: Twin) -> Iterator[Row]:
    """Calls of networks, conditionals and formulas with arrays that do not fit."""
    array = twin.array
    four, image = array(np.zeros((5, 4), np.float32)), array(np.zeros((5, 1, 6, 6), np.float32))
    cases: dict[str, tuple[Callable[[], Any], str]] = {
        "MLP": (
            partial(twin.MLP(3, (8,)), four),
            r"expects a last dimension of 3, got shape \(5, 4\)",
        ),
        "Linear": (
            partial(twin.Linear(3, 2), four),
            r"expects a last dimension of 3, got shape \(5, 4\)",
        ),
        "ConvEncoder": (
            partial(twin.ConvEncoder((1, 8, 8)), image),
            r"expects images of shape \(1, 8, 8\), got",
        ),
        "ConvDecoder": (
            partial(twin.ConvDecoder(3, (1, 8, 8)), four),
            "expects a last dimension of 3, got shape",
        ),
        "GRU": (
            partial(twin.GRU(4, 2), array(np.zeros((5, 3, 4), np.float32)), np.array([1, 2])),
            r"^lengths must be one for each of the sequences, of batch shape \(5,\), got \(2,\)",
        ),
        "AffineMarkov": (
            partial(
                twin.AffineMarkov((3, 1), context_shape=(3, 4)),
                array(np.zeros((5, 3, 4), np.float32)),
                array(np.array([1, 2])),
            ),
            r"^lengths must be one for each of the sequences, of batch shape \(5,\), got \(2,\)",
        ),
        "BatchNorm": (partial(twin.BatchNorm(3), four), "expects a last dimension of 3, got shape"),
        "one value for BatchNorm": (
            partial(twin.BatchNorm(4), four[:1]),
            "needs at least two values.*drop_last",
        ),
        "Critic": (partial(twin.Critic(3), four), "expects a last dimension of 3, got shape"),
        "ImageCritic": (
            partial(twin.ImageCritic((1, 8, 8)), image),
            r"expects images of shape \(1, 8, 8\), got",
        ),
        "ImageCritic with labels": (
            partial(twin.ImageCritic((1, 8, 8), context_shape=twin.Labels(3)), image),
            r"expects images of shape \(1, 8, 8\), side by side with 3 entries of a context, got",
        ),
        "ProjectionCritic": (
            partial(twin.ProjectionCritic(3, 2), four),
            "needs x and a one-hot y side by side",
        ),
        "positive": (
            partial(twin.positive, four, 1.5),
            r"^floor must be a number in \[0, 1\), got 1.5",
        ),
        "positive, NaN": (
            partial(twin.positive, four, NAN),
            r"^floor must be a number in \[0, 1\), got nan",
        ),
        "f": (
            partial(twin.divergence, "nosuch"),
            "^f must be one of .total_variation., .*, got .nosuch.",
        ),
        "alpha": (
            partial(twin.divergence, "alpha", alpha=1),
            "^alpha must be a finite number",
        ),
        "alpha, NaN": (
            partial(twin.divergence, "alpha", alpha=NAN),
            "^alpha must be a finite number",
        ),
        "alpha, text": (
            partial(twin.divergence, "alpha", alpha="1"),
            "^alpha must be a finite number",
        ),
        "no alpha": (
            partial(twin.divergence, "alpha"),
            "^The divergence 'alpha' takes alpha, got none",
        ),
        "alpha of kl": (
            partial(twin.divergence, "kl", alpha=2.0),
            "^The divergence 'kl' takes no parameter, got alpha",
        ),
        "pi": (
            partial(twin.divergence, "weighted_jensen_shannon", pi=1.0),
            r"^pi must be a number in \(0, 1\), got 1.0",
        ),
    }
    for situation, (call, sentence) in cases.items():
        yield Row(f"values: {situation}", call, sentence)
    yield from contexts(twin)
    vae, cvae = twin.VAE(4, 2, hidden=(8,)), twin.ConditionalVAE(4, 2, twin.Labels(3), hidden=(8,))
    gan, images = twin.ConditionalGAN(4, 2, 3, hidden=(8,)), twin.ConvVAE((1, 8, 8), 2)
    three, y = array(np.zeros((5, 3), np.float32)), array(np.zeros(4, np.int64))
    calls: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
        "data of another width": (
            vae.model,
            {"x": three},
            r"^x must have shape \(batch, 4\), got \(5, 3\)",
        ),
        "data of another width in the guide": (
            vae.guide,
            {"x": three},
            r"^x must have shape \(batch, 4\), got \(5, 3\)",
        ),
        "no data in the guide": (vae.guide, {}, "^The guide infers z from data: call it with x"),
        "data of one dimension": (
            vae.model,
            {"x": y},
            r"^x must have shape \(batch, 4\), got \(4,\)",
        ),
        "text as data": (vae.model, {"x": "abc"}, r"^x must have shape \(batch, 4\), got 'abc'"),
        "size 0": (vae.model, {"size": 0}, "^size must be an integer of at least 1, got 0"),
        "size 2.5": (vae.model, {"size": 2.5}, "^size must be an integer of at least 1, got 2.5"),
        "size as text": (
            vae.model,
            {"size": "5"},
            "^size must be an integer of at least 1, got '5'",
        ),
        "images as vectors": (
            images.model,
            {"x": four},
            r"^x must have shape \(batch, 1, 8, 8\), got \(5, 4\)",
        ),
        "no labels": (cvae.model, {}, "^y must be an array of integer labels .* got none"),
        "labels as numbers": (
            cvae.model,
            {"y": array(np.zeros(5, np.float32))},
            "^y must be an array of integer labels",
        ),
        "another number of labels": (
            cvae.model,
            {"x": four, "y": y},
            "^x and y must have the same number of data, got 5 and 4",
        ),
        "one-hot labels of another size": (
            cvae.model,
            {"y": four},
            "^y must be an array of integer labels",
        ),
        "labels as text": (cvae.model, {"y": "abc"}, "^y must be an array of integer labels"),
        "label 3 of 3": (cvae.model, {"y": y + 3}, "^y must be labels from 0 to 2, got 3"),
        "label -1": (cvae.model, {"y": y - 1}, "^y must be labels from 0 to 2, got -1"),
        "labels of a GAN as numbers": (
            gan.model,
            {"y": array(np.zeros(5, np.float32))},
            "^y must be an array of integer labels",
        ),
        "label 3 of 3 in a GAN": (gan.model, {"y": y + 3}, "^y must be labels from 0 to 2, got 3"),
    }
    for situation, (function, kwargs, sentence) in calls.items():
        yield Row(situation, partial(twin.seeded(function), **kwargs), sentence)


def parts(twin: Twin) -> Iterator[Row]:
    """Parts that do not fit each other."""
    vae = partial(twin.VAE, 4, 2, hidden=(8,))
    cases: dict[str, tuple[Callable[[], Any], str]] = {
        "a prior of another size": (
            partial(vae, prior=twin.StandardNormal(3)),
            r"^The prior must give values of shape \(2,\)",
        ),
        "a prior with a context": (
            partial(vae, prior=twin.MAF(2, context_shape=3)),
            r"^The prior must give values of shape \(2,\)",
        ),
        "a posterior of another context": (
            partial(vae, posterior=twin.IAF(2, context_shape=3)),
            r"^The posterior must give values of shape \(2,\) with context_shape=8",
        ),
        "a class as prior": (
            partial(vae, prior=twin.plain("StandardNormal")),
            "^prior must be a conditional .*, got the class StandardNormal",
        ),
        "a network as prior": (
            partial(vae, prior=twin.MLP(2, (2,))),
            "^prior must be a conditional .*, got",
        ),
        "a conditional as encoder": (
            partial(vae, encoder=twin.StandardNormal(2)),
            "^encoder must be a network with an attribute out_dim or, for maps, out_shape, got",
        ),
        "a class as encoder": (
            partial(vae, encoder=twin.plain("MLP")),
            "^encoder must be a network with an attribute out_dim.*, got the class MLP",
        ),
        "an encoder of other data": (
            partial(vae, encoder=twin.MLP(3, (8,))),
            "^The encoder must take 4 numbers, got",
        ),
        "a decoder of other latents": (
            partial(vae, decoder=twin.MLP(3, (8,))),
            "^The decoder must take 2 numbers, got",
        ),
        "zero as prior": (partial(vae, prior=0), "^prior must be a conditional"),
        "rank above dim": (
            partial(twin.LowRankNormal, 3, 4),
            r"^rank must be an integer from 1 to 3, got 4",
        ),
        "rank of Sylvester above dim": (
            partial(twin.Sylvester, 3, rank=4),
            r"^rank must be an integer from 1 to 3, got 4",
        ),
        "a coupling of one": (
            partial(twin.Coupling, 1),
            "^dim must be an integer of at least 2, got 1",
        ),
        "a flow of couplings of one": (
            partial(twin.RealNVP, 1),
            "^dim must be an integer of at least 2, got 1",
        ),
        "a rotation of one": (
            partial(twin.Orthogonal, 1),
            "^dim must be an integer of at least 2, got 1",
        ),
        "one bin": (
            partial(twin.NSF, 4, num_bins=1),
            "^num_bins must be an integer from 2 to 500, got 1",
        ),
        "one class": (
            partial(twin.Categorical, 2, 1),
            "^num_classes must be an integer of at least 2, got 1",
        ),
        "one level": (
            partial(twin.DiscretizedLogisticMixture, 2, num_levels=1),
            "^num_levels must be an integer of at least 2, got 1",
        ),
        "a shape of a row": (
            partial(twin.MAF, (3, 2)),
            r"^dim must be an integer of at least 1, got \(3, 2\)",
        ),
        "a base of another size": (
            partial(twin.MAF, 3, base=twin.StandardNormal(2)),
            r"^The base of a flow must give values of shape \(3,\)",
        ),
        "an image that is too small": (
            partial(twin.ConvEncoder, (1, 2, 2)),
            r"^An image of shape \(1, 2, 2\) cannot be halved 2 times",
        ),
        "an odd image": (
            partial(twin.MultiScaleRealNVP, (1, 6, 6), num_scales=3),
            (
                r"^image_shape must be \(channels, height, width\), both sizes divisible by "
                r"2\^2, got "
                r"\(1, 6, 6\)"
            ),
        ),
        "too many scales": (
            partial(twin.MultiScaleRealNVP, (2, 2, 2), num_scales=3),
            r"^image_shape must be .* divisible by 2\^2, got \(2, 2, 2\)",
        ),
        "one channel": (
            partial(twin.ImageCoupling, (1, 4, 4), "channels"),
            r"^The mask 'channels' needs two channels",
        ),
        "stl with closed KL": (
            partial(twin.ELBO, estimator="stl", analytic_kl=True),
            '^estimator="stl" differentiates log q',
        ),
        "one particle for moments": (
            partial(twin.RatioELBO, contrast="adaptive"),
            '^contrast="adaptive" takes the moments',
        ),
        "one draw to compare": (
            partial(twin.EnergyScore, "x", num_samples=1),
            "^num_samples must be an integer of at least 2, got 1",
        ),
        "beta beyond 2": (
            partial(twin.EnergyScore, "x", beta=2.5),
            r"^beta must be a number in \(0, 2",
        ),
        "no pair": (
            partial(twin.MutualInformation, "c", estimator="nwj"),
            "^estimator='nwj' needs the other site",
        ),
        "a pair for the guide": (
            partial(twin.MutualInformation, "c", "x"),
            '^estimator="barber_agakov" scores c by the guide',
        ),
        "InfoVAE": (
            partial(twin.info_vae, 2.0, 0.0),
            "^alpha must be a number of at most 1, got 2.0",
        ),
        "InfoVAE, lambda": (
            partial(twin.info_vae, 0.5, 0.0),
            "^lambda_ must be a number of at least 0.5, got 0.0",
        ),
        "no bound": (
            partial(twin.Constraint, twin.Reconstruction()),
            "^Constraint needs one of at_most, at_least and equal, got none",
        ),
        "two bounds": (
            partial(twin.Constraint, twin.KL(), at_most=1.0, equal=1.0),
            "^Constraint needs one of at_most",
        ),
        "NaN as bound": (
            partial(twin.Constraint, twin.KL(), at_most=NAN),
            "^at_most must be a finite number, got nan",
        ),
        "text as bound": (
            partial(twin.Constraint, twin.KL(), equal="1"),
            "^equal must be a finite number, got '1'",
        ),
        "flag as bound": (
            partial(twin.Constraint, twin.KL(), at_least=True),
            "^at_least must be a finite number, got True",
        ),
        "a sum in a constraint": (
            partial(twin.Constraint, twin.ELBO() + twin.KL(), at_most=1.0),
            "^term must be a single term",
        ),
        "a number in a constraint": (
            partial(twin.Constraint, 3, at_most=1.0),
            "^term must be a single term",
        ),
        "a critic in a constraint": (
            partial(twin.Constraint, twin.JensenShannon("x"), at_most=1.0),
            "^term must be a single term",
        ),
        "zero as multiplier": (
            partial(twin.Constraint, twin.KL(), at_most=1.0, initial=0),
            "^initial must be a positive number, got 0",
        ),
        "NaN as weight": (
            lambda: NAN * twin.ELBO(),
            "^The weight of a loss must be a finite number or a schedule, got nan",
        ),
        "infinite weight": (
            lambda: INF * twin.ELBO(),
            "^The weight of a loss must be a finite number or a schedule, got inf",
        ),
        "text as weight": (
            lambda: "2" * twin.ELBO(),
            "^The weight of a loss must be a finite number or a schedule, got '2'",
        ),
        "a product of losses": (
            lambda: twin.ELBO() * twin.KL(),
            r"^The weight of a loss must be a finite number or a schedule, got",
        ),
        "a number as term": (
            lambda: twin.ELBO() + 3,
            r"^A loss is a sum of losses, got ELBO\(\) \+ 3",
        ),
        "a name as term": (lambda: "MMD" + twin.ELBO(), "^A loss is a sum of losses, got"),
        "a class as term": (
            lambda: twin.ELBO() + twin.KL.__class__,
            "^A loss is a sum of losses, got",
        ),
        "terms that are none": (
            lambda: twin.Loss(((1.0, 3),)),
            "^term must be a term such as",
        ),
        "no terms": (lambda: twin.Loss(()), "^terms must be pairs of a weight and a term, got"),
        "a term without a name": (
            lambda: twin.nameless().term_names,
            "^Nameless must have a name, a class attribute under which its quantity is logged",
        ),
        "noise of a linear divergence": (
            partial(twin.NoiseRegularizer, f="total_variation"),
            "^The conjugate of total_variation",
        ),
        "a steep critic": (
            partial(twin.Critic, 3, activation="gelu", spectral_norm=True),
            "^spectral_norm needs an activation of slope at most 1",
        ),
        "IMQ without scales": (
            partial(twin.IMQ, None),
            "^length_scales must be a positive number",
        ),
        "a teacher that needs a context": (
            partial(twin.Distillation, twin.MAF(2, context_shape=3)),
            "^teacher needs a context",
        ),
        "a pair of terms": (partial(twin.Wasserstein, "x", penalty=NAN), "^penalty must be"),
    }
    for situation, (call, sentence) in cases.items():
        yield Row(f"parts: {situation}", call, sentence)
