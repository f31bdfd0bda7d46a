"""Every public name is in the registry, with its contract and its twin test, or in a list that says
where else it is tested, and why.
"""

import ast
import importlib
import re
from functools import cache
from typing import Any

import pytest

from tests import cases
from tests.contracts.libraries import PyroLibrary
from tests.source_tree import ROOT, TWINS, sources

# Where the members of each kind are held to their contract, and where the twins are compared.
KINDS = {
    "AUTOREGRESSIVE": ("autoregressive/test_members.py", "autoregressive/test_members.py"),
    "CONDITIONALS": ("contracts/test_conditionals.py", "twins/test_conditionals.py"),
    "PATHS": ("contracts/test_conditionals.py", "twins/test_conditionals.py"),
    "SCALARS": ("contracts/test_scalar_maps.py",),
    "FLOWS": ("contracts/test_flows.py", "twins/test_flows.py"),
    "NETWORKS": ("contracts/test_networks.py", "twins/test_conditionals.py"),
    "MODELS": ("contracts/test_models.py", "twins/test_models.py"),
    "GANS": ("contracts/test_gans.py", "twins/test_models.py"),
    "PAIRS": ("contracts/test_pairs.py", "twins/test_models.py"),
    "LOSSES": ("contracts/test_losses.py", "contracts/test_losses.py"),
    "CRITICS": ("twins/test_critics.py", "twins/test_critics.py"),
}
# Packages of functions that run programs: each is tested in one place over both backends.
PLACES = {
    "mcmc": ("mcmc", "twins/test_kernels.py"),
    "guides": ("guides", "twins/test_guides.py"),
    "sequences": ("sequences", "sequences/test_unroll.py"),
    "training": ("training", "adversarial/test_unpaired.py"),
    "evaluation": ("evaluation", "twins/test_posteriors.py"),
}
PACKAGES = ("nn", "conditionals", "flows", "joints", "losses", "models", *PLACES)

