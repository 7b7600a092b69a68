import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from shared.build.block_devices.description import file_system_disk
from shared.clock import SystemClock
from shared.errors import EnvironmentFault, InputError
from shared.images.bootstrap.package_source import ArchiveState, PackageSource
from shared.images.bootstrap.root_tree import plain_contents
from shared.images.catalogue import Catalogue
from shared.origins.kept_origins import KeptOrigins
from shared.origins.packages import PackageRequest
from tests.shared.origins.archives import write

KEYS = b"\x99\x01keys"
INDEX = "Suite: {}\nDate: Thu, 19 Nov 2026 20:15:00 UTC\nComponents: main universe\n"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """An archive on this machine that has indexes, and nothing that they speak of."""
    for name in ("noble", "noble-updates", "noble-security"):
        place = tmp_path / "mirror/ubuntu/dists" / name
        place.mkdir(parents=True)
        (place / "InRelease").write_text(INDEX.format(name))
    handler = partial(Quiet, directory=str(tmp_path / "mirror"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/ubuntu"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def asked(tmp_path: Path, mirror: str) -> PackageRequest:
    keyring = write(tmp_path / "keys.gpg", KEYS)
    return PackageRequest("ubuntu", "noble", ("nginx",), mirror, keyring=keyring)


def test_ubuntu_is_taken_with_its_updates_components_and_kernel(asked: PackageRequest, tmp_path: Path) -> None:
    state = asked.state(tmp_path, print)
    assert state.source.lines == tuple(
        f"deb {asked.mirror} {name} main universe" for name in ("noble", "noble-updates", "noble-security")
    )
    wanted = asked.contents(state)
    assert {"linux-image-virtual", "systemd-resolved", "cloud-init", "nginx"} <= set(wanted.packages)
    assert "linux-image-cloud-amd64" not in wanted.packages
    assert (wanted.variant, wanted.keys) == ("apt", KEYS)
    assert wanted.files["etc/apt/trusted.gpg.d/source.gpg"] == KEYS
    assert "systemd-resolved" not in replace(asked, release="jammy").contents(state).packages
    assert not {"ext4", "xfs"} & set(wanted.files["etc/initramfs-tools/modules"].split())
    on_xfs = replace(asked, root_kind="xfs").contents(state)
    assert "xfs" in on_xfs.files["etc/initramfs-tools/modules"].split()
    plain = replace(asked, variant="minbase", packages=("python3",)).contents(state)
    assert (plain.variant, plain.packages) == ("minbase", ("python3",))
    assert not any(path.startswith(("boot/", "etc/cloud")) for path in plain.files)


def test_images_for_arm64_have_their_kernel_and_what_boots_them(asked: PackageRequest, tmp_path: Path) -> None:
    debian = PackageRequest("debian", "bookworm", ("nginx",), architecture="arm64")
    source = PackageSource("bookworm", ("deb http://deb.debian.org/debian bookworm main",))
    packages = debian.contents(ArchiveState(source, (), 0)).packages
    assert {"linux-image-cloud-arm64", "busybox-static", "nginx"} <= set(packages)
    assert not [name for name in packages if "amd64" in name]
    ubuntu = replace(asked, architecture="arm64")
    assert {"linux-image-virtual", "busybox-static"} <= set(ubuntu.contents(asked.state(tmp_path, print)).packages)


def test_requests_from_before_there_were_architectures_stay_the_same(asked: PackageRequest) -> None:
    request = replace(asked, mirror="http://mirror/ubuntu")
    assert request.digest == "a89ee9e138fefe02aa1b6cb411dc70937c6f622f50b7a054d4b66727a38d6b43"
    assert replace(asked, architecture="arm64").digest != asked.digest


def test_a_request_is_its_words_and_keys(asked: PackageRequest, tmp_path: Path) -> None:
    other = write(tmp_path / "others.gpg", KEYS)
    assert replace(asked, keyring=other).digest == asked.digest
    write(other, KEYS + b"more")
    others = [replace(asked, keyring=other), replace(asked, variant="apt"), replace(asked, components=("main",))]
    others += [replace(asked, packages=()), replace(asked, release="jammy"), replace(asked, mirror=None)]
    assert len({each.digest for each in (asked, *others)}) == 7


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"not keys", "holds no public keys"),
        (b"", "holds no public keys"),
        (bytes(8) + b"KBXf", "is a keybox of GnuPG"),
    ],
)
def test_what_is_no_keyring_is_refused(asked: PackageRequest, tmp_path: Path, data: bytes, why: str) -> None:
    assert asked.keyring is not None
    write(asked.keyring, data)
    with pytest.raises(InputError, match=f"source.bootstrap.keyring: .* {why}"):
        KeptOrigins(Catalogue(tmp_path, SystemClock()), tmp_path, print).of_packages(asked)


def test_keys_in_letters_keep_their_ending() -> None:
    source = PackageSource("noble", ("deb http://archive.ubuntu.com/ubuntu noble main",))
    armoured = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n"
    assert plain_contents(source, (), "apt", armoured).files["etc/apt/trusted.gpg.d/source.asc"] == armoured


def test_names_that_an_archive_does_not_have_are_refused(asked: PackageRequest, tmp_path: Path) -> None:
    origins = KeptOrigins(Catalogue(tmp_path, SystemClock()), tmp_path, print)
    with pytest.raises(InputError, match=r"source.bootstrap: http://.* has no release warty"):
        origins.of_packages(replace(asked, release="warty"))
    with pytest.raises(InputError, match="noble has no component contrib; it has main, universe"):
        origins.of_packages(replace(asked, components=("main", "contrib")))
    with pytest.raises(EnvironmentFault, match="the package archive cannot be read"):
        origins.of_packages(replace(asked, mirror="http://127.0.0.1:9/ubuntu"))
    assert not (tmp_path / "images").exists()


def test_without_the_archive_the_last_image_of_a_request_is_used(asked: PackageRequest, tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path, SystemClock())
    catalogue.add(write(tmp_path / "disk", b"x" * 512), "ubuntu-noble-1")
    requests = tmp_path / "cache/origins/requests"
    requests.mkdir(parents=True)
    away = replace(asked, mirror="http://127.0.0.1:9/ubuntu")
    (requests / away.digest).write_text("ubuntu-noble-1")
    said: list[str] = []
    assert KeptOrigins(catalogue, tmp_path, said.append).of_packages(away).name == "ubuntu-noble-1"
    assert "cannot be reached; ubuntu-noble-1, made earlier, is used" in said[-1]
    with pytest.raises(EnvironmentFault, match="the package archive cannot be read"):
        KeptOrigins(catalogue, tmp_path, said.append, file_system_disk()).of_packages(away)
    for damaged in (b"", bytes(14), b"\xff"):  # by a power cut
        (requests / away.digest).write_bytes(damaged)
        with pytest.raises(EnvironmentFault, match="the package archive cannot be read"):
            KeptOrigins(catalogue, tmp_path, said.append).of_packages(away)
