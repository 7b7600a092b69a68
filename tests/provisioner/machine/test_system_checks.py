"""The built-in checks of a verification: what a system shows at its first boot, and what fails there."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from provisioner.machine.system_checks import Sighting, SystemChecks, read_date
from provisioner.protocol import CHECKS, COMPLETED, FAILED, REBOOT_STATUS, STEP_FINISHED, VERIFY, CheckImage, Step
from tests.provisioner.provisioning import Provisioning, free_port, job

MACHINE_ID = "0123456789abcdef" * 2
BEFORE = 3600.0  # seconds before this boot, when the image was made
ROUTES = (
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\neth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\n"
)
NO_ROUTE = ROUTES.replace("eth0\t00000000", "eth0\t0000A8C0")
SIX = f"{'0' * 32} 00 {'0' * 32} 00 {'f' * 32} 00000400 00000001 00000000 00000003"
MOUNTS = "24 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
TARGET = "multi-user.target loaded active active Multi-User System\n"


class Served(BaseHTTPRequestHandler):
    """A metadata server whose clock is `off` seconds ahead, and which knows no path."""

    off = 0.0

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string((time.time() if timestamp is None else timestamp) + self.off)

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name for it
        """Log nothing."""


@contextmanager
def metadata_server(off: float = 0.0) -> Iterator[str]:
    handler = type("Late", (Served,), {"off": off})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Booted:
    """The files of a machine that has booted from its image a moment ago, on one partition of one disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/uptime", "30.5 20.0\n")
        self.write("proc/net/route", ROUTES)
        self.write("proc/self/mountinfo", MOUNTS)
        self.write("etc/machine-id", MACHINE_ID + "\n")
        self.write("etc/ssh/ssh_host_ed25519_key", "made by this boot")
        self.write("run/systemd/system/x", "")
        self.write("usr/lib/systemd/system/multi-user.target", "")
        self.show(boot="42500000")
        stats = os.statvfs(root)
        self.sectors = stats.f_blocks * stats.f_frsize // 512
        self.partition(2048, self.sectors, disk=2048 + self.sectors)
        (root / "sys/dev/block").mkdir(parents=True)
        (root / "sys/dev/block/8:1").symlink_to("../../devices/sda/sda1")

    def write(self, name: str, text: str, before: float = 0.0) -> Booted:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return self.age(name) if before else self

    def age(self, name: str) -> Booted:
        """Date something back to when the image was made."""
        then = time.time() - BEFORE
        os.utime(self.root / name, (then, then), follow_symlinks=False)
        return self

    def show(self, boot: str = "0", units: str = TARGET) -> None:
        """Have systemctl tell of the units, and when the target was reached, in microseconds."""
        program = self.root / "usr/bin/systemctl"
        self.write("usr/bin/systemctl", f"#!/bin/sh\n[ $1 = show ] && echo Since={boot} || printf '%s' '{units}'\n")
        program.chmod(0o755)

    def partition(self, start: int, size: int, *, disk: int, name: str = "sda1") -> None:
        folder = f"sys/devices/sda/{name}"
        for key, value in (("partition", 1), ("start", start), ("size", size)):
            self.write(f"{folder}/{key}", f"{value}\n")
        self.write("sys/devices/sda/size", f"{disk}\n")

    def look(self, asked: CheckImage | None = None, *, off: float = 0.0, interrupted: bool = False) -> Sighting:
        with metadata_server(off) as url:
            return SystemChecks(str(self.root), asked or CheckImage(), interrupted, url, settling=0).run()


@pytest.fixture
def booted(tmp_path: Path) -> Booted:
    return Booted(tmp_path / "root")


def test_a_system_that_is_well_shows_all_of_it(booted: Booted) -> None:
    found = booted.look(CheckImage(boot_seconds=43, disk_gb=1e6))
    assert (found.problems, found.unseen) == ([], [])
    assert [line for line in found.seen if not line.startswith("files take ")] == [
        "multi-user.target after 42.5 s",
        "network is up",
        "clock is right",
        "machine-id and 1 ssh host keys made at this boot",
        "nothing is left of the build",
    ]
    assert found.note() == "; ".join(found.seen)


def link_of_dbus(booted: Booted) -> None:
    booted.write("var/lib/dbus/x", "")
    (booted.root / "var/lib/dbus/machine-id").symlink_to("/etc/machine-id")
    booted.age("var/lib/dbus/machine-id")


