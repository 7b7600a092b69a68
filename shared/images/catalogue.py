"""The images of this machine, as Compute Engine keeps a project's: families, labels, deprecation.

    HOME/images/NAME/disk.raw      the disk, sparse, read-only: builds work on a copy
    HOME/images/NAME/image.json    everything else

An entry is a folder that is renamed into place when it is whole, so two processes that add the same name cannot both
succeed and a reader never sees half of one. image.json is replaced as a whole, under the catalogue's lock.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ..disks.extents import copy_sparse
from ..errors import AlreadyExists, ImageFileError, InputError, NotFound, StoreError, Transient
from ..host.scratch import Scratch, faults, force, locked, scratch_folder
from ..names import LABEL_COUNT, LOCAL, check_name, label_key, label_value, meant
from ..ports import Clock, Image
from ..quantities import GIB
from .record import decode_record, encode_record

DISK = "disk.raw"
RECORD = "image.json"
Transfer = Literal["copy", "link", "move"]
_CANNOT_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)  # another file system, or one without links


class Catalogue:
    """The image catalogue below `home`. Any number of processes may use it at once."""

    def __init__(self, home: Path, clock: Clock) -> None:
        self.folder = home / "images"
        self._clock = clock

    def get(self, name: str) -> Image | None:
        """Return an image, or None when there is none. StoreError when its entry is damaged."""
        path = self.folder / _checked(check_name, name) / RECORD
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            if path.parent.exists():
                raise StoreError(f"{path}: is missing; restore it, or delete the image: {_delete(name)}") from error
            return None
        image = decode_record(data, path)
        if image.name != name:
            raise StoreError(f"{path}: is the record of {image.name}, not of {name}; restore or delete this folder")
        return image

    def disk(self, name: str) -> Path:
        """Return the path of an image's disk. NotFound."""
        path = self.folder / _checked(check_name, name) / DISK
        if not path.exists():
            raise self._missing(name)
        return path

    def list(
        self, family: str | None = None, prefix: str = "", damaged: Callable[[str], None] | None = None
    ) -> Sequence[Image]:
        """List images, newest first, deprecated ones too. The errors of damaged entries go to `damaged`."""
        found = [image for image in self.every(prefix, damaged) if family in (None, image.family)]
        return sorted(found, key=lambda image: (-image.created, image.name))

    def every(self, prefix: str = "", damaged: Callable[[str], None] | None = None) -> Iterator[Image]:
        """List images one after the other, by their names. The errors of damaged entries go to `damaged`."""
        for name in self._names():
            if not name.startswith(prefix):
                continue
            try:
                image = self.get(name)
            except StoreError as error:
                if damaged is not None:
                    damaged(str(error))
                continue
            if image is not None:
                yield image

    def add(
        self,
        disk: Path,
        name: str,
        *,
        transfer: Transfer = "copy",
        family: str | None = None,
        description: str = "",
        labels: Mapping[str, str] | None = None,
        licenses: Sequence[str] = (),
        architecture: str = "x86_64",
        source_disk: str | None = None,
        content: str | None = None,
        source_image: str | None = None,
    ) -> Image:
        """Add a raw disk. It is whole in the catalogue, or not there at all.

        `content` is a digest of all that the disk was made of: the same image, made again, has the same id then.
        `link` shares the file with the caller, who must never write to it again; `move` takes it away. Both copy
        where the catalogue is on another file system. AlreadyExists when there is an image of that name.
        """
        _check(name, family, labels or {})
        with faults(self.folder), self.staging() as scratch:
            (entry := scratch.path / "entry").mkdir()
            taken = self._taken(name)
            if (self.folder / name).exists():
                raise taken
            state = _bring(disk, entry / DISK, transfer)
            created = self._clock.now()
            image = Image(
                LOCAL,
                name,
                _image_id(name, created, state.st_size) if content is None else content_id(content),
                created,
                family=family,
                description=description,
                architecture=architecture,
                disk_size_gb=-(-state.st_size // GIB),
                archive_bytes=state.st_blocks * 512,
                labels=dict(labels or {}),
                licenses=tuple(licenses),
                source_disk=source_disk,
                source_image=source_image,
            )
            _write(entry / RECORD, encode_record(image))
            _publish(entry, self.folder / name, taken)
            if transfer == "move":
                disk.unlink()
        return image

    def set_labels(self, name: str, labels: Mapping[str, str], *, seen: Image | None = None) -> Image:
        """Replace an image's labels; with `seen`, only where they are still as in it. NotFound, Transient."""
        _check(name, None, labels)
        with self._changing(name) as image:
            if seen is not None and (image.id != seen.id or image.labels not in (seen.labels, labels)):
                raise _changed(seen)
            return self._save(replace(image, labels=dict(labels)))

    def set_family(self, name: str, family: str | None) -> Image:
        """Put an image into a family, or take it out. NotFound."""
        _check(name, family, {})
        with self._changing(name) as image:
            return self._save(replace(image, family=family))

    def deprecate(
        self, name: str, replacement: str | None, deletes_at: float | None, state: str | None = "DEPRECATED"
    ) -> Image:
        """Mark an image DEPRECATED in favour of another; `deletes_at` (Unix seconds) is when purge() removes it.

        `state` may be another of Compute Engine's; None takes the mark away.
        """
        with self._changing(name) as image:
            return self._save(replace(image, deprecated=state, replacement=replacement, deletes_at=deletes_at))

    def retire(self, name: str, replacement: str, deletes_at: float | None) -> Image:
        """Mark an image DEPRECATED as deprecate() does; one that is OBSOLETE stays so. NotFound.

        Transient for a replacement that is OBSOLETE itself.
        """
        with self._changing(name) as image:
            other = self.get(replacement)
            if other is not None and other.is_obsolete:
                raise Transient(f"image {replacement} is {other.deprecated}, so {name} stays as it is")
            if image.is_obsolete:
                return image
            return self._save(replace(image, deprecated="DEPRECATED", replacement=replacement, deletes_at=deletes_at))

    def activate(self, seen: Image) -> Image:
        """Take the mark DEPRECATED from an image, where it is still as in `seen`. NotFound, Transient."""
        with self._changing(seen.name) as image:
            if image.id == seen.id and image.deprecated is None:
                return image
            marks = [(each.id, each.deprecated, each.replacement) for each in (image, seen)]
            if marks[0] != marks[1] or image.is_obsolete:
                raise _changed(seen)
            return self._save(replace(image, deprecated=None, replacement=None, deletes_at=None))

    def obsolete(self, seen: Image, active: str) -> Image:
        """Mark an image OBSOLETE in favour of `active`, an image of its family that is active. NotFound, Transient.

        Both are looked at under the lock. With "", only the image's mark has still to be as in `seen`.
        """
        with self._changing(seen.name) as image:
            other = self.get(active) if active else None
            if active and (other is None or other.deprecated is not None or other.family != image.family):
                raise Transient(f"image {active} is no active image of family {image.family} any more")
            if image.id != seen.id or (not active and image.deprecated not in (seen.deprecated, "OBSOLETE", "DELETED")):
                raise _changed(seen)
            if image.is_obsolete:
                return image
            return self._save(replace(image, deprecated="OBSOLETE", replacement=active or None, deletes_at=None))

    def delete(self, name: str, *, due: float | None = None, image_id: str = "") -> bool:
        """Delete an image, also a damaged entry; False when there is none. Builds that have its disk open go on.

        With `due` (Unix seconds) only one that is to be deleted by then: it may have become active since it was read.
        With `image_id` only one that has it: another may have got the name. StoreError if its entry is damaged then.
        """
        _checked(check_name, name)
        if not (self.folder / name).exists():
            return False
        with faults(self.folder), self.staging() as scratch, locked(self.folder):
            if due is not None and not _is_due(self.get(name), due):
                return False
            if image_id and ((found := self.get(name)) is None or found.id != image_id):
                return False
            try:  # renamed away first: no reader sees half an image
                (self.folder / name).rename(scratch.path / "entry")
            except FileNotFoundError:
                return False
        return True

    def purge(self) -> Sequence[str]:
        """Delete the images whose time to be deleted has come; return their names."""
        now = self._clock.now()
        due = [image.name for image in self.list() if _is_due(image, now)]
        return [name for name in due if self.delete(name, due=now)]

    @contextmanager
    def staging(self) -> Iterator[Scratch]:
        """Yield a folder to make a disk in, on the catalogue's file system; it is gone after the block."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with scratch_folder(self.folder) as scratch:
            yield scratch

    def _names(self) -> Iterator[str]:
        try:
            entries = sorted(os.scandir(self.folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_dir():
                yield entry.name

    def no_such(self, name: str) -> str:
        """Return the words for an image that is not there, with the names that are nearest to it."""
        return f"there is no image {name}{meant(name, self._names())}; see: goldsmith images list"

    def _missing(self, name: str) -> NotFound:
        return NotFound(f"there is no image {name} in {self.folder}; `goldsmith images list` shows those there are")

    def _taken(self, name: str) -> AlreadyExists:
        return AlreadyExists(
            f"there is an image {name} in {self.folder} already; choose another name, or delete it: {_delete(name)}"
        )

    @contextmanager
    def _changing(self, name: str) -> Iterator[Image]:
        if not self.folder.is_dir():
            raise self._missing(name)
        with locked(self.folder):
            image = self.get(name)
            if image is None:
                raise self._missing(name)
            yield image

    def _save(self, image: Image) -> Image:
        """Replace an entry's record. The caller holds the lock, which makes the name of the new file ours alone."""
        path = self.folder / image.name / RECORD
        staged = path.with_name(f".{RECORD}.new")
        try:
            with faults(path.parent):
                _write(staged, encode_record(image))
                staged.replace(path)
        except FileNotFoundError as error:  # deleted since it was read
            raise self._missing(image.name) from error
        return image


def refuse_damaged(why: str) -> None:
    """Raise StoreError for an entry that cannot be read, where every entry counts."""
    raise StoreError(why)


def _is_due(image: Image | None, now: float) -> bool:
    return image is not None and image.deletes_at is not None and image.deletes_at <= now


def _changed(seen: Image) -> Transient:
    return Transient(f"image {seen.name} has changed meanwhile; it is looked at again")


def _delete(name: str) -> str:
    return f"goldsmith images delete {name}"


def _bring(disk: Path, target: Path, transfer: Transfer) -> os.stat_result:
    """Make `target` the same disk, forced to the file system and read-only; return its state."""
    if not disk.is_file():
        raise ImageFileError(f"{disk}: is not a file; give a raw disk image")
    if transfer == "copy" or not _link(disk, target):
        copy_sparse(disk, target)
    target.chmod(0o444)
    force(target)
    return target.stat()


def _link(disk: Path, target: Path) -> bool:
    try:
        target.hardlink_to(disk)
    except OSError as error:
        if error.errno in _CANNOT_LINK:
            return False
        raise
    return True


def _publish(entry: Path, target: Path, taken: AlreadyExists) -> None:
    force(entry)
    try:
        entry.rename(target)  # fails when there is a folder with anything in it
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise taken from error
        raise
    force(target.parent)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    force(path)


def content_id(content: str) -> str:
    """Return the id of the image that is made of a content: 19 decimal digits, as Compute Engine's ids have."""
    digest = hashlib.sha256(content.encode()).digest()
    return str(10**18 + int.from_bytes(digest, "big") % (9 * 10**18))


def _image_id(name: str, created: float, size: int) -> str:
    """Return the id of an image of unknown origin: the same for the same image, another for any other."""
    return content_id(json.dumps([name, created, size]))


def _check(name: str, family: str | None, labels: Mapping[str, str]) -> None:
    _checked(check_name, name)
    if family is not None:
        _checked(check_name, family)
    if len(labels) > LABEL_COUNT:
        raise InputError(f"an image can carry {LABEL_COUNT} labels, not {len(labels)}; leave some out")
    for key, value in labels.items():
        _checked(label_key, key)
        _checked(label_value, value)


def _checked(check: Callable[[str], str], text: str) -> str:
    try:
        return check(text)
    except ValueError as error:
        raise InputError(str(error)) from error
