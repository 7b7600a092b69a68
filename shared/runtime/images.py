"""The images of this machine: found, imported, made, looked into and compared.

Whatever only one of these needs is imported where it is used: all of it together would slow every command down.
"""

from __future__ import annotations

import json
import math
import os
import pwd
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..architectures import X86_64, Architecture, find_architecture, of_host
from ..build.block_devices.description import DiskDescription
from ..build.build import Build, ImageUsage
from ..build.plan import SourceImage
from ..errors import AlreadyExists, DamagedDocument, EnvironmentFault, InputError, NotFound
from ..host.scratch import scratch_folder
from ..local.plan_checks import make_folder
from ..names import BUILD_LABEL, LOCAL
from ..ports import Image
from ..quantities import GIB

_BOOTSTRAPPED_GB = 10
RETIRE_FILE = "retire-images.json"  # of the home: the rules by which images go away
_LARGEST_RULES = 1 << 20  # bytes

if TYPE_CHECKING:
    from ..build.damage import Damaged
    from ..build.image.approval import AskedPromotion, PromotionAnswer
    from ..build.image.retire_rules import RetireRule
    from ..images.contents import ImageContents
    from ..images.diff.result import ImageDiff
    from ..published.cascade import Rebuild
    from ..published.image_check import ImageVerdict
    from ..published.promotion import PromotedImage
    from ..published.retirement import RetireDone
    from ..published.revocation import RevokedImage
    from ..published.usage import Consumers
    from ..spec.model import Source, Spec
    from .one_machine import LocalBackend