FINE: dict[str, Callable[[Booted], object]] = {
    "a link to the machine-id": link_of_dbus,
    "a route of IPv6 alone": lambda booted: (
        booted.write("proc/net/route", NO_ROUTE),
        booted.write("proc/net/ipv6_route", SIX + " eth0\n"),
    ),
    "a journal of this machine": lambda booted: booted.write(f"var/log/journal/{MACHINE_ID}/system.journal", ""),
    "a folder of a package below the journals": lambda booted: (
        booted.write("var/log/journal/remote/x", ""),
        booted.age("var/log/journal/remote"),
    ),
    "what start.sh has downloaded": lambda booted: booted.write("var/lib/goldsmith/files/job.tar", ""),
    "a partition behind the root's": lambda booted: booted.partition(
        2048 + booted.sectors, booted.sectors, disk=4 * booted.sectors, name="sda2"
    ),
}


@pytest.mark.parametrize("case", FINE)
def test_what_is_no_fault_is_taken_for_none(booted: Booted, case: str) -> None:
    FINE[case](booted)
    assert booted.look().problems == []


WRONG: dict[str, tuple[Callable[[Booted], object], str]] = {
    "target": (
        lambda booted: booted.show(
            units="multi-user.target loaded inactive dead x\nemergency.target loaded active active x"
        ),
        "boot: the system has not come up: it is in emergency mode (emergency.target)",
    ),
    "no machine-id": (
        lambda booted: booted.write("etc/machine-id", ""),
        "identity: /etc/machine-id has no id of this machine",
    ),
    "machine-id of the image": (
        lambda booted: booted.age("etc/machine-id"),
        "identity: /etc/machine-id came with the image, and every machine of this image would have the same; "
        "remove it in the last step",
    ),
    "machine-id of the image in another place": (
        lambda booted: booted.write("var/lib/dbus/machine-id", MACHINE_ID, BEFORE),
        "identity: /var/lib/dbus/machine-id came with the image, and every machine of this image would have the same; "
        "remove it in the last step",
    ),
    "machine-id of the command line": (
        lambda booted: booted.write("proc/cmdline", f"quiet systemd.machine_id={MACHINE_ID}"),
        "identity: the kernel's command line names a machine-id, and every machine of this image would have the same; "
        "remove it there",
    ),
    "keys of the image": (
        lambda booted: (
            booted.age("etc/ssh/ssh_host_ed25519_key"),
            booted.write("etc/dropbear/dropbear_rsa_host_key", "", BEFORE),
        ),
        "identity: /etc/ssh/ssh_host_ed25519_key, /etc/dropbear/dropbear_rsa_host_key came with the image, and every "
        "machine of this image would have the same; remove it in the last step",
    ),
    "state of the build": (
        lambda booted: (
            booted.write("var/lib/goldsmith/source", "", BEFORE),
            booted.write("var/lib/cloud/instances/1/x", ""),
            booted.age("var/lib/cloud/instances/1"),
            booted.write("etc/resolv.conf.goldsmith", "", BEFORE),
            booted.write(f"var/log/journal/{'f' * 32}/x", ""),
            booted.age(f"var/log/journal/{'f' * 32}"),
        ),
        f"leftovers: /var/lib/goldsmith/source, /var/lib/cloud/instances/1, /var/log/journal/{'f' * 32}, "
        "/etc/resolv.conf.goldsmith of the machine that has built the image is there",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told(booted: Booted, case: str) -> None:
    spoil, problem = WRONG[case]
    spoil(booted)
    assert booted.look().problems == [problem]


@pytest.mark.parametrize("off", [-3600.0, 3600.0])
def test_a_clock_that_is_wrong_is_told(booted: Booted, off: float) -> None:
    [problem] = booted.look(off=off).problems
    way = "behind" if off > 0 else "ahead of"
    assert re.fullmatch(rf"clock: it is (3599|3600|3601) s {way} that of its host; look at what sets it .*", problem)


def test_budgets_are_kept(booted: Booted) -> None:
    asked = CheckImage(boot_seconds=42, disk_gb=1e-9)
    booted.write("x", "x" * 4096)
    boot, disk = booted.look(asked).problems
    assert boot.startswith(
        "boot: multi-user.target was reached 42.5 s after the kernel's start, and verify.boot_seconds "
    )
    assert disk.startswith("disk: the files of the root file system take ")
    assert disk.endswith(" GB, and verify.disk_gb allows 1e-09")


def test_a_target_that_others_need_not_wait_for_has_the_time_of_its_budget(booted: Booted) -> None:
    """On Container-Optimized OS: systemctl knows of the target when it is asked for the second time."""
    booted.write("etc/os-release", "ID=cos\n")
    told = f"[ -e {booted.root}/asked ] && echo Since=33000000 || echo Since=0; touch {booted.root}/asked"
    booted.write("usr/bin/systemctl", f"#!/bin/sh\n[ $1 = show ] || exit 0\n{told}\n")
    found = booted.look(CheckImage(boot_seconds=40))
    assert found.problems == []
    assert found.seen[0] == "multi-user.target after 33.0 s"


def test_a_target_that_does_not_come_within_its_budget_is_late_and_not_unseen(booted: Booted) -> None:
    booted.write("etc/os-release", "ID=cos\n").show(boot="0", units="")
    assert booted.look(CheckImage(boot_seconds=30)).problems == [
        "boot: multi-user.target was not reached within the 30 s that verify.boot_seconds allows; systemctl list-jobs "
        "shows what it waits for"
    ]
    assert "boot time (multi-user.target was not reached yet)" in booted.look().unseen


def test_a_root_that_has_not_grown_is_told(booted: Booted) -> None:
    booted.partition(2048, 2 * booted.sectors, disk=2048 + 2 * booted.sectors)
    [problem] = booted.look().problems
    assert problem.startswith("growth: the root file system has ")
    booted.partition(2048, booted.sectors, disk=2048 + 2 * booted.sectors)
    [problem] = booted.look().problems
    assert f"{booted.sectors * 512 >> 20} MiB are unused; look at growpart" in problem
    for skipped in ("growth", "disk"):
        assert "growth (verify.skip)" in booted.look(CheckImage(skip=(skipped,))).unseen
    booted.write("run/goldsmith/booted", "")
    assert booted.look().problems == []


def test_all_problems_are_told_at_once(booted: Booted) -> None:
    booted.write("etc/machine-id", "")
    booted.write("var/lib/goldsmith/began", "", BEFORE)
    assert [problem.split(":")[0] for problem in booted.look(off=600).problems] == [
        "clock",
        "identity",
        "leftovers",
    ]


def test_what_is_to_be_left_out_is_left_out_and_told(booted: Booted) -> None:
    booted.write("proc/net/route", "")
    booted.write("etc/machine-id", "")
    found = booted.look(CheckImage(skip=CHECKS), off=600)
    assert (found.problems, found.seen) == ([], [])
    assert found.note() == "not checked: " + "; ".join(f"{name} (verify.skip)" for name in CHECKS)


@pytest.mark.parametrize(("six", "unseen"), [("eth0", []), ("lo", ["other networks (there is no default route)"])])
def test_a_network_without_a_way_out_is_told(booted: Booted, six: str, unseen: list[str]) -> None:
    booted.write("proc/net/route", NO_ROUTE).write("proc/net/ipv6_route", f"{SIX} {six}\n")
    found = booted.look()
    assert (found.problems, found.unseen) == ([], unseen)


def test_a_metadata_server_that_is_gone_is_a_fault_of_the_network(booted: Booted) -> None:
    found = SystemChecks(str(booted.root), CheckImage(), metadata=f"http://127.0.0.1:{free_port()}", settling=0).run()
    [problem] = found.problems
    assert problem.startswith("network: the metadata server http://127.0.0.1:")
    assert problem.endswith("; look at the image's configuration of the network")
    assert "clock (the metadata server does not answer)" in found.unseen


def test_a_network_and_a_clock_that_come_late_are_waited_for(booted: Booted) -> None:
    """The server's clock is wrong in its first answer alone, as one that is set meanwhile would be."""
    late = type("Late", (Served,), {"off": 3600.0})

    def answer(handler: Served) -> None:
        handler.send_error(404)
        type(handler).off = 0.0

    late.do_GET = answer  # type: ignore[attr-defined]
    port = free_port()
    with ThreadingHTTPServer(("127.0.0.1", port), late, bind_and_activate=False) as server:

        def come_up() -> None:
            server.server_bind()
            server.server_activate()
            server.serve_forever(0.01)

        timer = threading.Timer(0.2, come_up)
        timer.start()
        found = SystemChecks(str(booted.root), CheckImage(), metadata=f"http://127.0.0.1:{port}", settling=20).run()
        server.shutdown()
        timer.join()
    assert found.problems == []
    assert {"network is up", "clock is right"} <= set(found.seen)


def test_files_of_this_boot_are_told_after_its_clock_was_set(booted: Booted) -> None:
    """The kernel seems to have begun half a minute after /run was filled and the keys were made."""
    booted.write("proc/uptime", "-30.0 0.0\n")
    assert [problem.split(":")[0] for problem in booted.look(CheckImage()).problems] == ["identity"]
    booted.write("proc/self/mountinfo", MOUNTS + "25 24 0:22 / /run rw - tmpfs tmpfs rw\n")
    found = booted.look()
    assert found.problems == []
    assert re.fullmatch(
        r"identity of what is less than 2\d s older than this boot \(the clock was set meanwhile\)", found.unseen[0]
    )
    booted.age("etc/machine-id")
    [problem] = booted.look().problems
    assert problem.startswith("identity: /etc/machine-id came with the image")


def test_without_systemd_the_rest_is_checked_and_that_is_told(booted: Booted) -> None:
    (booted.root / "run/systemd/system/x").unlink()
    (booted.root / "run/systemd/system").rmdir()
    (booted.root / "etc/machine-id").unlink()
    found = booted.look()
    assert found.problems == []
    assert found.unseen == ["boot time (this system has no systemd)", "machine-id (there is none)"]
    assert booted.look(CheckImage(boot_seconds=60)).problems == [
        "boot: this system has no systemd, so verify.boot_seconds cannot be checked; leave it out"
    ]


def test_what_cannot_be_seen_is_told(booted: Booted) -> None:
    booted.write("run/goldsmith/booted", "")
    (booted.root / "etc/ssh/ssh_host_ed25519_key").unlink()
    booted.write("proc/self/mountinfo", MOUNTS.replace("8:1", "253:0"))
    booted.show(boot="")
    found = booted.look()
    assert found.problems == []
    assert found.unseen == [
        "boot loader (the VM was booted directly; write verify.boot: firmware)",
        "boot time (systemd does not say when multi-user.target was reached)",
        "growth (the VM was booted directly; write verify.boot: firmware)",
        "ssh host keys (there are none)",
    ]


def test_a_root_on_a_volume_is_only_told_of(booted: Booted) -> None:
    booted.write("proc/self/mountinfo", MOUNTS.replace("8:1", "253:0"))
    found = booted.look()
    assert (found.problems, found.unseen) == ([], ["growth (the root file system is on no partition of its own)"])


def test_files_of_a_later_boot_say_nothing(booted: Booted) -> None:
    booted.age("etc/machine-id")
    booted.write("var/lib/goldsmith/source", "", BEFORE)
    found = booted.look(interrupted=True)
    assert found.problems == []
    why = "(the VM has restarted since its first boot)"
    assert found.unseen == [f"identity {why}", f"leftovers {why}"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777.0),
        ("Thu, 29 Feb 2024 23:59:59 GMT", 1709251199.0),
        ("", None),
        ("Sunday, 06-Nov-94 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:xx GMT", None),
        ("Sun, 99 Xyz 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 999999999 08:49:37 GMT", None),
    ],
)
def test_dates_of_http_are_read(text: str, seconds: float | None) -> None:
    assert read_date(text) == seconds


