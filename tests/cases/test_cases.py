"""Inputs that Goldsmith once handled wrongly, each in a folder of its own, with the right outcome of each."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.disks.disk import Disk
from shared.errors import NotFound
from tests.goldsmith.command_line import Commands
from tests.system.archives import debugfs, holds
from tests.system.command import Goldsmith
from tests.system.test_guest_faults import lines_of

CASES = Path(__file__).parent
ALL_CASES = "GOLDSMITH_ALL_CASES"  # the variable with which tests build them all, also those that download packages
REFUSED = 2
LONG = "a" * 70_000
WORKFLOWS = "wait-for-as-text"


@dataclass(frozen=True)
class Case:
    """A command on files of a case, its exit status and a part of what it says."""

    command: tuple[str, ...]
    status: int
    says: str


@dataclass(frozen=True)
class Built:
    """The outcome of a case's build."""

    status: int = 0
    says: tuple[str, ...] = ()  # parts of the reason, or lines of the machines' logs
    lacks: str = ""  # what must be nowhere on the image's disk
    links: tuple[tuple[str, str], ...] = ()  # links in it, and where they lead
    after: str = ""  # the case whose image it starts from
    beside: int = 0  # builds of the same spec that run at once before it, and come to the same


CHECKED = {
    "a script with a byte order mark": Case(
        ("validate", "byte-order-mark/build.yaml"),
        REFUSED,
        "'hello': line 1 begins with the byte order mark of UTF-8, which hides the interpreter that it names",
    ),
    "a script with the line ends of Windows": Case(
        ("validate", "windows-line-ends/build.yaml"),
        REFUSED,
        r"'crlf.sh': line 1 ends with CR and LF, as on Windows, and the shell takes the CR for part of its last word; "
        r"save the file with LF alone, for example with sed -i 's/\r$//'",
    ),
    "a variable that Linux takes": Case(
        ("validate", "variable-too-long/build.yaml", "--set", f"bundle={LONG[:60_000]}"),
        0,
        "good: variable-too-long, 1 step",
    ),
    "a variable that is too long": Case(
        ("validate", "variable-too-long/build.yaml", "--set", f"bundle={LONG}"),
        REFUSED,
        "CA_BUNDLE has 140011 bytes, and Linux gives no program a variable of more than 131072",
    ),
    "waitFor as a list": Case(("validate", f"{WORKFLOWS}/list.yaml", "--source", WORKFLOWS), 0, "good: one-"),
    "waitFor as text": Case(("validate", f"{WORKFLOWS}/cloudbuild.yaml", "--source", WORKFLOWS), 0, "good: one-"),
    "waitFor as text, converted": Case(("convert", f"{WORKFLOWS}/cloudbuild.yaml"), 0, "- name: one-run\n"),
    "args and tags as text": Case(("validate", f"{WORKFLOWS}/args-text.yaml", "--source", WORKFLOWS), 0, "good: one,"),
    "args as text, converted": Case(("convert", f"{WORKFLOWS}/args-text.yaml"), 0, "action: disable-auto-update\n"),
}
DISKS = {
    "My.Image_v1.2 (final).img": "my-image-v1-2-final",
    "first.vmdk": "first",
    "second.vhd": "second",
    "third.vhdx": "third",
    "fourth.vdi": "fourth",
    "half.raw": "half",
    "packed.raw.gz": "packed-raw",
    "whole.tar.gz": "whole",
}
"""Disks that are imported, and the names of their images."""

NO_DISKS = {
    "backed.qcow2": "has a backing file; make it whole with: qemu-img convert -O raw",
    "evil.qcow2": "has a backing file; make it whole with: qemu-img convert -O raw",
    "empty.raw": "no partition table; give a whole disk, not a file system or an empty file",
    "bare.raw": "no partition table; give a whole disk, not a file system or an empty file",
    "othername.tar.gz": "holds 'one.raw'; a disk's archive holds disk.raw and nothing else: unpack it with tar -xSf",
    "truncated.tar.gz": "truncated.tar.gz: ",
    "zero.raw": "zero.raw: is empty; give a disk image",
}
"""Files that are refused, and the reasons."""

