"""A root file system of a distribution's packages: what a spec asks for, and what the archive has for it now."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ..architectures import X86_64, find_architecture
from ..errors import EnvironmentFault, InputError
from ..host.programs import find_tool
from ..host.scratch import Scratch
from ..images.bootstrap.foreign_tree import make_foreign_tree
from ..images.bootstrap.package_source import DEBIAN, UBUNTU, ArchiveState, Distribution
from ..images.bootstrap.package_source import contents as archive_contents
from ..images.bootstrap.root_tree import BASE_PACKAGES, TreeContents, cloud_contents, make_tree, plain_contents
from ..ports import Notify
from ..sandbox.roots.unpack_root import UnpackedRoot
from .tree_disk import FilledTree, Make

CLOUD = "cloud"
_DISTRIBUTIONS: Mapping[str, Distribution] = {each.name: each for each in (DEBIAN, UBUNTU)}
_DEBIAN_KERNEL, _UBUNTU_KERNEL, _ARM_KERNEL = (
    "linux-image-cloud-amd64",
    "linux-image-virtual",
    "linux-image-cloud-arm64",
)
_ARM_PACKAGES = ("busybox-static",)  # for the initrd of a direct boot, which takes no program of another processor
_ARM_MIRRORS = {UBUNTU.name: "http://ports.ubuntu.com/ubuntu-ports"}  # that are others than those for x86-64
_WITH_RESOLVED = ("focal", "jammy")  # releases of Ubuntu that have systemd-resolved in systemd
_LARGEST_KEYRING = 4 << 20
_ARMOUR, _KEYBOX = b"-----BEGIN PGP PUBLIC KEY BLOCK-----", b"KBXf"  # the latter behind 8 bytes
_PACKET = (0x98, 0x99, 0xC6)  # with which a public key begins


@dataclass(frozen=True)
class PackageRequest:
    """The request of a root file system. `keyring` is a file with the keys that sign the archive.

    `root_kind` is the kind of file system that the disk will have it on.
    """

    distribution: str  # debian or ubuntu
    release: str
    packages: tuple[str, ...] = ()
    mirror: str | None = None
    components: tuple[str, ...] = ()
    keyring: Path | None = None
    variant: str = CLOUD  # or one of mmdebstrap's
    root_kind: str = "ext4"
    architecture: str = X86_64.name

    @property
    def digest(self) -> str:
        """SHA-256 over the request, with what the keyring holds."""
        keys = self.keys()
        fields = {**asdict(self), "keyring": None if keys is None else hashlib.sha256(keys).hexdigest()}
        if self.architecture == X86_64.name:
            del fields["architecture"]  # as requests were before there was another one
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    def keys(self) -> bytes | None:
        """Return the keys that sign the archive; None for those that this machine's apt has for it.

        InputError, EnvironmentFault.
        """
        if self.keyring is not None:
            return _read_keys(self.keyring)
        distribution = _DISTRIBUTIONS[self.distribution]
        if not distribution.keyring.exists():
            raise EnvironmentFault(
                f"{distribution.keyring} is missing; install it with: apt-get install {distribution.keyring_package}, "
                "or write source.bootstrap.keyring"
            )
        return None if distribution is DEBIAN else _read_keys(distribution.keyring)

    def state(self, scratch: Path, note: Notify) -> ArchiveState:
        """Ask the archive what it holds. Raises as package_source.contents() does."""
        distribution = _DISTRIBUTIONS[self.distribution]
        mirror = self.mirror
        if self.architecture != X86_64.name:
            mirror = mirror or _ARM_MIRRORS.get(self.distribution)
        return archive_contents(mirror, self.release, scratch, note, distribution, self.components)

    def maker(self, archive: ArchiveState, time: int, progress: Notify) -> Make:
        """Return what installs it. MissingTool, EnvironmentFault."""
        find_tool("mmdebstrap")
        wanted, architecture = self.contents(archive), find_architecture(self.architecture)

        def make(scratch: Scratch, tree: Path) -> FilledTree:
            if architecture == X86_64:
                made = make_tree(scratch, wanted, time, progress)
            else:
                made = make_foreign_tree(scratch, wanted, architecture, time, progress)
            assert made == tree
            return FilledTree(UnpackedRoot((), {}, {}), time)

        return make

    def contents(self, archive: ArchiveState) -> TreeContents:
        """Return what goes into the root file system. InputError, EnvironmentFault."""
        keys = self.keys()
        if self.variant != CLOUD:
            return plain_contents(archive.source, self.packages, self.variant, keys)
        base: tuple[str, ...] = BASE_PACKAGES
        if self.distribution == UBUNTU.name:
            base = tuple(name.replace(_DEBIAN_KERNEL, _UBUNTU_KERNEL) for name in base)
            base = tuple(name for name in base if self.release not in _WITH_RESOLVED or name != "systemd-resolved")
        if self.architecture != X86_64.name:
            base = (*(name.replace(_DEBIAN_KERNEL, _ARM_KERNEL) for name in base), *_ARM_PACKAGES)
        packages = (*base, *sorted(set(self.packages) - set(base)))
        return cloud_contents(archive.source, packages, keys, root_kind=self.root_kind)


def _read_keys(path: Path) -> bytes:
    try:
        data = path.read_bytes() if path.stat().st_size <= _LARGEST_KEYRING else b""
    except OSError as error:
        raise InputError(f"source.bootstrap.keyring: {path}: {error.strerror}") from error
    if data[8:12] == _KEYBOX:
        raise InputError(
            f"source.bootstrap.keyring: {path} is a keybox of GnuPG, which apt does not read; write what this makes of "
            f"it: gpg --no-default-keyring --keyring {path} --export"
        )
    if not (data.lstrip().startswith(_ARMOUR) or data[:1] in [bytes([first]) for first in _PACKET]):
        raise InputError(f"source.bootstrap.keyring: {path} holds no public keys; write what gpg --export makes")
    return data
