"""The Terraform that the pages show: blocks of a module, and values of this module's variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import hcl2

from tests.docs.pages import File, fences, pages
from tests.terraform.configuration import blocks_of, plain, read_configuration

PACKER = ".pkr.hcl"


def shown_modules() -> list[File]:
    """Return the fences with blocks, each of which is a module of its own."""
    return [fence for fence in _shown() if not _is_values(fence)]


def shown_values() -> Mapping[str, Any]:
    """Return the values of this module's variables that the pages show. ValueError where two pages show one."""
    values: dict[str, Any] = {}
    for fence in filter(_is_values, _shown()):
        for name, value in plain(hcl2.loads(fence.text.replace("PROJECT", "my-project"))).items():
            if values.setdefault(name, value) is not value:
                raise ValueError(f"{fence.page}:{fence.line}: {name} is shown twice")
    return values


def types_in_use() -> set[str]:
    """Return the types of terraform/ and of the blocks that the pages show."""
    shown = (block for module in shown_modules() for block in blocks_of(module.text))
    kinds = {f"{'data.' if block.kind == 'data' else ''}{block.labels[0]}" for block in shown if len(block.labels) == 2}
    return read_configuration().types() | kinds


def _shown() -> list[File]:
    found = [fence for page in pages() for fence in fences(page, languages=("hcl", "terraform"))]
    return [fence for fence in found if not fence.path.endswith(PACKER)]


def _is_values(fence: File) -> bool:
    return re.match(r"\w+ +=", fence.text) is not None
