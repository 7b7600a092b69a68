"""The files that a spec in a bucket names, brought to this machine, checked and packed as those beside a file are.

A folder of this machine stands for a bucket: `gs://bucket/specs/team/a` is `FOLDER/bucket/specs/team/a`. What is
found wrong there is worded by the same code as on one machine, and names the objects.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from .context import pack_context, scan
from .errors import InputError, NotFound
from .plan import Context
from .ports import Objects, StoredObject
from .spec_document import Problem
from .spec_file import check_context
from .stored_content import store_archive, store_file
from .submission import context_uri, named_digest, names_contexts, packed_context, split_uri
from .topology import CONTEXTS, SPECS, UPLOADS

CONTEXT_LIMIT = 256 << 20  # bytes: a function's files are in its memory, three times while an archive is packed anew
OBJECT_LIMIT = 5_000  # in one folder: some 25 a second can be fetched
FETCHERS = 8  # objects at once
FILE_NAME_BYTES = 255  # Linux's
MODE_METADATA = "goog-reserved-posix-mode"  # what `gsutil cp -P` and `gsutil rsync -P` write: 755

_EXECUTABLE = re.compile(r"[0-7]*[1357][0-7]{2}")  # by its owner
_TOO_LARGE = (
    f"holds more than {CONTEXT_LIMIT >> 20} MiB or {OBJECT_LIMIT} objects; name a smaller folder, "
    "fetch large data in a step, or upload with goldsmith submit"
)


def refuse_hidden(uri: str, bucket: str) -> None:
    """Keep to what people upload: the rest of our own bucket holds other builds' keys and logs. InputError."""
    found, name = split_uri(uri)
    if found == bucket and not name.startswith((SPECS, UPLOADS, CONTEXTS)):
        raise InputError(f"{uri} is neither below {SPECS} nor below {UPLOADS}; upload it there, or to another bucket")


def beside_spec(spec_uri: str, place: str, bucket: str) -> tuple[str, str]:
    """Give bucket and name of a place beside a spec; `spec_uri` is "" for one that lies nowhere. InputError."""
    if not spec_uri:
        raise InputError("is relative, and this spec lies beside nothing; write gs://bucket/object")
    found, spec = split_uri(spec_uri)
    name = posixpath.normpath(posixpath.join("/", posixpath.dirname(spec), place)).lstrip("/")
    if place.startswith("/") or not f"{name}/".startswith(SPECS if found == bucket else ""):
        raise InputError(f"{place} leads out of gs://{bucket}/{SPECS}; write a path beside the spec")
    return found, name


