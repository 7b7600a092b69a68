"""Builds in a sandbox, as root and as an ordinary user: what steps see and reach, and that nothing outlives them."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import time
from pathlib import Path

import pytest

from provisioner.machine.sandbox import Sandbox
from shared.disks.disk import Disk
from shared.sandbox.shims import POLICY
from tests.shared.disks.small_disks import tool
from tests.shared.sandbox.ordinary_user import MODES
from tests.system.archives import root_partition
from tests.system.command import Document, Goldsmith, prints
from tests.system.sandboxes import ROOT_IN_SOAK, assert_nothing_left, sandboxed, wait_for_no_group, wait_for_no_mount

pytestmark = pytest.mark.slow
BAD_INPUT = 2

LOOK = """exec >/var/lib/looked 2>/dev/null
say() { printf '%s=%s\\n' "$1" "$(shift; "$@")"; }
fails() { "$@" >/dev/null 2>&1 && echo "$1 $2=works" || echo "$1 $2=refused"; }
say user id -u
say processes sh -c 'ls /proc | grep -c "^[0-9]"'
say host-file cat "$CANARY"
say routes sh -c 'tail -n +2 /proc/net/route'
say capable sh -c 'grep CapBnd /proc/self/status | tr -d "\\t "'
say kernel-log dmesg
fails touch /sys/anything
fails mknod /tmp/disk b 8 0
fails unshare --user true
fails ls /proc/1/fd
fails ls /proc/1/root
fails losetup --find
fails sh -c 'echo 1 >/proc/sys/kernel/panic'
systemctl mask apt-daily.timer
systemctl daemon-reload
fails systemctl start
sysctl -w kernel.panic=1 >/dev/null
modprobe loop
echo "shims=$?"
python3 - "$PORT" <<'END'
import os, socket, struct, sys
for name, family in (("vsock", 40), ("alg", 38)):
    try:
        socket.socket(family, socket.SOCK_STREAM)
        print(name + "=works")
    except OSError:
        print(name + "=refused")
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
    print("host=reached")
except OSError:
    print("host=refused")