class LocalImages:
    """The catalogue of this machine, and the work on its images."""

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend

    def source_of(self, spec: Spec, folder: Path) -> SourceImage:
        """Find the image that a spec below a folder starts from, as resolve() does, or make it of its elements."""
        if spec.source.elements is None:
            found = self.resolve(spec.source, folder, spec.disk, spec.output.disk_size_gb)
        else:
            found = self._dated(self._from_elements(spec, folder))
        kind = find_architecture(found.architecture)
        if of_host(os.uname().machine) == kind:
            return found
        self._say(
            f"{found.name} is for {kind.name}, and this host has {os.uname().machine}: its VMs are emulated by "
            f"{kind.emulator}, and slow"
        )
        return replace(found, native=False)

    def resolve(
        self, source: Source, folder: Path, disk: DiskDescription | None = None, disk_size_gb: int | None = None
    ) -> SourceImage:
        """Find the image that a spec starts from; what a file beside the spec holds joins the catalogue first, once.

        A source from nothing gets the `disk` that the spec describes, of `disk_size_gb` if it says so.
        """
        from ..planning.sources import as_source, in_catalogue, resolve_source

        if source.file is not None:
            return self._dated(as_source(self._imported(source, folder)))
        if source.rootfs is not None or source.oci is not None or source.bootstrap is not None:
            if disk is not None and disk_size_gb is not None:
                disk = replace(disk, size=disk_size_gb * GIB)
            return self._dated(self._from_nothing(source, folder, disk))
        return self._dated(resolve_source(in_catalogue(source), self._backend.compute))

    def _from_nothing(self, source: Source, folder: Path, disk: DiskDescription | None) -> SourceImage:
        from ..origins.kept_origins import KeptOrigins
        from ..origins.packages import PackageRequest

        for warning in disk.warnings() if disk is not None else ():
            self._say(f"disk: {warning}")
        origins = KeptOrigins(self._backend.catalogue, self._backend.home, self._say, disk)
        if source.rootfs is not None:
            image = origins.of_rootfs(folder / source.rootfs)
        elif source.oci is not None:
            image = origins.of_container(folder / source.oci)
        else:
            assert source.bootstrap is not None
            asked = source.bootstrap.model_dump()
            keyring = None if asked["keyring"] is None else folder / asked["keyring"]
            if keyring is not None and os.geteuid() == 0:
                raise EnvironmentFault(
                    "source.bootstrap.keyring: packages that are signed with other keys than the distribution's would "
                    "run scripts as this host's root; build as an ordinary user: there they are in a user namespace"
                )
            image = origins.of_packages(PackageRequest(**{**asked, "keyring": keyring}))
        return self._described(image)

    def _described(self, image: Image) -> SourceImage:
        """Return an image from nothing as a source, of which it is known whether it can boot."""
        from ..planning.sources import as_source

        contents = self.describe(image.name)
        is_hidden = contents.unreadable is not None  # a root that is not read here may have a kernel
        return replace(as_source(image), bootable=is_hidden or contents.kernel is not None)

    def _from_elements(self, spec: Spec, folder: Path) -> SourceImage:
        from ..context.outside import outside
        from ..context.packing import pack_context
        from ..elements.packed_path import unpacked_path
        from ..origins.elements import GROWTH, LOCAL_IMAGE, ElementsRequest
        from ..origins.kept_origins import KeptOrigins
        from ..planning.plan import cache_plan

        asked = spec.source.elements
        assert asked is not None
        if spec.context is None:
            raise InputError("source.elements: lie in the context, and the spec has none; write context: .")
        named = outside([{"action": "elements", "inputs": asked.model_dump()}])
        for warning in spec.disk.warnings() if spec.disk is not None else ():
            self._say(f"disk: {warning}")
        size = None if spec.output.disk_size_gb is None else spec.output.disk_size_gb * GIB
        origins = KeptOrigins(self._backend.catalogue, self._backend.home, self._say, spec.disk)
        place = self._backend.home / "cache" / "origins"
        make_folder(place)
        with (
            scratch_folder(place) as scratch,
            unpacked_path(
                asked.path, Path(pack_context(folder / spec.context, scratch.path / "context.tar", named).uri)
            ) as path,
        ):
            request = ElementsRequest(
                asked.elements,
                path,
                asked.env,
                network=spec.local.network,
                max_age=cache_plan(spec).max_age,
                size=size,
                local_image=folder / asked.env[LOCAL_IMAGE] if asked.env.get(LOCAL_IMAGE) else None,
                room=GROWTH if asked.room is None else asked.room,
            )
            image = origins.of_elements(request, self._backend.machines)
        return replace(self._described(image), needs_vm=origins.disk.needs_vm or "")

    def _imported(self, source: Source, folder: Path) -> Image:
        from ..images.file import import_image, source_name

        assert source.file is not None
        file = folder / source.file
        name = source_name(file)
        image = self._backend.catalogue.get(name)
        try:
            image = image or import_image(file, name, self._backend.catalogue, progress=self._say)
        except AlreadyExists:  # another build of the same file was faster
            image = self._backend.catalogue.get(name)
            if image is None:
                raise
        return image

    def _dated(self, source: SourceImage) -> SourceImage:
        """Return a source with the date of its own root file system, which is the same in every catalogue."""
        from ..images.contents import date_of

        written = date_of(self._backend.catalogue.disk(source.name))
        return replace(source, created=float(written)) if 0 < written <= source.created else source

    @contextmanager
    def staging(self, folder: Path) -> Iterator[Path]:
        """Yield a folder within a person's, for a file that is to appear there whole. EnvironmentFault.

        It is gone after the block; that of a process that was killed goes when the next one is made there.
        """
        make_folder(folder)
        with scratch_folder(folder) as scratch:
            yield scratch.path

    def import_image(self, file: Path, name: str | None, family: str | None, architecture: str | None = None) -> Image:
        """Take a disk image into the catalogue, after checking it. Raises as images.file.import_image() does."""
        from ..images.file import import_image, name_of_file
        from ..planning.requests import refuse_channel

        refuse_channel("--family", LOCAL, family, self._backend)
        return import_image(
            file,
            name or name_of_file(file),
            self._backend.catalogue,
            family=family,
            architecture=architecture,
            progress=self._say,
        )

    def bootstrap(
        self,
        system: str,
        release: str | None,
        packages: list[str],
        mirror: str | None,
        architecture: str = X86_64.name,
    ) -> Image:
        """Make an image of a distribution's packages, or give the one that there is of the same packages."""
        from ..images.bootstrap.bootstrap import bootstrap_image, suite_and_family

        kind = find_architecture(architecture)
        if kind != X86_64:
            suite, family = suite_and_family(system, release)
            return self._bootstrap_foreign(suite, f"{family}-{kind.name}", packages, mirror, kind)
        return bootstrap_image(
            system,
            self._backend.catalogue,
            home=self._backend.home,
            release=release,
            packages=packages,
            mirror=mirror,
            progress=self._say,
        )

    def _bootstrap_foreign(
        self, suite: str, family: str, packages: list[str], mirror: str | None, kind: Architecture
    ) -> Image:
        """Make an image for another architecture, as source.bootstrap of a spec does, and put it into its family."""
        from ..build.block_devices.description import default_disk
        from ..origins.kept_origins import KeptOrigins
        from ..origins.packages import PackageRequest

        disk = replace(default_disk(kind), size=_BOOTSTRAPPED_GB * GIB)
        origins = KeptOrigins(self._backend.catalogue, self._backend.home, self._say, disk)
        request = PackageRequest("debian", suite, tuple(sorted(packages)), mirror, architecture=kind.name)
        image = origins.of_packages(request)
        return image if image.family == family else self._backend.catalogue.set_family(image.name, family)

    def maker_of(self, image: str) -> Build | None:
        """Return the build that made an image of the catalogue; None for one that was imported or is from elsewhere."""
        found = self._backend.catalogue.get(image)
        if found is None:
            return None
        known = self._backend.store.image(LOCAL, image)
        by_id = known.build_id if known is not None and known.id == found.id else ""
        try:
            return self._backend.store.load(by_id or found.labels.get(BUILD_LABEL, "")).build
        except (NotFound, DamagedDocument):
            return None

    def revoke(self, image: str, reason: str, *, alone: bool) -> RevokedImage:
        """Take an image back. InputError, Transient."""
        from ..published.revocation import revoke_image

        return self.with_users(revoke_image(LOCAL, image, reason, self._backend, alone=alone))

    def with_users(self, revoked: RevokedImage) -> RevokedImage:
        """Return a revocation with the processes that use the image."""
        from ..published.usage import with_usage

        return with_usage(revoked, self._consumers(), self._backend)

    def usage(self, image: str) -> ImageUsage:
        """List the processes and loop devices that have the disk of an image open; nothing for one that is not ours."""
        from ..ownership import find_image
        from ..published.usage import usage_of

        known = find_image(LOCAL, image, self._backend)
        return ImageUsage() if known is None else usage_of(known, self._consumers(), self._backend)

    def _consumers(self) -> Consumers:
        from ..local.image_users import LocalImageUsers
        from ..published.usage import Consumers

        return Consumers(LocalImageUsers(self._backend.home), (LOCAL,))

    def rebuilds(self, revoked: RevokedImage) -> tuple[Rebuild, ...]:
        """Say of each image that was built from a revoked one by which spec it is built again, or why it is not."""
        from ..published.cascade import find_rebuilds

        return find_rebuilds(revoked, self._backend)

    @staticmethod
    def with_rebuilds(revoked: RevokedImage, rebuilds: Collection[Rebuild]) -> RevokedImage:
        """Return what came of a revocation, with what was built again and what was not."""
        from ..published.cascade import with_rebuilds

        return with_rebuilds(revoked, rebuilds)

    def promote(self, image: str, channel: str) -> PromotedImage | AskedPromotion:
        """Copy an image into a channel, or write down that it waits for approval. InputError, Transient."""
        from ..published.approval import ask_promotion

        return ask_promotion(LOCAL, image, channel, self._backend, account=account_name())

    def answer(self, image: str, channel: str, answer: PromotionAnswer, reason: str) -> PromotedImage | AskedPromotion:
        """Say yes or no to a promotion in the name of this account. InputError, Transient."""
        from ..published.approval import PersonsWord, answer_promotion

        word = PersonsWord(reason, account=account_name())
        return answer_promotion(LOCAL, image, channel, answer, word, self._backend)

    def asked_promotions(self) -> Sequence[AskedPromotion | Damaged]:
        """Return the promotions that wait, once those are ended that have lapsed."""
        from ..published.approval import lapse_promotions

        lapse_promotions(self._backend)
        return self._backend.store.promotions()

    def retire(self, rules: Mapping[str, RetireRule], *, dry_run: bool) -> Iterator[RetireDone]:
        """Retire images by rule, or say what would be done: obsolete in one run, a day later deleted in another."""
        from ..local.image_users import LocalImageUsers
        from ..published.retirement import RetireDone, Retiring, plan_retirement, retire_images

        retiring = Retiring(LOCAL, rules, (LOCAL,), LocalImageUsers(self._backend.home))
        if dry_run:
            return (RetireDone(verdict) for verdict in plan_retirement(retiring, self._backend))
        return retire_images(retiring, self._backend, math.inf)

    def retire_rules(self) -> Mapping[str, RetireRule]:
        """Return the rules of this home. InputError names file and key."""
        from ..build.image.retire_rules import read_retire_rules
        from ..host.secret_file import NoPlainFile, read_plain

        path = self._backend.home / RETIRE_FILE
        try:
            data, _ = read_plain(path, _LARGEST_RULES)
            return read_retire_rules(json.loads(data), str(path))
        except FileNotFoundError as error:
            raise InputError(
                f"no image goes away by rule: there is no {path}; write one, or give --family NAME with --older-than, "
                "--keep or both"
            ) from error
        except NoPlainFile as error:
            raise InputError(f"{path} is no plain file; write the rules into one") from error
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; make it a plain file that you may read") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: not JSON: {str(error)[:200]}; correct it") from error

    def check(self, image: str, *, must_be_verified: bool) -> ImageVerdict:
        """Say whether an image may be used. InputError."""
        from ..published.image_check import check_image

        return check_image(LOCAL, image, self._backend, must_be_verified=must_be_verified)

    def describe(self, image: str) -> ImageContents:
        """Return the contents of an image. NotFound."""
        from ..images.contents import describe_image

        return describe_image(self._backend.catalogue.disk(image))

    def diff(self, before: str, after: str) -> ImageDiff:
        """Compare two images: names of the catalogue, or files as import_image() takes them. ImageFileError, NoSpace.

        A file that is no raw disk is unpacked beside the catalogue's images, for as long as it is compared.
        """
        from ..images.diff.compare import compare_disks

        with self._backend.catalogue.staging() as scratch:
            first = self._disk_of(before, scratch.path / "before.raw")
            return compare_disks(first, self._disk_of(after, scratch.path / "after.raw"), self._say)

    def _disk_of(self, image: str, unpacked: Path) -> Path:
        from ..images.file import as_raw

        with suppress(InputError):  # of a text that is no image's name: it is a file's
            if self._backend.catalogue.get(image) is not None:
                return self._backend.catalogue.disk(image)
        if not Path(image).exists():
            raise InputError(f"there is no image {image}, and no such file; see: goldsmith images list")
        return as_raw(Path(image), unpacked, self._say)

    def _say(self, text: str) -> None:
        self._backend.progress(text, 0, 0)


def account_name() -> str:
    """Return the name of the account that runs this process."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user need not have one
        return f"user {os.getuid()}"
