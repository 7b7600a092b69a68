"""Bring an image of this machine to a project on Google Cloud: its archive into a bucket, the image made of that.

    HOME/pushes/KEY/    session.json       the object, and the upload session: a URL that needs no credentials
                        archive.tar.gz     there once it is whole and proved

    look for the image ─ open the session ─ write the archive ─ upload ─ make the image ─ family ─ record ─ delete both

A process that is killed leaves the folder, and the same command goes on there. The object has a random name that no
other object has, since in a deployment's bucket people may add objects and neither read nor delete them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ..build.build import ImageDocument, PushedCopy
from ..build.image.archived import ArchivedImage
from ..errors import AlreadyExists, Conflict, InputError, NotFound, Permanent, Transient
from ..host.private_folder import private_folder
from ..host.scratch import faults, if_abandoned, is_at, locked
from ..images.archived import ArchivedAs, archived_image
from ..local.plan_checks import make_folder
from ..names import BUILD_LABEL, COPY_LABEL, LOCAL, check_name
from ..ownership import content_of, find_build, revocation_of
from ..ports import Clock, Image, Progress
from ..topology import UPLOADS
from .one_machine import LocalBackend

IMPORT_SECONDS = 3600.0  # for which the image is waited for
OLD_SECONDS = 7 * 86_400.0  # a session lives for a week
_ARCHIVE, _SESSION = "archive.tar.gz", "session.json"
_READERS = (  # Compute Engine checks one or both of them
    "grant storage.objects.get on the bucket to your account and to the Compute Engine service agent of the project"
)
_RECORDS = 20  # tries to write down a copy while others write


class ProjectImages(Protocol):
    """The images of a project on Google Cloud, as this needs them."""

    def image(self, project: str, name: str) -> Image | None:
        """Look one up."""
        ...

    def import_archive(self, request: ArchivedImage, seconds: float) -> Image:
        """Make one of an archive."""
        ...

    def set_family(self, project: str, name: str, family: str | None) -> None:
        """Put one into a family."""
        ...


class ArchiveObjects(Protocol):
    """The bucket that the archive is brought to."""

    def begin_upload(self, uri: str) -> str:
        """Open a session. Conflict where there is such an object."""
        ...

    def delete(self, uri: str) -> None:
        """Delete an object; absent is fine."""
        ...


class SendFile(Protocol):
    """Uploads a file by a session."""

    def __call__(self, session: str, file: Path, uri: str, progress: Progress, clock: Clock) -> Mapping[str, Any]:
        """Return the description of the object. NotFound where the session is over."""
        ...


@dataclass(frozen=True)
class PushTarget:
    """A project on Google Cloud and a bucket that its images may be made from."""

    images: ProjectImages
    objects: ArchiveObjects
    send: SendFile
    bucket: str


@dataclass(frozen=True)
class PushedImage:
    """What came of it."""

    project: str
    name: str
    id: str
    copy_of: str  # the name of this machine's image
    family: str | None
    archive: str  # the object, where it was kept or could not be deleted; "" otherwise
    was_there: bool  # made by an earlier call
    note: str = ""


def person_target(project: str, bucket: str) -> PushTarget:
    """Return the target that the credentials of the person reach who runs this."""
    from ..clock import SystemClock
    from ..gcp.compute.compute import GoogleCompute
    from ..gcp.resumable import send_file
    from ..gcp.settings import Settings
    from ..gcp.storage import GoogleBucket

    settings = Settings.of_person(project, bucket, os.environ)
    objects = GoogleBucket(settings)
    return PushTarget(GoogleCompute(settings, objects, SystemClock()), objects, send_file, bucket)


def push_image(
    name: str, asked: ArchivedAs, family: str | None, target: PushTarget, backend: LocalBackend, *, keep: bool
) -> PushedImage:
    """Bring an image of this machine to a project, or go on with that. InputError with nothing made; Transient."""
    image, known = _find(name, backend)
    _check_family(family)
    plan = _plan_of(known, backend)
    request = archived_image(image, backend.catalogue.disk(name), plan, asked, "")
    there = target.images.image(asked.project, asked.name)
    _refuse_there(there, image)
    with _folder(image, asked, target, backend.home) as folder:
        archive = _archive_of(folder)
        if there is None:
            archive = _bring(name, folder, target, backend)
            backend.progress(f"Compute Engine makes image {asked.project}/{asked.name}", 0, 0)
        made = _import(replace(request, archive=archive), folder, target)
        if family is not None and made.family != family:
            target.images.set_family(made.project, made.name, family)
        _record(known, PushedCopy(made.project, made.name, made.id, backend.clock.now()), backend)
        kept, note = (archive, "") if keep else _delete(archive, target)
        shutil.rmtree(folder)
    return PushedImage(made.project, made.name, made.id, name, family or made.family, kept, there is not None, note)


def _find(name: str, backend: LocalBackend) -> tuple[Image, ImageDocument | None]:
    """Return an image of this machine that may be used, and what the store knows of it. InputError."""
    image = backend.catalogue.get(name)
    if image is None:
        raise InputError(backend.catalogue.no_such(name))
    known = backend.store.image(LOCAL, name)  # one that cannot be read may say that it was revoked
    if known is not None and known.id and known.id != image.id:
        known = None  # of another image of that name
    revoked = revocation_of(image, backend)
    if revoked is not None:
        raise InputError(f"image {name} was {revoked.text}; build another one")
    if known is not None and known.state != "published":
        raise _unpublished(name, known.build_id)
    if known is None and find_build(image.labels.get(BUILD_LABEL, ""), backend) and not content_of(image, backend):
        raise _unpublished(name, image.labels[BUILD_LABEL])
    if image.is_obsolete:
        raise InputError(f"image {name} is {image.deprecated}; bring another one")
    return image, known


def _unpublished(name: str, build_id: str) -> InputError:
    return InputError(f"image {name} is not published, and may be untested; see: goldsmith builds show {build_id}")


def _refuse_there(there: Image | None, image: Image) -> None:
    """Raise InputError where a project has an image of that name which no push has made of this one, or has ended it.

    A push makes images of archives alone. What was made of a disk or of an image has a label that others have set.
    """
    if there is None:
        return
    if there.labels.get(COPY_LABEL) != image.id or there.source_disk or there.source_image:
        raise InputError(
            f"project {there.project} has another image {there.name}; choose another name with --as, or delete that one"
        )
    if there.is_obsolete:
        raise InputError(
            f"image {there.name} of project {there.project} was pushed before, and is {there.deprecated} there by now; "
            "delete it there to push it anew, or choose another name with --as"
        )


def _check_family(family: str | None) -> None:
    try:
        check_name(family if family is not None else LOCAL)
    except ValueError as error:
        raise InputError(f"--family: {error}") from error


def _plan_of(known: ImageDocument | None, backend: LocalBackend) -> Any:
    """Return the plan of the image by the build that made it, as long as that is known; None otherwise."""
    if known is None:
        return None
    with suppress(NotFound):
        plan = backend.store.load(known.build_id).build.plan
        return None if plan is None else plan.image
    return None


@contextmanager
def _folder(image: Image, asked: ArchivedAs, target: PushTarget, home: Path) -> Iterator[Path]:
    """Yield the folder of this very work, held against other processes; those of a week ago are removed."""
    parent = home / "pushes"
    private_folder(parent)
    for other in parent.iterdir():
        with if_abandoned(other) as abandoned, suppress(FileNotFoundError):  # removed by another process just now
            if abandoned and time.time() - other.stat().st_mtime > OLD_SECONDS:
                shutil.rmtree(other)
    key = hashlib.sha256(json.dumps([image.id, asked.project, asked.name, target.bucket]).encode()).hexdigest()[:16]
    folder = parent / key
    while True:
        make_folder(folder)
        with locked(folder) as descriptor:
            if is_at(descriptor, folder):
                yield folder
                return


def _archive_of(folder: Path) -> str:
    """Return the object of an earlier call; "" where there was none."""
    return _session(folder).get("object", "")


def _session(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / _SESSION).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    whole = isinstance(found, dict) and set(found) == {"object", "session"}
    return {key: str(value) for key, value in found.items()} if whole else {}


def _bring(name: str, folder: Path, target: PushTarget, backend: LocalBackend) -> str:
    """Have the archive in the bucket, and return its URI. The session comes first: it shows that one may write."""
    session = _session(folder) or _open_session(name, folder, target)
    file = folder / _ARCHIVE
    if not file.exists():
        backend.compute.export_image(LOCAL, name, str(file), "fast", backend.progress)
    try:
        made = target.send(session["session"], file, session["object"], backend.progress, backend.clock)
    except NotFound:  # sessions live for a week
        session = _open_session(name, folder, target)
        made = target.send(session["session"], file, session["object"], backend.progress, backend.clock)
    digest = base64.b64encode(_md5(file)).decode()
    if made.get("md5Hash") != digest or str(made.get("size")) != str(file.stat().st_size):
        (folder / _SESSION).unlink()
        raise Transient(f"{session['object']}: was damaged on its way; try again, which uploads it anew")
    return session["object"]


def _open_session(name: str, folder: Path, target: PushTarget) -> dict[str, str]:
    uri = f"gs://{target.bucket}/{UPLOADS}{name}-{secrets.token_hex(8)}.tar.gz"
    session = {"object": uri, "session": target.objects.begin_upload(uri)}
    with faults(folder):
        staged = folder / f".{_SESSION}"
        staged.write_text(json.dumps(session))
        staged.replace(folder / _SESSION)
    return session


def _md5(file: Path) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).digest()


def _import(request: ArchivedImage, folder: Path, target: PushTarget) -> Image:
    try:
        return target.images.import_archive(request, IMPORT_SECONDS)
    except AlreadyExists as error:  # made by others meanwhile
        raise InputError(str(error)) from error
    except NotFound as error:  # a session tells of an object that was deleted since
        (folder / _SESSION).unlink(missing_ok=True)
        raise Transient(f"{error}; push it again, which uploads {request.archive} anew") from error
    except Permanent as error:
        if "rawDisk" not in str(error) and request.archive not in str(error):
            raise
        raise Permanent(f"{error}; {_READERS}") from error


def _record(known: ImageDocument | None, copy: PushedCopy, backend: LocalBackend) -> None:
    """Write down the copy with the image, unless it is; of an image without a build nothing is written. Transient."""
    for _ in range(_RECORDS):
        if known is None or copy.is_in(known.pushed):
            return
        if backend.store.save_image(known.with_pushed(copy), known):
            return
        now = backend.store.image(known.project, known.name)
        known = now if now is not None and now.id == known.id else None
    raise Transient(f"image {copy.project}/{copy.name} is there, but cannot be recorded; push it again, which goes on")


def _delete(archive: str, target: PushTarget) -> tuple[str, str]:
    """Delete the archive; return what is left of it, and why."""
    if not archive:
        return "", ""
    try:
        target.objects.delete(archive)
    except (Permanent, Conflict) as error:
        return archive, f"{archive} stays: {error}"
    return "", ""
