"""QEMU's command line: what each way to boot has, and what no name or path can change."""

from __future__ import annotations

import socket
import subprocess
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from provisioner.protocol import SCRATCH_NAMESPACE
from shared.host.programs import find_tool
from shared.machines.qemu import DataDisk, Firmware, KernelFiles, MachineSpec, UefiFiles, Wiring, command, drive_of

WIRING = Wiring(console=7, reports=9, http="goldsmith-1")
KERNEL = KernelFiles(Path("/c/kernel"), Path("/c/initrd"), "console=ttyS0 a=b", rom=True)


def line(
    firmware: Firmware = "bios", disk: str = "/f/disk.raw", internet: bool = True, wiring: Wiring = WIRING
) -> list[str]:
    spec = MachineSpec("vm", Path("/f"), Path(disk), {}, cpus=3, memory_mb=2048, internet=internet)
    return command(spec, Path("/f/cidata.iso"), firmware, "tcg", wiring, "/usr/bin/socat")


def instance(firmware: Firmware, wiring: Wiring = WIRING, folder: str = "/f") -> list[str]:
    """The command line of a machine as the emulator's Compute Engine has it."""
    disks = (DataDisk(Path(folder, "data.raw"), "cidata"), DataDisk(Path(folder, "b.raw"), "scratch", writable=True))
    disk = Path(folder, "disk.raw")
    spec = MachineSpec("vm", Path(folder), disk, None, data_disks=disks, product="Google Compute Engine")
    return command(spec, None, firmware, "tcg", wiring, "/usr/bin/socat")


def after(arguments: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(arguments) if name == option]


def test_direct_boot_starts_the_kernel_itself() -> None:
    arguments = line(KERNEL)
    assert after(arguments, "-kernel") == ["/c/kernel"]
    assert after(arguments, "-initrd") == ["/c/initrd"]
    assert after(arguments, "-append") == ["console=ttyS0 a=b"]
    assert after(arguments, "-bios") == ["qboot.rom"]
    assert "nvme-ns,drive=root,nsid=1" in arguments
    assert "nvme-ns,drive=cidata,nsid=2" in arguments


def test_without_the_small_firmware_the_usual_one_starts_the_kernel() -> None:
    assert "-bios" not in line(KernelFiles(Path("/k"), Path("/i"), "", rom=False))


def test_firmware_boot_has_disks_as_the_cloud_has_them() -> None:
    arguments = line("bios")
    assert not {"-kernel", "-append", "-bios"} & set(arguments)
    assert "virtio-scsi-pci" in arguments
    assert any(argument.startswith("scsi-hd,drive=root") for argument in arguments)


def test_uefi_has_its_own_variables_and_shares_the_code() -> None:
    code, variables, *_ = after(line(UefiFiles(Path("/code"), Path("/f/variables"))), "-drive")
    assert "readonly=on" in code
    assert code.endswith("file=/code")
    assert "readonly" not in variables
    assert variables.endswith("file=/f/variables")


def test_only_the_internet_is_restricted() -> None:
    (open_,), (closed,) = after(line(), "-netdev"), after(line(internet=False), "-netdev")
    assert "restrict=on" not in open_
    assert "restrict=on" in closed
    assert closed.replace("restrict=on,", "") == open_
    forward = "/usr/bin/socat -lf/dev/null - ABSTRACT-CONNECT:goldsmith-1"
    assert open_.endswith(f"guestfwd=tcp:169.254.169.254:80-cmd:{forward}")


def test_machine_without_cidata_has_its_other_disks_behind_the_root() -> None:
    root, data, scratch = after(instance(KERNEL), "-drive")
    assert ("readonly=on" in root, "readonly=on" in data, "readonly=on" in scratch) == (False, True, False)
    assert after(instance(KERNEL), "-device")[1:4] == [
        "nvme-ns,drive=root,nsid=1",
        "nvme-ns,drive=data0,nsid=2",
        f"nvme-ns,drive=data1,nsid={SCRATCH_NAMESPACE}",
    ]


