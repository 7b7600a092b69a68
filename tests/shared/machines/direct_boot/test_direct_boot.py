"""What a direct boot starts: kernels taken apart, modules in their order, the initrd's archive, the cache's entries."""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.architectures import ARM64
from shared.budget import KERNEL_BOUNDS, Budget
from shared.errors import ImageFileError
from shared.machines.direct_boot import kernel_image, units
from shared.machines.direct_boot.direct_boot import APPLETS, GUEST, prepare_boot, static_busybox
from shared.machines.direct_boot.initramfs import CpioMember, archive
from shared.machines.direct_boot.installed_kernel import DirectBootImpossible
from shared.machines.direct_boot.kernel_image import NotAKernel
from shared.machines.direct_boot.kernel_modules import Modules, NoSuchModule, unpacked_module
from tests.shared.disks.small_disks import os_tree, partitioned, rooted

RELEASE = "6.1.0-9-cloud-amd64"
MODULES = f"usr/lib/modules/{RELEASE}"


def elf(*, pvh: bool = True, machine: int = 62) -> bytes:
    """As much of a vmlinux as is looked at: one note segment, with or without the entry that QEMU uses."""
    note = struct.pack("<III", 4, 4, 5) + b"Xen\0" + bytes(4)
    note += struct.pack("<III", 4, 8, 18 if pvh else 6) + b"Xen\0" + bytes(8)
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    return head + struct.pack("<IIQQQQQQ", 4, 0, 120, 0, 0, len(note), 0, 4) + note + bytes(5000)


def bz_image(payload: bytes, release: str = RELEASE) -> bytes:
    """A kernel file with this payload behind four sectors of setup code."""
    image = bytearray(5 * 512)
    image[0x1F1] = 4
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x20E, 0x400)
    text = f"{release} (builder@host) #1 SMP".encode() + b"\0"
    image[0x600 : 0x600 + len(text)] = text
    struct.pack_into("<II", image, 0x248, 16, len(payload))
    return bytes(image) + bytes(16) + payload


def by_program(*command: str) -> Callable[[bytes], bytes]:
    return lambda data: subprocess.run(command, input=data, capture_output=True, check=True).stdout


