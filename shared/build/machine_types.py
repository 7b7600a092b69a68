"""Properties of Compute Engine's machine types, derived from their names: processor, disks, GPUs, Local SSD.

From /compute/docs/machine-resource and /compute/docs/disks/add-local-ssd of https://cloud.google.com, as of 2026-11. A
series that is not named here, such as a later one, is judged by its generation, the number in its name.
"""

from __future__ import annotations

import re

from ..architectures import ARM64, X86_64, Architecture

GVNIC = "GVNIC"  # the feature of guests that have its driver

_SMALLEST_GB = {"hyperdisk-balanced": 4, "hyperdisk-balanced-high-availability": 4, "hyperdisk-extreme": 64}
_SERIES = re.compile(r"([a-z]+)([0-9]+)[a-z]*-")
_HYPERDISK_ONLY = ("a3-ultragpu-",)  # of a generation that takes others
_NO_STANDARD = ("g2-",)
_LAST_WITH_STANDARD, _LAST_WITH_PERSISTENT, _LAST_WITH_VIRTIO_NET = 2, 3, 2  # generations
_WITH_GPUS = ("a2-", "a3-", "a4-", "a4x-", "a5x-", "g2-", "g4-")
_ARM = ("a4x-", "a5x-", "c4a-", "n4a-", "t2a-")  # Axion, Ampere's Altra, and those with NVIDIA's Grace and Vera
_INTEL_OR_AMD = re.compile(
    r"(?:custom|a2|a3|a4|c2d?|c3d?|c4d?|ct\w*|e2|f1|g1|g2|g4|h3|h4d|m[1-4]|n1|n2d?|n4d?|t2d|x4|z3|z4d|z4m)-"
)
_STAYING = ("h3-", "h4d-", "ct")  # for high performance computing, and TPUs
_WITH_LOCAL_SSD = ("a2-ultragpu-", "a3-", "a4-", "a4x-", "a5x-", "z3-", "z4d-", "z4m-")


def default_disk_type(machine_type: str) -> str:
    """Return the cheapest type of boot disk that a machine type takes."""
    found = _SERIES.match(machine_type)
    generation = int(found[2]) if found else 0  # custom-2-4096 is an n1
    if generation > _LAST_WITH_PERSISTENT or machine_type.startswith(_HYPERDISK_ONLY):
        return "hyperdisk-balanced"
    if generation > _LAST_WITH_STANDARD or machine_type.startswith(_NO_STANDARD):
        return "pd-balanced"
    return "pd-standard"


def is_known(machine_type: str) -> bool:
    """Return whether the processors of a machine type are known; a series that is new here may have any."""
    return machine_type.startswith(_ARM) or _INTEL_OR_AMD.match(machine_type) is not None


def processor_of(machine_type: str) -> Architecture:
    """Return the architecture of a machine type's processors."""
    return ARM64 if machine_type.startswith(_ARM) else X86_64


def needs_gvnic(machine_type: str) -> bool:
    """Return whether VMs of a type have Google's network interface alone. Bare metal has another one."""
    found = _SERIES.match(machine_type)
    return found is not None and int(found[2]) > _LAST_WITH_VIRTIO_NET and not machine_type.endswith("-metal")


def smallest_disk_gb(disk_type: str) -> int:
    """Return the fewest GB of a disk of a type; 0 where that is of no concern."""
    return _SMALLEST_GB.get(disk_type, 0)


def is_moved(machine_type: str) -> bool:
    """Return whether VMs of a type can migrate live: not those with GPUs or TPUs, nor whole hosts."""
    return not machine_type.startswith((*_WITH_GPUS, *_STAYING)) and not machine_type.endswith("-metal")


def has_local_ssd(machine_type: str) -> bool:
    """Return whether VMs of a type have Local SSD without being asked for."""
    return machine_type.endswith("-lssd") or machine_type.startswith(_WITH_LOCAL_SSD)
