"""Where the images of this machine come from: their signed statements, and the images that they were made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..build.build import Build
from ..build.plan import SourceImage
from ..build.resources import results_stem, statement_name
from ..errors import InputError, NotFound
from ..host.build_folder import BuildFolder
from ..names import LOCAL
from ..ownership import copy_of, find_build, find_image
from ..provenance.check import Policy, faults_of, read_statement
from ..provenance.envelope import VerifyingKey, read_envelope
from ..provenance.signing_key import SIGNING_KEY, SigningKey
from .images import LocalImages

if TYPE_CHECKING:
    from .one_machine import LocalBackend

MOST_ANCESTORS = 1000


@dataclass(frozen=True)
class Ancestor:
    """An image, or one that it was made from, as far as this machine knows."""

    project: str
    name: str
    id: str
    is_there: bool  # in the catalogue, under its name
    build: str  # that has made it; "" where none of this machine's has
    has_statement: bool


class LocalProvenance:
    """The statements about the images of this machine, and their lineage."""

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend
        self._images = LocalImages(backend)

    def public_key(self) -> bytes:
        """Return the key, in PEM, that checks what this machine signs."""
        return SigningKey(self._backend.home).public_key()

    def envelope(self, name: str) -> bytes:
        """Return the signed statement about an image of the catalogue. InputError where there is none."""
        if self._backend.catalogue.get(name) is None:
            raise InputError(f"there is no image {name}; see: goldsmith images list")
        maker = self._images.maker_of(name)
        if maker is None:
            raise InputError(f"image {name} was made by no build of this machine, so that nothing is stated about it")
        try:
            return self._backend.bucket.read(self._place(maker))
        except NotFound as error:
            raise InputError(
                f"nothing is stated about image {name}: build {maker.id} is of an earlier release, or its logs were "
                "deleted; build the image again"
            ) from error

    def stated(self, envelope: bytes, name: str) -> dict[str, Any]:
        """Return the statement in an envelope about an image. StoreError."""
        return read_statement(read_envelope(envelope, f"the statement about image {name}"))

    def faults(self, name: str, key: Path | None = None, wanted: Policy | None = None) -> list[str]:
        """Return why an image is not what its statement says, a sentence each; [] where it is.

        Its disk is read whole. `key` is a file with the public key that has to have signed; without it, this machine's.
        InputError where there is no such image, nothing is stated about it, or the file holds no key.
        """
        envelope = read_envelope(self.envelope(name), f"the statement about image {name}")
        if key is None:
            known = VerifyingKey(self.public_key(), str(self._backend.home / SIGNING_KEY))
        else:
            known = VerifyingKey(_read_key(key), str(key))
        disk = self._backend.compute.disk_digest(LOCAL, name)
        return faults_of(envelope, [known], disk or "", wanted or Policy())

    def lineage(self, name: str) -> Iterator[Ancestor]:
        """Yield an image, the image that it was made from, and so on. InputError where there is no such image.

        It goes on over images that were deleted, as long as their builds are known.
        """
        image = self._backend.catalogue.get(name)
        if image is None:
            raise InputError(f"there is no image {name}; see: goldsmith images list")
        maker = self._images.maker_of(name)
        seen: set[str] = set()
        found: SourceImage | None = SourceImage(image.project, image.name, image.id)
        while found is not None and found.id not in seen and len(seen) < MOST_ANCESTORS:
            seen.add(found.id)
            yield self._ancestor(found, maker)
            copy = copy_of(found, self._backend)
            if copy is not None:  # the same build has made what it was copied from
                found = SourceImage(found.project, copy.of, copy.id)
                continue
            found = maker.plan.source if maker is not None and maker.plan is not None else None
            maker = self._maker(found) if found is not None else None

    def _ancestor(self, image: SourceImage, maker: Build | None) -> Ancestor:
        there = self._backend.catalogue.get(image.name) if image.project == LOCAL else None
        stated = maker is not None and Path(self._place(maker)).exists()
        is_there = there is not None and there.id == image.id
        return Ancestor(image.project, image.name, image.id, is_there, maker.id if maker is not None else "", stated)

    def _maker(self, image: SourceImage) -> Build | None:
        """Return the build that has made an image, which need not be there any more."""
        known = find_image(image.project, image.name, self._backend)
        return find_build(known.build_id, self._backend) if known is not None and known.id == image.id else None

    def _place(self, build: Build) -> str:
        return statement_name(results_stem(build, str(BuildFolder(self._backend.home, build.id).logs)), signed=True)


def _read_key(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(1 << 16)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give a public key in PEM") from error
