"""The private parts of the libraries, each looked for in the installed version, and what is made of
them. A test that fails here names the part that a new version of a library has changed.
"""

import ast
import importlib
import inspect
import re
import tomllib
from collections.abc import Callable, Container
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as ndist
import pyro
import pyro.distributions as pdist
import pytest
import torch
from numpyro.contrib.control_flow import scan
from packaging.requirements import Requirement
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroSample

import dgm_core.compat
import numpyro_dgm.compat
import pyro_dgm.compat
from pyro_dgm.compat import own_store, store_parameter, stored_constraint, stored_parameter
from tests.source_tree import PACKAGES, ROOT, definitions, private_uses, tree_of

COMPAT = {
    "dgm_core": dgm_core.compat,
    "pyro_dgm": pyro_dgm.compat,
    "numpyro_dgm": numpyro_dgm.compat,
}


def auto_guide() -> AutoNormal:
    guide = AutoNormal(lambda: pyro.sample("z", pdist.Normal(0.0, 1.0)))
    guide()
    return guide


class Prior(PyroModule):
    def __init__(self) -> None:
        super().__init__()
        self.z = PyroSample(pdist.Normal(0.0, 1.0))


def deterministic_infer() -> dict[str, Any]:
    trace = pyro.poutine.trace(lambda: pyro.deterministic("a", torch.ones(2))).get_trace()
    return trace.nodes["a"]["infer"]


def called_by_pyro() -> set[str]:
    """Which methods of a Messenger a program calls."""
    called: set[str] = set()

    class Listening(pyro.poutine.messenger.Messenger):
        def _pyro_sample(self, msg: Any) -> None:
            called.add("_pyro_sample")

        def _pyro_post_sample(self, msg: Any) -> None:
            called.add("_pyro_post_sample")

        def _pyro_param(self, msg: Any) -> None:
            called.add("_pyro_param")

        def _pyro_post_param(self, msg: Any) -> None:
            called.add("_pyro_post_param")

    with Listening():
        pyro.sample("z", pdist.Normal(pyro.param("loc", torch.zeros(())), 1.0))
    return called


def scanned_site() -> dict[str, Any]:
    def body(carry: Any, _: Any) -> tuple[Any, None]:
        return numpyro.sample("a", ndist.Normal(carry, 1.0)), None

    def model() -> None:
        scan(body, 0.0, None, length=2)

    return numpyro.handlers.trace(numpyro.handlers.seed(model, 0)).get_trace()["a"]


# What is there only in an object, or in a dict; all else is found by its dotted name.
FOUND_IN: dict[str, Callable[[], Container[str]]] = {
    "torch.nn.Module": lambda: dir(torch.nn.Linear(1, 1)),
    "torch.distributions.Binomial": lambda: dir(torch.distributions.Binomial(2, torch.ones(1))),
    "torch.distributions.OneHotCategorical": lambda: dir(
        torch.distributions.OneHotCategorical(torch.ones(2))
    ),
    "torch.distributions.MultivariateNormal": lambda: dir(
        torch.distributions.MultivariateNormal(torch.ones(2), torch.eye(2))
    ),
    "torch.fx.experimental.proxy_tensor.make_fx": lambda: (
        inspect.signature(resolve("torch.fx.experimental.proxy_tensor.make_fx")).parameters
    ),
    "pyro.distributions.MaskedDistribution": lambda: dir(pdist.Normal(0.0, 1.0).mask(False)),
    "pyro.params.param_store.ParamStoreDict": lambda: dir(pyro.get_param_store()),
    "pyro.poutine.messenger.Messenger": called_by_pyro,
    "pyro.nn.PyroModule": lambda: dir(Prior()),
    "pyro.infer.autoguide.AutoGuide": lambda: dir(auto_guide()),
    "the infer of pyro.deterministic": deterministic_infer,
    "numpyro.distributions.MaskedDistribution": lambda: dir(ndist.Normal().mask(False)),
    "a site in a scan": scanned_site,
}