def kernel_tree(folder: Path, kernel: bytes) -> Path:
    """A root file system with this kernel, and modules of which two need each other's kind."""
    os_tree(folder)
    (folder / f"boot/vmlinuz-{RELEASE}").write_bytes(kernel)
    modules = folder / MODULES
    for name in ("virtio.ko", "virtio_pci.ko", "virtio_net.ko.xz"):
        data = f"module {name.partition('.')[0]}".encode()
        (modules / name).write_bytes(lzma.compress(data) if name.endswith("xz") else data)
    (modules / "modules.dep").write_text("virtio.ko:\nvirtio_pci.ko: virtio.ko\nvirtio_net.ko.xz: virtio.ko\n")
    (modules / "modules.devname").write_text("# Device nodes\nfuse fuse c10:229\ntun net/tun c10:200\nloop ../x c1:2\n")
    (modules / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\nkernel/nvme.ko\nkernel/fs/isofs/isofs.ko\n")
    return folder


def extracted(initrd: Path, into: Path) -> Path:
    """Unpack an initrd, but for the device nodes, which only root may make."""
    into.mkdir()
    subprocess.run(["cpio", "-idm", "--quiet", "-f", "nodes/*"], input=initrd.read_bytes(), cwd=into, check=True)
    return into


# --- the kernel


@pytest.mark.parametrize(
    "pack",
    [
        gzip.compress,
        lzma.compress,
        lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
        bz2.compress,
        by_program("lz4", "-l", "-c"),
        by_program("zstd", "-c"),
    ],
    ids=["gzip", "xz", "lzma", "bzip2", "lz4", "zstd"],
)
def test_kernel_is_unpacked_whatever_it_is_packed_with(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    size = struct.pack("<I", len(elf()))  # what the kernel's build adds
    assert kernel_image.unpacked(bz_image(pack(elf()) + size), Budget(KERNEL_BOUNDS, tmp_path)) == elf()


@pytest.mark.parametrize("vmlinux", [elf(pvh=False), elf(machine=183), b"no ELF" * 100])
def test_kernel_that_cannot_be_entered_directly_is_left_packed(vmlinux: bytes, tmp_path: Path) -> None:
    assert kernel_image.unpacked(bz_image(gzip.compress(vmlinux) + bytes(4)), Budget(KERNEL_BOUNDS, tmp_path)) is None


def test_kernel_packed_in_an_unknown_way_is_left_packed(tmp_path: Path) -> None:
    assert kernel_image.unpacked(bz_image(b"\x89LZO" + bytes(100)), Budget(KERNEL_BOUNDS, tmp_path)) is None


def test_release_names_the_folder_of_modules() -> None:
    assert kernel_image.release(bz_image(b"")) == RELEASE
    with pytest.raises(NotAKernel):
        kernel_image.release(b"MZ" + bytes(4096))


# --- kernels for arm64


def arm_image(release: str = RELEASE) -> bytes:
    """As much of an Image as is looked at: its header, and what it says when it starts."""
    return b"MZ".ljust(0x38, b"\0") + b"ARM\x64" + bytes(500) + f"Linux version {release} (builder@host)".encode()


def zboot(payload: bytes) -> bytes:
    """A program of UEFI that unpacks an Image."""
    return b"MZ\0\0zimg" + struct.pack("<II", 64, len(payload)) + bytes(48) + payload + bytes(100)


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, lambda data: zboot(gzip.compress(data)), by_program("zstd", "-c")]
)
def test_kernel_for_arm64_is_its_image_however_it_is_packed(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    plain = kernel_image.plain_image(pack(arm_image()), Budget(KERNEL_BOUNDS, tmp_path))
    assert plain == arm_image()
    assert kernel_image.release(plain) == RELEASE
    assert kernel_image.unpacked(plain, Budget(KERNEL_BOUNDS, tmp_path)) is None


@pytest.mark.parametrize(
    "damaged",
    [zboot(gzip.compress(arm_image())[:50]), gzip.compress(arm_image())[:50] + b"x", b"MZ\0\0zimg"],
    ids=["zboot cut short", "gzip cut short", "zboot without a header"],
)
def test_damaged_kernel_for_arm64_is_none(damaged: bytes, tmp_path: Path) -> None:
    with pytest.raises(NotAKernel):
        kernel_image.release(kernel_image.plain_image(damaged, Budget(KERNEL_BOUNDS, tmp_path)))


def test_kernel_without_a_version_is_none() -> None:
    with pytest.raises(NotAKernel, match="does not tell its version"):
        kernel_image.release(arm_image().replace(b"version", b"VERSION"))


def arm_busybox(*, static: bool = True) -> bytes:
    """As much of the program as is looked at: its header, one segment, and the names of its applets."""
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1 if static else 3, 0, 0, 0, 0, 0, 0, 0)
    return head + segment + b"\0" + b"".join(f"{name}\0".encode() for name in APPLETS)


def test_the_initrd_for_arm64_has_the_image_s_own_busybox(tmp_path: Path) -> None:
    tree = kernel_tree(tmp_path / "tree", gzip.compress(arm_image()))
    (tree / "usr/bin/busybox").write_bytes(arm_busybox())
    boot = prepare_boot(rooted(tmp_path / "disk.raw", tree), tmp_path / "home", ARM64)
    assert boot.kernel.read_bytes() == arm_image()
    assert (extracted(boot.initrd, tmp_path / "initrd") / "bin/busybox").read_bytes() == arm_busybox()
    line = boot.command_line(internet=True)
    assert line.startswith("console=ttyAMA0 ")
    assert "systemd.mask=serial-getty@ttyAMA0.service" in line
    assert "ttyS0" not in line
    assert len(line) < 2047


@pytest.mark.parametrize("busybox", [None, arm_busybox(static=False), arm_busybox()[:-20], elf(), b"#!/bin/sh\n"])
def test_an_image_for_arm64_without_a_busybox_says_what_to_add(tmp_path: Path, busybox: bytes | None) -> None:
    tree = kernel_tree(tmp_path / "tree", arm_image())
    if busybox is not None:
        (tree / "usr/bin/busybox").write_bytes(busybox)
    with pytest.raises(DirectBootImpossible, match="add the package busybox-static to it"):
        prepare_boot(rooted(tmp_path / "disk.raw", tree), tmp_path / "home", ARM64)


