"""Guests that fail or misbehave: every build ends in time, with the reason in words, and with nothing left behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.disks.disk import Disk
from shared.disks.extents import copy_sparse
from shared.images.catalogue import Catalogue
from tests.shared.disks.small_disks import tool
from tests.system.archives import root_partition
from tests.system.command import Document, Done, Goldsmith, is_event, prints
from tests.system.sandboxes import sandboxed
from tests.system.terminal import is_readable

pytestmark = pytest.mark.vm

FOREVER = "exec sleep infinity"
FORGERY = Path(__file__).with_name("forge_reports.py")


def lines_of(goldsmith: Goldsmith, path: str) -> list[str]:
    """Read a file of the one image that was made."""
    (image,) = goldsmith.images()
    disk = goldsmith.home / "images" / image["name"] / "disk.raw"
    return Disk(disk).root.read(path).decode().splitlines()


def assert_failed(goldsmith: Goldsmith, done: Done, build: Document, reason: str) -> None:
    """Exit status 1, the reason for people, the log where it says, and nothing else left."""
    assert (done.status, build["state"], build["outcome"]) == (1, "finished", "failed"), done.text
    assert reason in build["reason"]
    assert build["ledger"] == []
    (log,) = Path(done.documents()[-1]["logs"]).iterdir()
    assert log.stat().st_size > 0
    assert goldsmith.images() == []
    goldsmith.traces.assert_none()


def test_a_failed_step_is_told_with_its_last_lines(goldsmith: Goldsmith) -> None:
    spec = sandboxed(
        goldsmith,
        [
            {"name": "service", "script": "nohup sleep 1000 & disown\necho a service is started\n"},
            {"name": "breaks", "script": "seq 100\necho the disk is made of cheese >&2\nexit 7\n"},
        ],
    )
    done = goldsmith.run("build", spec)
    assert done.status == 1, done.text
    assert "step 'breaks' failed: exit status 7" in done.out
    tail = done.out[done.out.index("the last lines of step breaks:") :].splitlines()
    assert tail[-3].strip() == "the disk is made of cheese"
    assert tail[-1].startswith("what to do: correct the step")
    (log,) = Path(tail[-2].removeprefix("the whole log: ")).iterdir()
    assert "the disk is made of cheese" in log.read_text()
    (build,) = goldsmith.builds()
    assert [(step["status"], step["exit_status"]) for step in build["steps"]] == [("done", 0), ("failed", 7)]
    goldsmith.traces.assert_none()


def test_reboots_run_each_step_once(goldsmith: Goldsmith) -> None:
    """One reboot by the action, one by a step's exit status; nothing runs twice, nothing is left out."""
    trail = "set -e\ncat /proc/sys/kernel/random/boot_id > /dev/shm/boot\necho {0} >> /var/lib/trail\n"
    spec = goldsmith.spec(
        [
            {"name": "first", "script": trail.format("first")},
            {"name": "down", "action": "reboot"},
            {"name": "second", "script": "[ ! -e /dev/shm/boot ] || exit 5\n" + trail.format("second") + "exit 194\n"},
            {"name": "third", "script": "[ ! -e /dev/shm/boot ] || exit 6\n" + trail.format("third")},
        ]
    )
    done, build = goldsmith.build(spec)
    assert done.status == 0, done.text
    assert build["attempt"] == 1
    assert [step["exit_status"] for step in build["steps"]] == [0, 194, 194, 0]
    assert [step["tries"] for step in build["steps"]] == [1, 1, 1, 1]
    assert lines_of(goldsmith, "/var/lib/trail") == ["first", "second", "third"]
    goldsmith.traces.assert_none()


def test_a_power_cut_resumes_at_the_step_that_was_cut_off(goldsmith: Goldsmith) -> None:
    spec = goldsmith.spec(
        [
            {"name": "first", "script": "echo first >> /var/lib/trail\n"},
            {
                "name": "second",
                "script": "echo second >> /var/lib/trail; sync\n"
                "[ $(grep -c second /var/lib/trail) = 2 ] && exit 0\n"
                f"echo cut me off\n{FOREVER}\n",
            },
        ]
    )
    running = goldsmith.start("build", spec, "--json")
    running.until(prints("cut me off"))
    (machine,) = goldsmith.traces.machines()
    os.kill(machine, signal.SIGKILL)
    done = running.finish()
    assert done.status == 0, done.text
    build = done.documents()[-1]["build"]
    assert (build["outcome"], build["attempt"]) == ("succeeded", 2)
    assert [step["status"] for step in build["steps"]] == ["done", "done"]
    assert lines_of(goldsmith, "/var/lib/trail") == ["first", "second", "second"]
    goldsmith.traces.assert_none()


def test_a_kernel_panic_is_told(goldsmith: Goldsmith) -> None:
    spec = goldsmith.spec([{"name": "panics", "script": "echo c > /proc/sysrq-trigger\n" + FOREVER}])
    done, build = goldsmith.build(spec)
    assert_failed(goldsmith, done, build, "the build VM had a kernel panic (during step 'panics'): kernel panic: ")
    assert "sysrq" in build["reason"].lower()


