"""A maker VM's job, all of it but the VM: provisioner, maker.zip, a sandbox, and a file as the device."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

from provisioner.job.runner import MOST_INTERRUPTIONS
from provisioner.protocol import (
    COMPLETED,
    FAILED,
    INVENTORY,
    SCRIPTS,
    STARTED,
    STEP_FAILED,
    STEP_FINISHED,
    STEP_STARTED,
    Job,
    Step,
    decode_scripts,
)
from provisioner.system.context import read_context
from shared.build.plan import OriginPlan, SourceImage
from shared.disks.disk import Disk
from shared.json_values import to_document
from shared.quantities import GIB
from tests.cloud.maker_image import small_root
from tests.provisioner.provisioning import Provisioning, check_numbers, job, script, wait_for
from tests.shared.origins.archives import packed, system

pytestmark = pytest.mark.slow

SIZE_GB = 2
GREET = "set -eu\n[ $(ls) = greet ]\n! ls -d /home/*\ntest ! -e /sys/firmware/root\necho hello\necho made >/etc/made\n"
FILES = {
    "greet": GREET,
    "fail": "echo this goes wrong\nexit 7\n",
    "wait": "echo waits\nsleep 3\necho made >/etc/made\n",
}
OWN = "elements/app/install.d/10-own"
SCRIPT = "elements/system/root.d/10-root"
BOOT_APART = """
- local_loop: {name: image0, size: 1GiB}
- partitioning: {base: image0, label: gpt, partitions: [{name: boot, size: 100MiB}, {name: root, size: 100%}]}
- mkfs: {base: boot, label: start, mount: {mount_point: /boot}}
- mkfs: {base: root, mount: {mount_point: /}}
"""
READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec setsid "$@"'


@pytest.fixture(scope="session")
def root_archive(debian_disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small root of Debian with Python, as tar.gz."""
    target = tmp_path_factory.mktemp("root") / "root.tar.gz"
    small_root(debian_disk, target)
    return target


def maker(folder: Path, archive: bytes, *steps: Step, **origin: object) -> Provisioning:
    """Return a machine whose job makes a root of an archive and runs steps there; its device is a sparse file."""
    made = OriginPlan("rootfs", SourceImage("", "", ""), SIZE_GB, place="root.tar.gz")
    return machine_of(folder, replace(made, **origin), {"root.tar.gz": archive}, *steps)  # type: ignore[arg-type]


def machine_of(
    folder: Path, origin: OriginPlan, files: dict[str, str | bytes], *steps: Step, programs: tuple[str, ...] = ()
) -> Provisioning:
    """Return a machine whose job makes a root and runs steps there. Its cidata is read-only, as on a VM."""
    own = (
        Step("create root", "make-root", {"origin": to_document(origin)}, reads=tuple(filter(None, [origin.place]))),
        *(replace(step, reads=(step.name,)) for step in steps),
        Step("write root", "write-root", {}, reads=()),
    )
    machine = Provisioning(
        folder,
        job(*own, makes_root=True, inventory=True, hygiene="fail"),
        {**FILES, **files},
        within=["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", str(folder / "cidata")],
        programs=programs,
        python=sys.executable,
    )
    _know_context(machine)
    links = machine.root / "dev/disk/by-id"
    links.mkdir(parents=True)
    blank_device(machine)
    (links / "google-root").symlink_to(device(machine))
    return machine


def of_elements(more: dict[str, str | bytes]) -> tuple[OriginPlan, dict[str, str | bytes]]:
    """Return the plan of a root that the element `system` makes, and that element's files."""
    asked = {"elements": ["system"], "path": ["elements"], "env": {}}
    text = '#!/bin/bash\necho makes a root\nmkdir -p "$TARGET_ROOT"/etc\n'
    files = {SCRIPT: text, "elements/system/element-provides": "operating-system\n", **more}
    return OriginPlan("elements", SourceImage("", "", ""), SIZE_GB, asked=asked), files


def _know_context(machine: Provisioning) -> None:
    """Write the digest of the context into the job, as a plan has it."""
    with (machine.folder / "context.tar").open("rb") as file:
        known: Job = replace(machine.job, context_digest=read_context(file))
    machine.write_cidata(known)


def device(machine: Provisioning) -> Path:
    return machine.folder / "device"


