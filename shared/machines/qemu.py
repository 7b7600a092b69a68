"""QEMU's command line, as a pure function of the machine's specification.

Both ways to boot share the serial ports (1 is the console, 3 has the reports), the network and its servers. A direct
boot has its disks on one NVMe controller, for which kernels have a built-in driver. A firmware boot has them on
virtio-scsi, as Compute Engine does. guest/init knows the same addresses of the guest, gateway and name server.

A machine for arm64 has one serial port of its own, and the four of a PCI card: the third is ttyS2 there as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from provisioner.protocol import NVME_SERIAL, ROOT_DISK, ROOT_NAMESPACE, SCRATCH, SCRATCH_NAMESPACE, SHELL_PORT

from ..architectures import ARM64, X86_64, find_architecture
from ..cache.layer_store import LayerRecord, StepLayer

_NAMESPACES = {SCRATCH: SCRATCH_NAMESPACE, ROOT_DISK: ROOT_NAMESPACE}
ADDRESS = "169.254.169.254"  # Compute Engine's metadata server; here, what metadata_server.py serves
NETWORK, GUEST, GATEWAY, NAME_SERVER = "169.254.169.0/24", "169.254.169.15", "169.254.169.2", "169.254.169.3"

# Emulated CPUs have what x86-64-v2 needs, and random numbers. With `max`, mount and systemd's network services fail in
# a Debian that boots by firmware.
CPU: Mapping[str, str] = {"tcg": "qemu64,svm=off,+rdrand,+ssse3,+sse4.1,+sse4.2,+popcnt,+cx16,+lahf-lm", "kvm": "host"}
MACHINE = "q35,usb=off,smbus=off,vmport=off"
NO_LEGACY = ",sata=off,i8042=off"  # a firmware may use them; a kernel that QEMU starts only loses time probing them

# The newest interrupt controller that the host's has, or QEMU: kernels on hosts with GICv3 have no GICv2 for guests.
_ARM_CPU: Mapping[str, str] = {"tcg": "cortex-a72", "kvm": "host"}
_ARM_MACHINE = "virt,gic-version=max"

ROOT_DRIVE = "root"
GIVEN_BUS = "given"  # where a direct boot takes one disk more, with a controller of its own
DISK_OPTIONS = "cache=unsafe,discard=unmap,detect-zeroes=unmap"  # after a crash of the host a build starts again


@dataclass(frozen=True)
class DataDisk:
    """A disk beside the boot disk. The guest sees `name` as the device's serial number."""

    path: Path  # raw
    name: str
    writable: bool = False


@dataclass(frozen=True)
class StepCache:
    """The layers that a machine's build may begin after, and those that it leaves."""

    build: str
    chain: tuple[StepLayer, ...]  # of a VM, whose disk has them already: only those that it leaves
    max_age: float  # seconds, of results that could have come from other hosts
    before: LayerRecord | None = None  # of a VM: the last layer that its disk has, and the first step that it has not
    first: int = 0
    key: str = field(default="", repr=False)  # the job's, with which a VM asks for layers


@dataclass(frozen=True)
class GivenSecrets:
    """The secrets of a machine's steps, by the places that the job names. They are in no text of this object."""

    key: str = field(repr=False)  # the job's, with which the machine asks for them
    values: Mapping[str, bytes] = field(repr=False)
    forms: Sequence[bytes] = field(default=(), repr=False)  # by which a text would give a value away


@dataclass(frozen=True)
class MachineSpec:
    """The parts of a machine.

    `folder` is its own, for the CIDATA disk, console.log, reports.log and machine.json. `cidata` maps names to
    contents, or to the files that hold them. Where it is None, the machine has no such disk and asks its metadata
    server instead.
    """

    name: str
    folder: Path
    disk: Path  # raw
    cidata: Mapping[str, bytes | Path] | None
    boot: str = "direct"  # or firmware
    cpus: int = 2
    memory_mb: int = 1024
    internet: bool = True
    data_disks: tuple[DataDisk, ...] = ()
    product: str = ""  # SMBIOS's product name, by which guests recognize Compute Engine
    panic_ends: bool = True  # False: a machine whose kernel panics keeps running, as on Compute Engine
    engine: str = "vm"  # or chroot: a sandbox, without QEMU
    source: str = ""  # the id of the image that the disk was copied from, and its own disk: for a sandbox
    source_disk: Path | None = None
    written_at: int | None = None  # for a sandbox whose disk is to be the same bytes each time: its date
    cache: StepCache | None = None  # what earlier builds have left of the same steps, and what this one leaves
    secrets: GivenSecrets | None = None
    packages: bool = False  # whether the HTTP server is a proxy for packages as well
    site_proxy: Mapping[str, str] = field(default_factory=dict, repr=False)  # as in a job; what that proxy goes by
    takes_disks: bool = False  # it can be given a disk while it runs, also in a direct boot
    shell: bool = False  # its job may hold it for a person, who gets a shell by a connection beside the others
    architecture: str = X86_64.name


