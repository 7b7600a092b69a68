"""Where images come from: their signed statements, and, of this machine's, the images that they were made from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backend import Backend, ReportTarget
from ..build.build import Build
from ..build.plan import SourceImage
from ..build.resources import results_stem, statement_name
from ..errors import EnvironmentFault, InputError, NotFound
from ..host.build_folder import BuildFolder
from ..keys import Keys
from ..names import KEY_VERSION, LOCAL, project_id
from ..ownership import copy_of, find_build, find_image
from ..provenance.check import ImageSubject, Policy, faults_of, read_statement, said_signers
from ..provenance.envelope import Envelope, VerifyingKey, read_envelope
from ..provenance.of_build import statement_of
from ..provenance.signing_key import SIGNING_KEY, SigningKey
from ..provenance.statement import DISK_DIGEST, IMAGE_ID
from ..published.image_check import ImageVerdict, check_image
from ..topology import LOGS, TRUSTED_KEYS
from .images import LocalImages

if TYPE_CHECKING:
    from .one_machine import LocalBackend

MOST_ANCESTORS = 1000
LARGEST_LIST = 1 << 20  # bytes of the list of keys


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
            raise InputError(self._backend.catalogue.no_such(name))
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

    def faults(self, name: str, keys: Sequence[Path] = (), wanted: Policy | None = None) -> list[str]:
        """Return why an image is not what its statement says, a sentence each; [] where it is.

        Its disk is read whole. `keys` are files with public keys, one of which has to have signed; else this machine's.
        InputError where there is no such image, nothing is stated about it, or the file holds no key.
        """
        envelope = read_envelope(self.envelope(name), f"the statement about image {name}")
        known = [VerifyingKey(read_key(key), str(key)) for key in keys]
        if not keys:
            known = [VerifyingKey(self.public_key(), str(self._backend.home / SIGNING_KEY))]
        disk = self._backend.compute.disk_digest(LOCAL, name)
        return faults_of(envelope, known, ImageSubject(DISK_DIGEST, disk or ""), wanted or Policy())

    def lineage(self, name: str) -> Iterator[Ancestor]:
        """Yield an image, the image that it was made from, and so on. InputError where there is no such image.

        It goes on over images that were deleted, as long as their builds are known.
        """
        image = self._backend.catalogue.get(name)
        if image is None:
            raise InputError(self._backend.catalogue.no_such(name))
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


@dataclass(frozen=True)
class Trusted:
    """The keys whose signatures count, and where that is said."""

    place: str
    named: Mapping[str, bytes]  # versions of keys in Cloud KMS, and their public keys; b"": Cloud KMS is asked
    others: tuple[VerifyingKey, ...] = ()  # whose signature counts under any id

    @property
    def told(self) -> str:
        """Return what the keys are called."""
        return ", ".join([*self.named, *(key.id for key in self.others)]) or "no key"


class CloudProvenance:
    """The signed statements about images that a deployment has made.

    Whose signatures count is what the caller names, or what the deployer has written into the bucket: below keys/,
    where no function and no submitter can write. Nothing that a statement says of its own keys counts.
    """

    def __init__(self, backend: Backend, bucket: str, public_key: Callable[[str], bytes]) -> None:
        """`public_key` returns the key, in PEM, of a version of a key in Cloud KMS."""
        self._backend = backend
        self._trusted = f"gs://{bucket}/{TRUSTED_KEYS}"
        self._public_key = public_key

    def check(self, project: str, name: str, *, must_be_verified: bool) -> ImageVerdict:
        """Say whether an image may be used. InputError."""
        try:
            project_id(project)
        except ValueError as error:
            raise InputError(str(error)) from error
        return check_image(project, name, self._backend, must_be_verified=must_be_verified)

    def faults(self, project: str, name: str, keys: Sequence[str], wanted: Policy) -> list[str]:
        """Return why an image is not what is stated of it, a sentence each; [] where it is.

        `keys` are files with public keys, and versions of keys in Cloud KMS; without any, the deployment's count.
        InputError, StoreError.
        """
        known = find_image(project, name, self._backend)
        maker = find_build(known.build_id, self._backend) if known is not None else None
        if known is None or maker is None:
            return ["nothing is stated about it: its build is not known, or not any more"]
        place = statement_of(maker, self._backend, signed=True)
        try:
            envelope = read_envelope(self._backend.bucket.read(place), place)
        except NotFound:
            return [f"nothing that is signed is stated about it: there is no {place}"]
        trusted = self._given(keys) if keys else self._deployments()
        found = self._verifying(trusted, envelope)
        if not found:
            by = said_signers(envelope)
            return [f"its statement says that it is signed by {by}, and {trusted.place} has {trusted.told}"]
        image = self._backend.compute.image(project, name)
        made = None if image is None else image.id if known.copy is None else image.source_image  # by the build
        return faults_of(envelope, found, ImageSubject(IMAGE_ID, made or ""), wanted)

    def _verifying(self, trusted: Trusted, envelope: Envelope) -> list[VerifyingKey]:
        """Return the keys that can have signed an envelope. Cloud KMS is asked for those alone that it names."""
        said = [key for key, _ in envelope.signatures]  # of any type
        found = list(trusted.others)
        for version in [each for each in sorted(trusted.named) if each in said]:
            pem = trusted.named[version] or self._public_key(version)
            found.append(VerifyingKey(pem, trusted.place if trusted.named[version] else version, version))
        return found

    def _given(self, keys: Sequence[str]) -> Trusted:
        named = {key: b"" for key in keys if re.fullmatch(KEY_VERSION, key)}
        files = [Path(key) for key in keys if key not in named]
        return Trusted("--key", named, tuple(VerifyingKey(read_key(file), str(file)) for file in files))

    def _deployments(self) -> Trusted:
        """Read the keys whose signatures the deployer says count."""
        place = self._trusted
        try:
            data = self._backend.bucket.read(place)
        except NotFound as error:
            raise InputError(
                f"whose signatures count is not known: there is no {place}, which terraform/ makes for a deployment "
                "that signs; name a key with --key"
            ) from error
        try:
            found = json.loads(data[:LARGEST_LIST])["keys"]
            named = {str(name): str(pem).encode() for name, pem in found.items()}
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise EnvironmentFault(f"{place} is no list of keys; apply terraform/ again") from error
        return Trusted(place, named)


def open_cloud_provenance(project: str, bucket: str, environment: Mapping[str, str]) -> CloudProvenance:
    """Return the statements of a deployment, with the credentials of the person who runs this."""
    from ..clock import SystemClock
    from ..gcp.compute.compute import GoogleCompute
    from ..gcp.firestore import GoogleStore
    from ..gcp.pubsub import GoogleBus
    from ..gcp.rest.kms import KeyVersion
    from ..gcp.settings import Settings
    from ..gcp.storage import GoogleBucket

    settings = Settings.of_person(project, bucket, environment)
    clock, objects = SystemClock(), GoogleBucket(settings)
    backend = Backend(
        compute=GoogleCompute(settings, objects, clock),
        store=GoogleStore(project, settings.firestore_host),
        bucket=objects,
        bus=GoogleBus(project, settings.pubsub_host),
        clock=clock,
        keys=Keys(None),
        reports=ReportTarget("", None),
        logs=f"gs://{bucket}/{LOGS}{{build_id}}",
        progress=lambda _what, _done, _total: None,
        adopted_families=(),
        concurrency=None,
    )
    return CloudProvenance(backend, bucket, lambda version: KeyVersion(version, settings).public_key())


def read_key(path: Path) -> bytes:
    """Read a public key as a person names its file. InputError."""
    try:
        with path.open("rb") as file:
            return file.read(1 << 16)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give a public key in PEM") from error
