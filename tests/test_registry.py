"""Every public name is in the registry, with its contract and its twin test, or in a list that says
where else it is tested, and why.
"""

import ast
import importlib
from typing import Any

import pytest

from tests.cases import (
    CONDITIONALS,
    CRITICS,
    FLOWS,
    GANS,
    LOSSES,
    MODELS,
    NETWORKS,
    PAIRS,
    SCALARS,
)
from tests.contracts.libraries import PyroLibrary
from tests.source_tree import ROOT, TWINS

PACKAGES = ("nn", "conditionals", "flows", "joints", "mcmc", "guides", "losses", "models")
PACKAGES = (*PACKAGES, "training", "evaluation")

# Where the members of each kind are held to their contract, and where the twins are compared.
KINDS = {
    "CONDITIONALS": ("contracts/test_conditionals.py", "twins/test_conditionals.py"),
    "SCALARS": ("contracts/test_scalar_maps.py", "twins/test_flows.py"),
    "FLOWS": ("contracts/test_flows.py", "twins/test_flows.py"),
    "NETWORKS": ("contracts/test_networks.py", "twins/test_conditionals.py"),
    "MODELS": ("contracts/test_models.py", "twins/test_models.py"),
    "GANS": ("contracts/test_gans.py", "twins/test_models.py"),
    "PAIRS": ("contracts/test_pairs.py", "twins/test_models.py"),
    "LOSSES": ("contracts/test_losses.py", "contracts/test_losses.py"),
    "CRITICS": ("losses/test_critics.py", "twins/test_critics.py"),
}

BASE = "a base class, tested by its members; users' own are tested here"
PROTOCOL = "how modules enter a program, not a formula"
RUNS = "acts on a run, by its own draws: one file tests it over both backends"
MADE = "made by the library"
SAMPLER = "a kernel or its state, in a registry of their own, with twins"
# Public name -> the file that tests it, and why it is not in the registry.
ELSEWHERE = {
    "evaluation_mode": ("contracts/test_networks.py", PROTOCOL),
    "register": ("training/test_shared_modules.py", PROTOCOL),
    "require": ("contracts/test_networks.py", PROTOCOL),
    "Conditional": ("contracts/test_conditionals.py", BASE),
    "ImplicitDistribution": ("test_twin_names.py", MADE),
    "NoDensityError": ("contracts/test_gans.py", "an exception"),
    "Parametric": ("contracts/test_types.py", BASE),
    "positive": ("contracts/test_reference_values.py", "the scale of every conditional with one"),
    "size_of": ("contracts/test_types.py", "a number"),
    "ExternalFlow": ("flows/test_external.py", "an adapter of one library each"),
    "FlowDistribution": ("test_twin_names.py", MADE),
    "Normalization": ("twins/test_flows.py", "has running statistics, compared step by step"),
    "ParametricTransform": ("flows/test_torch_func.py", BASE),
    "ScalarMap": ("contracts/test_types.py", BASE),
    "Transform": ("contracts/test_types.py", BASE),
    "InferenceJoint": ("test_twin_names.py", MADE),
    "Joints": ("losses/test_structure.py", MADE),
    "Structure": ("losses/test_structure.py", MADE),
    "AdversarialTerm": ("losses/test_authors.py", BASE),
    "Divergence": ("losses/test_divergences.py", "a row of a table, whose formulas are twins there"),
    "Evaluation": ("test_twin_names.py", MADE),
    "Kernel": ("losses/test_kernels.py", BASE),
    "Loss": ("losses/test_authors.py", BASE),
    "Term": ("losses/test_authors.py", BASE),
    "cliques": ("losses/test_message_passing.py", "reads names"),
}
