"""Which modules of a kernel have to be loaded, and in which order, for some of them to work.

Reads the tables that depmod(8) makes. A module that is built into the kernel needs nothing; one that the kernel does
not have at all is told apart from that.
"""

from __future__ import annotations

import gzip
import lzma
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from .programs import ProgramFailed, find

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
            self._load(name, loaded, set())
        return [self.paths[name] for name in loaded]

    def _load(self, name: str, loaded: dict[str, None], under_way: set[str]) -> None:
        if name in self.builtin or name in loaded or name in under_way:
            return
        if name not in self.paths:
            raise NoSuchModule(name)
        under_way.add(name)
        for other in self.before.get(name, ()):
            actual = self._resolve(other)
            if actual is not None:
                self._load(actual, loaded, under_way)
        for other in self.needs[name]:
            self._load(other, loaded, under_way)
        loaded[name] = None

    def _resolve(self, name: str) -> str | None:
        """Find a module by its name or by an alias; soft dependencies use both, and may name what is not there."""
        for candidate in (module_name(name), self.aliases.get(name), self.aliases.get(f"crypto-{name}")):
            if candidate is not None and (candidate in self.paths or candidate in self.builtin):
                return candidate
        return None


def unpacked_module(path: str, data: bytes) -> bytes:
    """Give a module as the kernel reads it: distributions pack them. Raises MissingTool, ProgramFailed."""
    if path.endswith(".xz"):
        return lzma.decompress(data)
    if path.endswith(".gz"):
        return gzip.decompress(data)
    if path.endswith(".zst"):
        done = subprocess.run([find("zstd"), "-dcq"], input=data, capture_output=True, check=False)
        if done.returncode:
            raise ProgramFailed("zstd", done.returncode, done.stderr.decode(errors="replace"))
        return done.stdout
    return data