def test_a_kernel_for_another_processor_is_not_started(tmp_path: Path) -> None:
    disk = rooted(tmp_path / "disk.raw", kernel_tree(tmp_path / "tree", arm_image()))
    with pytest.raises(DirectBootImpossible, match="its kernel is for arm64, and the machine has x86_64"):
        prepare_boot(disk, tmp_path / "home")


# --- the modules

TABLES = {
    "modules.dep": (
        "a.ko: sub/b.ko.xz c-d.ko\nsub/b.ko.xz: c-d.ko\nc-d.ko:\ncrc32c_generic.ko:\nfat.ko:\nloop1.ko:\nloop2.ko:\n"
    ),
    "modules.softdep": (
        "# made by depmod\nsoftdep a pre: crc32c missing post: fat\n"
        "softdep loop1 pre: loop2\nsoftdep loop2 pre: loop1\n"
    ),
    "modules.alias": "alias crypto-crc32c crc32c_generic\nalias pci:v*d* a\n",
    "modules.builtin": "kernel/fs/ext4/ext4.ko\n",
}


def test_needs_are_loaded_first_and_once() -> None:
    modules = Modules.read(TABLES, Budget(KERNEL_BOUNDS, "x"))
    assert modules.order(["a", "ext4", "b"]) == ["crc32c_generic.ko", "c-d.ko", "sub/b.ko.xz", "a.ko"]
    assert modules.order(["ext4"]) == []
    assert modules.order(["loop1"]) == ["loop2.ko", "loop1.ko"]


def test_absent_module_is_told_from_a_built_in_one() -> None:
    with pytest.raises(NoSuchModule, match="nvme"):
        Modules.read(TABLES, Budget(KERNEL_BOUNDS, "x")).order(["nvme"])
    with pytest.raises(NoSuchModule):
        Modules.read({}, Budget(KERNEL_BOUNDS, "x")).order(["a"])


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.ko", b"data"),
        ("x.ko.gz", gzip.compress(b"data", mtime=0)),
        ("x.ko.xz", lzma.compress(b"data")),
        ("x.ko.zst", by_program("zstd", "-c")(b"data")),
    ],
)
def test_module_is_unpacked(name: str, data: bytes) -> None:
    assert unpacked_module(name, data, Budget(KERNEL_BOUNDS, "test")) == b"data"


# --- the initrd


def test_archive_is_what_cpio_reads(tmp_path: Path) -> None:
    members = {
        "init": CpioMember.file(b"#!/bin/sh\n", executable=True),
        "bin/sh": CpioMember.link("busybox"),
        "a/b/c": CpioMember.file(b"123"),
        "empty": CpioMember.folder(),
    }
    (tmp_path / "initrd").write_bytes(archive(members))
    tree = extracted(tmp_path / "initrd", tmp_path / "tree")
    assert (tree / "init").read_text() == "#!/bin/sh\n"
    assert stat.S_IMODE((tree / "init").stat().st_mode) == 0o755
    assert (tree / "bin/sh").readlink() == Path("busybox")
    assert (tree / "a/b/c").read_bytes() == b"123"
    assert (tree / "empty").is_dir()
    assert archive(members) == archive(dict(reversed(members.items())))


def test_prepared_boot_has_kernel_modules_and_our_init(tmp_path: Path) -> None:
    disk = rooted(tmp_path / "disk.raw", kernel_tree(tmp_path / "tree", bz_image(gzip.compress(elf()) + bytes(4))))
    boot = prepare_boot(disk, tmp_path / "home")
    assert boot.kernel.read_bytes() == elf()
    tree = extracted(boot.initrd, tmp_path / "initrd")
    assert (tree / "init").read_bytes() == (GUEST / "init").read_bytes()
    assert (tree / "bin/busybox").read_bytes() == static_busybox()
    assert [(path.name, path.read_text()) for path in sorted((tree / "modules").iterdir())] == [
        ("000-virtio.ko", "module virtio"),
        ("001-virtio_pci.ko", "module virtio_pci"),
        ("002-virtio_net.ko", "module virtio_net"),
    ]
    listed = subprocess.run(
        ["cpio", "-itv", "--quiet"], input=boot.initrd.read_bytes(), capture_output=True, check=True
    )
    nodes = [line.split() for line in listed.stdout.decode().splitlines() if line.startswith("c")]
    assert [(words[0], words[4], words[5], words[-1]) for words in nodes] == [
        ("crw-------", "10,", "229", "nodes/fuse"),
        ("crw-------", "10,", "200", "nodes/net/tun"),
    ]
    unit = tree / "overlay/systemd/system/multi-user.target.wants/goldsmith.service"
    assert unit.resolve().read_bytes() == (GUEST / "goldsmith.service").read_bytes()
    line = boot.command_line(internet=False).split()
    for word in ("goldsmith.partition=1", "goldsmith.type=ext4", "goldsmith.internet=no"):
        assert word in line
    assert len(boot.command_line(internet=True)) < 2047  # COMMAND_LINE_SIZE


