"""Builds whose source is root.d of elements: a root file system made in a room on this machine."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from shared.disks.disk import Disk
from tests.provisioner.elements.element_folders import ORIGINAL, element
from tests.shared.disks.small_disks import tool
from tests.system.command import Goldsmith
from tests.system.sandboxes import ROOT_IN_SOAK, assert_nothing_left, wait_for_no_group, wait_for_no_mount

pytestmark = pytest.mark.slow
BAD_INPUT, LACKING = 2, 3
KILLS = int(os.environ.get("GOLDSMITH_KILLS", "4"))

UNPACK = """#!/bin/bash
set -eu
sudo tar -C "$TARGET_ROOT" -xf "$TMP_HOOKS_PATH/files/root.tar"
echo "$MINE" >"$TARGET_ROOT/etc/mine"
"""
SMALL = '#!/bin/bash\nset -eu\nmkdir -p "$TARGET_ROOT"/{dev,etc,proc,sys}\n'
HOSTILE = """#!/bin/bash
mkdir -p "$TARGET_ROOT/etc"
exec >"$TARGET_ROOT/etc/report" 2>&1
[ -e "$SECRET" ] && echo "sees $SECRET"
[ -n "$(find /root /home /opt -mindepth 1)" ] && echo "sees homes"
touch /usr/mine 2>/dev/null && echo "writes to /usr"
(echo x >/usr/bin/env) 2>/dev/null && echo "writes to a program"
[ -e /etc/shadow ] || [ -e /etc/ssh ] && echo "sees /etc"
mount -o remount,rw /usr 2>/dev/null && touch /usr/mine 2>/dev/null && echo "remounts /usr"
ls /proc | grep -c '^[0-9]' | { read -r count; [ "$count" -lt 12 ] || echo "sees $count processes"; }
mknod /tmp/disk b 254 0 2>/dev/null && echo "makes devices"
ls /dev | grep -E 'sd|vd|loop|mem|kmsg' && echo "sees devices"
kill -9 1 2>/dev/null; unshare -U true 2>/dev/null && echo "makes user namespaces"
for place in 127.0.0.1 10.0.2.2 "$ADDRESS"; do
    python3 -c "import socket; socket.create_connection(('$place', $PORT), 3)" 2>/dev/null && echo "reaches $place"
