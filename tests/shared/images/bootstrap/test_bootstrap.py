import http.server
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.errors import EnvironmentFault, InputError
from shared.images.bootstrap.bootstrap import (
    BootstrapRequest,
    bootstrap_image,
)
from shared.images.bootstrap.package_source import ArchiveState, PackageSource
from shared.images.bootstrap.root_tree import (
    BASE_PACKAGES,
    FINISH,
    PLAIN_FINISH,
    boot_files,
    cloud_contents,
    root_overlay,
)
from shared.images.catalogue import Catalogue
from shared.ports import Image, Notify
from tests.shared.disks.small_disks import tool

ROOT = Path(__file__).parents[4]
SUITES = {"debian": ("bookworm", "bookworm-updates"), "debian-security": ("bookworm-security",)}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        pass


@dataclass
class Archive:
    """A package archive on this machine that has indexes, and nothing that they speak of."""

    folder: Path
    url: str
    server: http.server.ThreadingHTTPServer

    def publish(self, date: str = "Thu, 19 Nov 2026 20:15:00 UTC") -> None:
        for part, names in SUITES.items():
            for name in names:
                place = self.folder / part / "dists" / name
                place.mkdir(parents=True, exist_ok=True)
                (place / "InRelease").write_text(f"Origin: Debian\nSuite: {name}\nDate: {date}\n")

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    folder = tmp_path / "archive"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    made = Archive(folder, f"http://127.0.0.1:{server.server_port}/debian", server)
    made.publish()
    yield made
    made.stop()
    thread.join()


@dataclass
class Bootstraps:
    """A home to bootstrap in, with a maker that is quick and counts."""

    home: Path
    mirror: str
    made: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    requests: list[BootstrapRequest] = field(default_factory=list)
    sources: list[PackageSource] = field(default_factory=list)

    def __call__(self, name: str = "debian-12", **options: object) -> Image:
        catalogue = Catalogue(self.home, SystemClock())
        settings = {"mirror": self.mirror, "progress": self.said.append, "make": self._make, **options}
        return bootstrap_image(name, catalogue, home=self.home, **settings)  # type: ignore[arg-type]  # tests give what they like

    def _make(self, request: BootstrapRequest, contents: ArchiveState, key: str, disk: Path, progress: Notify) -> None:
        self.made.append(key)
        self.requests.append(request)
        self.sources.append(contents.source)
        disk.write_text(key)

    def left(self) -> list[str]:
        return [path.name for path in self.home.rglob(".*")]


@pytest.fixture
def bootstraps(tmp_path: Path, archive: Archive) -> Bootstraps:
    (tmp_path / "home").mkdir()
    return Bootstraps(tmp_path / "home", archive.url)


def test_an_image_is_made_once_and_named_after_its_contents(bootstraps: Bootstraps) -> None:
    image = bootstraps()
    (key,) = bootstraps.made
    assert (image.name, image.family) == (f"debian-12-20261119-{key[:12]}", "debian-12")
    assert (bootstraps.home / "images" / image.name / "disk.raw").read_text() == key
    assert bootstraps() == image
    assert len(bootstraps.made) == 1
    assert bootstraps.left() == []


def test_all_three_parts_of_the_archive_are_used(bootstraps: Bootstraps, archive: Archive) -> None:
    bootstraps()
    security = archive.url + "-security"
    assert bootstraps.sources[0].suite == "bookworm"
    assert bootstraps.sources[0].lines == (
        f"deb {archive.url} bookworm main",
        f"deb {archive.url} bookworm-updates main",
        f"deb {security} bookworm-security main",
    )


@pytest.mark.parametrize("place", ["debian/dists/bookworm", "debian-security/dists/bookworm-security"])
def test_a_new_index_anywhere_makes_a_new_image(bootstraps: Bootstraps, archive: Archive, place: str) -> None:
    first = bootstraps()
    index = archive.folder / place / "InRelease"
    index.write_text(index.read_text() + "more\n")
    second = bootstraps()
    assert second.name != first.name
    cached = [path.stem for path in (bootstraps.home / "cache").rglob("*.raw")]
    assert cached == [second.name]


def test_every_part_of_a_request_is_part_of_the_key(bootstraps: Bootstraps, archive: Archive) -> None:
    bootstraps()
    bootstraps(packages=["nginx"])
    bootstraps(packages=["nginx", "jq"])
    bootstraps(size_gb=20)
    (archive.folder / "debian/dists/other").symlink_to("bookworm")
    other = bootstraps(release="other")
    assert other.family == "debian-other"
    assert len(set(bootstraps.made)) == 5
    bootstraps(packages=["jq", "nginx", "python3"])  # in another order, with one that is there anyway
    assert len(bootstraps.made) == 5


def test_packages_are_added_to_the_base(bootstraps: Bootstraps) -> None:
    image = bootstraps(packages=["nginx"])
    assert bootstraps.requests[0].packages == (*BASE_PACKAGES, "nginx")
    assert image.description == "Debian bookworm, bootstrapped with nginx"


def test_a_deleted_image_comes_back_from_the_cache(bootstraps: Bootstraps) -> None:
    image = bootstraps()
    Catalogue(bootstraps.home, SystemClock()).delete(image.name)
    assert bootstraps().name == image.name
    assert len(bootstraps.made) == 1


def test_without_the_archive_the_newest_image_is_used_and_said(bootstraps: Bootstraps, archive: Archive) -> None:
    image = bootstraps()
    (archive.folder / "debian/dists/bookworm/InRelease").unlink()
    assert bootstraps() == image
    assert image.name in bootstraps.said[-1]
    assert "cannot be reached" in bootstraps.said[-1]


