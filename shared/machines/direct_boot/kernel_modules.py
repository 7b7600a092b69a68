"""Resolve which modules of a kernel have to be loaded, and in which order.

The tables are those of depmod(8). A module that is built into the kernel needs nothing; a module that the kernel does
not have raises NoSuchModule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ...budget import Budget
from .packed_data import MAGICS, unpack_bytes

TABLES = ("modules.dep", "modules.softdep", "modules.alias", "modules.builtin", "modules.devname")

_SPACES = " \t\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u2000\u2028\u3000"
_LINE_BYTES, _WORD_BYTES = 300, 70  # of memory for an entry of a map, and for a word
_NODE = re.compile(r"^[^# ]\S* ([a-z0-9_-]+(?:/[a-z0-9_-]+)*) c(\d+):(\d+)$", re.MULTILINE)


class NoSuchModule(LookupError):
    """The kernel has no such module, neither as a file nor built in."""


def module_name(path: str) -> str:
    """Return a module's name: `nls_x` for `kernel/fs/fat/nls-x.ko.xz`."""
    return PurePosixPath(path).name.partition(".")[0].replace("-", "_")


@dataclass(frozen=True)
class Modules:
    """The parsed tables. Paths are relative to the folder of the kernel's modules."""

    paths: Mapping[str, str]
    needs: Mapping[str, tuple[str, ...]]  # names, in no order
    before: Mapping[str, tuple[str, ...]]  # soft dependencies: loaded first where the kernel has them
    aliases: Mapping[str, str]  # without wildcards
    builtin: frozenset[str] = field(default_factory=frozenset)
    nodes: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # below /dev: opening one loads its module

    @classmethod
    def read(cls, tables: Mapping[str, str], budget: Budget) -> Modules:
        """Parse TABLES (name -> text). A missing one counts as empty. Raises ImageFileError."""
        for text in tables.values():
            budget.step(text.count("\n"))
            budget.keep(2 * len(text) + _LINE_BYTES * text.count("\n") + _WORD_BYTES * sum(map(text.count, _SPACES)))
        paths: dict[str, str] = {}
        needs: dict[str, tuple[str, ...]] = {}
        for line in tables.get("modules.dep", "").split("\n"):
            path, colon, others = line.partition(":")
            if colon:
                paths[module_name(path)] = path
                needs[module_name(path)] = tuple(module_name(other) for other in others.split())
        before = {
            words[1]: tuple(word for word in words[3:] if word not in ("pre:", "post:"))
            for line in tables.get("modules.softdep", "").split("\n")
            if len(words := line.partition("post:")[0].split()) > 3 and words[0] == "softdep" and words[2] == "pre:"
        }
        aliases = {
            words[1]: words[2]
            for line in tables.get("modules.alias", "").split("\n")
            if len(words := line.split()) == 3 and words[0] == "alias" and "*" not in words[1]
        }
        builtin = frozenset(map(module_name, tables.get("modules.builtin", "").split()))
        nodes = {
            match[1]: (int(match[2]), int(match[3])) for match in _NODE.finditer(tables.get("modules.devname", ""))
        }
        return cls(paths, needs, before, aliases, builtin, nodes)

    def order(self, wanted: Iterable[str]) -> list[str]:
        """Return the paths of all modules to load for `wanted`, dependencies first. Raises NoSuchModule."""
        loaded: dict[str, None] = {}
        for name in wanted:
            self._load(name, loaded)
        return [self.paths[name] for name in loaded]

    def _load(self, wanted: str, loaded: dict[str, None]) -> None:
        """Add a module behind its dependencies. One that is under way already is part of a circle."""
        under_way = {wanted}
        waiting = [(wanted, self._needed(wanted))]
        while waiting:
            name, others = waiting[-1]
            for other in others:
                if other not in loaded and other not in under_way:
                    under_way.add(other)
                    waiting.append((other, self._needed(other)))
                    break
            else:
                waiting.pop()
                if name not in self.builtin:
                    loaded[name] = None

    def _needed(self, name: str) -> Iterator[str]:
        """Return the modules to load before a module. Raises NoSuchModule."""
        if name in self.builtin:
            return iter(())
        if name not in self.paths:
            raise NoSuchModule(name)
        softly = (self._resolve(other) for other in self.before.get(name, ()))
        return iter([*(other for other in softly if other is not None), *self.needs[name]])

    def _resolve(self, name: str) -> str | None:
        """Find a module by its name or an alias. Soft dependencies use both, and may name missing modules."""
        for candidate in (module_name(name), self.aliases.get(name), self.aliases.get(f"crypto-{name}")):
            if candidate is not None and (candidate in self.paths or candidate in self.builtin):
                return candidate
        return None


def unpacked_module(path: str, data: bytes, budget: Budget) -> bytes:
    """Return a module, unpacked if the distribution packs it. Raises ValueError for a damaged one, MissingTool."""
    return (
        bytes(unpack_bytes(data, budget)) if path.endswith((".xz", ".gz", ".zst")) and data.startswith(MAGICS) else data
    )
