"""The doctor: what it finds on this machine, and what it says of a home that will not do.

It probes KVM, and a probe that hangs in the kernel outlives its killing; so it is run in a process of its own.
"""

from __future__ import annotations

from pathlib import Path

from shared.host.programs import PACKAGES
from shared.runtime.doctor import FOREIGN_PROGRAMS
from tests.goldsmith.command_line import Commands


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


def test_a_home_below_a_file_is_not_good(tmp_path: Path) -> None:
    (tmp_path / "file").touch(mode=0o700)
    found = examined(tmp_path / "file" / "home", tmp_path)
    assert found["home"] == (False, f"{tmp_path}/file is not a folder; set GOLDSMITH_HOME to one")
    assert found["accelerator"][0]  # looked for all the same


def test_a_home_without_room_is_not_good(tmp_path: Path) -> None:
    good, text = examined(Path("/proc/goldsmith"), tmp_path)["home"]  # a file system of no size
    assert not good
    assert "0.0 GB free; a build may need 4 GB" in text
