"""A job fails on a system that has not come up, with the reason; failed units are named, and fail a verification."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.machine.system_state import default_target
from provisioner.protocol import COMPLETED, FAILED, STARTED, VERIFY
from tests.provisioner.provisioning import Provisioning, job, script

UP = (
    "multi-user.target loaded active active Multi-User System",
    "ssh.service loaded active running OpenBSD Secure Shell",
)
BROKEN = "● app.service loaded failed failed The app"
EMERGENCY = (
    "emergency.service loaded active running Emergency Shell",
    "emergency.target loaded active active Emergency Mode",
    "multi-user.target loaded inactive dead Multi-User System",
    "local-fs.target loaded inactive dead Local File Systems",
)
JOURNAL = """Startup finished.
Timed out waiting for device dev-disk-by\\x2duuid-0f5a.device - /dev/disk/by-uuid/0f5a.
Dependency failed for data.mount - /data.
Dependency failed for local-fs.target - Local File Systems.
Dependency failed for data.mount - /data.
"""


class Booted(Provisioning):
    """A machine whose systemd only lists units, and a step that must not run on a lost system."""

    def boots(self, *units: str, job_of_target: str = "", journal: str = JOURNAL) -> Booted:
        for folder in ("run/systemd/system", "usr/bin", "etc/systemd/system"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        default = self.root / "etc/systemd/system/default.target"
        if not default.is_symlink():
            default.symlink_to("/lib/systemd/system/multi-user.target")
        (self.folder / "units").write_text("".join(f"{unit}\n" for unit in units))
        (self.folder / "job").write_text(job_of_target)
        (self.folder / "journal").write_text(journal)
        here = self.folder
        self.add_program("systemctl", f"case $1 in show) cat {here}/job;; list-units) cat {here}/units;; esac")
        self.add_program("journalctl", f"cat {here}/journal")
        return self

    def add_program(self, name: str, text: str) -> None:
        program = self.root / "usr/bin" / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)


def machine(tmp_path: Path, text: str = "echo ran >ran", **settings: object) -> Booted:
    return Booted(tmp_path / "m", job(script("step"), **settings), {"step": text})


@pytest.mark.parametrize("phase", ["build", VERIFY])
def test_a_system_that_came_up_is_fine(tmp_path: Path, phase: str) -> None:
    booted = machine(tmp_path, phase=phase).boots(*UP)
    assert booted.run().status == 0
    assert (booted.reports()[-1].kind, booted.reports()[-1].message) == (COMPLETED, "")


@pytest.mark.parametrize("phase", ["build", VERIFY])
def test_emergency_mode_is_no_success(tmp_path: Path, phase: str) -> None:
    booted = machine(tmp_path, phase=phase).boots(*EMERGENCY)
    assert booted.run().status == 1
    assert booted.kinds() == [FAILED]
    assert booted.reports()[-1].message == (
        "the system has not come up: it is in emergency mode (emergency.target); "
        "Timed out waiting for device dev-disk-by\\x2duuid-0f5a.device - /dev/disk/by-uuid/0f5a; "
        "Dependency failed for data.mount - /data; Dependency failed for local-fs.target - Local File Systems"
    )


def test_systemd_is_asked_at_the_start_only_where_it_tells_of_an_emergency(tmp_path: Path) -> None:
    booted = machine(tmp_path, f"cat {tmp_path}/m/asked").boots(*UP)
    booted.add_program("systemctl", f"echo asked >>{tmp_path}/m/asked; cat {tmp_path}/m/units")
    (booted.root / "run/systemd/units").mkdir()
    (booted.folder / "asked").touch()
    ended = booted.run()
    assert ended.status == 0, ended.console
    assert "asked" not in ended.console  # before its end
    assert (booted.folder / "asked").read_text() == "asked\n"
    lost = Booted(tmp_path / "lost", job(script("step")), {"step": "echo ran"}).boots(*EMERGENCY)
    (lost.root / "run/systemd/units").mkdir()
    (lost.root / "run/systemd/units/invocation:emergency.service").symlink_to("0123")
    assert lost.run().status == 1
    assert lost.kinds() == [FAILED]


def test_a_target_that_will_never_be_reached_is_no_success(tmp_path: Path) -> None:
    booted = machine(tmp_path).boots("multi-user.target loaded inactive dead x", BROKEN, journal="")
    assert booted.run().status == 1
    message = "the system has not come up: multi-user.target is not reached; failed units: app.service"
    assert booted.reports()[-1].message == message


def test_steps_need_not_wait_for_a_target_that_is_on_its_way(tmp_path: Path) -> None:
    """On Compute Engine they may start earlier; the image is made of a system that has reached it."""
    text = 'echo ran >ran; printf "%s\\n" "$UNITS" >"$M/units"'
    booted = Booted(
        tmp_path / "m", job(script("step", env={"UNITS": "\n".join(UP), "M": str(tmp_path / "m")})), {"step": text}
    ).boots("multi-user.target loaded inactive dead x", job_of_target="Job=12\n")
    ended = booted.run()
    assert (ended.status, booted.reports()[-1].kind) == (0, COMPLETED), ended.console


def test_a_step_that_ends_the_system_fails_the_build(tmp_path: Path) -> None:
    booted = machine(tmp_path, f'printf "%s\\n" "{EMERGENCY[1]}" >{tmp_path}/m/units').boots(*UP)
    assert booted.run().status == 1
    assert booted.kinds()[0] == STARTED
    assert booted.reports()[-1].message.startswith("the system has not come up: it is in emergency mode")


def test_failed_units_are_named_in_a_build(tmp_path: Path) -> None:
    booted = machine(tmp_path).boots(*UP, BROKEN)
    assert booted.run().status == 0
    assert (booted.reports()[-1].kind, booted.reports()[-1].message) == (COMPLETED, "failed units: app.service")


def test_failed_units_fail_a_verification_unless_listed(tmp_path: Path) -> None:
    broken = (*UP, BROKEN, "other.mount loaded failed failed Another")
    said = (
        "app.service: Main process exited, code=exited, status=1/FAILURE\nother.mount: Failed\nx.service: Deactivated\n"
    )
    refused = Booted(tmp_path / "a", job(phase=VERIFY, allow_failed=("other.mount",))).boots(*broken, journal=said)
    assert refused.run().status == 1
    assert refused.reports()[-1].message == (
        "failed units: app.service; app.service: Main process exited, code=exited, status=1/FAILURE; "
        "mend them, or name them in verify.allow_failed"
    )
    allowed = Booted(tmp_path / "b", job(phase=VERIFY, allow_failed=("other.mount", "app.service"))).boots(*broken)
    assert allowed.run().status == 0
    assert allowed.reports()[-1].message == ""


def test_cos_may_reach_its_target_late(tmp_path: Path) -> None:
    """Before milestone 125 it waits for a registry that a VM without an external address never reaches."""
    booted = machine(tmp_path, phase=VERIFY).boots("multi-user.target loaded inactive dead x", job_of_target="Job=12\n")
    (booted.root / "etc/os-release").write_text("ID=cos\n")
    assert booted.run().status == 0
    booted = Booted(tmp_path / "n", job(phase=VERIFY)).boots(*EMERGENCY)
    (booted.root / "etc/os-release").write_text("ID=cos\n")
    assert booted.run().status == 1


def test_a_systemd_that_does_not_answer_keeps_no_build_from_ending(tmp_path: Path) -> None:
    booted = machine(tmp_path).boots(*UP)
    booted.add_program("systemctl", "exit 1")
    assert booted.run().status == 0


def test_the_default_target_is_that_of_this_boot(tmp_path: Path) -> None:
    assert default_target(str(tmp_path)) == "multi-user.target"
    (tmp_path / "usr/lib/systemd/system").mkdir(parents=True)
    (tmp_path / "usr/lib/systemd/system/default.target").symlink_to("graphical.target")
    assert default_target(str(tmp_path)) == "graphical.target"
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system/default.target").symlink_to("/lib/systemd/system/multi-user.target")
    assert default_target(str(tmp_path)) == "multi-user.target"
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cmdline").write_text("root=/dev/sda1 systemd.unit=kiosk.target quiet\n")
    assert default_target(str(tmp_path)) == "kiosk.target"


@pytest.mark.parametrize("phase", ["build", VERIFY])
def test_a_step_may_set_another_default_target_for_the_boots_to_come(tmp_path: Path, phase: str) -> None:
    """As `systemctl set-default graphical.target` does: this boot had another target."""
    link = tmp_path / "m/root/etc/systemd/system/default.target"
    booted = machine(tmp_path, f"ln -sf /lib/systemd/system/graphical.target {link}", phase=phase).boots(*UP)
    assert link.is_symlink()
    ended = booted.run()
    assert (ended.status, booted.reports()[-1].kind) == (0, COMPLETED), ended.console
    assert default_target(str(booted.root)) == "graphical.target"


def test_an_alias_is_not_what_systemd_lists(tmp_path: Path) -> None:
    """As `ln -s .../runlevel3.target` makes one, or a distribution's link to its default."""
    etc, usr = tmp_path / "etc/systemd/system", tmp_path / "usr/lib/systemd/system"
    etc.mkdir(parents=True)
    usr.mkdir(parents=True)
    (usr / "multi-user.target").touch()
    (usr / "runlevel3.target").symlink_to("multi-user.target")
    (usr / "default.target").symlink_to("graphical.target")
    (etc / "default.target").symlink_to("/usr/lib/systemd/system/runlevel3.target")
    assert default_target(str(tmp_path)) == "multi-user.target"
    (etc / "default.target").unlink()
    (etc / "default.target").symlink_to("../../../usr/lib/systemd/system/default.target")
    assert default_target(str(tmp_path)) == "graphical.target"
    (etc / "default.target").unlink()
    (etc / "default.target").write_text("[Unit]\n")
    assert default_target(str(tmp_path)) == "default.target"
    (etc / "default.target").unlink()
    (etc / "default.target").symlink_to("default.target")  # to itself
    assert default_target(str(tmp_path)) == "default.target"


@pytest.mark.parametrize(
    ("words", "target"),
    [
        ("3", "multi-user.target"),
        ("5 quiet", "graphical.target"),
        ("single", "rescue.target"),
        ("-b", "emergency.target"),
        ("3 systemd.unit=kiosk.target", "kiosk.target"),
        ("quiet systemd.unit=kiosk.target 3", "multi-user.target"),
        ("root=3", "graphical.target"),
    ],
)
def test_the_kernels_command_line_may_name_a_runlevel(tmp_path: Path, words: str, target: str) -> None:
    (tmp_path / "usr/lib/systemd/system").mkdir(parents=True)
    (tmp_path / "usr/lib/systemd/system/default.target").symlink_to("graphical.target")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cmdline").write_text(f"root=/dev/sda1 {words}\n")
    assert default_target(str(tmp_path)) == target
