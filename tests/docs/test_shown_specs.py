"""The specs that the pages show are good, and so are the parts of a spec, each put into a small one."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.spec.model import Spec
from shared.spec.read import parse, read_specs
from tests.docs.pages import File, fences, indented, pages

REFERENCE = Path("docs/spec.md")
WORKFLOW = "cloudbuild"
SMALL: Mapping[str, Any] = {
    "name": "shown",
    "source": {"project": "local", "family": "debian-12"},
    "context": ".",
    "steps": [],
}
FROM_NOTHING = {"source": {"rootfs": "root.tar"}}
LEFT_OUT = re.compile(r"(-----BEGIN CERTIFICATE-----\n( *))\.\.\.")
TOKEN = {"token": "env:TOKEN"}  # of which the pages show the use before the place


def shown() -> Iterator[File]:
    """Yield the texts in YAML that are a spec or a part of one: fences of all pages, and blocks of the reference."""
    for page in pages():
        found = [*fences(page, languages=("yaml",)), *(indented(page) if page == REFERENCE else ())]
        yield from (each for each in found if WORKFLOW not in each.path and _is_spec(_value(each)))


def whole(value: Any) -> dict[str, Any]:
    """Return the spec of which a value is a part."""
    part: Mapping[str, Any] = {"steps": value} if isinstance(value, list) else value
    if set(SMALL) <= {*part, "context"}:
        return dict(part)
    source: Mapping[str, Any] = FROM_NOTHING if "disk" in part else {}
    return {**SMALL, **source, **part, "parameters": {**TOKEN, **part.get("parameters", {})}}


def _value(block: File) -> Any:
    try:
        return yaml.safe_load(LEFT_OUT.sub(r"\1MIIAAjAA\n\2-----END CERTIFICATE-----", textwrap.dedent(block.text)))
    except yaml.YAMLError:
        return None


def _is_spec(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(each, dict) and "action" in each for each in value)
    return isinstance(value, dict) and set(value) <= {*Spec.model_fields} and value != {}


BLOCKS = list(shown())


def test_pages_show_specs() -> None:
    found = {block.page for block in BLOCKS}
    assert {"README.md", "docs/tutorial.md", "docs/pipelines.md", str(REFERENCE)} <= found
    assert len(BLOCKS) > 20


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}:{block.line}")
def test_a_shown_spec_is_good(block: File) -> None:
    text = yaml.safe_dump(whole(_value(block)), sort_keys=False)
    assert len(read_specs(parse(text, f"{block.page}:{block.line}"))) == 1