def test_entry_is_made_once_and_anew_for_another_kernel(tmp_path: Path) -> None:
    tree = kernel_tree(tmp_path / "tree", bz_image(gzip.compress(elf()) + bytes(4)))
    first = prepare_boot(rooted(tmp_path / "one.raw", tree), tmp_path / "home")
    made = first.initrd.stat().st_mtime_ns
    assert prepare_boot(rooted(tmp_path / "two.raw", tree), tmp_path / "home") == first
    assert first.initrd.stat().st_mtime_ns == made
    (tree / f"boot/vmlinuz-{RELEASE}").write_bytes(bz_image(gzip.compress(elf(pvh=False)) + bytes(4)))
    packed = prepare_boot(rooted(tmp_path / "three.raw", tree), tmp_path / "home")
    assert packed.kernel.parent != first.kernel.parent
    assert packed.kernel.read_bytes() == (tree / f"boot/vmlinuz-{RELEASE}").read_bytes()
    assert len(list((tmp_path / "home/cache/boot").iterdir())) == 2


@pytest.mark.parametrize("name", ["kernel", "initrd"])
def test_entry_that_a_power_cut_has_emptied_is_made_anew(tmp_path: Path, name: str) -> None:
    disk = rooted(tmp_path / "disk.raw", kernel_tree(tmp_path / "tree", bz_image(gzip.compress(elf()) + bytes(4))))
    boot = prepare_boot(disk, tmp_path / "home")
    whole = (boot.kernel.read_bytes(), boot.initrd.read_bytes())
    (boot.kernel.parent / name).write_bytes(b"")
    assert prepare_boot(disk, tmp_path / "home") == boot
    assert (boot.kernel.read_bytes(), boot.initrd.read_bytes()) == whole
    assert [path.name for path in (tmp_path / "home/cache/boot").iterdir()] == [boot.kernel.parent.name]


def test_newest_kernel_is_booted(tmp_path: Path) -> None:
    tree = kernel_tree(tmp_path / "tree", bz_image(zlib.compress(b"")))
    (tree / "usr/lib/modules/6.1.0-10").mkdir()
    for path in (tree / MODULES).iterdir():
        (tree / "usr/lib/modules/6.1.0-10" / path.name).write_bytes(path.read_bytes())
    newest = bz_image(b"newest", "6.1.0-10")
    (tree / "boot/vmlinuz-6.1.0-10").write_bytes(newest)
    (tree / "boot/vmlinuz-0-rescue-0123").write_bytes(b"rescue")
    assert prepare_boot(rooted(tmp_path / "disk.raw", tree), tmp_path / "home").kernel.read_bytes() == newest


DEBIAN_MENU = """\
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
else
   set default="DEFAULT"
fi
menuentry 'Linux' --class debian {
\tlinux\tPATH root=UUID=0f5a ro quiet
}
menuentry 'Other' {
\tlinux\t/boot/vmlinuz-newest root=UUID=0f5a ro quiet
}
"""


