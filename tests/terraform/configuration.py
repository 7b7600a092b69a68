"""terraform/ as the tests see it: every file parsed, blocks by their type and labels, texts without their quotes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hcl2

from tests.project.source_tree import ROOT

MODULE = ROOT / "terraform"
EXAMPLES = MODULE / "examples"
SCHEMA = Path(__file__).with_name("provider_schema.json")

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Block:
    """One top-level block: `resource "google_pubsub_topic" "topic" {...}`."""

    kind: str
    labels: tuple[str, ...]
    body: Body

    @property
    def address(self) -> str:
        """As other blocks refer to it: google_pubsub_topic.topic, data.google_project.project, var.project."""
        shown = {"resource": (), "variable": ("var",), "module": ("module",)}
        return ".".join((*shown.get(self.kind, (self.kind,)), *self.labels))


@dataclass(frozen=True)
class Configuration:
    """One module: all its blocks, and all its locals."""

    folder: Path
    blocks: Sequence[Block]
    locals: Body

    def of_kind(self, *kinds: str) -> list[Block]:
        """Return the blocks of some kinds."""
        return [block for block in self.blocks if block.kind in kinds]

    def one(self, address: str) -> Block:
        """Return the block of that address. ValueError when there is none."""
        [found] = [block for block in self.blocks if block.address == address]
        return found

    def types(self) -> set[str]:
        """Return the resource types in use; those of data sources have `data.` before them."""
        managed = {block.labels[0] for block in self.of_kind("resource", "ephemeral")}
        return managed | {f"data.{block.labels[0]}" for block in self.of_kind("data")}

    def text(self) -> str:
        """Return all files as one text."""
        return "\n".join(path.read_text(encoding="utf-8") for path in sources(self.folder))


def sources(folder: Path) -> list[Path]:
    """Return a module's files, sorted."""
    return sorted(folder.glob("*.tf"))


def read_configuration(folder: Path = MODULE) -> Configuration:
    """Parse a module's files."""
    blocks: list[Block] = []
    merged: dict[str, Any] = {}
    for path in sources(folder):
        for block in blocks_of(path.read_text(encoding="utf-8")):
            if block.kind == "locals":
                merged |= block.body
            else:
                blocks.append(block)
    return Configuration(folder, blocks, merged)


def blocks_of(text: str) -> list[Block]:
    """Parse a file's text."""
    document = plain(hcl2.loads(text))
    return [block for kind, entries in document.items() for entry in entries for block in _blocks(kind, entry)]


def _blocks(kind: str, entry: Any, labels: tuple[str, ...] = ()) -> Iterator[Block]:
    """Unfold {label: {label: body}} down to the body; `terraform` and `locals` have none, most kinds one or two."""
    if len(labels) == {"terraform": 0, "locals": 0, "resource": 2, "data": 2, "ephemeral": 2}.get(kind, 1):
        yield Block(kind, labels, entry)
        return
    for label, inner in entry.items():
        yield from _blocks(kind, inner, (*labels, label))


def plain(value: Any) -> Any:
    """Take the parser's marks out of its values: quotes around texts, `${}` around whole expressions, comments."""
    if isinstance(value, dict):
        return {plain(key): plain(inner) for key, inner in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, str):
        return re.sub(r"\\(.)", r"\1", value[1:-1]) if len(value) > 1 and value[0] == value[-1] == '"' else value
    return value