def blank_device(machine: Provisioning) -> None:
    """Make the disk of a new attempt."""
    device(machine).unlink(missing_ok=True)
    with device(machine).open("wb") as file:
        file.truncate(SIZE_GB * GIB)


def facts(machine: Provisioning) -> list[tuple[str, int | None]]:
    return [(report.kind, report.step) for report in check_numbers(machine.report_data())]


def facts_of(steps: int) -> list[tuple[str, int | None]]:
    """What a job says that succeeds: the packages are told once the sandbox has ended, before the root is written."""
    ran = [[(kind, step) for kind in (STEP_STARTED, STEP_FINISHED)] for step in range(steps)]
    return [(STARTED, None), *chain(*ran[:-1]), (INVENTORY, None), *ran[-1], (COMPLETED, None)]


def test_the_steps_run_in_the_root_and_the_device_has_it(tmp_path: Path, root_archive: Path) -> None:
    machine = maker(tmp_path / "m", root_archive.read_bytes(), script("greet"))
    ended = machine.run(400)
    assert ended.status == 0, [ended.console, *machine.reports()]
    assert facts(machine) == facts_of(3)
    [inventory] = [report for report in machine.reports() if report.kind == INVENTORY]
    assert "\ndpkg\tlibc6\t" in inventory.output
    assert "[step greet] hello" in ended.console
    with Disk(device(machine)) as disk:
        assert disk.root.read("/etc/made") == b"made\n"
        assert not disk.root.exists("/var/lib/goldsmith")
        assert (disk.table.kind, disk.table.bios_code) == ("gpt", True)
    assert device(machine).stat().st_blocks * 512 < GIB // 2, "only what the disk holds is written"


def test_scripts_of_elements_are_told_as_everywhere(tmp_path: Path, root_archive: Path) -> None:
    step = Step("elements", "elements", {"elements": ["app"], "path": ["elements"], "env": {}})
    origin = OriginPlan("rootfs", SourceImage("", "", ""), SIZE_GB, place="root.tar.gz")
    files: dict[str, str | bytes] = {"root.tar.gz": root_archive.read_bytes(), OWN: "#!/bin/sh\nexit 3\n"}
    machine = machine_of(tmp_path / "m", origin, files, step, programs=(OWN,))
    assert machine.run(400).status == 1
    told = [report for report in check_numbers(machine.report_data()) if report.kind == SCRIPTS]
    assert {(report.step, report.tries) for report in told} == {(1, 1)}
    scripts = [fact for report in told for fact in decode_scripts(report.output)]
    assert {(fact.phase, fact.file, fact.element) for fact in scripts} == {("install.d", "10-own", "app")}
    assert scripts[-1].exit_status == 3


def test_a_root_without_steps_is_cleaned_and_told_as_any_other(tmp_path: Path, root_archive: Path) -> None:
    machine = maker(tmp_path / "m", root_archive.read_bytes())
    ended = machine.run(400)
    assert ended.status == 0, [ended.console, *machine.reports()]
    assert facts(machine) == facts_of(2)
    with Disk(device(machine)) as disk:
        assert disk.root.exists("/usr/bin/python3")
        assert not disk.root.exists("/var/lib/goldsmith")


def test_the_next_attempt_writes_to_a_disk_of_its_own(tmp_path: Path, root_archive: Path) -> None:
    """The first one was lost once all was done, and before anyone had heard of it."""
    machine = maker(tmp_path / "m", root_archive.read_bytes(), script("greet"))
    assert machine.run(400).status == 0
    blank_device(machine)
    machine.port.write_text("")
    machine.write_cidata(replace(machine.job, attempt=2))
    assert machine.run(400).status == 0
    assert facts(machine) == [(STARTED, None), (STEP_STARTED, 2), (STEP_FINISHED, 2), (COMPLETED, None)]
    with Disk(device(machine)) as disk:
        assert disk.root.read("/etc/made") == b"made\n"


