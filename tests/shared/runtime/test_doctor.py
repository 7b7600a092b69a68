"""The doctor: what it finds on this machine, and what it says of a home that will not do.

It probes KVM, and a probe that hangs in the kernel outlives its killing; so it is run in a process of its own.
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from shared.host.programs import PACKAGES
from shared.runtime.doctor import FOREIGN_PROGRAMS, INSTALL, HostCheck, mending, namespace_commands
from tests.goldsmith.command_line import Commands
from tests.system.as_user import as_ordinary_user
from tests.system.command import ROOT


def examined(home: Path, tmp_path: Path) -> dict[str, tuple[bool, str]]:
    findings = Commands(home, tmp_path)("doctor", "--json").document()
    return {finding["what"]: (finding["good"], finding["text"]) for finding in findings}


def test_it_looks_at_everything_that_builds_need(tmp_path: Path) -> None:
    found = examined(tmp_path / "home", tmp_path)
    assert set(found) == {*PACKAGES, "packages", "accelerator", "arm64", "bootstrap", "home"} - FOREIGN_PROGRAMS
    assert found["arm64"][1].startswith("VMs by /")
    assert found["accelerator"][1].startswith(("kvm: ", "tcg: "))
    assert found["home"][1].startswith(f"{tmp_path}/home, ")
    assert Path(found["qemu-system-x86_64"][1]).is_file()
    assert all(text for _good, text in found.values())


def test_what_make_setup_installs_is_found(tmp_path: Path) -> None:
    found = examined(tmp_path / "home", tmp_path)
    assert [found[program] for program in set(PACKAGES) - FOREIGN_PROGRAMS if not found[program][0]] == []


@pytest.mark.parametrize("user", [(), as_ordinary_user()], ids=["this user", "ordinary user"])
def test_a_path_that_leads_nowhere_is_examined_as_any_other(user: tuple[str, ...], tmp_path: Path) -> None:
    words = ("env", "-i", "HOME=/tmp", "PATH=/nonexistent", f"GOLDSMITH_HOME=/proc/{tmp_path.name}")
    doctor = (sys.executable, "-m", "goldsmith", "doctor", "--json")
    done = subprocess.run([*user, *words, *doctor], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    found = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert not found["qemu-system-x86_64"]["good"]
    assert found["packages"]["text"].endswith("cat: not found; check PATH, which is /nonexistent")
    assert found["bootstrap"]["good"] or "unshare cannot be run" in found["bootstrap"]["text"]


def test_a_home_below_a_file_is_not_good(tmp_path: Path) -> None:
    (tmp_path / "file").touch(mode=0o700)
    found = examined(tmp_path / "file" / "home", tmp_path)
    assert found["home"] == (False, f"{tmp_path}/file is not a folder; set GOLDSMITH_HOME to one")
    assert found["accelerator"][0]  # looked for all the same


def test_a_home_without_room_is_not_good(tmp_path: Path) -> None:
    good, text = examined(Path("/proc/goldsmith"), tmp_path)["home"]  # a file system of no size
    assert not good
    assert "0.0 GB free; a build may need 4 GB" in text


def test_one_command_mends_all_that_is_lacking() -> None:
    """Each remedy is in it once, in the order in which they were found."""
    checks = [
        HostCheck("cgpt", False, "is missing", INSTALL),
        HostCheck("packages", False, "cgpt", INSTALL),
        HostCheck("arm64", True, "no firmware"),
        HostCheck("home", False, "no room", "goldsmith cache prune"),
    ]
    assert mending(checks) == "goldsmith doctor --install && goldsmith cache prune"
    assert mending(checks[2:3]) == ""


def test_doctor_prints_the_command(tmp_path: Path) -> None:
    done = Commands(Path("/proc/goldsmith"), tmp_path)("doctor")
    assert done.status == 3
    assert done.out.splitlines()[-2:] == ["mend all of it with:", "  goldsmith cache prune"]
    assert "mend all" not in Commands(tmp_path / "home", tmp_path)("doctor").out


def test_namespaces_are_allowed_by_what_this_kernel_has(tmp_path: Path) -> None:
    user = pwd.getpwuid(os.geteuid()).pw_name
    for name in ("subuid", "subgid"):
        (tmp_path / name).write_text(f"other:1:2\n{user}:100000:65536\n")
    assert list(namespace_commands(tmp_path, tmp_path)) == []
    (tmp_path / "apparmor_restrict_unprivileged_userns").write_text("1\n")
    (tmp_path / "unprivileged_userns_clone").write_text("1\n")
    (tmp_path / "subgid").unlink()
    assert list(namespace_commands(tmp_path, tmp_path)) == [
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}",
    ]
