"""Plan a root that a build VM of Google Cloud makes from nothing: what it is made of, and what the VM needs for that.

The VM boots from a maker image and makes the root in its own files. The steps run there in a sandbox, and the result
goes to a second disk, of which the image is taken. What the root holds shows on the VM alone.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from provisioner.protocol import Step

from ..build.block_devices.description import DiskDescription, default_disk
from ..build.machine_types import GVNIC, needs_gvnic
from ..build.plan import Context, OriginKind, OriginPlan, SourceImage
from ..context.outside import leads_out, outside
from ..errors import InputError
from ..json_values import to_document
from ..quantities import GIB
from ..spec.model import Spec

CHROOT_ACTIONS = frozenset(
    ["run-script", "copy-files", "install-packages", "elements", "ansible"]
)  # others need a booted system
MACHINE = "x86_64"
LOCAL_IMAGE = "DIB_LOCAL_IMAGE"  # the variable that names a file beside the spec
ROOT_GB = 10  # of the disk, where the spec names no size
FETCHED = ("bootstrap", "elements")  # what they fetch may be other things each time
_KEY_DIGITS = 12
_NO_IMAGE = SourceImage("", "", "")  # where what boots the VM decides nothing
_PATTERN = re.compile(r"[*?[]")
_KERNEL = re.compile(r"linux-(image|generic|virtual|signed)|kernel")
_DEBIAN_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
_UBUNTU_KEYS = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"

MAKER_PROGRAMS: Mapping[str, str] = {
    "debugfs": "e2fsprogs",
    "grub-mkimage": "grub-common",
    "mcopy": "mtools",
    "mke2fs": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mmd": "mtools",
    "mkswap": "util-linux",
    "prlimit": "util-linux",
    "setpriv": "util-linux",
    "sfdisk": "fdisk",
    "slirp4netns": "slirp4netns",
    "unshare": "util-linux",
    "zstd": "zstd",
    "/usr/lib/grub/i386-pc/moddep.lst": "grub-pc-bin",
    "/usr/lib/grub/x86_64-efi/moddep.lst": "grub-efi-amd64-bin",
    "/usr/lib/python3/dist-packages/yaml/__init__.py": "python3-yaml",
}
"""What a maker VM needs for each root, and the Debian package that has it."""

PROGRAMS_OF: Mapping[OriginKind, Mapping[str, str]] = {
    "rootfs": {},
    "oci": {},
    "bootstrap": {"mmdebstrap": "mmdebstrap", _DEBIAN_KEYS: "debian-archive-keyring"},
    "elements": {
        "mmdebstrap": "mmdebstrap",
        "socat": "socat",
        _DEBIAN_KEYS: "debian-archive-keyring",
        _UBUNTU_KEYS: "ubuntu-keyring",
    },
}


def check_origin(spec: Spec) -> OriginPlan:
    """Return how a source from nothing is made, but for the maker image. InputError for what no maker VM can make."""
    if spec.output.reproducible:
        raise InputError("output.reproducible: only one machine gives the same bytes each time; leave the key out")
    _refuse_booted(spec)
    _refuse_foreign(spec)
    kind, asked, place = _asked(spec)
    if place or kind == "elements":
        _refuse_without_context(spec, kind)
    disk = _disk(spec)
    if spec.verify is not None:
        _refuse_unbootable(spec, disk)
    size = spec.output.disk_size_gb or (-(-disk.size // GIB) if disk.size else ROOT_GB)
    return OriginPlan(
        kind=kind,
        maker=_NO_IMAGE,
        disk_size_gb=size,
        asked=asked,
        place=place,
        disk=spec.disk,
        verified=spec.verify is not None,
    )


def plan_origin(
    spec: Spec, maker: SourceImage, context: Context | None, requested: float, version: str
) -> tuple[SourceImage, OriginPlan]:
    """Return a source from nothing as an image that is yet to be made, and how.

    `version` is that of all modules that make it. InputError for what no maker VM can make, or boot afterwards.
    """
    origin = check_origin(spec)
    kind, place, size = origin.kind, origin.place, origin.disk_size_gb
    made_of = {
        **to_document(replace(origin, verified=False)),
        "version": version,
        "context": context.digest if context is not None and (place or kind == "elements") else "",
        "requested": requested if kind in FETCHED else 0,  # what mirrors hold cannot be known here
    }
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    name = f"{_subject(spec, kind)}-{key[:_KEY_DIGITS]}"
    return SourceImage(maker.project, name, key, architecture=maker.architecture, disk_size_gb=size), replace(
        origin, maker=maker
    )


def with_origin(steps: Iterable[Step], origin: OriginPlan, timeout: float) -> tuple[Step, ...]:
    """Return the steps of a maker VM: what it does before and after those of the spec."""
    programs = {**MAKER_PROGRAMS, **PROGRAMS_OF[origin.kind]}
    if origin.asked.get("distribution") == "ubuntu":
        programs[_UBUNTU_KEYS] = "ubuntu-keyring"
    if origin.kind == "elements" and origin.place:
        programs["qemu-img"] = "qemu-utils"
    reads = (_PATTERN.sub(r"[\g<0>]", origin.place),) if origin.place else ()
    made = to_document(replace(origin, maker=_NO_IMAGE))
    return (
        Step("install programs", "install-programs", {"packages": programs}, timeout=timeout, retries=1, reads=()),
        Step("create root", "make-root", {"origin": made}, timeout=timeout, reads=reads),
        *steps,
        Step("write root", "write-root", {}, timeout=timeout, reads=()),
    )


def _refuse_booted(spec: Spec) -> None:
    """Refuse what needs a booted system in a root that is made from nothing. InputError."""
    here = [step for step in spec.steps if step.when is None or step.when.arch == MACHINE]
    what = [f"step {step.name!r} ({step.action})" for step in here if step.action not in CHROOT_ACTIONS]
    what += ["output.oem_size"] if spec.output.oem_size is not None else []
    if what:
        raise InputError(
            f"source: {what[0]} needs a booted system, and the steps of a root from nothing run in a sandbox; build an "
            "image of it first, and begin another build from that one"
        )


def _refuse_foreign(spec: Spec) -> None:
    """Refuse packages for another processor than the maker VM's: it runs their scripts. InputError."""
    asked = spec.source.bootstrap
    if asked is not None and asked.architecture != MACHINE:
        raise InputError(
            f"source.bootstrap.architecture: on Google Cloud, roots from nothing are made for {MACHINE} alone; build "
            f"for {asked.architecture} on one machine, or begin from an image such as family debian-12-arm64"
        )


