"""A root file system that root.d of some elements makes, in a room of its own on this machine.

What decides it is digested: all files of the elements but those of other phases, their variables, and the signed
indexes of the package archives where the elements install packages. What other elements fetch cannot be known: then
what was made counts for some time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioner.elements.extract_image import is_disk_image
from provisioner.elements.hooks import HOOK_PHASES, OF_EVERY_ELEMENT, ROOT
from provisioner.elements.root_run import LOOK_AT, MAKE, REQUEST

from ..build.block_devices.description import DiskDescription
from ..disks.extents import copy_sparse
from ..elements.chosen import ChosenElements, choose
from ..elements.ordered import element_disk
from ..errors import EnvironmentFault, ImageFileError, InputError
from ..host.programs import PACKAGES, run_tool
from ..host.scratch import Scratch, faults, scratch_folder
from ..names import quoted
from ..ports import Notify
from ..quantities import MIB
from ..sandbox.roots.unpack_root import UnpackedRoot, remove_unpacked
from ..sandbox.user_namespace import run_with_all_ids
from ..spec.disk.reading import read_disk
from .cloud_image import pack_cloud_image
from .kept_files import KeptFiles, KeptFolder
from .room import CACHE, JOB
from .start_room import RoomJob
from .tree_disk import FilledTree

MEMORY = 4 << 30  # bytes of a room
LOCAL_IMAGE = "DIB_LOCAL_IMAGE"  # an image that root.d begins with, in place of one that it fetches
GROWTH = 1536 * MIB  # bytes of what later phases install: a kernel, with its firmware, and some packages
_LONGEST = 3600.0  # seconds of root.d
_OTHER_PHASES = tuple(phase for phase in HOOK_PHASES if phase != ROOT)
_BOOTSTRAP = "debootstrap"  # the element that installs packages of an archive
_TOOLS = {
    **PACKAGES,
    "debootstrap": "debootstrap",
    "dnf": "dnf",
    "emerge": "portage",
    "kpartx": "kpartx",
    "rpm": "rpm",
    "yum": "dnf",
    "yumdownloader": "dnf",
    "zypper": "zypper",
}
"""Which Debian package has a program that root.d of known elements runs."""

_CONTAINER_PROGRAMS = ("docker", "podman")

RunRoom = Callable[[RoomJob, Notify], bytes]
"""Runs a job in a room and returns its result, as run_room() does."""


@dataclass(frozen=True)
class ElementsRequest:
    """The request of a root file system: elements in the folders of a path, and variables for their scripts.

    `network` is whether root.d reaches other hosts; `max_age` how many seconds what it has fetched counts where no
    index tells whether it has changed; `size` the bytes of the disk, where it has to have as many, and `room` those
    that it has for what a build adds, where no size is given. `local_image` is the file that DIB_LOCAL_IMAGE names, and
    `local_digest` its SHA-256.
    """

    elements: tuple[str, ...]
    path: tuple[Path, ...]
    env: Mapping[str, str]
    network: bool = True
    max_age: float = 0.0
    size: int | None = None
    room: int = GROWTH
    local_image: Path | None = None
    local_digest: str = ""

    @property
    def keyed_env(self) -> dict[str, str]:
        """The variables as the key has them: of an image's path, the name alone counts."""
        local = {LOCAL_IMAGE: self.local_image.name} if self.local_image is not None else {}
        return {**self.env, **local}


@dataclass(frozen=True)
class ArchivesState:
    """The present state of what root.d fetches: digests of signed indexes, and their date; None where unknown."""

    indexes: tuple[tuple[str, ...], ...] | None
    date: int
    unreachable: str = ""


def described_disk(chosen: ChosenElements) -> tuple[DiskDescription | None, str]:
    """Return the disk that elements describe and its file, ELEMENT/FILE; None and "" where none does. InputError."""
    values, file = element_disk(chosen.elements)
    return read_disk(values).description if file else None, file


