"""Machines for arm64: QEMU's command line, the accelerator, the firmware."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from shared.architectures import ARM64, X86_64
from shared.machines.accelerator import accelerator
from shared.machines.qemu import Firmware, KernelFiles, MachineSpec, UefiFiles, Wiring, command
from shared.machines.start import choose_firmware, find_uefi
from tests.shared.disks.small_disks import partitioned
from tests.shared.machines.test_accelerator import probe_with
from tests.shared.machines.test_qemu import after

WIRING = Wiring(console=7, reports=9, http="goldsmith-1", shell=13)


def line(firmware: Firmware, accelerator: Literal["kvm", "tcg"] = "tcg") -> list[str]:
    spec = MachineSpec("vm", Path("/f"), Path("/f/disk.raw"), {}, architecture="arm64", shell=True)
    return command(spec, Path("/f/cidata.iso"), firmware, accelerator, WIRING, "/usr/bin/socat")


def test_its_board_has_nothing_of_a_pc() -> None:
    for firmware in (KernelFiles(Path("/k"), Path("/i"), "", rom=False), UefiFiles(Path("/code"), Path("/variables"))):
        arguments = line(firmware)
        assert arguments[0] == "qemu-system-aarch64"
        assert after(arguments, "-machine") == ["virt,gic-version=max"]
        assert after(arguments, "-cpu") == ["cortex-a72"]
        assert not [each for each in arguments if "q35" in each or "isa" in each]
    assert after(line("bios", "kvm"), "-cpu") == ["host"]


def test_its_third_serial_port_is_one_of_a_card() -> None:
    arguments = line(UefiFiles(Path("/code"), Path("/variables")))
    assert after(arguments, "-serial") == ["chardev:console"]
    card = "pci-serial-4x,chardev1=none1,chardev2=none2,chardev3=reports,chardev4=none4"
    assert card in after(arguments, "-device")
    assert "virtserialport,chardev=shell,name=goldsmith.shell" in after(arguments, "-device")


def test_the_probe_s_program_runs_on_a_real_machine(tmp_path: Path) -> None:
    """KVM's answer on a host of arm64 is given when the machine powers off; emulated machines run the same program."""
    qemu = '#!/bin/sh\nshift 2\nexec /usr/bin/qemu-system-aarch64 -accel tcg "$@"\n'
    done = probe_with(qemu, tmp_path, 20, "arm64")
    assert done.stdout.startswith("kvm "), done.stdout + done.stderr


def test_another_processor_is_emulated_whatever_kvm_can_do(tmp_path: Path) -> None:
    found = accelerator(tmp_path, device=Path("/dev/null"), architecture=ARM64, host=X86_64)
    assert found.name == "tcg"
    assert found.reason == "this host has x86_64, and the image is for arm64; machines are emulated, and slow"
    assert not (tmp_path / "cache").exists()


def test_it_boots_by_uefi_with_variables_of_its_own(tmp_path: Path) -> None:
    disk = partitioned(tmp_path / "disk.raw", "label: dos\nstart=2048, type=83, bootable\n")
    spec = MachineSpec("vm", tmp_path, disk, {}, boot="firmware", architecture="arm64")
    firmware, note = choose_firmware(spec, tmp_path)
    assert isinstance(firmware, UefiFiles)
    assert (firmware.code, note) == (find_uefi(ARM64)[0], "")
    assert firmware.variables.read_bytes() == find_uefi(ARM64)[1].read_bytes()
    assert firmware.variables.stat().st_blocks * 512 < 4 << 20  # of 64 MiB


def test_a_disk_that_cannot_boot_directly_boots_by_uefi(tmp_path: Path) -> None:
    disk = partitioned(tmp_path / "disk.raw", "label: gpt\nstart=2048, type=linux\n")
    firmware, note = choose_firmware(MachineSpec("vm", tmp_path, disk, {}, architecture="arm64"), tmp_path)
    assert isinstance(firmware, UefiFiles)
    assert "no direct boot" in note