def _asked(spec: Spec) -> tuple[OriginKind, dict[str, object], str]:
    """Return the key of the source, its own keys, and the place in the context of the file that it names."""
    source = spec.source
    if source.rootfs is not None:
        return "rootfs", {}, _place(spec, "rootfs", source.rootfs)
    if source.oci is not None:
        return "oci", {}, _place(spec, "oci", source.oci)
    if source.bootstrap is not None:
        asked = source.bootstrap.model_dump(mode="json")
        keyring = asked.pop("keyring")
        return "bootstrap", asked, _place(spec, "bootstrap.keyring", keyring) if keyring else ""
    assert source.elements is not None
    image = source.elements.env.get(LOCAL_IMAGE, "")
    place = _place(spec, f"elements.env.{LOCAL_IMAGE}", image) if image else ""
    return "elements", source.elements.model_dump(mode="json"), place


def _place(spec: Spec, key: str, path: str) -> str:
    """Return where a file beside the spec is in the context, with which it travels. InputError."""
    context = spec.context or "."
    if path.startswith("gs:") or posixpath.isabs(path):
        raise InputError(f"source.{key}: {path} does not travel with the spec; put it into the context's folder")
    place = posixpath.normpath(path)
    if not context.startswith("gs:"):
        place = posixpath.relpath(place, posixpath.normpath(context))
    if leads_out(place) or place == ".":
        raise InputError(f"source.{key}: {path} lies outside of the context, {context}; put it into that folder")
    return place


def _refuse_without_context(spec: Spec, kind: OriginKind) -> None:
    if spec.context is None:
        raise InputError(f"source.{kind}: its files travel in the context, and the spec has none; write context: .")
    if kind != "elements" or spec.source.elements is None:
        return
    known = outside(spec.steps)
    missing = [
        path for path in spec.source.elements.path if leads_out(path) and f"{posixpath.normpath(path)}/" not in known
    ]
    if missing:
        raise InputError(
            f"source.elements.path: {missing[0]} lies outside of the context and in the path of no step of elements; "
            "put it into the context's folder"
        )


def _disk(spec: Spec) -> DiskDescription:
    if spec.disk is not None and spec.disk.needs_vm is not None:
        raise InputError(
            f"disk: {spec.disk.needs_vm}, which only a machine that runs from it can change; on Google Cloud, write "
            "one ext4 file system for all but /boot/efi"
        )
    return spec.disk or default_disk()


def _refuse_unbootable(spec: Spec, disk: DiskDescription) -> None:
    """Refuse to verify what no firmware could start."""
    if disk.efi is None and not disk.has_bios_place:
        raise InputError(
            "verify: boots the image, and its disk has no place for a boot loader; add a partition of type EF02 or "
            "EF00, or leave verify out"
        )
    asked = spec.source.bootstrap
    if asked is not None and asked.variant != "cloud" and not any(map(_KERNEL.match, asked.packages)):
        raise InputError(
            f"verify: boots the image, and a bootstrap of variant {asked.variant} has no kernel; write variant: cloud, "
            "add packages such as linux-image-cloud-amd64, systemd-sysv, cloud-init and python3, or leave verify out"
        )
    machine_type = spec.build.machine_type
    if asked is None and needs_gvnic(machine_type) and GVNIC not in spec.output.guest_os_features:
        raise InputError(
            f"verify: {machine_type} boots images with {GVNIC} alone, and whether this root's kernel has that driver "
            f"is not known before; write {GVNIC} in output.guest_os_features if it is Linux 5.3 or later, or a machine "
            "type such as n2-standard-2"
        )


def _subject(spec: Spec, kind: OriginKind) -> str:
    asked = spec.source.bootstrap
    return kind if asked is None else f"{asked.distribution}-{re.sub('[^a-z0-9]+', '-', asked.release)}"