def test_a_guest_that_hangs_is_given_up(goldsmith: Goldsmith) -> None:
    """The provisioner is frozen; after the silence that the spec allows the machine is gone."""
    spec = goldsmith.spec(
        [{"name": "hangs", "script": "kill -STOP $PPID\n" + FOREVER}], build={"silence": "60s", "attempts": 1}
    )
    done, build = goldsmith.build(spec)
    assert_failed(goldsmith, done, build, "no sign of life from the VM for 6")
    assert build["reason"].endswith(" s (during step 'hangs'), in the last of 1 attempts")


def test_forged_reports_and_garbage_change_nothing(goldsmith: Goldsmith) -> None:
    spec = goldsmith.spec(
        [{"name": "forges", "script": FORGERY.read_text()}, {"name": "honest", "script": "echo honest > /var/lib/is\n"}]
    )
    done, build = goldsmith.build(spec)
    assert done.status == 0, done.text
    assert [(step["name"], step["status"]) for step in build["steps"]] == [("forges", "done"), ("honest", "done")]
    assert lines_of(goldsmith, "/var/lib/is") == ["honest"]
    goldsmith.traces.assert_none()


def test_a_forged_completion_makes_no_image(goldsmith: Goldsmith) -> None:
    """The guest claims in every possible way to be done, and powers off before it is: that alone is told."""
    power_off = "import os\nos.system('systemctl poweroff --force --force')\nimport time\ntime.sleep(1000)\n"
    spec = goldsmith.spec([{"name": "forges", "script": FORGERY.read_text() + power_off}])
    done, build = goldsmith.build(spec, "--output", goldsmith.output)
    assert_failed(
        goldsmith, done, build, "the build VM powered itself off before its job was done (during step 'forges')"
    )
    assert list(goldsmith.output.glob("*")) == []


def test_a_step_that_takes_too_long_is_ended(goldsmith: Goldsmith) -> None:
    """With all that it has started; a process that a step before it left running is no reason to wait."""
    spec = sandboxed(
        goldsmith,
        [
            {"name": "leaves", "script": "sleep 1000 &\necho left one running\n"},
            {"name": "dawdles", "timeout": "2s", "script": "sleep 1000 & " + FOREVER},
        ],
    )
    done, build = goldsmith.build(spec)
    assert_failed(goldsmith, done, build, "step 'dawdles' failed: not done within 2 s")
    assert 2 <= build["steps"][1]["seconds"] < 60


def test_the_deadline_ends_the_machine_within_seconds(goldsmith: Goldsmith) -> None:
    spec = goldsmith.spec([{"name": "dawdles", "script": FOREVER}], build={"timeout": "20s"})
    running = goldsmith.start("build", spec, "--json")
    deadline = running.until(is_event("BuildRequested"))["event"]["time"] + 20
    running.until(is_event("MachineStarted"))
    (machine,) = goldsmith.traces.machines()
    end = os.pidfd_open(machine)
    try:
        assert is_readable(end, deadline + 20 - time.time()), "the machine lives 20 s after the deadline"
    finally:
        os.close(end)
    assert time.time() >= deadline
    done = running.finish()
    last = done.documents()[-1]["build"]
    assert (done.status, last["outcome"]) == (1, "timed_out")
    assert last["reason"].startswith("not done 20 s after the request")
    goldsmith.traces.assert_none()


def test_an_image_whose_python_is_too_old_is_told_at_once(goldsmith: Goldsmith) -> None:
    """One without any is refused before a VM is made: tests/shared/local/test_compute.py."""
    catalogue = Catalogue(goldsmith.home, SystemClock())
    (base,) = catalogue.list()
    disk = goldsmith.folder / "old.raw"
    copy_sparse(catalogue.disk(base.name), disk)
    disk.chmod(0o600)
    start, _ = root_partition(disk)
    program = goldsmith.folder / "python3"
    program.write_text('#!/bin/sh\n[ "$1" != --version ] || { echo Python 3.5.3; exit; }\nexit 3\n')
    changes = ["cd /usr/bin", "rm python3", "rm python3.11", f"write {program} python3", "sif python3 mode 0100755"]
    tool("debugfs", "-w", "-f", "-", f"{disk}?offset={start}", stdin="\n".join(changes))
    catalogue.add(disk, "old-1", transfer="move", family="old")
    spec = goldsmith.spec([{"name": "never", "script": "true\n"}], source={"project": "local", "family": "old"})
    done, build = goldsmith.build(spec)
    assert catalogue.get("old-1") is not None
    catalogue.delete("old-1")
    reason = "this image's python3 is of no use (python3 is Python 3.5.3); the provisioner needs Python 3.6 or later"
    assert_failed(goldsmith, done, build, reason)
    assert build["updated"] - build["created"] < build["plan"]["silence"]
