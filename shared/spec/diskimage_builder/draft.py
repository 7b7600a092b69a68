"""From the order of an image to the document of a spec: what each option means as a key, or why it means nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from ...context.outside import leads_out, packed_place
from ...names import SPEC_NAME_LENGTH, nearest, quoted
from ...quantities import format_size
from ..cloudbuild.native_draft import Draft, Origin
from ..disk.reading import read_disk
from ..document import Document
from .options import OPTIONS, ImageOrder, OrderText
from .root_file_system import RootOptions, with_root_options
from .variables import CHECKSUMS, FILE_SYSTEM_TYPE, OVERWRITE, looks_secret, variables_of_elements

DEFAULT_TYPE = "qcow2"
TIMEOUT = "6h"  # disk-image-create has no limit; an image with a compiler's work in it takes hours
MEMORY_MB = 4096  # it has no limit there either
STEP = "elements"
BASE = "base"

_ARCHITECTURES = ("amd64", "x86_64")
_OTHER_ARCHITECTURES = (
    *("aarch64", "arm64", "armhf", "i386", "powerpc", "ppc64", "ppc64el", "ppc64le", "riscv64", "s390x"),
)


@dataclass(frozen=True)
class ImageType:
    """One of disk-image-create's types: our format, and the endings of the file here and there."""

    format: str
    ending: str
    original_ending: str


IMAGE_TYPES: Mapping[str, ImageType] = {
    "qcow2": ImageType("qcow2-compressed", ".qcow2", ".qcow2"),
    "raw": ImageType("raw", ".raw", ".raw"),
    "tar": ImageType("tar", ".rootfs.tar", ".tar"),
    "tgz": ImageType("tar.gz", ".rootfs.tar.gz", ".tgz"),
    "squashfs": ImageType("squashfs", ".squashfs", ".squash"),
    "vhd": ImageType("vhd", ".vhd", ".vhd"),
    "vmdk": ImageType("vmdk", ".vmdk", ".vmdk"),
    "docker": ImageType("oci", ".oci.tar", ".oci.tar"),
}
_ACI = "aci"
_HARMLESS_QCOW2 = ("compat=1.1", "compat=v3", "cluster_size=65536", "cluster_size=64k", "cluster_size=64K")

_NO_MEANING: Mapping[str, str] = {
    "image-cache": "what builds keep is in Goldsmith's own folder: see goldsmith cache list",
    "min-tmpfs": "where the files lie during a build is not asked for",
    "no-tmpfs": "where the files lie during a build is not asked for",
    "ramdisk-element": "it counts for ramdisk-image-create alone",
}
_INSTALL_TYPES = ("source", "package")
_FILE_SYSTEMS = ("ext4", "xfs", "btrfs")
_WHOLE = re.compile(r"0*([0-9]{1,15})(?:\.0*)?")
_DECIMAL = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?|\.[0-9]{1,9}")
_MOST_BLOCKS = 274_877_906_944  # with which a file system may grow to 1 PiB
_ROUNDED = 64 << 10
_GROWTH = 1536 << 20  # bytes that a source of elements has for its later phases where its spec says nothing


@dataclass(frozen=True)
class FoundElements:
    """What is known of the elements of an order: the folders that hold them, and the disk that they bring.

    The first folder is the context, as the spec says it; the others are relative to it.
    """

    context: str
    others: tuple[str, ...] = ()
    disk: Any = None  # the values of a block-device-*.yaml
    disk_from: str = ""
    files: Mapping[str, str] = field(default_factory=dict)  # that variables name, relative to the context


@dataclass(frozen=True)
class OriginalFiles:
    """The files that disk-image-create would write: their name, and their endings by those that ours have."""

    name: str  # a path
    endings: Mapping[str, str]
    checksums: tuple[str, ...]
    logfile: str | None
    overwrite: bool


@dataclass
class OrderDraft:
    """The document of an order, with its problems, and what it leaves out."""

    document: Document
    files: OriginalFiles
    notes: list[str] = field(default_factory=list)

    def notes_of_spec(self) -> list[str]:
        """Return the notes, and what only `goldsmith dib` does."""
        notes = list(self.notes)
        if self.files.logfile is not None:
            notes.append("--logfile: not taken over: goldsmith builds logs prints what a build has printed")
        if self.files.checksums:
            why = "NAME.sha256 is beside each file in any case; md5sum makes the other"
            notes.append(f"--checksum: not taken over: {why}")
        return notes


