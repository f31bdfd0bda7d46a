"""The code of a file of pyro_dgm as it reads in numpyro_dgm, where the two differ by a small table
of names and by what explicit keys and Equinox modules ask for.
"""

import ast
import re
from pathlib import Path
from typing import Any

# Names of Pyro and torch -> names of NumPyro and JAX.
RENAMES = {
    "pyro_dgm": "numpyro_dgm",
    "pyro": "numpyro",
    "nn.Module": "eqx.Module",
    "def forward": "def __call__",
    "torch": "jnp",
    "Tensor": "Array",
    "cat": "concatenate",
    "keepdim": "keepdims",
    "logsigmoid": "log_sigmoid",
}
# Methods of tensors that are functions of JAX's arrays: x.log() and jnp.log(x).
METHODS = ("abs", "exp", "log", "sqrt", "square")
# What only one library has, without which the other's code reads the same.
DROPPED_ARGUMENTS = ("key", "device", "dtype")
DROPPED_STATEMENTS = (
    r"super\(\).__init__\(\)",
    r"\w+ = eqx\.field\(.*",
    r"(\w+|\w+, \*keys) = jax\.random\.split\(.*",
    r"def __repr__\(self\):\n    return outline\(self\)",  # torch's own
)


class _Common(ast.NodeTransformer):
    """What both libraries have of some code: no docstrings, imports, annotations, keys, devices."""

    def _body(self, node: Any) -> ast.AST:
        self.generic_visit(node)
        node.body = [part for part in node.body if not self._is_dropped(part)] or [ast.Pass()]
        return node

    visit_Module = visit_ClassDef = _body

    def _is_dropped(self, node: ast.stmt) -> bool:
        text = ast.unparse(node)
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        # An annotation without a value declares a field of an Equinox module.
        if is_docstring or isinstance(node, ast.Import | ast.ImportFrom | ast.AnnAssign):
            return True
        return any(re.fullmatch(pattern, text) for pattern in DROPPED_STATEMENTS)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        kept = [pair for pair in pairs if pair[0].arg != "key"]
        node.args.kwonlyargs, node.args.kw_defaults = [a for a, _ in kept], [d for _, d in kept]
        node.returns = None
        return self._body(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        return node if node.value is None else ast.Assign([node.target], node.value, lineno=0)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        node.keywords = [word for word in node.keywords if word.arg not in DROPPED_ARGUMENTS]
        name = ast.unparse(node.func)
        if name in ("jax.lax.stop_gradient", "stop_gradient"):
            name = "jnp.detach"
        if name.startswith("jnp.") and name.removeprefix("jnp.") in (*METHODS, "detach"):
            value, *rest = node.args
            function = ast.Attribute(value, name.removeprefix("jnp."), ast.Load())
            return ast.Call(function, rest, node.keywords)
        return node


def common(source: str) -> str:
    """The code that both libraries have of some code."""
    return ast.unparse(_Common().visit(ast.parse(source)))


def translated(source: str) -> str:
    """The common code of a file of pyro_dgm, in the names of numpyro_dgm."""
    text = common(source)
    for name, other in RENAMES.items():
        text = re.sub(rf"\b{re.escape(name)}\b", other, text)
    return text


def twins(path: Path, root: Path) -> tuple[str, str]:
    """A file of pyro_dgm in translation, and its twin."""
    twin = root / "numpyro_dgm" / path.relative_to(root / "pyro_dgm")
    return translated(path.read_text("utf-8")), common(twin.read_text("utf-8"))
