"""The programs that stand in for those of a booted system, run by a shell."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from shared.sandbox.shims import (
    CONDITIONAL_FOLDER,
    FOLDER,
    POLICY_TEXT,
    conditional_shims,
    place_conditional_shims,
    shims,
)

UUID = "0b1d6a3e-0000-4000-8000-000000000001"


def run(
    tmp_path: Path,
    name: str,
    *arguments: str,
    text: str | None = None,
    table: str = "gpt",
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    program = tmp_path / name
    program.write_text(shims(UUID, table)[name] if text is None else text)
    program.chmod(0o755)
    return subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], **(env or {})},
    )


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["--target=device", "/"], f"/dev/disk/by-uuid/{UUID}\n"),
        (["-t", "fs_uuid", "/boot/grub"], f"{UUID}\n"),
        (["--target", "fs", "--device", "/dev/sda1"], "ext2\n"),
        (["--device", "/dev/sda1", "--target=partmap"], "gpt\n"),
        (["--target=abstraction", "/"], ""),
        (["/"], "ext2\n"),
    ],
)
def test_grub_finds_the_root_file_system(tmp_path: Path, arguments: list[str], answer: str) -> None:
    done = run(tmp_path, "grub-probe", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, answer, "")


def test_grub_is_told_of_an_mbr(tmp_path: Path) -> None:
    assert run(tmp_path, "grub-probe", "--target=partmap", "/", table="mbr").stdout == "msdos\n"


@pytest.mark.parametrize(("label", "told"), [("cloudimg-rootfs", "cloudimg-rootfs\n"), ("", "\n"), ("'; id #", "\n")])
def test_grub_is_told_of_the_label(tmp_path: Path, label: str, told: str) -> None:
    assert run(tmp_path, "x", "-t", "fs_label", text=shims(UUID, "gpt", label)["grub-probe"]).stdout == told


def test_the_configuration_of_grub_is_made_with_the_probe_that_stands_in(tmp_path: Path) -> None:
    """The program calls grub-probe by its path, and so do the scripts that it runs.

    None stands in for grub2-mkconfig: scripts ask whether it is there, to know how a distribution calls its programs.
    """
    name = "grub-mkconfig"
    assert "grub2-mkconfig" not in shims(UUID, "gpt")
    real = tmp_path / "sbin" / name
    real.parent.mkdir()
    real.write_text(
        "#!/bin/sh\nset -e\n"
        'sbindir=/real\ngrub_probe="${sbindir}/grub-probe"\nif [ "$2" = wrong ]; then exit 3; fi\n'
        "echo \"${0##*/} $* $grub_probe it's\"\nsh -c 'echo $grub_probe'\n"
    )
    text = shims(UUID, "gpt")[name].replace("/usr/sbin/", f"{real.parent}/")
    done = run(tmp_path, name, "-o", "/boot/a b", text=text)
    probe = f"{FOLDER}/grub-probe"
    assert done.stdout == f"{name} -o /boot/a b {probe} it's\n{probe}\n"
    assert run(tmp_path, name, "-o", "wrong", text=text).returncode == 3
    missing = run(tmp_path, name, text=text.replace("/sbin/", "/nowhere/"))
    assert (missing.returncode, missing.stderr) == (127, f"{name}: not found\n")


def test_grub_install_still_tells_of_itself(tmp_path: Path) -> None:
    real = any(Path(place, "grub-install").exists() for place in ("/usr/sbin", "/sbin"))
    done = run(tmp_path, "grub-install", "--version")
    assert (done.returncode, "left out" in done.stderr) == (0 if real else 127, False)
    done = run(tmp_path, "grub-install", "--target=i386-pc", "/dev/vda")
    assert (done.returncode, "left out" in done.stderr) == (0, True)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("modprobe", ["overlay"]), ("udevadm", ["settle"]), ("sysctl", ["-w", "vm.swappiness=1"]), ("sysctl", ["-p"])],
)
def test_what_needs_a_booted_system_is_left_out_and_said(tmp_path: Path, name: str, arguments: list[str]) -> None:
    """Mended: where no systemd runs, people of diskimage-builder write such programs themselves."""
    done = run(tmp_path, name, *arguments)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"{name} {' '.join(arguments)}: left out" in done.stderr


def test_values_of_the_kernel_can_be_read(tmp_path: Path) -> None:
    real = any(Path(place, "sysctl").exists() for place in ("/usr/sbin", "/sbin"))
    done = run(tmp_path, "sysctl", "-n", "kernel.ostype")
    assert (done.returncode, done.stdout) == ((0, "Linux\n") if real else (127, ""))


def test_an_unknown_time_zone_is_an_error(tmp_path: Path) -> None:
    done = run(tmp_path, "timedatectl", "set-timezone", "Mars/Olympus")
    assert done.returncode == 1
    assert "Mars/Olympus" in done.stderr


def test_services_are_not_started(tmp_path: Path) -> None:
    """Mended: systemctl fails in diskimage-builder's chroot; here units are changed, and nothing is started."""
    assert run(tmp_path, "policy-rc.d", "nginx", "start", text=POLICY_TEXT).returncode == 101