def resolve(name: str) -> Any:
    """The object of a dotted name."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def installed(owner: str) -> str:
    library = "jax" if owner.startswith("jax") else owner.split(".")[0]
    return ", ".join(
        f"{name} {version(name)}"
        for name in ("torch", "pyro-ppl", "jax", "numpyro")
        if library.split("-")[0] in (name, name.removesuffix("-ppl")) or "." not in owner
    )


PARTS = [
    pytest.param(owner, name, id=f"{package}-{owner}.{name}")
    for package, compat in COMPAT.items()
    for table in (compat.PRIVATE, getattr(compat, "INHERITED", {}))
    for owner, names in table.items()
    for name in names
]


@pytest.mark.parametrize(("owner", "name"), PARTS)
def test_a_private_part_is_there(owner: str, name: str) -> None:
    found = FOUND_IN.get(owner, lambda: dir(resolve(owner)))()
    assert name in found, f"{owner} has no {name} in {installed(owner)}."


@pytest.mark.parametrize("package", PACKAGES)
def test_the_table_names_every_part_that_is_used(package: str) -> None:
    compat, tree = COMPAT[package], tree_of(ROOT / package / "compat.py")
    used = {name for *_, name, _ in private_uses(tree, strings=True)} - definitions(tree)
    listed = [n for names in compat.PRIVATE.values() for n in names]
    inherited = [n for names in getattr(compat, "INHERITED", {}).values() for n in names]
    modules = {part for owner in compat.PRIVATE for part in owner.split(".")}
    assert used - modules <= {*listed, *inherited}
    assert len(set(listed)) == len(listed)
    source = (ROOT / package / "compat.py").read_text(encoding="utf-8")
    for name in listed:
        assert len(re.findall(rf"\b{name}\b", source)) > 1, f"Nothing in compat.py uses {name}."


@pytest.mark.parametrize("package", ["pyro_dgm", "numpyro_dgm"])
def test_the_installed_versions_are_supported(package: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in project["optional-dependencies"][package.removesuffix("_dgm")]:
        requirement = Requirement(line)
        assert version(requirement.name) in requirement.specifier, line


@pytest.mark.parametrize(
    ("compat", "dist"), [(pyro_dgm.compat, pdist), (numpyro_dgm.compat, ndist)]
)
def test_masks_and_validation(compat: Any, dist: Any) -> None:
    fn = dist.Normal(0.0, 1.0)
    assert compat.mask_of(fn) is None
    assert compat.mask_of(fn.mask(False)) is False
    for given, expected in ((None, True), (True, True), (False, False)):
        fn = dist.Normal(0.0, 1.0, validate_args=given)
        assert compat.validates(fn) is expected
        assert compat.validates(fn.expand((3,)).to_event(1)) is expected


def test_validation_is_unset_and_set_again() -> None:
    before = torch.distributions.Distribution._validate_args
    with pyro_dgm.compat.validation_unset():
        pdist.Normal(0.0, 1.0).log_prob(torch.tensor(float("nan")))  # says nothing
        assert pyro_dgm.compat.validates(pdist.Normal(0.0, 1.0))
        assert not pyro_dgm.compat.validates(pdist.Normal(0.0, 1.0, validate_args=False))
    assert torch.distributions.Distribution._validate_args is before


def test_computed_and_scanned_sites() -> None:
    def model() -> None:
        pyro.deterministic("a", torch.ones(2))
        pyro.sample("b", pdist.Normal(0.0, 1.0))

    nodes = pyro.poutine.trace(model).get_trace().nodes
    assert [pyro_dgm.compat.is_computed(nodes[name]) for name in "ab"] == [True, False]
    assert numpyro_dgm.compat.is_scanned(scanned_site())
    plain = numpyro.handlers.seed(lambda: numpyro.sample("b", ndist.Normal()), 0)
    assert not numpyro_dgm.compat.is_scanned(numpyro.handlers.trace(plain).get_trace()["b"])


def test_the_parameter_store() -> None:
    scale = torch.nn.Parameter(torch.tensor(0.5))
    store_parameter("scale", scale, pdist.constraints.positive)
    assert pyro.param("scale").item() == pytest.approx(torch.tensor(0.5).exp().item())
    assert stored_parameter("scale", torch.zeros(())) is scale
    assert stored_parameter("other", scale) is scale
    assert stored_constraint("scale") is pdist.constraints.positive
    with own_store(empty=True):
        assert "scale" not in pyro.get_param_store()
        pyro.param("inside", torch.ones(()))
    with own_store(empty=False):
        assert stored_parameter("scale", torch.zeros(())) is scale
        pyro.param("inside", torch.ones(()))
    assert list(pyro.get_param_store().keys()) == ["scale"]
    store_parameter("scale", other := torch.nn.Parameter(torch.zeros(2)), None)
    assert stored_parameter("scale", scale) is other


def test_modules_and_their_parts() -> None:
    norm = torch.nn.BatchNorm1d(2)
    assert pyro_dgm.compat.is_batch_norm(norm)
    assert not pyro_dgm.compat.is_batch_norm(torch.nn.LayerNorm(2))
    parameters, buffers = pyro_dgm.compat.tensor_slots(norm)
    assert parameters["weight"] is norm.weight
    assert buffers["running_mean"] is norm.running_mean
    assert list(pyro_dgm.compat.priors_of(Prior())["samples"]) == ["z"]
    frames = pyro_dgm.compat.plate_frames(auto_guide())
    assert frames == {}


def test_the_module_that_is_being_registered() -> None:
    module, found = torch.nn.Linear(1, 1), []

    class Listening(pyro.poutine.messenger.Messenger):
        def _pyro_param(self, msg: Any) -> None:
            found.append(pyro_dgm.compat.module_being_registered())

    with Listening():
        pyro.module("net", module)
        pyro.param("alone", torch.zeros(()))
    assert found == [module, module, None]


def test_tensors() -> None:
    x = torch.zeros(2)
    before = pyro_dgm.compat.version_of(x)
    x.add_(1.0)
    assert pyro_dgm.compat.version_of(x) == before + 1
    with torch.inference_mode():
        assert pyro_dgm.compat.version_of(torch.zeros(2)) == -1
    pyro_dgm.compat.lerp_all([x], [torch.tensor([3.0, 5.0])], 0.25)
    assert x.tolist() == [1.5, 2.0]
    pyro_dgm.compat.copy_all([x], [torch.tensor([7.0, 8.0])])
    assert x.tolist() == [7.0, 8.0]
    inside = []
    torch.func.vmap(lambda v: inside.append(pyro_dgm.compat.in_torch_func()) or v)(x)
    assert (pyro_dgm.compat.in_torch_func(), inside) == (False, [True])
    graph = pyro_dgm.compat.as_graph(lambda v: 2 * v)(x)
    assert graph(x).tolist() == [14.0, 16.0]
    pyro_dgm.compat.forget_processor()


def test_jax_is_known_to_run() -> None:
    jnp.zeros(1).block_until_ready()
    assert numpyro_dgm.compat.jax_is_running()
    assert isinstance(numpyro.optim.Adam(1e-3), numpyro_dgm.compat.NumPyroOptim)
    assert jax.devices()


def test_a_private_part_elsewhere_is_found() -> None:
    source = "from jax._src import core\nstore._params\ngetattr(x, '_mask')\nf(_x=1)\nself._own\n"
    uses = private_uses(ast.parse(source), strings=True)
    assert {name for *_, name, _ in uses} == {"_src", "_params", "_mask", "_x", "_own"}