@pytest.mark.parametrize(
    ("menu", "booted"),
    [
        (DEBIAN_MENU.replace("DEFAULT", "0").replace("PATH", f"/boot/vmlinuz-{RELEASE}"), "of the menu"),
        (DEBIAN_MENU.replace("DEFAULT", "0").replace("PATH", f"/vmlinuz-{RELEASE}"), "of the menu"),  # /boot is mounted
        (DEBIAN_MENU.replace("DEFAULT", "0").replace("PATH", "/vmlinuz"), "of the menu"),  # a link
        ('set timeout=0\nmenuentry "Linux" {\n    linux /vmlinuz quiet\n}\n', "of the menu"),
        (DEBIAN_MENU.replace("DEFAULT", "1").replace("PATH", "/vmlinuz"), "newest"),
        (DEBIAN_MENU.replace("DEFAULT", "${saved_entry}").replace("PATH", "/vmlinuz"), "newest"),
        (DEBIAN_MENU.replace("DEFAULT", "0").replace("PATH", "/boot/gone"), "newest"),
        (DEBIAN_MENU.replace("DEFAULT", "0").replace("PATH", "($root)/vmlinuz"), "newest"),
        ("blscfg\n" + DEBIAN_MENU.replace("DEFAULT", "0").replace("PATH", "/vmlinuz"), "newest"),
        ("\xff linux", "newest"),
    ],
)
def test_the_kernel_of_the_boot_loader_s_menu_is_booted(tmp_path: Path, menu: str, booted: str) -> None:
    """An older one may be the default; where the menu leaves it open, it is the newest."""
    tree = kernel_tree(tmp_path / "tree", bz_image(b"of the menu"))
    (tree / "boot/vmlinuz-6.1.0-10").write_bytes(bz_image(b"newest"))
    (tree / "boot/grub").mkdir()
    (tree / "boot/grub/grub.cfg").write_text(menu)
    kernel = prepare_boot(rooted(tmp_path / "disk.raw", tree), tmp_path / "home").kernel
    assert kernel.read_bytes() == bz_image(booted.encode())


def _without(path: str) -> Callable[[Path], object]:
    return lambda tree: (tree / path).unlink()


def _builtin(text: str) -> Callable[[Path], object]:
    return lambda tree: (tree / MODULES / "modules.builtin").write_text(text)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_without(f"boot/vmlinuz-{RELEASE}"), "no kernel"),
        (lambda tree: (tree / f"boot/vmlinuz-{RELEASE}").write_bytes(b"MZ" * 4096), "not a Linux kernel"),
        (_without(f"{MODULES}/modules.dep"), RELEASE),
        (_builtin("ext4.ko\nisofs.ko\n"), "no driver nvme"),
        (_without(f"{MODULES}/virtio.ko"), "virtio.ko is missing"),
    ],
)
def test_what_cannot_boot_directly_says_why(tmp_path: Path, change: Callable[[Path], object], complaint: str) -> None:
    tree = kernel_tree(tmp_path / "tree", bz_image(b""))
    change(tree)
    with pytest.raises(DirectBootImpossible, match=complaint):
        prepare_boot(rooted(tmp_path / "disk.raw", tree), tmp_path / "home")
    entries = tmp_path / "home/cache/boot"
    assert not entries.exists() or list(entries.iterdir()) == []


def test_disk_without_a_readable_root(tmp_path: Path) -> None:
    disk = partitioned(tmp_path / "disk.raw", "label: gpt\nstart=2048\n")
    with pytest.raises(DirectBootImpossible, match="ext4"):
        prepare_boot(disk, tmp_path / "home")
    (tmp_path / "nothing.raw").write_bytes(bytes(4096))
    with pytest.raises(ImageFileError):
        prepare_boot(tmp_path / "nothing.raw", tmp_path / "home")


# --- what runs in the guest


def test_guest_scripts_are_sound() -> None:
    for name in ("init", "start"):
        subprocess.run(["shellcheck", GUEST / name], check=True)


def test_no_unit_is_both_masked_and_deferred() -> None:
    assert not set(units.MASKED) & set(units.DEFERRED)
    assert "goldsmith.service" not in {*units.MASKED, *units.DEFERRED}


def test_units_that_people_enable_are_never_masked() -> None:
    """`systemctl enable` of a masked unit fails, and would fail in a step."""
    for unit in ("ssh.service", "cron.service", "fstrim.timer", "systemd-networkd.service", "apt-daily.timer"):
        assert unit in units.DEFERRED
        assert not any(word.endswith(unit) for word in units.kernel_parameters("ttyS0"))