def test_without_the_archive_and_an_earlier_image_the_mirror_is_named(bootstraps: Bootstraps, archive: Archive) -> None:
    (archive.folder / "debian/dists/bookworm/InRelease").unlink()
    with pytest.raises(EnvironmentFault, match=archive.url):
        bootstraps()
    assert bootstraps.left() == []


def test_what_is_no_archive_is_said(bootstraps: Bootstraps, archive: Archive) -> None:
    for index in archive.folder.rglob("InRelease"):
        index.write_text("<html>log in first</html>")
    with pytest.raises(EnvironmentFault, match="not a package archive"):
        bootstraps()


def test_a_mirror_without_security_updates_is_used_and_said(bootstraps: Bootstraps, archive: Archive) -> None:
    (archive.folder / "debian-security/dists/bookworm-security/InRelease").unlink()
    bootstraps()
    assert bootstraps.sources[0].lines == (f"deb {archive.url} bookworm main",)
    assert "no security updates" in bootstraps.said[0]


@pytest.mark.parametrize(
    ("name", "options", "what"),
    [
        ("debian-11", {}, "cannot be bootstrapped; write one of: debian-12, debian-13"),
        ("", {}, "cannot be bootstrapped"),
        ("debian-12", {"release": "book worm"}, "is not a release"),
        ("debian-12", {"release": "../etc"}, "is not a release"),
        ("debian-12", {"packages": ["-o"]}, "is not the name of a package"),
        ("debian-12", {"packages": ["a,b"]}, "is not the name of a package"),
        ("debian-12", {"packages": ["?x"]}, "is not the name of a package"),
        ("debian-12", {"mirror": "example.org"}, "is not a mirror"),
        ("debian-12", {"mirror": "http://a b/"}, "is not a mirror"),
        ("debian-12", {"size_gb": 1}, "too small"),
    ],
)
def test_bad_requests(bootstraps: Bootstraps, name: str, options: dict[str, object], what: str) -> None:
    with pytest.raises(InputError, match=what):
        bootstraps(name, **options)
    assert bootstraps.made == []
    assert not (bootstraps.home / "images").exists()


def test_a_failed_bootstrap_leaves_nothing(bootstraps: Bootstraps) -> None:
    def fail(request: BootstrapRequest, contents: ArchiveState, key: str, disk: Path, progress: Notify) -> None:
        disk.write_text("half")
        raise EnvironmentFault("no")

    with pytest.raises(EnvironmentFault, match="no"):
        bootstraps(make=fail)
    assert [path for path in bootstraps.home.rglob("*") if path.is_file()] == []
    bootstraps()


KILLED = """
import sys, time
from pathlib import Path
from shared.images.bootstrap.bootstrap import bootstrap_image
from shared.images.catalogue import Catalogue
from shared.clock import SystemClock

def make(request, contents, key, disk, progress):
    disk.write_text("half")
    print("half", flush=True)
    sys.stdin.read()

home = Path(sys.argv[1])
bootstrap_image("debian-12", Catalogue(home, SystemClock()), home=home, mirror=sys.argv[2], make=make)
"""


def test_a_killed_bootstrap_is_swept_by_the_next(bootstraps: Bootstraps) -> None:
    command = [sys.executable, "-c", KILLED, str(bootstraps.home), bootstraps.mirror]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        os.kill(process.pid, signal.SIGKILL)
    assert len([name for name in bootstraps.left() if name.startswith(".scratch-")]) == 1
    bootstraps()
    assert bootstraps.left() == []
    assert len(bootstraps.made) == 1


def test_two_at_once_make_one_image(bootstraps: Bootstraps) -> None:
    entered = threading.Event()

    def slowly(request: BootstrapRequest, contents: ArchiveState, key: str, disk: Path, progress: Notify) -> None:
        bootstraps.made.append(key)
        entered.set()
        assert not second_done.wait(0.2)
        disk.write_text(key)

    second_done = threading.Event()
    first = threading.Thread(target=lambda: bootstraps(make=slowly))
    first.start()
    assert entered.wait(60)
    bootstraps()
    second_done.set()
    first.join()
    assert len(bootstraps.made) == 1


def test_our_files_are_the_same_bytes_every_time_and_belong_to_root() -> None:
    source = PackageSource("bookworm", ("deb http://deb.debian.org/debian bookworm main",))
    places = boot_files("11111111-2222-3333-4444-555555555555")
    members = {**cloud_contents(source, ()).files, **places}
    data = root_overlay(members, 1_700_000_000)
    assert root_overlay(dict(sorted(members.items(), reverse=True)), 1_700_000_000) == data
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        entries = tar.getmembers()
        assert {(entry.uid, entry.gid, entry.mtime) for entry in entries} == {(0, 0, 1_700_000_000)}
        names = [entry.name for entry in entries]
    assert names.index("etc") < names.index("etc/systemd") < names.index("etc/systemd/network")
    assert set(members) <= set(names)
    assert "UUID=11111111-2222-3333-4444-555555555555" in places["boot/grub/grub.cfg"]
    assert "UUID=11111111-2222-3333-4444-555555555555" in places["etc/fstab"]
    assert {"virtio_scsi", "virtio_blk", "sd_mod"} <= set(str(members["etc/initramfs-tools/modules"]).splitlines())


def test_shell_text_among_our_files_is_sound() -> None:
    tool("sh", "-n", stdin=FINISH)
    tool("sh", "-n", stdin=PLAIN_FINISH)


def test_the_second_time_takes_no_time(bootstraps: Bootstraps) -> None:
    bootstraps()
    started = time.monotonic()
    bootstraps()
    assert time.monotonic() - started < 3