BUILT = {
    "clock-set-back": Built(1, ("must not be in an image: /opt/app/server.key holds a private key",)),
    "degraded": Built(1, ("emergency mode", "Dependency failed for data.mount - /data")),
    "disk-full": Built(1, ("No space left on device; raise output.disk_size_gb",)),
    "growth-and-swap": Built(
        says=("/dev/nvme0n1p1   20G", "[step look] /swapfile file 512M   0B"), lacks="SECRET-IN-MEMORY-00"
    ),
    "kernel-upgrade": Built(says=("[step after] 6.12.", "[step look] 6.12.")),
    "missing-disk": Built(1, ("emergency mode", "Dependency failed for data.mount - /data")),
    "network-down": Built(says=("[step firewall] down", "[step long] quiet for 110 s")),
    "password-locked": Built(),
    "resolv-conf-linked": Built(
        after="resolv-conf-own", links=(("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),)
    ),
    "same-spec-at-once": Built(beside=2),
    "services-that-log": Built(),
}
OFTEN = ("password-locked",)  # those that nothing else shows and that are quick

SAID = (
    "[step stdin] read status 1 answer ''",
    "[step tty] TERM=linux",
    "[step tty] su works",
    "[step output] \ufffd\ufffd\ufffd bad utf8 \ufffd",
    "[step output] progress 3%",
    "[step output] goldsmith: the job has completed",
    "[step output] no newline at the end",
    "[step spaces] I am /var/lib/goldsmith/context/my scripts/übung 1 (final).sh",
    "[step noshebang] 3",
    """[step env] QUOTES 'it\\'s "quoted"'""",
    r"[step env] NEWLINE 'a\nb\n'",
    "[step env] DOLLAR '$HOME ${x} $(id) `id`'",
    "[step env] EQ 'a=b=c'",
    "[step env] EMPTY ''",
    "[step env] PCT '100%d %s'",
    r"[step env] BACK 'C:\\new\\table'",
    "[step env] UNI 'Щлёноч 日本 🎉'",
    "[step env] lower_case 'yes'",
    "[step env] REL '1.2'",
    r"[step env] TAB 'a\tb'",
    "[step env] LEAD '  lead and trail  '",
    "[step slow] second try sees:",
    "[step after] left: 0",
    "[step database] active",
)
"""Lines of the machine's log, whole."""

ENDED = re.compile(r"\[step daemon-holds-stdout\] ended what the step left running: sh(, (sh|sleep))?")
"""One more: the daemon sleeps, but for the moment in which it begins to sleep anew."""

KEPT = {
    "/etc/resolv.conf": ["nameserver 10.0.0.2", "search corp.example"],
    "/opt/app/state": ["stopped"],
    "/opt/app/saved": ["term"],
    "/var/log/app.log": [],
    "/var/log/audit.log": [],
}
"""Files of the image, and their lines."""


@pytest.mark.parametrize("case", CHECKED.values(), ids=CHECKED)
def test_what_is_decided_without_a_machine(tmp_path: Path, case: Case) -> None:
    name, file, *options = case.command
    rest = [str(CASES / option) if option == WORKFLOWS else option for option in options]
    run = Commands(tmp_path / "home", tmp_path)
    done = run(name, CASES / file, *rest)
    assert done.status == case.status, done.out + done.err
    assert case.says in done.out + done.err
    assert "Traceback" not in done.err
    assert run("builds", "list", "--json").document() == []


@pytest.mark.slow
def test_disks_in_odd_forms(tmp_path: Path) -> None:
    """Imported where they hold a whole disk, also under a wrong ending; refused with the reason where not."""
    run, folder = Commands(tmp_path / "home", tmp_path), tmp_path / "disks"
    folder.mkdir()
    subprocess.run(["bash", CASES / "odd-disk-forms" / "make.sh"], cwd=folder, check=True)
    for file, image in DISKS.items():
        done = run("images", "import", folder / file)
        assert (done.status, f"image local/{image}\n" in done.out) == (0, True), done.err
    for file, reason in NO_DISKS.items():
        done = run("images", "import", folder / file)
        assert done.status == REFUSED, done.out
        assert reason in done.err
        assert "Traceback" not in done.err
    listed = run("images", "list", "--json").document()
    assert sorted(image["name"] for image in listed) == sorted(DISKS.values())


@pytest.mark.vm
@pytest.mark.parametrize("name", BUILT if ALL_CASES in os.environ else OFTEN)
def test_what_a_build_comes_to(goldsmith: Goldsmith, name: str) -> None:
    case = BUILT[name]
    if case.after:
        done, _ = goldsmith.build(CASES / case.after / "build.yaml")
        assert done.status == 0, done.text
    spec = CASES / name / "build.yaml"
    for running in [goldsmith.start("build", spec, "--json") for _ in range(case.beside)]:
        done = running.finish()
        assert done.status == case.status, done.text
    done, build = goldsmith.build(spec)
    assert done.status == case.status, done.text
    said = [line for document in done.documents() for line in document.get("console", [])]
    told = [build["reason"], *said]
    assert [text for text in case.says if not any(text in line for line in told)] == []
    if case.status == 0:
        assert build["image"]["findings"] == []
        newest = max(goldsmith.images(), key=lambda image: image["created"])
        disk = goldsmith.home / "images" / newest["name"] / "disk.raw"
        assert not case.lacks or holds(disk, case.lacks) == []
        for link, target in case.links:
            assert f'Fast link dest: "{target}"' in debugfs(disk, f"stat {link}")
    else:
        assert goldsmith.images() == []
    goldsmith.traces.assert_none()


@pytest.mark.vm
def test_many_habits_in_one_machine(goldsmith: Goldsmith) -> None:
    """Daemons, questions, terminals, odd output and names, children that stay, own logs and files that are locked."""
    done, build = goldsmith.build(CASES / "one-machine-many-habits" / "build.yaml")
    assert (done.status, build["outcome"]) == (0, "succeeded"), done.text
    assert build["image"]["findings"] == []
    assert {step["name"]: step["tries"] for step in build["steps"] if step["tries"] != 1} == {"slow": 2}
    said = [line for document in done.documents() for line in document.get("console", [])]
    assert [line for line in SAID if line not in said] == []
    assert any(ENDED.fullmatch(line) for line in said)
    for path, lines in KEPT.items():
        assert lines_of(goldsmith, path) == lines
    (image,) = goldsmith.images()
    disk = goldsmith.home / "images" / image["name"] / "disk.raw"
    with pytest.raises(NotFound):
        Disk(disk).root.read("/etc/udev/rules.d/70-persistent-net.rules")
    goldsmith.traces.assert_none()
