"""Fetch the files that a spec in a bucket names, and check and pack them as those beside a spec in a file.

A folder of this machine stands for a bucket: `gs://bucket/specs/team/a` is `FOLDER/bucket/specs/team/a`. The same code
as on one machine words the problems, which name the objects.
"""

from __future__ import annotations

import posixpath
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..build.plan import AskedElements, Context
from ..context.members import beside, files_of, scan
from ..context.outside import context_name, outside
from ..context.packing import pack_context
from ..elements.step_documents import ELEMENTS, step_documents
from ..errors import InputError, NotFound
from ..ports import Objects, StoredObject
from ..spec.document import Problem
from ..spec.files import check_context
from ..submission import kept_uri, named_digest, names_contexts, packed_context, split_uri
from ..topology import CONTEXTS, SPECS, UPLOADS
from .stored_content import READ_LIMIT, ReadRoom, StreamedContext, store_archive, store_file

if TYPE_CHECKING:
    from ..spec.model import Spec

CONTEXT_LIMIT = 256 << 20  # bytes: a function's files are in its memory, three times while an archive is packed anew
CONTEXTS_LIMIT = 3 * CONTEXT_LIMIT  # of all contexts of one text together, before they are packed
OBJECT_LIMIT = 5_000  # of all of them: some 25 a second can be fetched
FETCHERS = 8  # objects at once
FILE_NAME_BYTES = 255  # Linux's
MODE_METADATA = "goog-reserved-posix-mode"  # what `gsutil cp -P` and `gsutil rsync -P` write: 755

_EXECUTABLE = re.compile(r"[0-7]*[1357][0-7]{2}")  # by its owner
_SMALLER = "name a smaller folder, fetch large data in a step, or upload with goldsmith submit"
_TOO_LARGE = f"holds more than {CONTEXT_LIMIT >> 20} MiB or {OBJECT_LIMIT} objects; {_SMALLER}"


def refuse_hidden(uri: str, bucket: str) -> None:
    """Keep to what people upload: the rest of our own bucket holds other builds' keys and logs. InputError."""
    found, name = split_uri(uri)
    if found == bucket and not name.startswith((SPECS, UPLOADS, CONTEXTS)):
        raise InputError(f"{uri} is neither below {SPECS} nor below {UPLOADS}; upload it there, or to another bucket")


def beside_spec(spec_uri: str, place: str, bucket: str) -> tuple[str, str]:
    """Return bucket and name of a place beside a spec; `spec_uri` is "" for an inline spec. InputError."""
    if not spec_uri:
        raise InputError("is relative, and this spec lies beside nothing; write gs://bucket/object")
    found, spec = split_uri(spec_uri)
    name = posixpath.normpath(posixpath.join("/", posixpath.dirname(spec), place)).lstrip("/")
    if place.startswith("/") or not f"{name}/".startswith(SPECS if found == bucket else ""):
        raise InputError(f"{place} leads out of gs://{bucket}/{SPECS}; write a path beside the spec")
    return found, name


class Room:
    """The limit of all contexts of one text before they are packed: they are in a function's memory at once."""

    def __init__(self) -> None:
        self._bytes = CONTEXTS_LIMIT
        self._objects = OBJECT_LIMIT

    def take(self, what: str, found: Sequence[StoredObject]) -> None:
        """Take the room of objects that are about to be fetched. InputError."""
        size = sum(each.size for each in found)
        if size > CONTEXT_LIMIT or len(found) > OBJECT_LIMIT:
            raise InputError(f"{what} {_TOO_LARGE}")
        self._bytes -= size
        self._objects -= len(found)
        if self._bytes < 0 or self._objects < 0:
            raise InputError(
                f"{what}, with what the other contexts and folders of this text hold, has more than "
                f"{CONTEXTS_LIMIT >> 20} MiB or {OBJECT_LIMIT} objects; {_SMALLER}"
            )