SKIPPED = ("network", "clock", "disk")


def test_the_provisioner_reports_what_it_saw(tmp_path: Path) -> None:
    """By the oldest Python, as the first step of a verification."""
    step = Step("built-in checks", "check-image", {"skip": SKIPPED}, reads=())
    machine = Provisioning(tmp_path / "m", job(step, phase=VERIFY))
    Booted(machine.root)
    ended = machine.run()
    assert (ended.status, machine.reports()[-1].kind) == (0, COMPLETED), ended.console
    [told] = [report for report in machine.reports() if report.kind == STEP_FINISHED]
    assert told.message == (
        "multi-user.target after 42.5 s; machine-id and 1 ssh host keys made at this boot; "
        "nothing is left of the build; not checked: network (verify.skip); clock (verify.skip); "
        "disk (verify.skip); growth (verify.skip)"
    )
    assert "not checked: network (verify.skip)" in ended.console


def test_after_a_restart_the_first_boot_is_not_looked_at_again(tmp_path: Path) -> None:
    again = Step("again", "check-image", {"skip": SKIPPED, "again": True}, reads=())
    machine = Provisioning(tmp_path / "m", job(Step("restart", "reboot", {}, reads=()), again, phase=VERIFY))
    Booted(machine.root).age("etc/machine-id")
    assert machine.run().status == REBOOT_STATUS
    ended = machine.run()
    assert (ended.status, machine.reports()[-1].kind) == (0, COMPLETED), ended.console
    told = [report.message for report in machine.reports() if report.kind == STEP_FINISHED][-1]
    assert told.startswith("multi-user.target after 42.5 s; not checked: network (verify.skip); ")
    assert told.endswith("; leftovers (the VM has restarted since its first boot)")


def test_the_provisioner_fails_a_verification_for_what_it_saw(tmp_path: Path) -> None:
    step = Step("built-in checks", "check-image", {"skip": SKIPPED, "boot_seconds": 42}, reads=())
    machine = Provisioning(tmp_path / "m", job(step, phase=VERIFY))
    Booted(machine.root).age("etc/machine-id")
    ended = machine.run()
    last = machine.reports()[-1]
    assert (ended.status, last.kind, last.step, last.final) == (1, FAILED, 0, True), ended.console
    assert last.message.startswith("step 'built-in checks' failed: boot: multi-user.target was reached 42.5 s after")
    assert "; identity: /etc/machine-id came with the image" in last.message
