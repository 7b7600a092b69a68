"""The bucket in Cloud Storage, and what people upload there: objects by gs://bucket/object."""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google.api_core.exceptions as api
from google.auth.exceptions import TransportError

from ..errors import AlreadyExists, Conflict, NotFound, Permanent, Transient
from ..export_ports import ObjectSum
from ..ports import StoredObject
from .errors import mapped, translated
from .settings import Settings

if TYPE_CHECKING:
    import google.cloud.storage as storage

_URI = re.compile(r"gs://([a-z0-9][-a-z0-9_.]+)/(.*)", re.DOTALL)
_ANSWER_SECONDS = 60.0  # for one request, between two pieces of its answer
PART = 8 << 20  # bytes; Cloud Storage takes uploads in multiples of 256 KiB
_NO_OBJECT = 0  # the generation of an object that is not there


class GoogleBucket:
    """Objects of any bucket that the credentials reach. Thread-safe.

    `patience` is how long, in seconds, a request that fails for a passing reason is tried again before it is Transient.
    """

    def __init__(self, settings: Settings, *, patience: float = 30.0) -> None:
        self._settings = settings
        self._seconds = patience

    @cached_property
    def _client(self) -> storage.Client:
        import google.cloud.storage as storage  # 0.2 s, which not every function has need of

        from .credentials import emulated

        settings = self._settings
        if settings.storage_endpoint is None:
            with mapped("Cloud Storage"):
                return storage.Client(settings.project)
        options = {"api_endpoint": settings.storage_endpoint}
        return storage.Client(settings.project, emulated(settings.credentials_file), client_options=options)

    @cached_property
    def _patience(self) -> Mapping[str, Any]:
        from google.cloud.storage.retry import DEFAULT_RETRY

        retry = DEFAULT_RETRY.with_delay(initial=0.2, maximum=5.0, multiplier=2.0).with_timeout(self._seconds)
        return {"retry": retry, "timeout": _ANSWER_SECONDS}

    def read(self, uri: str) -> bytes:
        """Read an object. NotFound."""
        with _mapped(uri):
            data: bytes = self._blob(uri).download_as_bytes(raw_download=True, **self._patience)
            return data

    def read_part(self, uri: str, start: int, most: int) -> tuple[bytes, int]:
        """Read a part of the generation that is found, and its size. NotFound."""
        with _mapped(uri):
            found = self._live(uri)
            if found is None:
                raise NotFound(f"{uri}: there is no such object")
            begin = start if start >= 0 else max(0, found.size + start)
            end = min(begin + most, found.size)
            if begin >= end:
                return b"", found.size
            data: bytes = self._blob(uri, str(found.generation)).download_as_bytes(
                start=begin, end=end - 1, raw_download=True, **self._patience
            )
            return data, found.size

    def write(self, uri: str, data: bytes) -> None:
        """Write an object; it is whole or not there. Permanent when its bucket is not there."""
        self.upload(uri, data, {})

    def read_with_generation(self, uri: str) -> tuple[bytes, str]:
        """Read an object and its generation. NotFound."""
        with _mapped(uri):
            blob = self._blob(uri)
            data: bytes = blob.download_as_bytes(raw_download=True, **self._patience)
            return data, str(blob.generation)  # of the very answer that brought the data

    def generation(self, uri: str) -> str:
        """Return an object's generation, without its data; "" where there is no object."""
        found = self.stat(uri)
        return found.generation if found else ""

    def write_if_generation(self, uri: str, data: bytes, generation: str) -> str:
        """Write an object if it is still of that generation; return the new one. Conflict."""
        with _written(uri):
            blob = self._blob(uri)
            condition = int(generation) if generation else _NO_OBJECT
            try:
                blob.upload_from_string(
                    data, content_type=_content_type(uri), if_generation_match=condition, **self._patience
                )
            except api.PreconditionFailed as error:
                return self._written_before(uri, data, error)
            return str(blob.generation)

    def _written_before(self, uri: str, data: bytes, error: Exception) -> str:
        """Return the generation of an object that has this content, as our own lost try would have left it."""
        found = self.stat(uri)
        try:
            if found is not None and found.size == len(data) and b"".join(self.parts(found)) == data:
                return found.generation
        except NotFound:
            found = None
        if found is None:
            raise Conflict(f"{uri}: was deleted after it was read; look again") from error
        raise Conflict(f"{uri}: was written by another process; read it again") from error

    def write_once(self, uri: str, source: Path) -> None:
        """Write a file's contents unless there is such an object. AlreadyExists when that has other contents."""
        with _written(uri):
            if self._live(uri) is None:
                try:
                    self._blob(uri).upload_from_filename(
                        source, content_type=_content_type(uri), if_generation_match=_NO_OBJECT, **self._patience
                    )
                except api.PreconditionFailed:  # another writer was faster, or our first try was not lost
                    pass
                else:
                    return
        found = self.stat(uri)
        if found is None or not self._is_same(found, source):
            raise AlreadyExists(f"{uri}: is there with other content than this name stands for; delete it")

    def _is_same(self, found: StoredObject, source: Path) -> bool:
        """Return whether the very generation that was found has a file's contents."""
        if found.size != source.stat().st_size:
            return False
        with source.open("rb") as file:
            return all(part == file.read(len(part)) for part in self.parts(found))

    def copy_once(self, found: StoredObject, uri: str) -> None:
        """Copy the very generation that was found, unless there is such an object. NotFound."""
        with _mapped(found.uri):
            source = self._live(found.uri, found.generation)
        if source is None:
            raise NotFound(f"{found.uri}: was replaced or deleted while it was read")
        with _written(uri):
            target = self._blob(uri)
            try:
                token, _, _ = target.rewrite(source, **self._copy_conditions(source))
                while token:
                    token, _, _ = target.rewrite(source, token=token, **self._copy_conditions(source))
            except api.PreconditionFailed:  # the caller looks at what is there
                return

    def upload(self, uri: str, data: bytes, metadata: Mapping[str, str]) -> str:
        """Write an object with metadata of our own; give its generation. Permanent when its bucket is not there."""
        with _written(uri):
            blob = self._blob(uri)
            blob.metadata = dict(metadata) or None
            blob.upload_from_string(data, content_type=_content_type(uri), **self._patience)
            return str(blob.generation)

    def begin_upload(self, uri: str) -> str:
        """Return the session of an upload to a name that no object has, for resumable.py. Conflict, Permanent."""
        with _written(uri):
            try:
                session: str = self._blob(uri).create_resumable_upload_session(
                    content_type=_content_type(uri), if_generation_match=_NO_OBJECT, **self._patience
                )
            except api.PreconditionFailed as error:
                raise Conflict(f"{uri}: is there already") from error
            return session

    def upload_session(self, uri: str) -> str:
        """Return the session of an upload, as build VMs reach Cloud Storage. Conflict, Permanent."""
        session, own = self.begin_upload(uri), self._settings.storage_endpoint
        return session if own is None else session.replace(own, self._settings.vm_storage_url, 1)

    def checksum(self, uri: str) -> ObjectSum | None:
        """Look up an object's size and MD5, which Cloud Storage has of all that was not composed."""
        with _mapped(uri):
            found = self._live(uri)
            return None if found is None else _sum(found)

    def delete(self, uri: str) -> None:
        """Delete an object; absent is fine."""
        with _mapped(uri):
            try:
                self._blob(uri).delete(**self._patience)
            except api.NotFound:
                return

    def publish(self, staged: str, final: str) -> None:
        """Move a staged object to its final name. Done before is fine; AlreadyExists for another object there.

            look at staged ─► copy, if final is not there ─► delete staged
              └ gone: is final there?   └ it is: has it the same contents?

        Each arrow may be where an earlier delivery was cut off.
        """
        with _mapped(staged):
            source = self._live(staged)
        with _mapped(final):
            if source is None:
                if self._live(final) is None:
                    raise NotFound(f"{staged}: there is no such object, nor is there {final}")
                return
            self._copy(source, final)
        with _mapped(staged):
            try:
                source.delete(if_generation_match=source.generation, **self._patience)
            except (api.NotFound, api.PreconditionFailed):  # gone, or staged anew by a later order
                return

    def withdraw(self, uri: str, sha256: str, known: ObjectSum | None = None) -> None:
        """Delete an object that has this content; another one stays, and absent is fine.

        The very generation that was looked at is deleted. One that was composed has no MD5, and is read.
        """
        with _mapped(uri):
            found = self._live(uri)
        if found is None or (known is not None and found.size != known.size):
            return
        told = known is not None and found.md5_hash
        same = _sum(found) == known if told else self._has_digest(_stored(found), sha256)
        if not same:
            return
        with _mapped(uri):
            try:
                self._blob(uri).delete(if_generation_match=found.generation, **self._patience)
            except (api.NotFound, api.PreconditionFailed):
                return

    def _has_digest(self, found: StoredObject, sha256: str) -> bool:
        """Read the very generation that was found; return whether that is its digest."""
        digest = hashlib.sha256()
        try:
            for part in self.parts(found):
                digest.update(part)
        except NotFound:  # deleted or written over meanwhile
            return False
        return digest.hexdigest() == sha256

    def stat(self, uri: str, generation: str = "") -> StoredObject | None:
        """Look an object up: one generation of it, or the live one."""
        with _mapped(uri):
            found = self._live(uri, generation)
            return _stored(found) if found else None

    def listing(self, prefix: str) -> Iterator[StoredObject]:
        """List the live objects whose URI begins with `prefix`, in the order of their names. NotFound: no bucket."""
        bucket, name = _parse(prefix)
        fields = "items(bucket,name,generation,size,metadata),nextPageToken"
        with _mapped(prefix):
            for blob in self._client.list_blobs(bucket, prefix=name, fields=fields, **self._patience):
                yield _stored(blob)

    def download(self, found: StoredObject, target: Path) -> None:
        """Write the very generation that was found into a file. NotFound."""
        with _mapped(found.uri):
            self._blob(found.uri, found.generation).download_to_filename(target, raw_download=True, **self._patience)

    def parts(self, found: StoredObject) -> Iterator[bytes]:
        """Read the very generation that was found, PART bytes at a time. NotFound."""
        with _mapped(found.uri):
            blob = self._blob(found.uri, found.generation)
            with blob.open("rb", chunk_size=PART, raw_download=True, **self._patience) as file:
                while part := file.read(PART):
                    yield part

    def write_parts(self, uri: str, parts: Iterable[bytes]) -> None:
        """Write an object that is never held as a whole, as write() does; nothing is left when `parts` raises."""
        with _written(uri):
            options = {"chunk_size": PART, "content_type": _content_type(uri), "ignore_flush": True}
            with self._blob(uri).open("wb", **options, **self._patience) as file:
                for part in parts:
                    file.write(part)

    def signed_url(self, uri: str, seconds: float) -> str:
        """Return a URL that reads the object for `seconds` without credentials, as build VMs reach Cloud Storage."""
        from .credentials import signer

        with _mapped(uri):
            url: str = self._blob(uri).generate_signed_url(
                version="v4",
                expiration=timedelta(seconds=seconds),
                api_access_endpoint=self._settings.vm_storage_url,
                **signer(uri, self._client._credentials),
            )
            return url

    def _copy(self, source: Any, final: str) -> None:
        target = self._blob(final)
        try:
            token, _, _ = target.rewrite(source, **self._copy_conditions(source))
            while token:  # a large one to another place takes several calls
                token, _, _ = target.rewrite(source, token=token, **self._copy_conditions(source))
        except api.PreconditionFailed as error:
            there = self._live(final)
            if there is None or (there.size, there.crc32c) != (source.size, source.crc32c):
                raise AlreadyExists(f"{final}: another object is there already; name another one") from error

    def _copy_conditions(self, source: Any) -> Mapping[str, Any]:
        return {"if_generation_match": _NO_OBJECT, "if_source_generation_match": source.generation, **self._patience}

    def _live(self, uri: str, generation: str = "") -> Any:
        bucket, name = _parse(uri)
        return self._client.bucket(bucket).get_blob(
            name, generation=int(generation) if generation else None, **self._patience
        )

    def _blob(self, uri: str, generation: str = "") -> Any:
        bucket, name = _parse(uri)
        if not name:
            raise Permanent(f"{uri} names no object; write gs://bucket/object")
        return self._client.bucket(bucket).blob(name, generation=int(generation) if generation else None)