class UploadedContext:
    """The context of one spec. `spec_uri` is "" for an inline spec; `packed` names what its uploader packed."""

    def __init__(
        self, objects: Objects, bucket: str, folder: Path, room: Room, *, spec_uri: str, packed: str | None, now: float
    ) -> None:
        self._room = room
        self._now = now
        self._objects = objects
        self._bucket = bucket
        self._folder = folder / "buckets"
        self._target = folder / "context.tar"
        self._spec_uri = spec_uri
        self._packed = packed
        self._where = ""  # below our folder, once it was fetched
        self._place: Path | None = None  # of what was fetched
        self._others: tuple[str, ...] = ()  # folders outside of it that go with it, relative to it
        self._ready: Context | None = None  # what needs no packing

    def check(self, data: Mapping[str, Any]) -> list[Problem]:
        """Fetch the context; return the problems of what a spec's values name in it. The values may be invalid."""
        seen = {key: value for key, value in data.items() if key != "source"}  # its file is no object
        problems: list[Problem] = []
        context = data.get("context")
        if isinstance(context, str) and context and "\0" not in context:
            try:
                if not self._where:
                    self._others = outside(data.get("steps"))
                    self._where = self._fetch(context)
                seen["context"] = self._where
            except InputError as error:
                return [Problem(("context",), str(error).replace(f"{self._folder}/", "gs://"))]
        if self._ready is None:
            problems = check_context(seen, self._folder)
        return [replace(each, text=each.text.replace(f"{self._folder}/", "gs://")) for each in problems]

    def pack(self) -> Context | None:
        """Pack and upload the context that check() has found good, and return it; None for a spec without one."""
        if self._ready is not None or self._place is None:
            return self._ready
        self._refuse_large(self._place)
        made = pack_context(self._place, self._target, self._others)
        uri = kept_uri(self._bucket, made.digest, ".tar", self._now)
        store_file(self._objects, uri, self._target)
        self._target.unlink()  # or those of all contexts would be in memory at once
        self._ready = replace(made, uri=uri)
        return self._ready

    def lacks(self, path: str) -> bool:
        """Return whether nothing in a context that was fetched has a path; no link is followed."""
        members = None if self._place is None else scan(self._place).members
        return members is not None and not any(f"{name}/".startswith(f"{path}/") for name in members)

    def _fetch(self, context: str) -> str:
        """Fetch the context; return its path below our folder, which need not exist."""
        if self._packed is not None:
            return self._fetch_archive(packed_context(self._packed, context_name(context, self._others)))
        if context.startswith("gs:"):
            return self._fetch_archive(context)
        bucket, name = beside_spec(self._spec_uri, context, self._bucket)
        found = self._objects.stat(f"gs://{bucket}/{name}") if name else None
        if found is not None:
            self._download(found.uri, [found])
        else:
            self._fetch_folder(f"gs://{bucket}/{name}/" if name else f"gs://{bucket}/")
        self._place = self._folder / bucket / name
        for path in self._others:
            self._fetch_beside(context, path)
        return f"{bucket}/{name}"

    def _fetch_beside(self, context: str, path: str) -> None:
        """Bring the files of a folder beside the context here. InputError for a path that leads out of our folder."""
        place = posixpath.join(context, path)
        bucket, name = beside_spec(self._spec_uri, place, self._bucket)
        assert self._place is not None
        if beside(self._place, path) != self._folder / bucket / name:
            raise InputError(f"{place} leads out of gs://{bucket}; write a path beside the spec")
        prefix = f"gs://{bucket}/{name}/"
        below = self._objects.listing(prefix)
        whole = path.endswith("/")
        self._download(prefix, (each for each in below if whole or "/" not in each.uri.removeprefix(prefix)))

    def _fetch_archive(self, uri: str) -> str:
        refuse_hidden(uri, self._bucket)
        bucket, name = split_uri(uri)
        found = self._objects.stat(uri)
        if found is None:
            raise InputError(f"{uri} does not exist; upload it first, or write context: . for the spec's own folder")
        digest = named_digest(name, ".tar") if bucket == self._bucket else ""
        if self._others and (self._packed is None or not digest):
            raise InputError(f"{uri} is an archive, and {self._others[0]} leads out of it; put that folder into it")
        if digest:  # by its digest, and so only to be compared with that
            stored = store_archive(self._objects, found, digest, kept_uri(bucket, digest, ".tar", self._now))
            self._ready = Context(stored.uri, digest, stored.size)
        else:
            self._download(found.uri, [found])
            self._place = self._path(found)
        return f"{bucket}/{name}"

    def _fetch_folder(self, prefix: str) -> None:
        self._download(prefix, self._objects.listing(prefix))

    def _download(self, what: str, listed: Iterable[StoredObject]) -> None:
        found: list[StoredObject] = []
        for each in listed:
            found.append(each)
            if len(found) > OBJECT_LIMIT:
                break
        self._room.take(what, found)
        with ThreadPoolExecutor(FETCHERS) as pool:
            list(pool.map(self._download_one, found))

    def _download_one(self, found: StoredObject) -> None:
        path = self._path(found)
        try:
            if found.uri.endswith("/"):  # what consoles make to show an empty folder
                path.mkdir(parents=True, exist_ok=True)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            self._objects.download(found, path)
            path.chmod(0o755 if _EXECUTABLE.fullmatch(found.metadata.get(MODE_METADATA, "")) else 0o644)
        except NotFound as error:
            raise InputError(f"{found.uri} was changed while it was read; upload the spec after its context") from error
        except IsADirectoryError as error:  # perhaps made just now, for another object
            raise InputError(f"{found.uri} is an object and a folder as well; rename one of them") from error
        except (FileExistsError, NotADirectoryError) as error:
            raise InputError(f"{found.uri} lies below an object that is no folder; rename one of them") from error

    def _path(self, found: StoredObject) -> Path:
        bucket, name = split_uri(found.uri)
        parts = name.removesuffix("/").split("/")
        longest = max(len(part.encode()) for part in parts)
        if not all(parts) or {".", ".."} & set(parts) or "\0" in name or longest > FILE_NAME_BYTES:
            raise InputError(f"{found.uri} cannot be a file; rename it")
        return Path(self._folder, bucket, *parts)

    def _refuse_large(self, place: Path) -> None:
        members = scan(place).members or {}
        others = [_size_of(beside(place, path), whole=path.endswith("/")) for path in self._others]
        if sum(member.size for member in members.values()) + sum(others) > CONTEXT_LIMIT:
            uri = str(place).replace(f"{self._folder}/", "gs://")
            raise InputError(f"{uri} {_TOO_LARGE}")


