"""Reproducible images: the same bytes from build to build, and from user to user."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.disks.disk import Disk
from shared.images.catalogue import Catalogue
from tests.shared.disks.small_disks import tool
from tests.shared.sandbox.ordinary_user import AS_USER, MODES, give, place_for
from tests.system.archives import data_sha256, root_partition
from tests.system.as_user import as_ordinary_user
from tests.system.command import Document, Goldsmith

pytestmark = pytest.mark.slow

SCRIPT = """set -eu
for name in b a c; do mkdir -p "/opt/$name"; echo "$name" >"/opt/$name/file"; done
echo 'x = 1' >/opt/module.py
cd /opt && env -u SOURCE_DATE_EPOCH python3 -c 'import module'
useradd --create-home someone
ln /opt/a/file /opt/linked
install -o 33 -g 33 -m 4755 /bin/true /usr/local/bin/set-id
python3 - <<'END'
import os, struct
os.close(os.open("/usr/local/bin/capable", os.O_CREAT | os.O_WRONLY, 0o755))
os.setxattr("/usr/local/bin/capable", "security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0))
END
rm /etc/motd
echo "$SOURCE_DATE_EPOCH" >/opt/date
systemctl mask apt-daily.timer
"""


@pytest.fixture
def users(debian_disk: Path) -> Iterator[list[Goldsmith]]:
    """The command line as each user, with homes of their own into which the same disk came at different times."""
    with ExitStack() as stack:
        found = []
        for user in MODES:
            place = stack.enter_context(place_for(user))
            home = place / "home"
            home.mkdir(mode=0o700)
            Catalogue(home, SystemClock()).add(debian_disk, "debian-12-base", transfer="copy", family="debian-12")
            for path in (home, *home.rglob("*")):
                give(path, user)
            enter = as_ordinary_user() if user == AS_USER else ()
            found.append(stack.enter_context(Goldsmith(home, place, enter=enter)))
        yield found


def built(goldsmith: Goldsmith, name: str, **environment: str) -> Path:
    """Build an image of that name; return its disk."""
    steps: list[Document] = [{"name": "make", "script": SCRIPT}]
    local = {"engine": "chroot", "network": False, "memory_mb": 512}
    spec = goldsmith.spec(steps, output={"name": name, "reproducible": True}, local=local)
    done = goldsmith.run("build", spec, environment=environment)
    assert done.status == 0, done.text
    assert list(goldsmith.home.glob("builds/*/disks")) == []
    return goldsmith.home / "images" / name / "disk.raw"


def test_two_builds_are_the_same_bytes_for_any_user(users: list[Goldsmith], tmp_path: Path) -> None:
    """Mended: diskimage-builder's images differ in times, identifiers, the initrd and caches."""
    disks = [built(goldsmith, name) for goldsmith in users for name in ("first", "second")]  # the second from the cache
    assert len({data_sha256(disk) for disk in disks}) == 1
    told = users[0].run("images", "diff", disks[0], disks[-1], "--json", "--exit-code")
    assert (told.status, json.loads(told.out)["same"]) == (0, True)
    with Disk(disks[0]) as disk:
        root = disk.root
        date = int(root.read("/opt/date"))
        assert root.file_system.layout.written == date
        assert max(inode.mtime_ns for _, inode in root.file_system.walk()) == date * 10**9
        module = root.read("/opt/__pycache__/module.cpython-311.pyc")
        assert struct.unpack_from("<II", module, 4) == (0, date)
    start, size = root_partition(disks[0])
    part = tmp_path / "root.ext4"
    tool("dd", f"if={disks[0]}", f"of={part}", f"skip={start >> 20}", f"count={size >> 20}", "bs=1M", "conv=sparse")
    tool("e2fsck", "-f", "-n", part)


def test_the_callers_date_wins(users: list[Goldsmith]) -> None:
    built(users[-1], "undated")  # whose layers are of another date
    disk = built(users[-1], "dated", SOURCE_DATE_EPOCH="1700000000")
    with Disk(disk) as opened:
        assert opened.root.read("/opt/date") == b"1700000000\n"
        assert opened.root.file_system.layout.written == 1_700_000_000
    spec = users[-1].spec([], output={"name": "another"})
    done = users[-1].run("build", spec, environment={"SOURCE_DATE_EPOCH": "yesterday"})
    assert (done.status, "SOURCE_DATE_EPOCH is no date: 'yesterday'" in done.err) == (2, True)


def test_a_check_names_what_differs_and_publishes_nothing(users: list[Goldsmith]) -> None:
    goldsmith = users[0]
    script = "head -c 8 /dev/urandom >/opt/random; echo fixed >/opt/fixed\n"
    local = {"engine": "chroot", "network": False, "memory_mb": 512}
    spec = goldsmith.spec([{"name": "make", "script": script}], output={"family": "checked"}, local=local)
    done, build = goldsmith.build(spec, "--check-reproducible")
    assert (done.status, build["outcome"]) == (1, "failed"), done.text
    assert build["reason"].endswith("not reproducible: two builds of this spec differ in /opt/random (contents)")
    assert goldsmith.images() == []
    assert list((goldsmith.home / "cache/trials").iterdir()) == []


def test_a_check_publishes_one_image_of_two_builds(users: list[Goldsmith]) -> None:
    goldsmith = users[-1]
    local = {"engine": "chroot", "network": False, "memory_mb": 512}
    spec = goldsmith.spec([{"name": "make", "script": SCRIPT}], output={"family": "checked"}, local=local)
    done, build = goldsmith.build(spec, "--check-reproducible", "--output", goldsmith.output)
    assert (done.status, build["outcome"]) == (0, "succeeded"), done.text
    [image] = goldsmith.images()
    assert image["family"] == "checked"
    assert sorted(path.name for path in goldsmith.output.iterdir() if path.suffix == ".gz") == [
        f"{image['name']}.tar.gz"
    ]
    assert list((goldsmith.home / "cache/trials").iterdir()) == []
    assert len(goldsmith.builds()) == 1


def test_a_first_build_that_fails_is_told_with_its_log(users: list[Goldsmith]) -> None:
    goldsmith = users[-1]
    local = {"engine": "chroot", "network": False, "memory_mb": 512}
    spec = goldsmith.spec(
        [{"name": "make", "script": "echo seen; exit 7\n"}], output={"family": "checked"}, local=local
    )
    done = goldsmith.run("build", spec, "--check-reproducible")
    assert done.status == 1
    assert "exit status 7" in done.text
    [log] = goldsmith.home.glob("builds/*/logs/*-vm.log")
    assert "seen" in log.read_text()
    assert list((goldsmith.home / "cache/trials").iterdir()) == []


@pytest.mark.vm
@pytest.mark.soak
@pytest.mark.parametrize(("script", "differs"), [("echo same", ""), ("head -c 8 /dev/urandom", "/opt/made (contents)")])
def test_a_check_compares_the_files_that_two_vms_have_left(goldsmith: Goldsmith, script: str, differs: str) -> None:
    spec = goldsmith.spec([{"name": "make", "script": f"{script} >/opt/made\n"}], output={"family": "checked"})
    done, build = goldsmith.build(spec, "--check-reproducible")
    assert (done.status, build["outcome"]) == ((1, "failed") if differs else (0, "succeeded")), done.text
    assert differs in build["reason"]
    assert len([image for image in goldsmith.images() if image["family"] == "checked"]) == (0 if differs else 1)
    assert list((goldsmith.home / "cache/trials").iterdir()) == []
