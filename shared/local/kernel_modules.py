"""Which modules of a kernel have to be loaded, and in which order, for some of them to work.

Reads the tables that depmod(8) makes. A module that is built into the kernel needs nothing; one that the kernel does
not have at all is told apart from that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ..budget import Budget
from .packed_data import MAGICS, unpack

TABLES = ("modules.dep", "modules.softdep", "modules.alias", "modules.builtin", "modules.devname")

_NODE = re.compile(r"^[^# ]\S* ([a-z0-9_-]+(?:/[a-z0-9_-]+)*) c(\d+):(\d+)$", re.MULTILINE)


class NoSuchModule(LookupError):
    """The kernel has this neither as a module nor built in."""


def module_name(path: str) -> str:
    """`kernel/fs/fat/nls-x.ko.xz` is `nls_x`."""
    return PurePosixPath(path).name.partition(".")[0].replace("-", "_")


@dataclass(frozen=True)
class Modules:
    """The tables, read. Paths are relative to the folder of the kernel's modules."""

    paths: Mapping[str, str]
    needs: Mapping[str, tuple[str, ...]]  # names, in no order
    before: Mapping[str, tuple[str, ...]]  # soft dependencies: loaded first where the kernel has them
    aliases: Mapping[str, str]  # without wildcards
    builtin: frozenset[str] = field(default_factory=frozenset)
    nodes: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # below /dev: opening one loads its module

    @classmethod
    def read(cls, tables: Mapping[str, str]) -> Modules:
        """Read TABLES (name -> text); those that are missing count as empty."""
        paths: dict[str, str] = {}
        needs: dict[str, tuple[str, ...]] = {}
        for line in tables.get("modules.dep", "").splitlines():
            path, colon, others = line.partition(":")
            if colon:
                paths[module_name(path)] = path
                needs[module_name(path)] = tuple(module_name(other) for other in others.split())
        before = {
            words[1]: tuple(word for word in words[3:] if word not in ("pre:", "post:"))
            for line in tables.get("modules.softdep", "").splitlines()
            if len(words := line.partition("post:")[0].split()) > 3 and words[0] == "softdep" and words[2] == "pre:"
        }
        aliases = {
            words[1]: words[2]
            for line in tables.get("modules.alias", "").splitlines()
            if len(words := line.split()) == 3 and words[0] == "alias" and "*" not in words[1]
        }
        builtin = frozenset(map(module_name, tables.get("modules.builtin", "").split()))
        nodes = {
            match[1]: (int(match[2]), int(match[3])) for match in _NODE.finditer(tables.get("modules.devname", ""))
        }
        return cls(paths, needs, before, aliases, builtin, nodes)

    def order(self, wanted: Iterable[str]) -> list[str]:
        """Give the paths of all that has to be loaded for `wanted`, needs before what needs them. NoSuchModule."""
        loaded: dict[str, None] = {}
        for name in wanted:
            self._load(name, loaded)
        return [self.paths[name] for name in loaded]

    def _load(self, wanted: str, loaded: dict[str, None]) -> None:
        """Add a module behind all that it needs; what is under way already is in a circle, and needed by itself."""
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
        """Give what has to be loaded before a module. NoSuchModule."""
        if name in self.builtin:
            return iter(())
        if name not in self.paths:
            raise NoSuchModule(name)
        softly = (self._resolve(other) for other in self.before.get(name, ()))
        return iter([*(other for other in softly if other is not None), *self.needs[name]])

    def _resolve(self, name: str) -> str | None:
        """Find a module by its name or by an alias; soft dependencies use both, and may name what is not there."""
        for candidate in (module_name(name), self.aliases.get(name), self.aliases.get(f"crypto-{name}")):
            if candidate is not None and (candidate in self.paths or candidate in self.builtin):
                return candidate
        return None


def unpacked_module(path: str, data: bytes, budget: Budget) -> bytes:
    """Give a module as the kernel reads it: distributions pack them. MissingTool; ValueError for a damaged one."""
    return bytes(unpack(data, budget)) if path.endswith((".xz", ".gz", ".zst")) and data.startswith(MAGICS) else data
