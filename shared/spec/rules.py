"""The rules between the keys of a spec, among them those of Container-Optimized OS.

The rules see values as they are written, right or wrong, and say nothing about values that are wrong by themselves:
all problems of a spec are reported at once. Each rule yields the key that it is about and what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from provisioner.protocol import IMAGES_ANSIBLE

from ..build.block_devices.disk_layout import (
    COS_DISK_GB,
    LARGEST_DISK_GB,
    RECLAIMING,
    SEAL,
    SMALLEST_OEM,
    needed_disk_gb,
)
from ..build.export_formats import EXPORT_FORMATS, refused_in_cloud
from ..names import COS_PROJECT, LOCAL, quoted
from ..quantities import GIB, format_size, parse_size
from .closed import BrokenRule, Loc
from .disk.reading import read_disk
from .fields import typed

INSTALL_GPU = "install-gpu"
ANSIBLE = "ansible"
WITH_SECRETS = ("run-script", "elements", "ansible")
"""The actions whose steps can have secrets: those that run what the context has."""
ARCHITECTURES = ("x86_64", "arm64")
FROM_NOTHING = ("rootfs", "oci", "bootstrap", "elements")
"""The keys of a source that has files, and no disk."""
ONLY_LOCAL = ("file",)
"""The keys of a source that only one machine can build from."""
ONLY_HERE = (
    "can only be built from on one machine, with goldsmith build; "
    "import the archive that goldsmith images export writes, and name that image"
)
_OF_A_PROJECT = ("image", "family", "milestone")

_ONCE: Mapping[str, str] = {
    INSTALL_GPU: "one driver is all that an image can have",
    SEAL: "a sealed partition cannot be sealed again",
}
_NOT_VERIFIED: Mapping[str, str] = {
    **dict.fromkeys(RECLAIMING, "changes how the disk lies, which is done before an image is made of it"),
    INSTALL_GPU: "needs a scratch disk, which only the build has",
}


def spec_rules(keys: Mapping[str, Any]) -> Iterator[BrokenRule]:
    """Hold step names to be unique, and the steps and the disk to what Container-Optimized OS can do."""
    yield from _names_taken(keys.get("steps"))
    yield from _reads_of_nothing(keys)
    yield from _root_alone(keys)
    yield from _disk_rules(keys)
    yield from _trigger_limits(keys)
    yield from cos_rules(keys)


def trigger_rules(keys: Mapping[str, Any]) -> Iterator[BrokenRule]:
    """Hold triggers to say what a spec is built for."""
    if not keys.get("source_changed") and not keys.get("spec_changed") and "every" not in keys:
        yield (), "says nothing that the spec is built again for; write source_changed: true, every: 7d, or both"


def _trigger_limits(keys: Mapping[str, Any]) -> Iterator[BrokenRule]:
    """Hold a spec that is built again to a source that can change, and to a new name for each image."""
    triggers, source, output = keys.get("triggers"), keys.get("source"), keys.get("output")
    nothing = [key for key in FROM_NOTHING if _value(source, key) is not None]
    if _value(triggers, "source_changed") is True and nothing:
        yield (
            ("triggers", "source_changed"),
            f"looks for another source image, and source.{nothing[0]} is none; write every: 7d instead",
        )
    named = [key for key in ("name", "name_suffix") if _value(output, key) is not None]
    if triggers is None or not named:
        return
    if named[0] == "name" or _value(triggers, "every") is not None:
        yield ("output", named[0]), "is the same each time that triggers build the spec again; leave it out"


def _disk_rules(keys: Mapping[str, Any]) -> Iterator[BrokenRule]:
    """Hold a disk to what can be made of it, to a source that has none, and to the keys that have to fit it."""
    if "disk" not in keys:
        return
    found = read_disk(keys["disk"])
    yield from ((("disk", *loc), text) for loc, text in found.problems)
    source = keys.get("source")
    if isinstance(source, Mapping) and source and not any(key in source for key in FROM_NOTHING):
        yield (
            ("disk",),
            f"goes with a source from nothing ({', '.join(FROM_NOTHING)}); an image has a disk: leave it out",
        )
    if found.description is None:
        return
    asked, least = _value(keys.get("output"), "disk_size_gb"), found.description.size
    if isinstance(asked, int) and least is not None and asked * GIB < least:
        needed = -(-least // GIB)
        yield ("output", "disk_size_gb"), f"is less than the size of the disk's local_loop; write {needed} or more"
    reason = found.description.needs_vm
    if reason is not None and _value(keys.get("local"), "engine") == "chroot":
        yield ("local", "engine"), f"cannot be chroot, since {reason}, which only a machine can change; write vm"


def _reads_of_nothing(keys: Mapping[str, Any]) -> Iterator[BrokenRule]:
    """Hold steps that read files of the context to a spec that has one."""
    for where, steps in ((("steps",), keys.get("steps")), (("verify", "steps"), _value(keys.get("verify"), "steps"))):
        for index, step in enumerate(steps if isinstance(steps, (tuple, list)) else ()):
            if _value(step, "reads") and "context" not in keys:
                loc: Loc = (*where, index, "reads")
                yield loc, "selects files of the context, and the spec has none; add context, or leave it out"


def _root_alone(keys: Mapping[str, Any]) -> Iterator[BrokenRule]:
    """Hold a source of elements to a step that runs their other phases."""
    steps = keys.get("steps")
    if _value(keys.get("source"), "elements") is None or not isinstance(steps, (tuple, list)):
        return
    if not any(_value(step, "action") == "elements" for step in steps):
        yield ("source", "elements"), "run root.d alone; add a step with action: elements, which runs the other phases"


def source_rules(keys: Mapping[str, Any]) -> Iterator[BrokenRule]:
    """Hold a source to name its image in exactly one way, with a project where that way needs one."""
    ways = [key for key in (*_OF_A_PROJECT, *ONLY_LOCAL, *FROM_NOTHING) if key in keys]
    if not ways:
        yield (), f"names no image; write exactly one of {', '.join((*_OF_A_PROJECT, *ONLY_LOCAL, *FROM_NOTHING))}"
    if len(ways) > 1:
        yield (), f"names its image in {len(ways)} ways ({', '.join(ways)}); keep one of them"
    here = [key for key in ways if key not in _OF_A_PROJECT]
    if here and ways == here[:1] and "project" in keys:
        yield ("project",), f"has no meaning beside {here[0]}; leave it out"
    if ways and not here and "project" not in keys:
        yield ("project",), f"is missing; write the project of the image, or {LOCAL} for one of this machine"
    if "milestone" in ways and keys.get("project", COS_PROJECT) not in (COS_PROJECT, LOCAL):
        yield (
            ("milestone",),
            f"only images of {COS_PROJECT} have milestones; write project: {COS_PROJECT}, or a family",
        )
    if "arch" in keys and "milestone" not in ways:
        yield ("arch",), "only chooses between the images of a milestone; leave it out"


def verify_rules(keys: Mapping[str, Any]) -> Iterator[BrokenRule]:
    """Hold the names of steps, and those of machines, to be unique."""
    yield from _names_taken(keys.get("steps"))
    yield from _names_taken(keys.get("machines"), "machines", "machine")


def step_rules(keys: Mapping[str, Any]) -> Iterator[BrokenRule]:
    """Hold secrets to steps that have a process of their own, and to names that its environment has not yet."""
    own = _value(keys.get("inputs"), "version") == IMAGES_ANSIBLE
    if keys.get("action") == ANSIBLE and typed(keys.get("network")) is False and not own:
        what = "leaves the step nothing to fetch ansible-core by; leave it out, or write inputs.version: image"
        yield ("network",), what
    secrets = keys.get("secrets")
    if not isinstance(secrets, Mapping) or not secrets:
        return
    action = keys.get("action")
    if isinstance(action, str) and action not in WITH_SECRETS:
        *others, last = WITH_SECRETS
        what = f"goes with {', '.join(others)} and {last} alone, whose scripts get them in their environment"
        yield ("secrets",), f"{what}; write such a step"
    env = _value(keys.get("inputs"), "env")
    for name in secrets:
        if isinstance(env, Mapping) and name in env:
            yield ("secrets", name), "is in inputs.env as well; leave it out there"


def output_rules(keys: Mapping[str, Any]) -> Iterator[BrokenRule]:
    """Hold an output to one name, and to a family where older images are deprecated."""
    if "name" in keys and "name_suffix" in keys:
        yield ("name_suffix",), "cannot stand beside name; keep one of them"
    if "deprecate_old" in keys and "family" not in keys:
        yield ("deprecate_old",), "needs a family, whose older images it deprecates; add family"
    target = _value(keys.get("export"), "to")
    formats = [name for name in keys.get("formats") or () if name in EXPORT_FORMATS]
    refused = refused_in_cloud(formats) if isinstance(target, str) and target.startswith("gs:") else ""
    if refused:
        yield ("formats",), refused


def copy_rules(keys: Mapping[str, Any]) -> Iterator[BrokenRule]:
    """Hold a copy to be elsewhere."""
    if "project" not in keys and "storage_location" not in keys:
        yield (), "is where the image is; write project or storage_location"


def secure_boot_rules(keys: Mapping[str, Any]) -> Iterator[BrokenRule]:
    """Hold the keys of Secure Boot to be of use."""
    if not any(keys.get(key) for key in ("pk", "kek", "db", "dbx")):
        yield (), "names no key; write pk, kek, db or dbx, or leave it out for Google's own"


def local_rules(keys: Mapping[str, Any]) -> Iterator[BrokenRule]:
    """Hold a proxy to a network."""
    if "proxy" in keys and typed(keys.get("network")) is False:
        yield ("proxy",), "has no use without a network; leave it out, or write network: true"


def proxy_rules(keys: Mapping[str, Any]) -> Iterator[BrokenRule]:
    """Hold what goes with a proxy to one."""
    if "http" not in keys and "https" not in keys:
        for key in ("no_proxy", "credentials"):
            if key in keys:
                yield (key,), "goes with a proxy; write http or https beside it, or leave it out"
        if not keys:
            yield (), "names nothing; write http, https or ca, or leave it out"


def _names_taken(named: Any, key: str = "steps", what: str = "step") -> Iterator[BrokenRule]:
    """Find steps, or other things of one list, that share a name."""
    first: dict[str, int] = {}
    for index, each in enumerate(named if isinstance(named, (tuple, list)) else ()):
        name = _value(each, "name")
        if isinstance(name, str) and first.setdefault(name, index) != index:
            loc: Loc = (key, index, "name")
            yield loc, f"{quoted(name)} names {what} {first[name] + 1} already; choose another name"


def cos_rules(keys: Mapping[str, Any]) -> Iterator[BrokenRule]:
    """Hold a spec's steps to what Container-Optimized OS can do, and its disk to the size of the OEM partition."""
    steps = keys.get("steps")
    yield from _repeated(steps)
    for index, action, _ in _steps(_value(keys.get("verify"), "steps")):
        if action in _NOT_VERIFIED:
            yield ("verify", "steps", index, "action"), f"{action} {_NOT_VERIFIED[action]}; move it to steps"
    yield from _disk(keys.get("output"), {action for _, action, _ in _steps(steps)})