class UploadedContext:
    """The context of one spec. `spec_uri` is "" for a spec that lies nowhere, `packed` what its uploader has packed."""

    def __init__(self, objects: Objects, bucket: str, folder: Path, *, spec_uri: str, packed: str | None) -> None:
        self._objects = objects
        self._bucket = bucket
        self._folder = folder / "buckets"
        self._target = folder / "context.tar"
        self._spec_uri = spec_uri
        self._packed = packed
        self._where = ""  # below our folder, once it was fetched
        self._place: Path | None = None  # of what was fetched
        self._ready: Context | None = None  # what needs no packing

    def check(self, data: Mapping[str, Any]) -> list[Problem]:
        """Fetch the context and give the problems of what a spec's values name in it. The values may be wrong."""
        seen = {key: value for key, value in data.items() if key != "source"}  # its file is no object
        problems: list[Problem] = []
        context = data.get("context")
        if isinstance(context, str) and context and "\0" not in context:
            try:
                seen["context"] = self._where = self._where or self._fetch(context)
            except InputError as error:
                return [Problem(("context",), str(error).replace(f"{self._folder}/", "gs://"))]
        if self._ready is None:
            problems = check_context(seen, self._folder)
        return [replace(each, text=each.text.replace(f"{self._folder}/", "gs://")) for each in problems]

    def pack(self) -> Context | None:
        """Give the context that check() has found good, packed and uploaded; None for a spec without one."""
        if self._ready is not None or self._place is None:
            return self._ready
        self._refuse_large(self._place)
        made = pack_context(self._place, self._target)
        uri = context_uri(self._bucket, made.digest)
        store_file(self._objects, uri, self._target)
        return replace(made, uri=uri)

    def _fetch(self, context: str) -> str:
        """Bring the context here; give where it is below our folder, which need not exist."""
        if self._packed is not None:
            return self._fetch_archive(packed_context(self._packed, context))
        if context.startswith("gs:"):
            return self._fetch_archive(context)
        bucket, name = beside_spec(self._spec_uri, context, self._bucket)
        found = self._objects.stat(f"gs://{bucket}/{name}") if name else None
        if found is not None:
            self._download([found])
        else:
            self._fetch_folder(f"gs://{bucket}/{name}/" if name else f"gs://{bucket}/")
        self._place = self._folder / bucket / name
        return f"{bucket}/{name}"

    def _fetch_archive(self, uri: str) -> str:
        refuse_hidden(uri, self._bucket)
        bucket, name = split_uri(uri)
        found = self._objects.stat(uri)
        if found is None:
            raise InputError(f"{uri} does not exist; upload it first, or write context: . for the spec's own folder")
        digest = named_digest(name, ".tar") if bucket == self._bucket else ""
        if digest:  # by its digest, and so only to be compared with that
            stored = store_archive(self._objects, found, digest, context_uri(bucket, digest))
            self._ready = Context(stored.uri, digest, stored.size)
        else:
            self._download([found])
            self._place = self._path(found)
        return f"{bucket}/{name}"

    def _fetch_folder(self, prefix: str) -> None:
        found: list[StoredObject] = []
        for each in self._objects.listing(prefix):
            found.append(each)
            if len(found) > OBJECT_LIMIT:
                raise InputError(f"{prefix} {_TOO_LARGE}")
        self._download(found)

    def _download(self, found: list[StoredObject]) -> None:
        if sum(each.size for each in found) > CONTEXT_LIMIT:
            raise InputError(f"{found[0].uri} {_TOO_LARGE}" if len(found) == 1 else f"the context {_TOO_LARGE}")
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
        members, _problems = scan(place)
        if sum(member.size for member in (members or {}).values()) > CONTEXT_LIMIT:
            uri = str(place).replace(f"{self._folder}/", "gs://")
            raise InputError(f"{uri} {_TOO_LARGE}")


class UploadedContexts:
    """The contexts of a text's builds: each is fetched and packed once, however many builds name it."""

    def __init__(self, objects: Objects, bucket: str, folder: Path, *, spec_uri: str, packed: str | None) -> None:
        self._objects = objects
        self._bucket = bucket
        self._folder = folder
        self._spec_uri = spec_uri
        self._packed = packed
        self._named: dict[str, UploadedContext] = {}  # by what specs call them

    def check(self, data: Mapping[str, Any]) -> list[Problem]:
        """Fetch the context that a build's values name, and give what is wrong with it."""
        context = data.get("context")
        name = context if isinstance(context, str) else ""
        one = self._packed is not None and not names_contexts(self._packed)
        if name and one and any(other not in ("", name) for other in self._named):
            what = "is not the context of the build before, and one upload has one packed context"
            return [Problem(("context",), f"{what}; upload the files beside the workflow, and the workflow last")]
        return self._of(name).check(data)

    def pack(self, context: str | None) -> Context | None:
        """Give a context that check() has found good, packed and uploaded; None for none."""
        return self._of(context or "").pack()

    def _of(self, name: str) -> UploadedContext:
        if name not in self._named:
            below = self._folder / f"context-{len(self._named)}"
            below.mkdir()
            made = UploadedContext(self._objects, self._bucket, below, spec_uri=self._spec_uri, packed=self._packed)
            self._named[name] = made
        return self._named[name]