def test_disks_of_a_firmware_boot_have_the_names_that_compute_engine_gives() -> None:
    _, root, data, scratch, _ = after(instance("bios"), "-device")
    assert "bootindex" in root
    assert "report" not in data
    assert data == "scsi-hd,drive=data0,lun=2,vendor=Google,product=PersistentDisk,device_id=cidata"
    assert scratch.endswith("lun=3,werror=report,rerror=report,vendor=Google,product=PersistentDisk,device_id=scratch")


def test_firmware_says_what_the_machine_is_only_when_asked() -> None:
    assert after(instance("bios"), "-smbios") == ["type=1,manufacturer=Google,product=Google Compute Engine"]
    assert "-smbios" not in line("bios")


def test_each_address_leads_to_its_own_server() -> None:
    wiring = Wiring(7, 9, "metadata", {"169.254.169.253": "services"})
    [network] = after(instance("bios", wiring), "-netdev")
    for address, server in (("169.254.169.254", "metadata"), ("169.254.169.253", "services")):
        assert f"guestfwd=tcp:{address}:80-cmd:/usr/bin/socat -lf/dev/null - ABSTRACT-CONNECT:{server}" in network


def test_machine_has_three_serial_ports_and_its_size() -> None:
    arguments = line()
    assert after(arguments, "-serial") == ["chardev:console", "null", "chardev:reports"]
    assert after(arguments, "-chardev") == ["socket,id=console,fd=7", "socket,id=reports,fd=9"]
    assert (after(arguments, "-smp"), after(arguments, "-m")) == (["3"], ["2048M"])


def test_monitor_is_a_descriptor_and_only_where_there_is_one() -> None:
    wiring = Wiring(7, 9, "goldsmith-1", monitor=11)
    assert "-mon" not in line()
    assert after(line(wiring=wiring), "-chardev")[-1] == "socket,id=monitor,fd=11"
    assert after(line(wiring=wiring), "-mon") == ["chardev=monitor,mode=control"]


def test_disks_are_known_by_their_files() -> None:
    spec = MachineSpec("vm", Path("/f"), Path("/f/a"), {}, data_disks=(DataDisk(Path("/f/b"), "b"),))
    assert [drive_of(spec, Path(path)) for path in ("/f/a", "/f/b", "/f/c")] == ["root", "data0", None]


def test_source_disk_is_written_and_cidata_is_not() -> None:
    root, cidata = after(line(), "-drive")
    assert "readonly" not in root
    assert "discard=unmap" in root
    assert "readonly=on" in cidata


@pytest.mark.parametrize("folder", ["/f/a,readonly=on", "/f/a b", "/f/ü,,x"])
def test_path_cannot_add_options(folder: str) -> None:
    root, _ = after(line(disk=f"{folder}/disk.raw"), "-drive")
    assert root.endswith(f"file={folder.replace(',', ',,')}/disk.raw")


@pytest.mark.parametrize("emulated", [False, True])
@pytest.mark.parametrize("firmware", [KERNEL, "bios", UefiFiles(Path("/code"), Path("/variables"))])
def test_qemu_knows_every_option(firmware: Firmware, emulated: bool, tmp_path: Path) -> None:
    """QEMU reads its whole command line before it opens what the options name; the first absent file ends it."""
    with ExitStack() as stack:
        ends = [stack.enter_context(end) for _ in range(3) for end in socket.socketpair()]
        monitor = ends[4].fileno()
        wiring = Wiring(ends[0].fileno(), ends[2].fileno(), "goldsmith-1", monitor=monitor)
        arguments = line(firmware, disk=str(tmp_path / "absent.raw"), wiring=wiring)
        arguments = instance(firmware, wiring, str(tmp_path)) if emulated else arguments
        done = subprocess.run(
            [find_tool(arguments[0]), *arguments[1:]],
            pass_fds=(wiring.console, wiring.reports, monitor),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 1
    assert "No such file or directory" in done.stderr
