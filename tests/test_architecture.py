"""Imports point one way, and pieces stay small: rules over the source, none of which is imported."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "mnist_mlp"
SOURCES = {path.stem: path.read_text() for path in PACKAGE.glob("*.py")}

# A module imports from the layers below its own, and from its own layer only what SIDEWAYS allows.
LAYERS = (
    {"__init__"},
    {"cache", "errors"},
    {
        *("augment", "blocks", "compare", "config", "curves", "diagnosis", "digits", "environment", "figures"),
        *("lean_imports", "metrics", "mlp", "runs", "section", "tables", "update"),
    },
    {"execution", "explain", "step"},
    {"galleries", "predictions", "sweep_figures", "sweeps"},
    {"effects", "summary"},
    {"best_run", "overview", "pair", "published"},
    {"callbacks", "classifier", "data"},
    {"build", "page", "presentation"},
    {"fit", "hydra_app"},
    {"contenders", "sweep"},
    {"benchmark", "evaluate", "export", "predict", "report", "train"},
)
SIDEWAYS = {"callbacks": {"classifier"}, "metrics": {"mlp"}}
ONLY = {  # who may import it, inside functions too
    "hydra": {"config", "explain", "hydra_app", "sweep", "train"},
    "omegaconf": {"config", "hydra_app", "sweep", "train"},
    "matplotlib": {"figures", "sweep_figures"},
}
LONGEST_FUNCTION = 60


def imports(source: str) -> Iterator[str]:
    """Dotted names of what is imported anywhere in a module of the package, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = ".".join(filter(None, ["mnist_mlp" if node.level else "", node.module]))
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def layer(module: str) -> int | None:
    return next((height for height, modules in enumerate(LAYERS) if module in modules), None)


def import_faults(sources: dict[str, str]) -> list[str]:
    faults = []
    for module, source in sources.items():
        height = layer(module)
        if height is None:
            faults.append(f"{module} is in no layer: place it in LAYERS")
            continue
        for name in imports(source):
            top, _, rest = name.partition(".")
            if top == "mnist_mlp":
                ours = rest.split(".")[0] or "__init__"
                below = layer(ours)
                if below is None:
                    faults.append(f"{module} imports {name}, which is in no layer")
                elif below >= height and ours not in SIDEWAYS.get(module, ()):
                    faults.append(f"{module} imports {ours}, which is not below it")
            elif module not in ONLY.get(top, {module}):
                faults.append(f"{module} imports {top}, which is for {', '.join(sorted(ONLY[top]))}")
    return faults


def long_functions(sources: dict[str, str], longest: int) -> list[str]:
    return [
        f"{module}.{node.name}"
        for module, source in sources.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (node.end_lineno or 0) - node.lineno + 1 > longest
    ]


def test_imports_point_one_way() -> None:
    assert len(SOURCES) >= 15
    assert import_faults(SOURCES) == []


def test_the_exceptions_are_needed() -> None:
    for module, allowed in SIDEWAYS.items():
        assert allowed <= {name.split(".")[1] for name in imports(SOURCES[module]) if name.startswith("mnist_mlp.")}


def test_no_module_is_in_two_layers() -> None:
    assert len(set.union(*LAYERS)) == sum(map(len, LAYERS))


def test_the_package_is_flat() -> None:
    assert sorted(PACKAGE.rglob("*.py")) == sorted(PACKAGE.glob("*.py"))


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("mlp", "from mnist_mlp.classifier import DigitClassifier", "mlp imports classifier, which is not below it"),
        ("mlp", "import mnist_mlp.fit", "mlp imports fit, which is not below it"),
        ("mlp", "def late():\n    from mnist_mlp import fit", "mlp imports fit, which is not below it"),
        ("mlp", "from .fit import fit", "mlp imports fit, which is not below it"),
        ("mlp", "from . import runs", "mlp imports runs, which is not below it"),
        ("errors", "from mnist_mlp.runs import flat", "errors imports runs, which is not below it"),
        ("data", "from mnist_mlp.classifier import DigitClassifier", "data imports classifier, which is not below it"),
        ("classifier", "from mnist_mlp.fit import fit", "classifier imports fit, which is not below it"),
        ("report", "from mnist_mlp.train import job", "report imports train, which is not below it"),
        ("mlp", "from mnist_mlp.utils import x", "mlp imports mnist_mlp.utils.x, which is in no layer"),
        ("utils", "", "utils is in no layer: place it in LAYERS"),
        ("fit", "import hydra", "fit imports hydra, which is for config, explain, hydra_app, sweep, train"),
        (
            "runs",
            "from omegaconf import OmegaConf",
            "runs imports omegaconf, which is for config, hydra_app, sweep, train",
        ),
        ("report", "import matplotlib.pyplot as plt", "report imports matplotlib, which is for figures, sweep_figures"),
    ],
)
def test_a_planted_import_is_found(module: str, source: str, fault: str) -> None:
    assert import_faults({module: source}) == [fault]


def test_what_is_allowed_is_not_a_fault() -> None:
    allowed = "from mnist_mlp.mlp import MLP\nfrom mnist_mlp.errors import UserError\nimport torch"
    assert import_faults({"metrics": allowed, "classifier": allowed, "train": allowed}) == []


def test_no_function_is_long() -> None:
    assert long_functions(SOURCES, LONGEST_FUNCTION) == []


def test_a_planted_long_function_is_found() -> None:
    body = "    x = 1\n"
    assert long_functions({"a": "def just():\n" + 59 * body}, 60) == []
    assert long_functions({"a": "class C:\n  def over(self):\n" + 60 * body}, 60) == ["a.over"]