# Public name -> the file that tests it, and why it is not in the registry. (Base classes of what is
# there need no line.)
ELSEWHERE = {
    "Bucketed": ("sequences/test_bucketed.py", "holds data"),
    "Consistency": ("adversarial/test_augmenting.py", "draws changes: twins by the maps behind it"),
    "CriticBlock": ("adversarial/test_blocks.py", "takes maps, of any size"),
    "Cycle": ("adversarial/test_unpaired.py", "needs a model of two sites, each from the other"),
    "CycleGAN": ("adversarial/test_unpaired.py", "has neither prior nor latents"),
    "Identity": ("adversarial/test_unpaired.py", "needs a model of two sites, each from the other"),
    "DiffAugment": ("adversarial/test_augmenting.py", "draws changes: twins by the maps behind it"),
    "MinibatchStdDev": ("adversarial/test_blocks.py", "takes a whole batch of maps"),
    "OrthogonalPenalty": ("adversarial/test_images.py", "needs a network that is registered"),
    "ProgressiveCritic": ("adversarial/test_progressive.py", "keeps a count beside its weights"),
    "at_level": ("adversarial/test_progressive.py", "a function of numbers"),
    "grown": ("adversarial/test_progressive.py", "a function of numbers"),
    "ResidualCritic": ("adversarial/test_blocks.py", "keeps vectors beside its weights"),
    "attend": ("adversarial/test_blocks.py", "a function of numbers"),
    "halved": ("adversarial/test_blocks.py", "a function of numbers"),
    "orthogonal_penalty": ("adversarial/test_blocks.py", "a function of numbers"),
    "power_step": ("adversarial/test_blocks.py", "a function of numbers"),
    "resized": ("adversarial/test_blocks.py", "a function of numbers"),
    "Commitment": ("losses/test_objectives.py", "needs a quantizer"),
    "Chain": ("diffusion/test_twins.py", "a pair of programs of T sites"),
    "ContrastiveDistillation": ("losses/test_distillation.py", "needs a teacher with contexts"),
    "ContrastiveDivergence": ("energies/test_quadratic.py", "keeps chains; needs an energy"),
    "DMM": ("sequences/test_models.py", "its latent is a path"),
    "FIVO": ("sequences/test_particles.py", "needs a model written as steps"),
    "Energy": ("energies/test_twins.py", "its density is known up to a constant"),
    "DenoisingELBO": ("diffusion/test_terms.py", "needs a diffusion"),
    "DenoisingError": ("diffusion/test_terms.py", "needs a diffusion"),
    "ProgressiveDistillation": ("diffusion/test_distilling.py", "needs a diffusion"),
    "Diffusion": ("diffusion/test_twins.py", "its density is a solution: few steps, many settings"),
    "ExternalFlow": ("flows/test_external.py", "an adapter of one library each"),
    "ImageToImage": ("images/test_models.py", "is given images, which are a site"),
    "JEM": ("energies/test_models.py", "its density is known up to a constant"),
    "JMVAE": ("multimodal/test_models.py", "takes modalities by name"),
    "LearnedSchedule": ("diffusion/test_twins.py", "the noise of a diffusion"),
    "MLVAE": ("multimodal/test_groups.py", "has data in groups"),
    "MMVAE": ("multimodal/test_models.py", "takes modalities by name"),
    "MVAE": ("multimodal/test_models.py", "takes modalities by name"),
    "MaskedAutoencoder": ("images/test_models.py", "has no latent site"),
    "MixtureOfExperts": ("multimodal/test_experts.py", "takes a list of conditionals and a mask"),
    "FiniteScalarQuantizer": ("twins/test_quantizers.py", "its context has the shape of its value"),
    "MoPoE": ("multimodal/test_models.py", "takes modalities by name"),
    "M1": ("structured/test_labels.py", "observes labels, which no other model of codes does"),
    "NoDensityError": ("contracts/test_gans.py", "an exception"),
    "NoiseContrastive": ("energies/test_quadratic.py", "needs a constant that is free"),
    "Normalization": ("contracts/test_flow_normalization.py", "has statistics: twins step by step"),
    "Objective": ("losses/test_objectives.py", "needs a distribution that brings one"),
    "particle_filter": ("sequences/test_filters.py", "needs a model written as steps"),
    "particle_smoother": ("sequences/test_filters.py", "needs a model written as steps"),
    "Persistent": ("energies/test_quadratic.py", "a description, the same class in both"),
    "Pooled": ("twins/test_functions.py", "takes rows and a mask, as no other network does"),
    "ProductOfExperts": ("multimodal/test_experts.py", "takes a list of conditionals and a mask"),
    "Quantizer": ("twins/test_quantizers.py", "the base of quantizers"),
    "RBM": ("energies/test_models.py", "its density is known up to a constant"),
    "RNN": ("sequences/test_step_models.py", "its latent is none, its x a path"),
    "Recipe": ("guides/test_recipes.py", "a description, the same class in both"),
    "TimeFeatures": ("images/test_networks.py", "takes times, numbers without a shape"),
    "Tilted": ("energies/test_twins.py", "its density is known up to a constant"),
    "UnnormalizedConditional": ("energies/test_twins.py", "the base of energies"),
    "UnnormalizedDistribution": ("energies/toys.py", "its density is known up to a constant"),
    "UnnormalizedError": ("energies/test_wells_and_tilts.py", "an exception"),
    "TimeMLP": ("diffusion/test_twins.py", "takes times"),
    "TimeTransformer": ("diffusion/test_transformers.py", "takes times"),
    "VQVAE": ("codes/test_vq_vae.py", "its latent is a map of codes that training moves"),
    "VQVAE2": ("codes/test_twins.py", "its latents are maps of codes that training moves"),
    "VectorQuantizer": ("twins/test_quantizers.py", "keeps codes: twins step by step"),
    "SRNN": ("sequences/test_step_models.py", "its latent is a path"),
    "VRNN": ("sequences/test_step_models.py", "its latent is a path"),
    "WaveNet": ("autoregressive/test_wavenet.py", "both libraries side by side"),
    "annealed_log_z": ("energies/test_wells_and_tilts.py", "an interval with exact values there"),
    "class_probabilities": ("structured/test_labels.py", "has its exact values there"),
    "cliques": ("losses/test_message_passing.py", "gives names, no numbers"),
    "full_attention": ("core/test_attention.py", "a pattern, the same class in both"),
    "FlowMatching": ("losses/test_flow_matching.py", "draws the noise of a flow"),
    "forecast": ("sequences/test_forecasts.py", "of sequences alone"),
    "composed": ("core/test_attention.py", "a function of numpy, the same in both"),
    "evaluation_mode": ("contracts/test_networks.py", "changes how networks run"),
    "integrate": ("twins/test_ode.py", "a function of fields"),
    "jacobian_trace": ("twins/test_ode.py", "a function of fields"),
    "jmvae": ("multimodal/test_models.py", "needs several observed sites"),
    "normalized": ("energies/test_wells_and_tilts.py", "has its exact values there"),
    "positive": ("twins/test_functions.py", "a function of numbers"),
    "product_of_normals": ("multimodal/test_experts.py", "a function of numbers"),
    "register": ("training/test_shared_modules.py", "a statement of programs"),
    "merge": ("structured/test_ladders.py", "a function of distributions"),
    "residual": ("structured/test_ladders.py", "a function of distributions"),
    "require": ("twins/test_functions.py", "a statement of programs"),
    "sub_sampled": ("multimodal/test_models.py", "needs several observed sites"),
    "step_mask": ("twins/test_functions.py", "a function of numbers"),
    "without_padding": ("twins/test_functions.py", "a function of numbers"),
    "size_of": ("twins/test_functions.py", "a function of numbers"),
    "strided_attention": ("core/test_attention.py", "a pattern, the same class in both"),
}
# Made by the library, never by users: what some function of ours returns.
MADE = {
    "AutoregressiveDistribution",
    "CodePrior",
    "Determined",
    "DiffusionDistribution",
    "Divergence",
    "Evaluation",
    "FlowDistribution",
    "ImplicitDistribution",
    "Info",
    "InferenceJoint",
    "Joints",
    "NormalizedDistribution",
    "Quantized",
    "State",
    "StepPair",
    "Structure",
    "Unrolled",
    "WeightedStep",
}


