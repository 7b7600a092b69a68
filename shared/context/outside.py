"""Folders beside a context that go with it: install-gpu's deps_dir may lead out, as COS Customizer's -deps-dir may.

    work/ctx/preload.sh    context: ctx                 preload.sh
    work/deps/x.run        deps_dir: ../deps    ──►     .goldsmith-outside/up/deps/x.run

Of such a folder its regular files are packed, as there, below a name that a context of ours has not. Of the folders in
the path of elements all that is below them is packed; their names end with a slash here.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

OUTSIDE = ".goldsmith-outside"
_KEYS = {"install-gpu": "deps_dir", "elements": "path"}


def leads_out(path: str) -> bool:
    """Return whether a path, relative to a context's folder, leads out of it."""
    return posixpath.normpath(path).split("/")[0] == ".."


def packed_inputs(action: str, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a step's inputs with the place that its folder has in the packed context."""
    key = _KEYS.get(action, "")
    value = inputs.get(key)
    if isinstance(value, str):
        return {**inputs, key: packed_place(value) if leads_out(value) else value}
    if isinstance(value, (list, tuple)):
        places = (packed_place(path) if leads_out(path) else posixpath.normpath(path) for path in value)
        return {**inputs, key: list(places)}
    return inputs


def packed_place(path: str) -> str:
    """Return where the files of a folder that lies outside are in the packed context."""
    parts = posixpath.normpath(path).split("/")
    return "/".join([OUTSIDE, *("up" if part == ".." else part for part in parts)])


def outside(steps: Any) -> tuple[str, ...]:
    """Return the folders outside of the context that steps name; a spec's steps, or values that may be wrong."""
    return tuple(dict.fromkeys(posixpath.normpath(path) + end for path, end in _named(steps) if leads_out(path)))


def context_name(context: str, folders: Sequence[str]) -> str:
    """Return the name of a context with the folders that go with it, for uploads of several contexts."""
    return " + ".join((context, *folders))


def _named(steps: Any) -> Iterator[tuple[str, str]]:
    """Yield each path, and how its name ends."""
    for step in steps if isinstance(steps, (tuple, list)) else ():
        action, inputs = (
            (step.get("action"), step.get("inputs"))
            if isinstance(step, Mapping)
            else (getattr(step, "action", None), getattr(step, "inputs", None))
        )
        key = _KEYS.get(action, "") if isinstance(action, str) else ""
        value = inputs.get(key) if isinstance(inputs, Mapping) else None
        for path in [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else ():
            if isinstance(path, str) and path and "\0" not in path:
                yield path, "" if isinstance(value, str) else "/"