def _size_of(folder: Path, *, whole: bool) -> int:
    """Return the bytes of a folder's files, or of all that is below it."""
    if whole:
        return sum(member.size for member in (scan(folder).members or {}).values())
    return sum(file.stat().st_size for file in files_of(folder).values())


class UploadedContexts:
    """The contexts of a text's builds: each is fetched and packed once, however many builds name it."""

    def __init__(
        self, objects: Objects, bucket: str, folder: Path, *, spec_uri: str, packed: str | None, now: float
    ) -> None:
        self._now = now
        self._objects = objects
        self._bucket = bucket
        self._folder = folder
        self._spec_uri = spec_uri
        self._packed = packed
        self._room = Room()
        self._reads = ReadRoom(READ_LIMIT)
        self._named: dict[str, UploadedContext] = {}  # by what specs call them

    def check(self, data: Mapping[str, Any]) -> list[Problem]:
        """Fetch the context that a build's values name; return its problems."""
        context = data.get("context")
        name = context_name(context, outside(data.get("steps"))) if isinstance(context, str) else ""
        one = self._packed is not None and not names_contexts(self._packed)
        if name and one and any(other not in ("", name) for other in self._named):
            what = "is not the context of the build before, and one upload has one packed context"
            return [Problem(("context",), f"{what}; upload the files beside the workflow, and the workflow last")]
        return self._of(name).check(data)

    def pack(self, spec: Spec) -> Context | None:
        """Return a spec's context, which check() has found good, packed and uploaded; None where it has none."""
        return self._of("" if spec.context is None else context_name(spec.context, outside(spec.steps))).pack()

    def lacks(self, spec: Spec, path: str) -> bool:
        """Return whether a spec's context is known not to have a path. One that its uploader has packed is not read."""
        context = spec.context
        return context is not None and self._of(context_name(context, outside(spec.steps))).lacks(path)

    def documents(self, spec: Spec) -> Mapping[AskedElements, str]:
        """Return what the steps of elements of a spec ask for, read from its packed context. InputError."""
        steps = (*spec.steps, *(spec.verify.steps if spec.verify else ()))
        context = self.pack(spec) if any(step.action == ELEMENTS for step in steps) else None
        found = self._objects.stat(context.uri) if context is not None else None
        if found is None:
            return {}
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            return step_documents(
                steps, StreamedContext(self._objects, found, CONTEXT_LIMIT, self._reads), Path(folder)
            )

    def _of(self, name: str) -> UploadedContext:
        if name not in self._named:
            below = self._folder / f"context-{len(self._named)}"
            below.mkdir()
            made = UploadedContext(
                self._objects,
                self._bucket,
                below,
                self._room,
                spec_uri=self._spec_uri,
                packed=self._packed,
                now=self._now,
            )
            self._named[name] = made
        return self._named[name]