done
ln -s "$SECRET" "$TARGET_ROOT/etc/resolv.conf"
rm -rf "$TARGET_ROOT/dev" && ln -s /etc "$TARGET_ROOT/dev"
echo end
"""


def from_elements(goldsmith: Goldsmith, root: str, env: dict[str, str] | None = None, **more: object) -> Path:
    """Write a spec whose source is one element with a script in root.d; the element has an own script in install.d."""
    source = {"elements": ["system"], "env": {"MINE": "first", **(env or {})}}
    settings = {"source": {"elements": source}, "disk": "filesystem", **more}
    spec = goldsmith.spec([{"name": "rest", "action": "elements"}], **settings)  # type: ignore[arg-type]
    install = '#!/bin/bash\necho "installed with $MINE" >/etc/installed\n'
    files = {"element-provides": "operating-system\n", "root.d/10-root": root, "install.d/10-own": install}
    element(spec.parent / "context" / "elements", "system", files)
    return spec


def scratch_folders(goldsmith: Goldsmith) -> list[Path]:
    user = goldsmith.home.stat().st_uid
    places = (goldsmith.home / "cache" / "origins", Path(f"/dev/shm/goldsmith-{user}"))
    return [path for place in places for path in place.glob(".scratch-*")]


@pytest.mark.parametrize("user", ROOT_IN_SOAK, indirect=True)
def test_a_root_file_system_of_elements_is_built_upon(empty: Goldsmith, debian_rootfs: Path) -> None:
    """Mended: diskimage-builder needs root, and its second run takes as long as its first."""
    spec = from_elements(empty, UNPACK)
    files = spec.parent / "context" / "elements" / "system" / "files"
    files.mkdir()
    shutil.copyfile(debian_rootfs, files / "root.tar")
    done, build = empty.build(spec)
    assert build["outcome"] == "succeeded", done.text
    assert "making elements-" in done.text
    (image, source) = empty.images()
    assert source["name"].startswith("elements-")
    assert image["labels"]["goldsmith-source"] == source["name"]
    with Disk(empty.home / "images" / image["name"] / "disk.raw") as disk:
        assert disk.table.kind == "none"
        assert disk.root.read("/etc/mine") == b"first\n"
        assert disk.root.read("/etc/installed") == b"installed with first\n"
        assert disk.root.file_system.layout.label == "cloudimg-rootfs"
    own = spec.parent / "context" / "elements" / "system"
    (own / "install.d" / "10-own").write_text("#!/bin/bash\n")
    done = empty.run("plan", spec)
    assert (done.status, "making" in done.text) == (0, False), done.text
    (own / "root.d" / "10-root").write_text(f"{UNPACK}# changed\n")
    done = empty.run("plan", spec)
    assert (done.status, "making elements-" in done.text) == (0, True), done.text
    assert_nothing_left(empty)
    assert scratch_folders(empty) == []


class Silent(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_hostile_elements_see_nothing_of_the_host(empty: Goldsmith) -> None:
    secret = empty.folder / "secret"
    secret.write_text("the host's")
    secret.chmod(0o644)
    before = Path("/usr/bin/env").stat()
    with ThreadingHTTPServer(("0.0.0.0", 0), Silent) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = (tool("hostname", "-I").split() or ["127.0.0.1"])[0]
        env = {"SECRET": str(secret), "PORT": str(server.server_port), "ADDRESS": address}
        spec = from_elements(empty, HOSTILE, env, local={"network": True, "memory_mb": 512})
        done = empty.run("plan", spec)
        server.shutdown()
    (image,) = empty.images()
    with Disk(empty.home / "images" / image["name"] / "disk.raw") as disk:
        assert disk.root.read("/etc/report") == b"end\n", done.text
    assert secret.read_text() == "the host's"
    assert Path("/usr/bin/env").stat() == before
    assert not Path("/usr/mine").exists()
    assert_nothing_left(empty)


@pytest.mark.parametrize("user", ROOT_IN_SOAK, indirect=True)
def test_killed_processes_leave_nothing(empty: Goldsmith) -> None:
    """Kill commands at random moments of root.d; what they have left is gone when the next one has ended.

    Mended: loop devices, mounts in memory and a bind of the host's /dev stay behind for good in diskimage-builder.
    """
    busy = f"{SMALL}for number in $(seq 10); do date >$TARGET_ROOT/etc/$number; sleep 0.1; done\n"
    spec = from_elements(empty, busy)
    chance = random.Random(20261130)
    for _ in range(KILLS):
        running = empty.start("plan", spec, "--json")
        time.sleep(chance.uniform(0.5, 3.5))
        running.kill()
        empty.traces.wait_for_no_process()
        wait_for_no_group(empty)
        wait_for_no_mount(empty)
    left = empty.home / "builds" / "tiny-0d9dde6088b7" / "goldsmith-elements-left"  # of a plan killed as it read them
    (left / "elements").mkdir(parents=True)
    (left.parent / "context.tar").touch()
    owner = empty.home.stat()
    for path in (empty.home / "builds", left.parent, *left.parent.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    done = empty.run("plan", spec)
    assert "has no python3" in done.err, done.text
    assert len(empty.images()) == 1
    assert [path for path in empty.traces.files() if not path.endswith("/lock")] == []
    assert scratch_folders(empty) == []
    assert_nothing_left(empty)


@pytest.mark.parametrize(
    ("root", "status", "why"),
    [
        (
            "#!/bin/bash\nset -e\nno-such-manager install\n",
            LACKING,
            "exit status 127: no-such-manager is not installed on this machine",
        ),
        (
            "#!/bin/bash\npodman build .\n",
            BAD_INPUT,
            "it runs podman, which no sandbox can; build that container's image",
        ),
        ("#!/bin/bash\necho the reason\nexit 5\n", BAD_INPUT, "root.d/10-root of element system: exit status 5"),
        ("#!/bin/bash\nkill -9 $PPID\n", LACKING, "a sandbox on this host's programs ended"),
    ],
)
def test_a_script_that_fails_is_named(empty: Goldsmith, root: str, status: int, why: str) -> None:
    done = empty.run("build", from_elements(empty, root))
    assert (done.status, why in done.err) == (status, True), done.text
    assert empty.images() == empty.builds() == []


@pytest.mark.parametrize("user", ROOT_IN_SOAK, indirect=True)
def test_what_cannot_be_a_source_is_refused(empty: Goldsmith) -> None:
    spec = from_elements(empty, SMALL)
    document = json.loads(spec.read_text())
    elements = document["source"]["elements"]
    for changes, why in (
        ({"steps": []}, "source.elements: run root.d alone; add a step with action: elements"),
        ({"source": {"elements": {**elements, "path": ["nowhere"]}}}, "source.elements.path"),
        ({"source": {"elements": {**elements, "elements": ["other"]}}}, "there is no element other in elements"),
        ({"local": {"engine": "vm"}}, "local.engine: vm boots the source"),
    ):
        spec.write_text(json.dumps({**document, **changes}))
        done = empty.run("build", spec)
        assert (done.status, why in done.err) == (BAD_INPUT, True), done.text
        assert done.err.count(why) == 1, done.text
    assert empty.builds() == []


@pytest.mark.soak
def test_the_original_debian_is_made_and_built_upon(empty: Goldsmith) -> None:
    mirror = os.environ.get("GOLDSMITH_TEST_MIRROR", "http://deb.debian.org")
    env = {
        "DIB_RELEASE": "bookworm",
        "DIB_DISTRIBUTION_MIRROR": f"{mirror}/debian",
        "DIB_DEBIAN_SECURITY_MIRROR": f"{mirror}/debian-security",
    }
    source = {"elements": {"elements": ["debian-minimal"], "env": env}}
    local = {"network": True, "memory_mb": 1024}
    step = {"name": "rest", "action": "elements"}
    spec = empty.spec([step], source=source, disk="filesystem", local=local)
    shutil.copytree(ORIGINAL, spec.parent / "context" / "elements", symlinks=True)
    done, build = empty.build(spec)
    assert build["outcome"] == "succeeded", done.text
    with Disk(empty.home / "images" / empty.images()[0]["name"] / "disk.raw") as disk:
        assert b"bookworm" in disk.root.read("/etc/os-release")
        paths = {path for path, _ in disk.root.file_system.walk()}
    assert "/usr/bin/python3" in paths
    assert {"/usr/sbin/policy-rc.d", "/etc/resolv.conf", "/dev/null", "/tmp/in_target.d"}.isdisjoint(paths)
    assert_nothing_left(empty)