@contextmanager
def _mapped(uri: str) -> Iterator[None]:
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

    with mapped(uri):
        try:
            yield
        except DataCorruption as error:
            raise Transient(f"{uri}: was damaged on its way: {error}; it can be tried again") from error
        except InvalidResponse as error:  # of an upload in parts, of which the library tells in its own way
            raise translated(uri, api.from_http_response(error.response)) from error
        except TransportError as error:
            if "PERMISSION_DENIED" in str(error):  # from IAM's signBlob, whose status google-auth does not tell
                raise Permanent(
                    f"{uri}: permission iam.serviceAccounts.signBlob is missing: {error}; "
                    "grant roles/iam.serviceAccountTokenCreator on the service account to itself"
                ) from error
            raise


@contextmanager
def _written(uri: str) -> Iterator[None]:
    """Raise another error for an absent bucket: NotFound would tell the writer that an object is gone."""
    try:
        with _mapped(uri):
            yield
    except NotFound as error:
        raise Permanent(f"{error}; make the bucket, or name another one") from error


def _sum(blob: Any) -> ObjectSum:
    return ObjectSum(int(blob.size), base64.b64decode(blob.md5_hash or "").hex())


def _stored(blob: Any) -> StoredObject:
    return StoredObject(
        uri=f"gs://{blob.bucket.name}/{blob.name}",
        generation=str(blob.generation),
        size=int(blob.size),
        metadata=dict(blob.metadata or {}),
    )


def _content_type(uri: str) -> str:
    """Return the content type. A tar.gz is not declared as an encoding: gzip would be undone on the way."""
    guessed, encoding = mimetypes.guess_type(uri)
    return "application/gzip" if encoding == "gzip" else guessed or "application/octet-stream"


def _parse(uri: str) -> tuple[str, str]:
    """Return bucket and object, the latter maybe empty. Permanent for what is no URI of Cloud Storage."""
    match = _URI.fullmatch(uri)
    if match is None or "\0" in uri or uri.encode(errors="replace").decode() != uri:
        raise Permanent(f"{uri!r} is no object of Cloud Storage; write gs://bucket/object")
    return match[1], match[2]
