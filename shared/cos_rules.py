"""What a spec may say of Container-Optimized OS: rules between its steps, and between its steps and its disk.

The rules see a spec's values as they are written, right or wrong: all problems of a spec are told at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .closed import Rule, typed
from .names import quoted
from .oem_size import COS_DISK_GB, LARGEST_DISK_GB, RECLAIMING, SEAL, SMALLEST_OEM, needed_disk_gb
from .quantities import format_size, parse_size

INSTALL_GPU = "install-gpu"
ARCHITECTURES = ("x86_64", "arm64")

_ONCE: Mapping[str, str] = {
    INSTALL_GPU: "one driver is all that an image can have",
    SEAL: "a sealed partition cannot be sealed again",
}
_NOT_VERIFIED: Mapping[str, str] = {
    **dict.fromkeys(RECLAIMING, "changes how the disk lies, which is done before an image is made of it"),
    INSTALL_GPU: "needs a scratch disk, which only the build has",
}


def cos_rules(keys: Mapping[str, Any]) -> Iterator[Rule]:
    """Give what is wrong between the values of a spec, of which each may be anything."""
    steps = keys.get("steps")
    yield from _repeated(steps)
    for index, action, _ in _steps(_value(keys.get("verify"), "steps")):
        if action in _NOT_VERIFIED:
            yield ("verify", "steps", index, "action"), f"{action} {_NOT_VERIFIED[action]}; move it to steps"
    yield from _disk(keys.get("output"), {action for _, action, _ in _steps(steps)})


def _repeated(steps: Any) -> Iterator[Rule]:
    """Find steps that may be there once, twice; those of different architectures are not in one build."""
    first: dict[tuple[str, str], int] = {}
    for index, action, only in _steps(steps):
        if action not in _ONCE:
            continue
        seen = {first.setdefault((action, each), index) for each in ([only] if only else ARCHITECTURES)} - {index}
        if seen:
            what = f"{action} is step {min(seen) + 1} already, and {_ONCE[action]}"
            yield ("steps", index, "action"), f"{what}; leave one of them out"


def _disk(output: Any, actions: set[str]) -> Iterator[Rule]:
    """Hold the disk's size to that of the OEM partition; values that are wrong by themselves are told elsewhere."""
    oem_size, asked = _oem_size(output), typed(_value(output, "disk_size_gb"))
    if oem_size is None or oem_size < SMALLEST_OEM or not isinstance(asked, int | None):
        return
    needed = needed_disk_gb(oem_size, sealed=SEAL in actions, reclaim=not actions.isdisjoint(RECLAIMING))
    size = quoted(format_size(oem_size))
    if needed > LARGEST_DISK_GB:
        text = f"{size} fits on no disk, of which the largest has {LARGEST_DISK_GB} GB; write a smaller size"
        yield ("output", "oem_size"), text
    elif asked is None and needed > COS_DISK_GB:
        text = f"{size} does not fit on the {COS_DISK_GB} GB of the source; write disk_size_gb: {needed} beside it"
        yield ("output", "oem_size"), text
    elif asked is not None and asked < needed:
        yield ("output", "disk_size_gb"), f"{asked} GB cannot hold an oem_size of {size}; write at least {needed}"


def _oem_size(output: Any) -> int | None:
    """Give the bytes that are asked for. An Output that is made in Python has read them already."""
    value = _value(output, "oem_size")
    try:
        return parse_size(value) if isinstance(value, str) else None if isinstance(output, Mapping) else value
    except ValueError:
        return None


def _value(keys: Any, name: str) -> Any:
    return keys.get(name) if isinstance(keys, Mapping) else getattr(keys, name, None)


def _steps(steps: Any) -> Iterator[tuple[int, str, str | None]]:
    """Give index, action and architecture of what looks like a step."""
    for index, step in enumerate(steps if isinstance(steps, (tuple, list)) else ()):
        action, only = _value(step, "action"), _value(_value(step, "when"), "arch")
        if isinstance(action, str):
            yield index, action, only if only in ARCHITECTURES else None