os.close(os.open("/usr/local/bin/capable", os.O_CREAT | os.O_WRONLY, 0o755))
os.setxattr("/usr/local/bin/capable", "security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0))
END
install -o 33 -g 33 -m 4755 /bin/true /usr/local/bin/set-id
(setsid sleep 1000 &)
"""
SEEN = {
    "user": "0",
    "host-file": "",
    "routes": "",
    "capable": "CapBnd:00000000fdaccfff",
    "kernel-log": "",
    "touch /sys/anything": "refused",
    "mknod /tmp/disk": "refused",
    "unshare --user": "refused",
    "ls /proc/1/fd": "refused",
    "ls /proc/1/root": "refused",
    "losetup --find": "refused",
    "sh -c": "refused",
    "systemctl start": "refused",  # without a unit: systemctl's own words
    "shims": "0",
    "vsock": "refused",
    "alg": "refused",
    "host": "refused",
}


def test_steps_see_nothing_of_the_host(sandboxes: Goldsmith, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("of the host")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        env = {"CANARY": str(canary), "PORT": str(listener.getsockname()[1])}
        steps = [{"name": "look", "script": LOOK}]
        spec = sandboxed(sandboxes, steps, output={"family": "looked"})
        document = json.loads(spec.read_text())
        document["steps"][0]["inputs"]["env"] = env
        spec.write_text(json.dumps(document))
        done, build = sandboxes.build(spec)
    assert (done.status, build["outcome"]) == (0, "succeeded"), done.text
    assert "ended what the step left running: " in done.text
    [image] = [image for image in sandboxes.images() if image["family"] == "looked"]
    path = sandboxes.home / "images" / image["name"] / "disk.raw"
    with Disk(path) as disk:
        seen = dict(line.split("=", 1) for line in disk.root.read("/var/lib/looked").decode().splitlines())
        assert int(seen.pop("processes")) < 10
        assert seen == SEEN
        assert not disk.root.exists(POLICY)
        assert not disk.root.exists("/etc/resolv.conf.goldsmith")
        with Disk(sandboxes.home / "images" / "debian-12-base" / "disk.raw") as source:
            for folder in ("/run", "/proc", "/sys", "/dev"):
                assert disk.root.names(folder) == source.root.names(folder)
        assert "apt-daily.timer" in disk.root.names("/etc/systemd/system")
    start, size = root_partition(path)
    told = tool("debugfs", "-R", "stat /usr/local/bin/set-id", f"{path}?offset={start}")
    assert "Mode:  04755" in told
    assert "User:    33   Group:    33" in told
    assert "security.capability (20)" in tool(
        "debugfs", "-R", "ea_list /usr/local/bin/capable", f"{path}?offset={start}"
    )
    part = tmp_path / "root.ext4"
    tool("dd", f"if={path}", f"of={part}", f"skip={start >> 20}", f"count={size >> 20}", "bs=1M", "conv=sparse")
    tool("e2fsck", "-f", "-n", part)
    assert_nothing_left(sandboxes)


REACH = """import socket, sys
with open("/var/lib/looked", "w") as looked:
    looked.write("tap0" if "tap0" in open("/proc/net/dev").read() else "no network")
    for address in sys.argv[2:]:
        try:
            socket.create_connection((address, int(sys.argv[1])), 5)
            looked.write(" reached " + address)
        except OSError:
            pass
"""


def test_a_network_does_not_lead_to_the_host(sandboxes: Goldsmith) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        addresses = ["127.0.0.1", "10.0.2.2", "169.254.169.254"]
        script = f"python3 reach.py {listener.getsockname()[1]} {' '.join(addresses)}\n"
        steps: list[Document] = [{"name": "reach", "script": script}]
        spec = sandboxes.spec(steps, output={"family": "looked"}, local={"engine": "chroot"})
        (spec.parent / "context" / "reach.py").write_text(REACH)
        done, build = sandboxes.build(spec)
    assert (done.status, build["outcome"]) == (0, "succeeded"), done.text
    [image] = [image for image in sandboxes.images() if image["family"] == "looked"]
    with Disk(sandboxes.home / "images" / image["name"] / "disk.raw") as disk:
        assert disk.root.read("/var/lib/looked") == b"tap0"
    assert_nothing_left(sandboxes)


DESTROYER = """trap '' TERM HUP INT
for _ in 1 2 3; do (trap '' TERM; exec setsid sleep 500) & done
mount -t tmpfs none /mnt; mount --bind / /srv; mkdir -p /srv/mnt/deep
kill -9 1; kill -TERM 1; echo b >/proc/sysrq-trigger; reboot -f
echo junk >/dev/ttyS2; head -c 300000 /dev/zero >/dev/ttyS2
python3 -c 'import os; os.close(os.open("/dev/null", os.O_RDWR | os.O_TRUNC)); os.chmod("/dev/null", 0)'
rm -rf --no-preserve-root / 2>/dev/null
:
"""
BOMB = "bomb() { bomb | bomb & }\nbomb\nsleep 60\n"
HOG = "python3 -c 'held = []\nwhile True: held.append(bytearray(1 << 24))' || { echo no more memory; exit 1; }\n"
FILLER = """for place in /run /dev/shm; do
    ! head -c 1G /dev/zero 2>&1 >$place/fill || echo "$place has room"
done
exit 3
"""


HOSTILE = {
    "a script that fills what is kept in memory": (FILLER, "60s", "No space left on device"),
    "a script that removes and ends all it can": (DESTROYER, "60s", ""),
    "a script without bounds of memory": (HOG, "60s", "memory"),
}
if "GOLDSMITH_KILLS" in os.environ:  # in the soak alone: it makes all tests slow that run beside it
    HOSTILE["a fork bomb"] = (BOMB, "5s", "not done within 5 s")


@pytest.mark.parametrize(("script", "timeout", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_steps_fail_alone(sandboxes: Goldsmith, tmp_path: Path, script: str, timeout: str, reason: str) -> None:
    canaries = tmp_path / "canaries"
    canaries.mkdir()
    for index in range(20):
        (canaries / str(index)).write_text(f"canary {index}")
    modes = [Path(path).stat().st_mode for path in ("/dev/null", "/dev/zero", "/tmp")]
    done, build = sandboxes.build(sandboxed(sandboxes, [{"name": "hostile", "script": script, "timeout": timeout}]))
    assert (build["outcome"], build["ledger"]) == ("failed", []), done.text
    assert reason in build["reason"] + build["steps"][0]["output"]
    assert "has room" not in build["steps"][0]["output"]
    assert [(canaries / str(index)).read_text() for index in range(20)] == [f"canary {index}" for index in range(20)]
    assert modes == [Path(path).stat().st_mode for path in ("/dev/null", "/dev/zero", "/tmp")]
    assert sandboxes.images() == []
    assert_nothing_left(sandboxes)


@pytest.mark.parametrize("user", ROOT_IN_SOAK, indirect=True)
def test_a_kill_at_any_moment_leaves_nothing(sandboxes: Goldsmith) -> None:
    kill_builds(sandboxes, int(os.environ.get("GOLDSMITH_KILLS", "4")))


def kill_builds(goldsmith: Goldsmith, times: int) -> None:
    """Kill builds at random moments; what they have left is gone when the next command has ended."""
    spec = sandboxed(
        goldsmith,
        [
            {"name": f"busy{part}", "script": f"for i in $(seq 10); do echo {part} >/var/lib/$i; sync; done\n"}
            for part in range(4)
        ],
        cache={"max_age": "0s"},
    )
    chance = random.Random(20261129)
    for _ in range(times):
        running = goldsmith.start("build", spec, "--json")
        time.sleep(chance.uniform(0.5, 3.5))
        running.kill()
        goldsmith.traces.wait_for_no_process()
        wait_for_no_group(goldsmith)
        wait_for_no_mount(goldsmith)
    done, build = goldsmith.build(spec)
    assert (done.status, build["outcome"]) == (0, "succeeded"), done.text
    assert goldsmith.run("cache", "verify").out == "all layers are whole\n"
    assert {each["state"] for each in goldsmith.builds()} == {"finished"}
    for each in goldsmith.builds():  # also one whose killed build was published by the next command
        if each["outcome"] == "succeeded":
            with Disk(goldsmith.home / "images" / each["image"]["name"] / "disk.raw") as disk:
                assert disk.root.read_all(["/var/lib/10"], 10) == {"/var/lib/10": b"3\n"}, each["id"]
    assert goldsmith.traces.files() == []
    assert_nothing_left(goldsmith)


ENDS_LATE = """for module in /usr/lib/python3.*/json/__init__.py; do
    echo 'import atexit, time; atexit.register(time.sleep, 60)' >>"$module"
done
"""  # the provisioner of the last round, which begins after the step, ends long after its last report


def kill_sandbox(goldsmith: Goldsmith) -> None:
    """Kill the host's side of the only sandbox of a home."""
    [record] = goldsmith.home.glob("builds/*/machines/*/machine.json")
    os.kill(int(json.loads(record.read_text())["process"].split(":")[1]), signal.SIGKILL)


@pytest.mark.parametrize("user", MODES[:1])
def test_a_sandbox_that_is_killed_after_its_last_report_gives_no_image(sandboxes: Goldsmith) -> None:
    """As root, the build's disk is a copy of the source's until the layers of the steps are applied to it."""
    running = sandboxes.start("build", sandboxed(sandboxes, [{"name": "late", "script": ENDS_LATE}]), "--json")
    running.until(lambda document: (document.get("event", {}).get("report") or {}).get("kind") == "completed")
    running.send(signal.SIGSTOP)  # until the kernel has unmounted the disk: nothing on it tells that it was cut off
    kill_sandbox(sandboxes)
    wait_for_no_mount(sandboxes)
    running.send(signal.SIGCONT)
    done = running.finish()
    build = done.documents()[-1]["build"]
    assert (done.status, build["outcome"]) == (1, "failed"), done.text
    assert "killed by signal 9" in build["reason"]
    assert sandboxes.images() == []
    assert_nothing_left(sandboxes)


def is_of_step(document: Document, index: int) -> bool:
    """Return whether a line of --json says that a step of the second attempt has begun."""
    report = document.get("event", {}).get("report") or {}
    return (report.get("kind"), report.get("attempt"), report.get("step")) == ("step-started", 2, index)


@pytest.mark.parametrize("user", MODES[:1])
def test_the_attempt_after_a_lost_sandbox_begins_with_the_source(sandboxes: Goldsmith) -> None:
    """Without a cache, root's sandbox changes the disk itself, and fsync has no effect in it."""
    steps = [
        {"name": "first", "script": "echo begins\n"},
        {"name": "dawdles", "script": "echo waits\nsleep infinity\n"},
    ]
    running = sandboxes.start("build", sandboxed(sandboxes, steps), "--no-cache", "--json")
    running.until(prints("waits"))
    kill_sandbox(sandboxes)
    running.until(lambda document: is_of_step(document, 0) or is_of_step(document, 1))
    assert is_of_step(running.seen[-1], 0)
    running.send(signal.SIGINT)
    assert running.finish().documents()[-1]["build"]["attempt"] == 2
    assert_nothing_left(sandboxes)


def test_ctrl_c_ends_the_sandbox(sandboxes: Goldsmith) -> None:
    running = sandboxes.start(
        "build", sandboxed(sandboxes, [{"name": "dawdles", "script": "echo waiting\nexec sleep infinity\n"}]), "--json"
    )
    running.until(prints("waiting"))
    running.send(signal.SIGINT)
    done = running.finish()
    build = done.documents()[-1]["build"]
    assert (done.status, build["outcome"], build["ledger"]) == (130, "cancelled", []), done.text
    assert_nothing_left(sandboxes)
    assert sandboxes.traces.files() == []


def test_what_needs_a_booted_system_is_refused_before(goldsmith: Goldsmith) -> None:
    spec = sandboxed(goldsmith, [{"name": "restart", "action": "reboot"}])
    done = goldsmith.run("build", spec)
    assert done.status == BAD_INPUT
    assert "step 'restart' (reboot) needs a booted system" in done.err
    assert "write engine: vm or auto" in done.err
    assert goldsmith.builds() == []


def test_a_step_that_asks_for_a_reboot_fails_with_the_remedy(goldsmith: Goldsmith) -> None:
    done, build = goldsmith.build(sandboxed(goldsmith, [{"name": "asks", "script": "exit 194\n"}]))
    assert (done.status, build["outcome"]) == (1, "failed"), done.text
    assert Sandbox.no_restart in build["reason"]


MADE_BY_A_BOOT = ["/var/lib/dbus/machine-id", "/var/log/btmp", "/var/log/lastlog", "/var/log/wtmp"]
"""A link and three empty files of systemd-tmpfiles(8), as decision 53 lists them."""


@pytest.mark.vm
def test_both_engines_make_the_same_image(goldsmith: Goldsmith) -> None:
    """The one of the sandbox boots, too: its verification does that in a VM."""
    steps: list[Document] = [
        {"name": "files", "script": "echo same >/var/lib/same\nsystemctl disable apt-daily.timer\nuseradd someone\n"}
    ]
    spec = goldsmith.spec(steps, output={"family": "same"}, verify={"steps": []})
    names = []
    for engine in ("chroot", "vm"):
        done, build = goldsmith.build(spec, "--engine", engine)
        assert (done.status, build["outcome"]) == (0, "succeeded"), done.text
        names.append(build["image"]["name"])
    assert names[0] != names[1]
    done = goldsmith.run("images", "diff", *names, "--json")
    changed = [entry["path"] for part in json.loads(done.out)["contents"] for entry in part["files"]]
    assert changed == MADE_BY_A_BOOT


SPITEFUL = """mount --bind /usr/sbin /usr/sbin && mount -o remount,bind,ro /usr/sbin
mount -t tmpfs none /var/log; touch /var/log/hidden
mount -o remount,bind,rw,suid /run/goldsmith/cidata 2>/dev/null && echo remounted >/var/lib/looked
touch /run/goldsmith/cidata/new 2>/dev/null && echo written >>/var/lib/looked
python3 - >>/var/lib/looked <<'END'
for name in ("block", "character"):
    try:
        open("/opt/" + name, "rb")
        print(name, "opens")
    except OSError:
        pass
END
:
"""


def test_an_image_brings_no_way_to_the_host(sandboxes: Goldsmith) -> None:
    """Devices in the source, a name that waits for a reader, mounts over what is cleaned: none of them helps."""
    source = sandboxes.home / "images" / "debian-12-base" / "disk.raw"
    start, _ = root_partition(source)
    source.chmod(0o600)
    lines = [
        "cd /opt",
        "mknod block b 7 0",
        "mknod character c 1 8",
        "sif block mode 060666",
        "sif character mode 020666",
    ]
    lines += ["cd /etc", "rm hostname", "mknod hostname p"]
    commands = sandboxes.folder / "commands"
    commands.write_text("\n".join(lines))
    tool("debugfs", "-w", "-f", commands, f"{source}?offset={start}")
    assert "Type: character special" in tool("debugfs", "-R", "stat /opt/character", f"{source}?offset={start}")
    source.chmod(0o400)
    spec = sandboxed(sandboxes, [{"name": "spiteful", "script": SPITEFUL}], output={"family": "looked"})
    done, build = sandboxes.build(spec)
    assert (done.status, build["outcome"]) == (0, "succeeded"), done.text
    [image] = [image for image in sandboxes.images() if image["family"] == "looked"]
    with Disk(sandboxes.home / "images" / image["name"] / "disk.raw") as disk:
        assert disk.root.read("/var/lib/looked") == b""
        assert not disk.root.exists(POLICY)
        assert not disk.root.exists("/var/log/hidden")
    assert_nothing_left(sandboxes)


DEEP = """import os
for _ in range(3000):
    os.mkdir("deep")
    os.chdir("deep")
"""


def test_folders_of_any_depth_are_removed_with_the_build(sandboxes: Goldsmith) -> None:
    spec = sandboxed(sandboxes, [{"name": "deep", "script": "cd /opt && python3 $OLDPWD/deep.py && exit 1\n"}])
    (spec.parent / "context" / "deep.py").write_text(DEEP)
    _, build = sandboxes.build(spec)
    assert (build["outcome"], build["ledger"]) == ("failed", [])
    assert sandboxes.traces.files() == []
    assert_nothing_left(sandboxes)
