"""A script's apt and dpkg wait for those that the image runs by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner.machine.sandbox import CONDITIONAL_SHIMS, SHIMS
from provisioner.steps.apt_locks import IN_SANDBOX, LOCKS
from tests.provisioner.provisioning import Provisioning, job, script

HOLD = (
    "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_script_begins_when_the_other_has_ended(tmp_path: Path, lock: str) -> None:
    machine = Provisioning(tmp_path / "m", job(script("install")), {"install": "cat held; echo at work"})
    path = machine.root / lock
    for folder in (path.parent, machine.root / "var/lib/dpkg"):
        folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        process = machine.start()
        try:
            assert process.stdout is not None
            waits = f"[step install] waiting for another apt or dpkg, which holds {path}\n".encode()
            assert process.stdout.readline() == waits
            (machine.state / "context/held").write_text("it has ended\n")
            holder.communicate()
            said, _ = process.communicate(timeout=240)
        finally:
            process.kill()
            process.wait()
    assert b"[step install] it has ended\n[step install] at work\n" in said


def test_apt_is_told_to_wait_for_one_that_begins_later(tmp_path: Path) -> None:
    show = script("show", env={"OWN": "1"})
    text = "apt-config dump DPkg::Lock::Timeout"
    machine = Provisioning(tmp_path / "m", job(show), {"show": text})
    (machine.root / "var/lib/dpkg").mkdir(parents=True)
    assert '[step show] DPkg::Lock::Timeout "600";\n' in machine.run().console


@pytest.mark.parametrize("shims", [True, False])
def test_scripts_of_packages_find_what_stands_in_for_a_booted_systems_programs(tmp_path: Path, shims: bool) -> None:
    """What apt gives dpkg is a PATH of its own: apt's default, with the shims before it."""
    machine = Provisioning(tmp_path / "m", job(script("show")), {"show": "apt-config dump DPkg::Path"})
    for folder in ("var/lib/dpkg", *([SHIMS.lstrip("/")] if shims else [])):
        (machine.root / folder).mkdir(parents=True)
    path = f'[step show] DPkg::Path "{SHIMS}:/usr/sbin:/usr/bin:/sbin:/bin";\n'
    assert (path in machine.run().console) == shims


def test_a_shim_comes_and_goes_with_the_program_that_it_stands_in_for(tmp_path: Path) -> None:
    """In a step of apt's, the package that has the program is unpacked before others' scripts call it.

    Mended: `command -v mkinitramfs` told scripts on images without it that it was there.
    """
    real, lent, shims = tmp_path / "sbin", tmp_path / "lent", tmp_path / "shims"
    for folder in (real, lent, shims, tmp_path / "db/updates", tmp_path / "db/info"):
        folder.mkdir(parents=True)
    for name in ("status", "available"):
        (tmp_path / "db" / name).touch()
    (lent / "mkinitramfs").touch()
    (shims / "sysctl").touch()
    settings = tmp_path / "apt.conf"
    text = IN_SANDBOX.replace(CONDITIONAL_SHIMS, str(lent)).replace(SHIMS, str(shims))
    settings.write_text(text.replace("/usr/sbin/$", f"{real}/$"))
    dump = subprocess.run(
        ["apt-config", "dump", "DPkg::Options", "--format", "%v%n"],
        env={"APT_CONFIG": str(settings), "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    options = [line for line in dump.stdout.splitlines() if line]
    assert [option.partition("=")[0] for option in options] == ["--pre-invoke", "--post-invoke"]

    def run_dpkg(option: str) -> list[str]:
        command = ["dpkg", f"--admindir={tmp_path}/db", "--force-not-root", option, "--configure", "--pending"]
        subprocess.run(command, check=True, capture_output=True)
        return sorted(path.name for path in shims.iterdir())

    for option in options:
        assert run_dpkg(option) == ["sysctl"]
        (real / "mkinitramfs").touch(0o755)
        assert run_dpkg(option) == ["mkinitramfs", "sysctl"]
        assert (shims / "mkinitramfs").resolve() == lent / "mkinitramfs"
        assert run_dpkg(option) == ["mkinitramfs", "sysctl"]
        (real / "mkinitramfs").unlink()
        assert run_dpkg(option) == ["sysctl"]
    lent.rename(tmp_path / "elsewhere")
    assert run_dpkg(options[0]) == ["sysctl"]


def test_a_system_without_dpkg_gets_nothing_of_it(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(script("show")), {"show": "echo ${APT_CONFIG-none}"})
    assert "[step show] none\n" in machine.run().console


def test_scripts_run_where_the_packages_are_in_a_file_system_that_is_never_written_to(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(script("step")), {"step": "echo ran"})
    packages = machine.root / "var/lib/dpkg"
    packages.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(packages)], check=True)
    try:
        (packages / "lock").touch()
        subprocess.run(["mount", "-o", "remount,ro", str(packages)], check=True)
        ended = machine.run()
    finally:
        subprocess.run(["umount", "--lazy", str(packages)], check=True)
    assert ended.status == 0, ended.console