def chosen_elements(order: ImageOrder) -> list[str]:
    """Return the names of an order's elements, with base. The disk for vm comes with what vm needs."""
    names = [each.text for each in order.elements]
    return names if order.last("skip-base") else [BASE, *names]


def draft_order(
    order: ImageOrder, found: FoundElements, folder_of: Callable[[str], str] = lambda path: path
) -> OrderDraft:
    """Return the document of a spec. `folder_of` gives the path of a written file, as the spec says it."""
    maker = _Maker(order, found)
    maker.check()
    name = maker.image_name()
    types = maker.types()
    maker.source()
    maker.disk()
    maker.steps(name)
    maker.output(folder_of(name), types)
    document = maker.draft.finished()
    document.problems[:0] = order.problems
    logfile = order.last("logfile")
    overwrite = order.environment.get(OVERWRITE)
    files = OriginalFiles(
        name,
        {each.ending: each.original_ending for each in types},
        maker.checksums(),
        logfile.text if logfile else None,
        overwrite is not None and overwrite.text not in ("", "0"),
    )
    return OrderDraft(document, files, maker.notes)


class _Maker:
    """Makes the document, key by key."""

    def __init__(self, order: ImageOrder, found: FoundElements) -> None:
        self.order = order
        self.found = found
        self.draft = Draft()
        self.draft.locate((), order.place)
        self.notes: list[str] = []

    def fault(self, text: str, place: Origin) -> None:
        self.draft.fault((), text, place)

    def note(self, what: str, text: str) -> None:
        self.notes.append(f"{what}: not taken over: {text}")

    # What has no key of its own

    def check(self) -> None:
        order = self.order
        if order.is_ramdisk:
            self.fault("makes a kernel and an initrd, and no image; run diskimage-builder for it", order.place)
        if not order.elements:
            self.fault("names no element; write them behind the options, one of a distribution among them", order.place)
        arch = order.last("arch")
        if arch is not None and arch.text not in _ARCHITECTURES:
            if arch.text in _OTHER_ARCHITECTURES:
                what = f"{arch.text}: images from nothing are made for amd64; leave it out, or write amd64"
            else:
                what = f"{quoted(arch.text)} is no architecture; {nearest(arch.text, _ARCHITECTURES)}"
            self.fault(what, arch.place)
        for key, why in _NO_MEANING.items():
            if order.last(key) is not None:
                self.note(OPTIONS[key].flag, why)
        self._installs()
        self._qemu_img()

    def _installs(self) -> None:
        kind = self.order.last("install-type")
        if kind is not None and kind.text not in _INSTALL_TYPES:
            self.fault(f"cannot be {quoted(kind.text)}; write source or package", kind.place)

    def _qemu_img(self) -> None:
        options = self.order.last("qemu-img-options")
        asked = [each for each in options.text.split(",") if each not in _HARMLESS_QCOW2] if options else []
        if options is not None and asked:
            self.fault(
                f"{quoted(asked[0])} cannot be set; write -t raw, and convert that: qemu-img convert -O qcow2 -o "
                f"{options.text} NAME.raw NAME.qcow2",
                options.place,
            )

    # Names and files

    def image_name(self) -> str:
        """Return the path of the files without their endings, and name the spec after it."""
        given = self.order.last("imagename") or OrderText("image", self.order.place)
        name = given.text
        types = [each.text for each in self.order.given.get("types", ())] or [DEFAULT_TYPE]
        if len(types) == 1:
            name = name.removesuffix(f".{types[0]}")
        last = name.rpartition("/")[2]
        if not last or last in (".", "..") or not name.isprintable():
            self.fault(f"{quoted(given.text)} is no file's name; write one such as out/my-image", given.place)
            name, last = "image", "image"
        self.draft.put(("name",), _spec_name(last), given.place)
        return name

    def types(self) -> list[ImageType]:
        """Return the types of the files."""
        found = []
        uncompressed = self.order.last("uncompressed") is not None
        for each in self.order.given.get("types") or [OrderText(DEFAULT_TYPE, self.order.place)]:
            known = IMAGE_TYPES.get(each.text)
            if each.text == _ACI:
                self.fault("aci is not made: its runtime is gone; write tar, or docker for an OCI image", each.place)
            elif known is None:
                self.fault(f"{quoted(each.text)} is no type; {nearest(each.text, IMAGE_TYPES)}", each.place)
            elif known not in found:
                found.append(known)
        if uncompressed:
            found = [ImageType("qcow2", *_endings(each)) if each.ending == ".qcow2" else each for each in found]
        if any(each.format == "oci" for each in found):
            target = self.order.last("docker-target")
            name = f" and docker tag, for {target.text}" if target else ""
            self.notes.append(f"-t docker: the image is an archive, NAME.oci.tar, for docker load{name}")
        elif (target := self.order.last("docker-target")) is not None:
            self.note(target.place.shown, "it goes with -t docker")
        return found

    def checksums(self) -> tuple[str, ...]:
        """Return the checksums that are asked for."""
        asked = self.order.last("checksum")
        kinds = self.order.environment.get(CHECKSUMS)
        if asked is None:
            return ()
        chosen = kinds.text if kinds and kinds.text not in ("", "0", "1") else "md5,sha256"
        return tuple(kind for kind in ("md5", "sha256") if kind in chosen)

    # Keys

    def source(self) -> None:
        order = self.order
        elements = chosen_elements(order)
        value: dict[str, Any] = {"elements": elements, "path": [".", *self.found.others]}
        if variables := self._variables():
            value["env"] = variables
        if (extra := self._gib("image-extra-size")) is not None and order.last("image-size") is not None:
            self.note(OPTIONS["image-extra-size"].flag, "--image-size says how large the disk is")
        elif extra is not None:
            value["room"] = format_size(_GROWTH + extra)
        self.draft.put(("source", "elements"), value, order.place)
        for index, each in enumerate(order.elements, 0 if order.last("skip-base") else 1):
            self.draft.locate(("source", "elements", "elements", index), each.place)
        for name in variables:
            if name in order.environment:
                self.draft.locate(("source", "elements", "env", name), order.environment[name].place)
        self.draft.put(("context",), self.found.context, order.place)

    def _variables(self) -> dict[str, str]:
        """Return what the scripts see, with the variables that options stand for."""
        order = self.order
        found = {name: each.text for name, each in variables_of_elements(order).items()}
        found |= {name: self._file(name, file) for name, file in self.found.files.items()}
        if order.given.get("debug-trace"):
            found["DIB_DEBUG_TRACE"] = str(len(order.given["debug-trace"]))
        if order.last("offline") is not None:
            found["DIB_OFFLINE"] = "1"
        if (kind := order.last("install-type")) is not None:
            found["DIB_DEFAULT_INSTALLTYPE"] = kind.text
        self.notes += [
            f"{name}: its value is in the spec as it is; keep the file from others"
            for name in found
            if looks_secret(name)
        ]
        return dict(sorted(found.items()))

    def _file(self, name: str, file: str) -> str:
        """Return the path of a variable's file in the packed context, in which the scripts of the host start."""
        if any(file.startswith(f"{other}/") for other in self.found.others):
            return packed_place(file)
        if leads_out(file):
            given = self.order.environment[name]
            self.fault(
                f"{quoted(given.text)} is a file of this machine, which scripts do not see; copy it into "
                f"{quoted(self.found.context)} or another folder of elements, and name it there",
                given.place,
            )
        return file

    def disk(self) -> None:
        order = self.order
        kind = order.environment.get(FILE_SYSTEM_TYPE)
        if kind is not None and kind.text not in _FILE_SYSTEMS:
            self.fault(f"cannot be {quoted(kind.text)}; {nearest(kind.text, _FILE_SYSTEMS)}", kind.place)
            kind = None
        label, options = order.last("root-label"), order.last("mkfs-options")
        asked = RootOptions(
            kind.text if kind else None,
            label.text if label else None,
            " ".join(self._of_ext4()),
            " ".join(options.text.split()) if options else "",
            self._size(),
        )
        value, without_effect = with_root_options(self.found.disk, asked)
        for key in without_effect:
            self.note(OPTIONS[key].flag, f"{self.found.disk_from or 'the disk'} says otherwise")
        self.draft.put(("disk",), value, order.place)
        for loc, text in read_disk(value).problems:
            given = {"label": label, "opts": options}.get(str(loc[-1]) if loc else "")
            self.draft.fault(("disk", *loc), text, given.place if given else order.place)

    def _of_ext4(self) -> Iterator[str]:
        """Yield the options of mkfs that all ext4 roots get."""
        journal = self._whole("mkfs-journal-size", 4, 10_240)
        resize = self._whole("max-online-resize", 1, _MOST_BLOCKS)
        if resize is not None:
            yield f"-E resize={resize}"
        yield f"-i 4096 -J size={journal or 64}"

    def _whole(self, key: str, least: int, most: int) -> int | None:
        given = self.order.last(key)
        if given is None:
            return None
        match = _WHOLE.fullmatch(given.text)
        if match is None or not least <= int(match[1]) <= most:
            self.fault(f"cannot be {quoted(given.text)}; write a whole number from {least} to {most}", given.place)
            return None
        return int(match[1])

    def _size(self) -> str | None:
        """Return the size of the disk."""
        count = self._gib("image-size")
        if count is None:
            return None
        unit, name = next((u, n) for u, n in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")) if count % u == 0)
        return f"{count // unit}{name}"

    def _gib(self, key: str) -> int | None:
        """Return the bytes that an option gives in GiB; None for none, or what is no size."""
        given = self.order.last(key)
        if given is None:
            return None
        if not _DECIMAL.fullmatch(given.text) or not 0 < Fraction(given.text) <= 65_536:
            self.fault(f"{quoted(given.text)} is no size; write a number of GiB, such as 4 or 2.5", given.place)
            return None
        return -(-int(Fraction(given.text) * (1 << 30)) // _ROUNDED) * _ROUNDED

    def steps(self, path: str) -> None:
        """Run the elements of the source, whose scripts write the name of the image into it."""
        order = self.order
        self.draft.put(("steps",), [], order.place)
        step: dict[str, Any] = {"name": STEP, "action": "elements", "inputs": {}}
        if order.last("imagename") is not None:
            step["inputs"]["env"] = {"IMAGE_NAME": path.rpartition("/")[2]}
        packages = [each for each in order.given.get("packages", ()) if each.text]
        if packages:
            step["inputs"]["packages"] = list(dict.fromkeys(each.text for each in packages))
        if not step["inputs"]:
            del step["inputs"]
        self.draft.put(("steps", 0), step, order.place)
        for index, each in enumerate(step.get("inputs", {}).get("packages", ())):
            place = next(given.place for given in packages if given.text == each)
            self.draft.locate(("steps", 0, "inputs", "packages", index), place)

    def output(self, path: str, types: list[ImageType]) -> None:
        order = self.order
        given = order.last("imagename")
        place = given.place if given else order.place
        self.draft.put(("output", "export", "to"), f"{path}.tar.gz", place)
        named = order.given.get("types")
        self.draft.put(("output", "formats"), [each.format for each in types], named[0].place if named else place)
        self.draft.put(("hygiene",), "warn", order.place)
        self.draft.put(("build", "timeout"), TIMEOUT, order.place)
        description = read_disk(self.draft.document.data["disk"]).description
        engine = "auto" if description is not None and description.needs_vm else "chroot"
        self.draft.put(("local", "engine"), engine, order.place)
        self.draft.put(("local", "memory_mb"), MEMORY_MB, order.place)


def _endings(kind: ImageType) -> tuple[str, str]:
    return kind.ending, kind.original_ending


def _spec_name(text: str) -> str:
    """Return a name for a spec that is as near to a file's name as it can be."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if not name or not name[0].isalpha():
        name = f"image-{name}".strip("-")
    return name[:SPEC_NAME_LENGTH].rstrip("-")