def words(source: str) -> set[str]:
    """The names in some code, those in its strings among them."""
    return set(re.findall(r"[A-Za-z_]\w*", source))


def source(place: str) -> str:
    """The code of a test file, or of all files of a folder."""
    path = ROOT / "tests" / place
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return "\n".join(ast.unparse(ast.parse(file.read_text(encoding="utf-8"))) for file in files)


@cache
def built() -> frozenset[type]:
    """The classes of all modules that the registry's cases are built of."""
    lib = PyroLibrary()
    made: list[Any] = [
        lib.conditional(case, case.contexts[0])
        for case in (
            *cases.CONDITIONALS.values(),
            *cases.FLOWS.values(),
            *cases.PATHS.values(),
            *cases.AUTOREGRESSIVE.values(),
        )
    ]
    made += [lib.network(case) for case in cases.NETWORKS.values()]
    models = (*cases.MODELS.values(), *cases.GANS.values(), *cases.PAIRS.values())
    made += [lib.model(case) for case in models]
    return frozenset(type(part) for module in made for part in module.modules())


@cache
def registered() -> frozenset[str]:
    """The names in the registry: what its cases name, and the classes that they are built of."""
    named = words(source("cases"))
    return frozenset(named | {base.__name__ for made in built() for base in made.__mro__})


def with_bases(package: str, names: set[str]) -> set[str]:
    """Some public names of a package, the base classes of what they name, and its protocols, which
    have no code.
    """
    module = importlib.import_module(f"pyro_dgm.{package}")
    protocols = {name for name in module.__all__ if _is_protocol(getattr(module, name))}
    classes = [getattr(module, name) for name in names & set(module.__all__)]
    classes = [made for made in classes if isinstance(made, type)]
    return names | protocols | {base.__name__ for made in classes for base in made.__mro__}


def _is_protocol(made: Any) -> bool:
    return bool(vars(made).get("_is_protocol")) if isinstance(made, type) else False


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_tested(package: str, twin: str) -> None:
    public = set(importlib.import_module(f"{twin}.{package}").__all__)
    known = set(registered())
    for place in PLACES.get(package, ()):
        known |= words(source(place))
    unknown = public - with_bases(package, known) - ELSEWHERE.keys() - MADE
    assert public and not unknown, f"in no test: {sorted(unknown)}"


def test_the_lists_of_exceptions_are_not_stale() -> None:
    """Each is public and not in the registry; it is tested where the list says, or returned."""
    public: set[str] = set()
    for package in PACKAGES:
        public |= set(importlib.import_module(f"pyro_dgm.{package}").__all__)
    assert ELSEWHERE.keys() | MADE <= public
    assert not (ELSEWHERE.keys() | MADE) & registered()
    for name, (place, reason) in ELSEWHERE.items():
        assert reason and name in words(source(place)), f"{name} is not in {place}"
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources("pyro_dgm"))
    for name in MADE:
        assert re.search(rf"-> .*\b{name}\b", code), f"{name} is returned by nothing"


def test_every_kind_has_a_contract_and_twins() -> None:
    """Each table of the registry is what some contract and some twin test run over."""
    tables = {name for name in cases.__all__ if name.isupper() and name != "PROGRAMS"}
    tables = {name for name in tables if isinstance(getattr(cases, name), dict)}
    assert tables - KINDS.keys() <= {"MASKED", "NET", "PIXELWISE", "SMALL"}  # settings
    for name, places in KINDS.items():
        assert getattr(cases, name)
        for place in places:
            assert name in words(source(place)), f"{name} is not in {place}"