class RootElements:
    """The elements of a request, read and checked."""

    def __init__(self, request: ElementsRequest, run_room: RunRoom, home: Path, progress: Notify) -> None:
        """Choose the elements. InputError tells all problems; it is one that none of them has root.d."""
        self._request = request
        self._run_room = run_room
        self._home = home
        self._progress = progress
        self._chosen: ChosenElements = choose(request.elements, [str(path) for path in request.path], on_image=False)
        local = request.local_image
        if local is not None and not local.is_file():
            raise InputError(
                f"source.elements.env.{LOCAL_IMAGE}: {local} is no file; name an image, by a path beside the spec"
            )
        if not self._chosen.hooks.phases[ROOT]:
            raise InputError(
                f"source.elements: none of {', '.join(each.name for each in self._chosen.elements)} has a script in "
                f"{ROOT}; add one that makes a root file system, such as debian-minimal, or name an image"
            )

    @property
    def subject(self) -> str:
        """What errors call it."""
        return f"elements {', '.join(self._request.elements)}"

    @property
    def digest(self) -> str:
        """SHA-256 over all that decides the result, but for what root.d fetches."""
        digest = hashlib.sha256()
        for element in self._chosen.elements:
            for path in _files_that_count(Path(element.folder)):
                _add(digest, Path(element.folder), path, element.name)
        fields = [
            self._request.elements,
            sorted(self._request.keyed_env.items()),
            self._request.local_digest,
            self._chosen.documents,
            self._names,
        ]
        digest.update(json.dumps(fields, sort_keys=True).encode())
        return digest.hexdigest()

    @property
    def _names(self) -> list[str]:
        return [each.name for each in self._chosen.elements]

    def disk(self) -> DiskDescription | None:
        """Return the disk that an element describes; None where none does. InputError with the place in its file."""
        return described_disk(self._chosen)[0]

    def state(self) -> ArchivesState:
        """Ask the archives that root.d would take packages from what they hold. InputError, EnvironmentFault."""
        known = _BOOTSTRAP in self._names
        with self._folder() as scratch:
            found = self._run(scratch, LOOK_AT, None, None, 0, network=self._request.network and known, archives=known)
        _check(found)
        if "unreachable" in found:
            return ArchivesState(None, 0, str(found["unreachable"]))
        indexes = found.get("indexes") or None
        return ArchivesState(None if indexes is None else tuple(map(tuple, indexes)), int(found.get("date", 0)))

    def make(self, tree: Path, date: int, needs_vm: str = "") -> FilledTree:
        """Run root.d, which makes the tree; no time in it is later than `date`, unless that is 0.

        `needs_vm` is why a machine has to run the other phases from the disk; the tree has to have a kernel then.
        InputError for a script that fails; MissingTool, EnvironmentFault.
        """
        with KeptFiles(self._home).of(self._names) as kept:
            found = self._make(tree, kept, date, "")
            wanted = str(found.get("wanted", ""))
            if wanted.startswith(f"{CACHE}/"):  # an image that root.d has fetched
                remove_unpacked(tree)
                found = self._make(tree, kept, date, wanted.removeprefix(f"{CACHE}/"))
        _check(found)
        newest = run_with_all_ids(lambda: _finish(tree, date, needs_vm))
        return FilledTree(UnpackedRoot((), {}, {}), int(newest))

    def _make(self, tree: Path, kept: KeptFolder, date: int, fetched: str) -> dict[str, Any]:
        """Run root.d. `fetched` is the name of an image among the kept files; "" for none."""
        with self._folder() as work:
            images: dict[str, str] = {}
            for file, shown in self._images(kept, fetched):
                archive = f"image-{len(images)}.tar"
                pack_cloud_image(file, work.path, _job_folder(work) / archive, self._progress)
                images[shown] = f"{JOB}/{archive}"
            return self._run(work, MAKE, tree, kept, date, network=self._request.network, archives=False, images=images)

    def _images(self, kept: KeptFolder, fetched: str) -> Iterator[tuple[Path, str]]:
        """Yield the disk images whose files root.d is to unpack, and their paths in the room. InputError."""
        if self._request.local_image is not None and is_disk_image(str(self._request.local_image)):
            yield self._request.local_image, f"{JOB}/{self._request.local_image.name}"
        if fetched:
            home, file = kept.files.resolve(), (kept.files / fetched).resolve()
            if file != Path(f"{home}/{fetched}") or not file.is_file():  # a script chooses the name, /etc/x too
                raise InputError(
                    f"source.elements: extract-image: {quoted(fetched)} is no image that root.d has fetched"
                )
            yield file, f"{CACHE}/{fetched}"

    @contextmanager
    def _folder(self) -> Iterator[Scratch]:
        folder = self._home / "cache" / "origins"
        with faults(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with scratch_folder(folder) as scratch:
            yield scratch

    def _run(
        self,
        scratch: Scratch,
        mode: str,
        tree: Path | None,
        cache: KeptFolder | None,
        date: int,
        *,
        network: bool,
        archives: bool,
        images: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Write the files of a job, run it, and return what it has told."""
        folder = _job_folder(scratch)
        env = dict(self._request.env)
        if (local := self._request.local_image) is not None:
            env[LOCAL_IMAGE] = f"{JOB}/{local.name}"
            if mode == MAKE:
                self._copy_local(local, folder / local.name)
        for element in self._chosen.elements:
            _copy_element(Path(element.folder), folder / "elements" / element.name)
        request = {
            "mode": mode,
            "elements": list(self._request.elements),
            "documents": json.dumps(self._chosen.documents),
            "env": env,
            "images": dict(images or {}),
            "seconds": _LONGEST,
            "date": date,
            "archives": archives,
        }
        (folder / REQUEST).write_text(json.dumps(request))
        name = f"elements-{scratch.path.name.rpartition('-')[2]}"
        files, locks = (None, ()) if cache is None else (cache.files, (cache.lock,))
        job = RoomJob(name, scratch.path, tree, files, network, MEMORY, (scratch.lock, *locks))
        try:
            found = json.loads(self._run_room(job, self._progress))
        except (ValueError, RecursionError) as error:  # a script of root.d can write it
            raise EnvironmentFault(f"{self.subject}: what root.d tells cannot be read: {error}") from error
        return found if isinstance(found, dict) else {}

    def _copy_local(self, file: Path, target: Path) -> None:
        """Put the file that DIB_LOCAL_IMAGE names into the room. ImageFileError where it is another one by now."""
        copy_sparse(file, target)
        with target.open("rb") as copied:
            if hashlib.file_digest(copied, "sha256").hexdigest() != self._request.local_digest:
                raise ImageFileError(f"{file}: was changed while it was read; leave it alone, and build again")


def _job_folder(scratch: Scratch) -> Path:
    folder = scratch.path / "job"
    folder.mkdir(exist_ok=True)
    return folder


def _check(found: Mapping[str, Any]) -> None:
    """Raise the error of root.d that has failed: EnvironmentFault for a program that is not there, else InputError."""
    problem, missing = str(found.get("problem", "")), str(found.get("missing", ""))
    if missing in _CONTAINER_PROGRAMS:
        raise InputError(
            f"source.elements: {problem}: it runs {missing}, which no sandbox can; build that container's image, and "
            "name its archive as the source (source.oci), with the elements in a step"
        )
    if missing:
        package = _TOOLS.get(missing, missing)
        raise EnvironmentFault(
            f"source.elements: {problem}: {missing} is not installed on this machine; install it with: apt-get install "
            f"{package}"
        )
    tail = str(found.get("tail", "")).strip()
    if problem:
        raise InputError(f"source.elements: {problem}" + (f"; its last lines:\n{tail}" if tail else ""))


def _copy_element(source: Path, target: Path) -> None:
    """Copy an element; a link to a file beside it becomes that file. InputError for one that leads further."""
    shutil.copytree(source, target, symlinks=True)
    for link in [path for path in target.rglob("*") if path.is_symlink() and not path.exists()]:
        leads = source / link.relative_to(target)
        if not leads.exists():
            continue
        real = leads.resolve()
        if not any(map(real.is_relative_to, (source.parent.resolve(), source.resolve().parent))):  # to a key, say
            raise InputError(
                f"{leads}: the link leads out of {source.parent}, and an element sees no other files of this host; "
                "put the file into the element"
            )
        link.unlink()
        if real.is_dir():
            shutil.copytree(real, link, symlinks=True)
        else:
            shutil.copy2(real, link)


def _files_that_count(folder: Path) -> Iterator[Path]:
    """Yield what root.d and environment.d may read of an element, sorted: all but what other phases run."""
    for entry in sorted(folder.iterdir()):
        if entry.name in _OTHER_PHASES or entry.name in OF_EVERY_ELEMENT or entry.name.startswith(("README", ".")):
            continue
        yield entry
        if entry.is_dir() and not entry.is_symlink():
            yield from sorted(entry.rglob("*"))


def _add(digest: Any, folder: Path, path: Path, element: str) -> None:
    state = path.lstat()
    digest.update(json.dumps([element, os.fsdecode(path.relative_to(folder)), state.st_mode & 0o170111]).encode())
    if stat.S_ISLNK(state.st_mode):
        digest.update(os.fsencode(path.readlink()))
    if path.is_file():
        digest.update(hashlib.sha256(path.read_bytes()).digest())


def _has_kernel(tree: Path) -> bool:
    """Return whether a machine can be started from a tree."""
    return any(tree.glob("boot/vmlinu[xz]-*")) or any(tree.glob("usr/lib/modules/*/vmlinuz"))


def _finish(tree: Path, date: int, needs_vm: str) -> str:
    """Take what is of this host out of a tree, and let no time in it be later than `date`; return the latest."""
    if needs_vm and not _has_kernel(tree):
        raise InputError(
            f"source.elements: {needs_vm}, so that a machine has to run the other phases from the disk, and root.d "
            "leaves no kernel; write disk, with one ext4 file system beside /boot/efi, or install a kernel in root.d"
        )
    for name, what in (("dev", ("-mindepth", "1")), ("etc", ("-maxdepth", "1", "-name", "resolv.conf", "-type", "f"))):
        if (tree / name).is_dir() and not (tree / name).is_symlink():
            run_tool(["find", tree / name, "-xdev", *what, "-delete"])
    if date:
        touch = ("touch", "-h", "-m", "-d", f"@{date}")
        run_tool(["find", tree, "-newermt", f"@{date}", "-exec", *touch, "{}", "+"])
        return str(date)
    times = run_tool(["find", tree, "-printf", r"%T@\n"]).split()
    return str(max(int(float(time)) for time in times))