def test_a_machine_that_goes_down_keeps_its_root_and_a_step_that_fails_says_so(
    tmp_path: Path, root_archive: Path
) -> None:
    """The steps begin anew in a copy of the root, which is not made again."""
    machine = maker(tmp_path / "m", root_archive.read_bytes(), script("wait"), script("fail"))
    process = machine.start()
    wait_for(lambda: (STEP_STARTED, 1) in facts(machine), 300.0)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert machine.run(400).status == 1
    started = [report for report in machine.reports() if report.kind == STARTED]
    assert [report.resumed_at for report in started] == [None, 1]
    assert (facts(machine).count((STEP_STARTED, 0)), facts(machine).count((STEP_FINISHED, 1))) == (1, 1)
    assert (STEP_FAILED, 2) in facts(machine)
    last = check_numbers(machine.report_data())[-1]
    assert (last.kind, last.step, last.exit_status, last.final) == (FAILED, 2, 7, True)
    assert last.message == "step 'fail' failed: exit status 7"
    assert "this goes wrong" in last.output
    assert device(machine).stat().st_blocks == 0, "nothing of a failed build is written"


def test_a_sandbox_that_was_cut_off_counts_as_a_step_that_was(tmp_path: Path, root_archive: Path) -> None:
    once = script("wait", idempotent=False)
    machine = maker(tmp_path / "m", root_archive.read_bytes(), script("greet"), once)
    process = machine.start()
    wait_for(lambda: (STEP_STARTED, 1) in facts(machine), 300.0)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    path = machine.state / "state.json"
    cut_off = json.loads(path.read_text())
    assert machine.run(400).status == 1
    started, last = check_numbers(machine.report_data())[-2:]
    assert (started.resumed_at, started.message) == (1, "the sandbox of the steps was interrupted")
    assert (last.kind, last.step) == (FAILED, 2)
    assert last.message == "step 'wait' was interrupted and is not idempotent: it cannot be run a second time"

    path.write_text(json.dumps({**cut_off, "interruptions": MOST_INTERRUPTIONS}))
    machine.write_cidata(
        replace(machine.job, steps=tuple(replace(step, idempotent=True) for step in machine.job.steps))
    )
    assert machine.run(400).status == 1
    assert machine.reports()[-1].message == "the machine went down 4 times during the sandbox of the steps"


def test_an_image_that_could_not_boot_is_refused_before_the_steps(tmp_path: Path, root_archive: Path) -> None:
    machine = maker(tmp_path / "m", root_archive.read_bytes(), script("greet"), verified=True)
    assert machine.run(400).status == 1
    last = check_numbers(machine.report_data())[-1]
    assert (last.step, last.message[:57]) == (0, "step 'create root' failed: verify: boots the image, and w")
    assert (STEP_STARTED, 1) not in facts(machine)


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("gone.tar.gz", "source.rootfs: gone.tar.gz is not in the context"),
        ("greet", "greet: "),
        ("root.tar.gz", "has no python3"),
    ],
)
def test_what_is_no_root_is_the_step_s_failure(tmp_path: Path, place: str, why: str) -> None:
    machine = maker(tmp_path / "m", packed(system()), script("greet"), place=place)
    assert machine.run(400).status == 1
    last = check_numbers(machine.report_data())[-1]
    assert last.kind == FAILED
    assert why in last.message, json.dumps(last.message)


def test_elements_of_the_context_make_the_root(tmp_path: Path) -> None:
    """The cidata, where the context is, cannot be written to. What this element makes has no Python."""
    machine = machine_of(tmp_path / "m", *of_elements({}), programs=(SCRIPT,))
    ended = machine.run(400)
    assert "makes a root" in ended.console
    last = check_numbers(machine.report_data())[-1]
    assert (last.step, last.message[:67]) == (0, "step 'create root' failed: source.elements: what it makes has no py")
    assert list((machine.state / "maker/home/cache/origins").glob("*/goldsmith-elements-*")) == []


def test_an_element_s_disk_that_needs_a_machine_is_refused_before_the_root_is_made(tmp_path: Path) -> None:
    origin, files = of_elements({"elements/system/block-device-default.yaml": BOOT_APART})
    machine = machine_of(tmp_path / "m", origin, files, programs=(SCRIPT,))
    ended = machine.run(400)
    last = check_numbers(machine.report_data())[-1]
    assert (last.kind, last.step) == (FAILED, 0)
    assert "system/block-device-default.yaml: /boot is a file system of its own, which only a machine" in last.message
    assert "write disk, with one ext4 file system" in last.message
    assert "makes a root" not in ended.console, "root.d was not run"
