"""The API reference: it builds without a warning, and describes every argument, result and error of the public API."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pdoc
import pytest

import mnist_mlp
from mnist_mlp.options import OptionGroup


def public_functions() -> Iterator[tuple[str, Any]]:
    """Exported functions, classes with arguments, and the methods that the classes define themselves."""
    for name in mnist_mlp.__all__:
        value = getattr(mnist_mlp, name)
        if inspect.isclass(value):
            if not issubclass(value, (OptionGroup, Exception)):
                yield name, value
            for attribute, member in vars(value).items():
                is_override = any(hasattr(base, attribute) for base in value.__mro__[1:])
                function = getattr(member, "__func__", member)
                if inspect.isfunction(function) and not attribute.startswith("_") and not is_override:
                    yield f"{name}.{attribute}", function
        elif callable(value):
            yield name, value


PUBLIC = dict(public_functions())


@pytest.mark.parametrize("name", PUBLIC)
def test_the_docstring_describes_every_argument_and_the_result(name: str) -> None:
    text, signature = inspect.getdoc(PUBLIC[name]) or "", inspect.signature(PUBLIC[name])
    arguments = [parameter for parameter in signature.parameters if parameter not in ("self", "cls")]
    section = re.search(r"^(?:Args|Attributes):\n((?:(?: +.*)?\n?)*)", text, re.M)
    described = re.findall(r"^ +\*{0,2}(\w+)(?: \(.*\))?:", section[1], re.M) if section else []
    assert set(arguments) <= set(described), f"not described: {set(arguments) - set(described)}"
    has_result = inspect.isfunction(PUBLIC[name]) and signature.return_annotation not in (None, "None")
    assert not has_result or re.search(r"^Returns:\n|^Yields:\n", text, re.M), "no Returns section"


def test_the_reference_builds_and_has_every_public_name(tmp_path: Path) -> None:
    pdoc.render.configure(docformat="google")
    pdoc.pdoc("mnist_mlp", r"!mnist_mlp\.", output_directory=tmp_path)  # a warning is an error here
    page = (tmp_path / "mnist_mlp.html").read_text(encoding="utf-8")
    missing = [name for name in mnist_mlp.__all__ if f'id="{name}"' not in page]
    assert not missing