@dataclass(frozen=True)
class KernelFiles:
    """The files of a direct boot. `rom`: QEMU has qboot.rom, the small firmware that only starts kernels."""

    kernel: Path
    initrd: Path
    command_line: str
    rom: bool


@dataclass(frozen=True)
class UefiFiles:
    """UEFI firmware, and this machine's own copy of its variables."""

    code: Path
    variables: Path


@dataclass(frozen=True)
class Wiring:
    """The descriptors of sockets that QEMU inherits, and the names of the HTTP servers' abstract sockets.

    `http` answers at ADDRESS, and `others` at the addresses of NETWORK that are their keys.
    """

    console: int
    reports: int
    http: str
    others: Mapping[str, str] = field(default_factory=dict)
    monitor: int | None = None  # QMP, for machines whose disks may grow, or are kept, while they run
    paused: bool = False  # the machine waits until the monitor lets it go on
    shell: int | None = None  # a virtio port, for machines that a person may look at


Firmware = KernelFiles | UefiFiles | Literal["bios"]


def command(
    spec: MachineSpec,
    cidata: Path | None,
    firmware: Firmware,
    accelerator: Literal["kvm", "tcg"],
    wiring: Wiring,
    socat: str,
) -> list[str]:
    """Return the whole command line. `cidata` is the CIDATA disk, if there is one, and `socat` the program's path."""
    is_direct = isinstance(firmware, KernelFiles)
    return [
        find_architecture(spec.architecture).emulator,
        *("-name", f"{_escaped(spec.name)},process=goldsmith-vm"),
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-sandbox", "on,obsolete=deny"),  # a stricter one kills what QEMU starts for connections
        *("-accel", "kvm" if accelerator == "kvm" else "tcg,thread=multi"),
        *_board(spec, accelerator, direct=is_direct),
        *("-smp", str(spec.cpus), "-m", f"{spec.memory_mb}M"),
        *_firmware(firmware),
        *(("-smbios", _smbios(spec.product)) if spec.product else ()),
        *_disks(spec, cidata, direct=is_direct),
        *_serial_ports(spec, wiring),
        *(() if wiring.monitor is None else _monitor(wiring.monitor)),
        *(("-S",) if wiring.paused else ()),
        *(() if wiring.shell is None else _shell_port(wiring.shell)),
        *_network(wiring, socat, internet=spec.internet),
    ]


def _board(spec: MachineSpec, accelerator: str, *, direct: bool) -> list[str]:
    if spec.architecture == ARM64.name:
        return ["-machine", _ARM_MACHINE, "-cpu", _ARM_CPU[accelerator]]
    return ["-machine", MACHINE + (NO_LEGACY if direct else ""), "-cpu", CPU[accelerator]]


def _firmware(firmware: Firmware) -> list[str]:
    if isinstance(firmware, KernelFiles):
        return [
            "-no-reboot",  # QEMU would start the old kernel again; see process.py
            *(("-bios", "qboot.rom") if firmware.rom else ()),
            *("-kernel", str(firmware.kernel), "-initrd", str(firmware.initrd), "-append", firmware.command_line),
        ]
    if isinstance(firmware, UefiFiles):
        return [
            *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={_escaped(firmware.code)}"),
            *("-drive", f"if=pflash,unit=1,format=raw,file={_escaped(firmware.variables)}"),
        ]
    return []


def _smbios(product: str) -> str:
    return f"type=1,manufacturer=Google,product={_escaped(product)}"


def drive_of(spec: MachineSpec, disk: Path) -> str | None:
    """Return QEMU's name of one of the machine's disks, or None for a disk that the machine does not have."""
    found = [drive for drive, path, *_ in _drives(spec, None) if path == disk]
    return found[0] if found else None


def _drives(spec: MachineSpec, cidata: Path | None) -> list[tuple[str, Path, bool, str]]:
    """Return the disks in order: name in QEMU, file, whether it is writable, and name in the guest of each."""
    drives = [(ROOT_DRIVE, spec.disk, True, "")]
    drives += [("cidata", cidata, False, "")] if cidata is not None else []
    data = enumerate(spec.data_disks)
    return drives + [(f"data{number}", disk.path, disk.writable, disk.name) for number, disk in data]


