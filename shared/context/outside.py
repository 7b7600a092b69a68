"""Folders beside a context that go with it: install-gpu's deps_dir may lead out, as COS Customizer's -deps-dir may.

    work/ctx/preload.sh    context: ctx                 preload.sh
    work/deps/x.run        deps_dir: ../deps    ──►     .goldsmith-outside/up/deps/x.run

Of such a folder its regular files are packed, as there, below a name that a context of ours has not.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

OUTSIDE = ".goldsmith-outside"
_ACTION, _KEY = "install-gpu", "deps_dir"


def leads_out(path: str) -> bool:
    """Return whether a path, relative to a context's folder, leads out of it."""
    return posixpath.normpath(path).split("/")[0] == ".."


def packed_inputs(action: str, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a step's inputs with the place that its folder has in the packed context."""
    path = inputs.get(_KEY) if action == _ACTION else None
    return {**inputs, _KEY: packed_place(path)} if isinstance(path, str) and leads_out(path) else inputs


def packed_place(path: str) -> str:
    """Return where the files of a folder that lies outside are in the packed context."""
    parts = posixpath.normpath(path).split("/")
    return "/".join([OUTSIDE, *("up" if part == ".." else part for part in parts)])


def outside(steps: Any) -> tuple[str, ...]:
    """Return the folders outside of the context that steps name; a spec's steps, or values that may be wrong."""
    return tuple(dict.fromkeys(posixpath.normpath(path) for path in _named(steps) if leads_out(path)))


def context_name(context: str, folders: Sequence[str]) -> str:
    """Return the name of a context with the folders that go with it, for uploads of several contexts."""
    return " + ".join((context, *folders))


def _named(steps: Any) -> Iterator[str]:
    for step in steps if isinstance(steps, (tuple, list)) else ():
        action, inputs = (
            (step.get("action"), step.get("inputs"))
            if isinstance(step, Mapping)
            else (getattr(step, "action", None), getattr(step, "inputs", None))
        )
        path = inputs.get(_KEY) if action == _ACTION and isinstance(inputs, Mapping) else None
        if isinstance(path, str) and path and "\0" not in path:
            yield path