def _repeated(steps: Any) -> Iterator[BrokenRule]:
    """Find steps that may be there once, twice; those of different architectures are not in one build."""
    first: dict[tuple[str, str], int] = {}
    for index, action, only in _steps(steps):
        if action not in _ONCE:
            continue
        seen = {first.setdefault((action, each), index) for each in ([only] if only else ARCHITECTURES)} - {index}
        if seen:
            what = f"{action} is step {min(seen) + 1} already, and {_ONCE[action]}"
            yield ("steps", index, "action"), f"{what}; leave one of them out"


def _disk(output: Any, actions: set[str]) -> Iterator[BrokenRule]:
    """Hold the disk's size to that of the OEM partition."""
    oem_size = _oem_size(output)
    if oem_size is None or oem_size < SMALLEST_OEM:
        return
    asked = typed(_value(output, "disk_size_gb"))
    if not isinstance(asked, int | None):
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
    """Return the bytes that are asked for. An Output that is made in Python has parsed them already."""
    value = _value(output, "oem_size")
    try:
        return parse_size(value) if isinstance(value, str) else None if isinstance(output, Mapping) else value
    except ValueError:
        return None


def _value(keys: Any, name: str) -> Any:
    return keys.get(name) if isinstance(keys, Mapping) else getattr(keys, name, None)


def _steps(steps: Any) -> Iterator[tuple[int, str, str | None]]:
    """Yield index, action and architecture of each value that looks like a step."""
    for index, step in enumerate(steps if isinstance(steps, (tuple, list)) else ()):
        action, only = _value(step, "action"), _value(_value(step, "when"), "arch")
        if isinstance(action, str):
            yield index, action, only if only in ARCHITECTURES else None