def of_an_image(tmp_path: Path) -> tuple[Path, str]:
    """Return a root file system whose mkinitramfs counts how often it has run, and the program in front of it."""
    root = tmp_path / "root"
    for name in ("boot", "etc", "usr/sbin", "usr/lib"):
        (root / name).mkdir(parents=True)
    (root / "etc/modules").write_text("loop\n")
    (root / "usr/lib/module").write_text("code")
    real = root / "usr/sbin/mkinitramfs"
    real.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/ran\ncat {root}/usr/lib/module {root}/etc/modules >"$2"\n')
    real.chmod(0o755)
    return root, conditional_shims()["mkinitramfs"].replace("root=''", f"root='{root}'")


def update(tmp_path: Path, root: Path, text: str, **env: str) -> str:
    """Make an initrd anew, as update-initramfs does; return what was said."""
    done = run(tmp_path, "mkinitramfs", "-o", f"{root}/boot/initrd.img-6.1.new", "6.1", text=text, env=env)
    assert done.returncode == 0, done.stderr
    (root / "boot/initrd.img-6.1.new").rename(root / "boot/initrd.img-6.1")
    return done.stderr


def times(tmp_path: Path) -> int:
    return len((tmp_path / "ran").read_text().splitlines())


@pytest.mark.parametrize("has_it", [True, False])
def test_nothing_stands_in_for_a_program_that_the_image_does_not_have(tmp_path: Path, has_it: bool) -> None:
    """Mended: scripts ask whether mkinitramfs is there, to know what makes the initrd."""
    assert "mkinitramfs" not in shims(UUID, "gpt")
    root, text = of_an_image(tmp_path)
    (root / FOLDER.lstrip("/")).mkdir(parents=True)
    if not has_it:
        (root / "usr/sbin/mkinitramfs").unlink()
    place_conditional_shims(root)
    assert [path.name for path in (root / FOLDER.lstrip("/")).iterdir()] == (["mkinitramfs"] if has_it else [])
    made = root / CONDITIONAL_FOLDER.lstrip("/") / "mkinitramfs"
    assert os.access(made, os.X_OK)
    assert made.read_text().replace("root=''", f"root='{root}'") == text
    if has_it:
        there = (root / FOLDER.lstrip("/") / "mkinitramfs").readlink()
        assert there == Path(CONDITIONAL_FOLDER, "mkinitramfs")


def test_an_initrd_of_the_same_files_is_made_once(tmp_path: Path) -> None:
    """What dpkg tells a package's script, and what update-initramfs and update-grub write, is nothing of it."""
    root, text = of_an_image(tmp_path)
    assert update(tmp_path, root, text, DPKG_MAINTSCRIPT_PACKAGE="linux-image", DEB_MAINT_PARAMS="configure") == ""
    for name in ("var/lib/initramfs-tools/6.1", "boot/grub/grub.cfg"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text("anew\n")
    assert "left out" in update(tmp_path, root, text, DPKG_MAINTSCRIPT_PACKAGE="", PWD="/", OLDPWD="/root", SHLVL="2")
    assert times(tmp_path) == 1
    assert (root / "boot/initrd.img-6.1").read_text() == "codeloop\n"


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "usr/lib/module").write_text("edoc"),
        lambda root: (root / "usr/lib/another").touch(),
        lambda root: (root / "etc/modules").write_text("virt\n"),
        lambda root: (root / "etc/modules").chmod(0o600),
        lambda root: (root / "boot/initrd.img-6.1").write_text("someone else's"),
        lambda root: (root / "boot/initrd.img-6.1").unlink(),
    ],
)
def test_an_initrd_is_made_anew_after_a_change(tmp_path: Path, change: Callable[[Path], object]) -> None:
    root, text = of_an_image(tmp_path)
    update(tmp_path, root, text)
    change(root)
    assert update(tmp_path, root, text) == ""
    assert times(tmp_path) == 2
    made = (root / "usr/lib/module").read_text() + (root / "etc/modules").read_text()
    assert (root / "boot/initrd.img-6.1").read_text() == made


@pytest.mark.parametrize("value", ["gzip", "zstd\nDPKG_X=1"])
def test_an_initrd_is_made_anew_in_another_environment(tmp_path: Path, value: str) -> None:
    """Mended: hooks read variables of their own."""
    root, text = of_an_image(tmp_path)
    update(tmp_path, root, text, HOOK="zstd")
    assert update(tmp_path, root, text, HOOK=value) == ""
    assert times(tmp_path) == 2


def test_an_initrd_that_fails_is_not_remembered(tmp_path: Path) -> None:
    root, text = of_an_image(tmp_path)
    update(tmp_path, root, text)
    (root / "etc/modules").unlink()
    done = run(tmp_path, "x", "-o", f"{root}/boot/initrd.img-6.1.new", "6.1", text=text)
    assert (done.returncode, times(tmp_path)) == (1, 2)


def test_other_uses_of_mkinitramfs_are_the_images_own(tmp_path: Path) -> None:
    root, text = of_an_image(tmp_path)
    for _ in range(2):
        assert run(tmp_path, "x", "-o", f"{root}/boot/own", "6.1", text=text).returncode == 0
    assert times(tmp_path) == 2
    (root / "usr/sbin/mkinitramfs").unlink()
    assert run(tmp_path, "x", "-o", f"{root}/boot/own", "6.1", text=text).returncode == 127