def _disks(spec: MachineSpec, cidata: Path | None, *, direct: bool) -> list[str]:
    """Return the options of all disks. The root is the first disk, and CIDATA, if there is one, the second."""
    options = ["-device", f"nvme,serial={NVME_SERIAL}" if direct else "virtio-scsi-pci"]
    options += ["-device", f"pcie-root-port,id={GIVEN_BUS},chassis=1,slot=1"] if direct and spec.takes_disks else []
    for number, (drive, path, writable, name) in enumerate(_drives(spec, cidata), 1):
        access = DISK_OPTIONS if writable else "readonly=on"
        device = _nvme_disk(drive, number, name) if direct else _scsi_disk(drive, number, name, writable=writable)
        options += ["-drive", f"if=none,id={drive},format=raw,{access},file={_escaped(path)}", "-device", device]
    return options


def _nvme_disk(drive: str, number: int, name: str) -> str:
    """Return a namespace of the controller. The guest knows it by its number, since Linux ignores QEMU's UUIDs."""
    return f"nvme-ns,drive={drive},nsid={_NAMESPACES.get(name, number)}"


def _scsi_disk(drive: str, number: int, name: str, *, writable: bool) -> str:
    """Return a disk of virtio-scsi. One with a name gets Compute Engine's link scsi-0Google_PersistentDisk_NAME."""
    named = f",vendor=Google,product=PersistentDisk,device_id={_escaped(name)}" if name else ""
    boot = ",bootindex=1" if number == 1 else ""
    faults = ",werror=report,rerror=report" if writable else ""  # by default QEMU stops the machine on a full host
    return f"scsi-hd,drive={drive},lun={number}{boot}{faults}{named}"


def given_disk(name: str, number: int, direct: bool) -> dict[str, object]:
    """Return the device of a disk that a machine is given while it runs, as QMP has it."""
    if direct:
        return {"driver": "nvme", "serial": f"{NVME_SERIAL}-{name}", "bus": GIVEN_BUS}
    return {"driver": "scsi-hd", "lun": number, "vendor": "Google", "product": "PersistentDisk", "device_id": name}


def _serial_ports(spec: MachineSpec, wiring: Wiring) -> list[str]:
    sockets = [
        *("-chardev", f"socket,id=console,fd={wiring.console}"),
        *("-chardev", f"socket,id=reports,fd={wiring.reports}"),
    ]
    if spec.architecture != ARM64.name:
        return [*sockets, "-serial", "chardev:console", "-serial", "null", "-serial", "chardev:reports"]
    unused = ("none1", "none2", "none4")
    card = ",".join(f"chardev{number}={name}" for number, name in enumerate(("none1", "none2", "reports", "none4"), 1))
    return [
        *sockets,
        *(word for name in unused for word in ("-chardev", f"null,id={name}")),
        *("-serial", "chardev:console", "-device", f"pci-serial-4x,{card}"),
    ]


def _monitor(descriptor: int) -> list[str]:
    return ["-chardev", f"socket,id=monitor,fd={descriptor}", "-mon", "chardev=monitor,mode=control"]


def _shell_port(descriptor: int) -> list[str]:
    return [
        *("-device", "virtio-serial-pci", "-chardev", f"socket,id=shell,fd={descriptor}"),
        *("-device", f"virtserialport,chardev=shell,name={SHELL_PORT}"),
    ]


def _network(wiring: Wiring, socat: str, *, internet: bool) -> list[str]:
    """Return the options of the network. QEMU starts a socat for each connection to a server.

    QEMU can forward to a socket by itself, but all connections would then share it, and get each other's answers.
    socat's messages go to /dev/null: otherwise the guest would read them as the answer.
    """
    options = [
        *(
            "user",
            "id=net",
            f"net={NETWORK}",
            f"host={GATEWAY}",
            f"dns={NAME_SERVER}",
            f"dhcpstart={GUEST}",
            "ipv6=off",
        ),
        *(() if internet else ("restrict=on",)),
        *(
            f"guestfwd=tcp:{address}:80-cmd:{_escaped(socat)} -lf/dev/null - ABSTRACT-CONNECT:{server}"
            for address, server in {ADDRESS: wiring.http, **wiring.others}.items()
        ),
    ]
    return ["-netdev", ",".join(options), "-device", "virtio-net-pci,netdev=net,romfile="]


def _escaped(value: str | Path) -> str:
    """Double the commas of a value, since commas separate QEMU's options."""
    return str(value).replace(",", ",,")
