"""Hostile inputs at full size, and sound ones with random damage: python -m tests.hostile.soak [MB [DAMAGED]].

Each input is read by a process of its own. Printed is what that took; exit status 1 when one took more
than 512 MB of memory or 20 s of CPU time, or ended otherwise than with an answer or an error of ours.
"""

from __future__ import annotations

import io
import json
import random
import resource
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from provisioner.system.context import ContextError
from shared.disks.extents import copy_sparse
from shared.errors import GoldsmithError
from shared.images.contents import describe_image
from shared.images.diff.compare import compare_disks
from shared.machines.direct_boot.direct_boot import prepare_boot
from tests.conftest import ROOT
from tests.hostile.inputs import ATTACKS, MB, OURS, listed, listed_packages, looked_into, on_vm, packed, peak, unpacked
from tests.hostile.texts import boot_menu, spec
from tests.shared.disks.small_disks import os_tree, rooted

MEGABYTES, DAMAGED = 64, 500
MOST_MB, MOST_SECONDS = 512, 20
PATIENCE = 900  # seconds of a process that would not end by itself
PLACES = 20  # that are damaged in one input, at most
MENU = "set timeout=0\nmenuentry 'a' {\n  linux /vmlinuz root=/dev/sda1 ro 'a b' \"c\"\n}\n" * 50
SPEC = "name: x\nsource: {project: local, family: f}\nsteps:\n- {name: a, action: reboot}\noutput: {labels: {a: b}}\n"


@dataclass(frozen=True)
class Taken:
    """What reading took: MB at the peak, seconds of CPU time."""

    name: str
    peak: float
    seconds: float
    wrong: str = ""

    @property
    def is_too_much(self) -> bool:
        """Whether it is more than a reader may take."""
        return bool(self.wrong) or self.peak > MOST_MB or self.seconds > MOST_SECONDS


def attacked(name: str, size: int) -> Taken:
    """Have one attack of that many bytes read."""
    attack = ATTACKS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "input")
        attack.make(path, size)
        done = _run("tests.hostile.inputs", name, str(path))
    if done.returncode:
        return Taken(name, 0, 0, done.stderr[-300:] or f"exit status {done.returncode}")
    ended = json.loads(done.stdout)
    wrong = f"{ended['kind']}: {ended['text']}" if ended["kind"] not in ("", *OURS) else ""
    return Taken(name, ended["peak"], ended["seconds"], wrong)


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["timeout", str(PATIENCE), sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def tree(folder: Path) -> Path:
    """Make what a small image holds: something of each kind that is read."""
    root = folder / "tree"
    os_tree(root)
    (root / "boot/grub").mkdir()
    (root / "boot/grub/grub.cfg").write_text(MENU)
    (root / "boot/vmlinuz-6.1.0-9-cloud-amd64").write_bytes(bytes(4096))
    (root / "etc/shadow").write_text("root:$6$x:1::::::\n")
    (root / "etc/sysctl.d").mkdir()
    (root / "etc/sysctl.d/a.conf").write_text("a.b = 1\n" * 100)
    (root / "var/lib/dpkg/status").write_text("Package: a\nVersion: 1\nStatus: install ok installed\n\n" * 500)
    for number in range(200):
        (root / f"etc/{number}.conf").write_text(f"password=a1b2c3d4{number}\n" * number)
    return root


def disk(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rooted(path, tree(Path(folder)))


def archive(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        disk(Path(folder, "disk.raw"))
        packed(path, [_tar(Path(folder), "disk.raw")])


def context(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path.write_bytes(_tar(tree(Path(folder)), "."))


def written(text: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_text(text)

    return make


def _tar(folder: Path, name: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.add(folder / name, arcname=name)
    return data.getvalue()


def _compared(path: Path) -> object:
    other = path.with_suffix(".copy")
    copy_sparse(path, other)
    return compare_disks(path, other)


def _booted(path: Path) -> object:
    with tempfile.TemporaryDirectory() as home:
        return prepare_boot(path, Path(home))


# What a reader is given, and the reader; damage goes into the first one.
SOUND: Mapping[str, tuple[Callable[[Path], None], Callable[[Path], object]]] = {
    "disk, described": (disk, describe_image),
    "disk, looked into": (disk, looked_into),
    "disk, its packages": (disk, listed_packages),
    "disk, compared": (disk, _compared),
    "disk, for a direct boot": (disk, _booted),
    "archive of a disk": (archive, unpacked),
    "context": (context, listed),
    "context on a VM": (context, on_vm),
    "boot menu": (written(MENU), boot_menu),
    "spec": (written(SPEC), spec),
}


def damage(data: bytearray, chance: random.Random) -> None:
    """Change some bytes, as bad disks and attackers do: anywhere that is not zero, or in the first blocks."""
    for _place in range(chance.randint(1, PLACES)):
        at = chance.randrange(len(data)) if chance.random() < 0.3 else chance.randrange(min(len(data), 3 * MB))
        for _try in range(50):
            if data[at]:
                break
            at = chance.randrange(len(data))
        length = chance.choice((1, 1, 2, 4, 8))
        data[at : at + length] = chance.choice((bytes(length), b"\xff" * length, chance.randbytes(length)))[
            : len(data) - at
        ]


def damaged(name: str, count: int) -> Taken:
    """Read a sound input with the damage of each seed below `count`. The peak is this whole process's."""
    make, read = SOUND[name]
    wrong = ""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sound")
        make(path)
        sound = path.read_bytes()
        for seed in range(count):
            data = bytearray(sound)
            damage(data, random.Random(f"{name} {seed}"))
            path.write_bytes(data)
            wrong = wrong or _fault(read, path, seed)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return Taken(f"{name}, {count} times damaged", peak(), (usage.ru_utime + usage.ru_stime) / count, wrong)


def _fault(read: Callable[[Path], object], path: Path, seed: int) -> str:
    try:
        read(path)
    except (GoldsmithError, ContextError):
        return ""
    except Exception as error:  # noqa: BLE001 - what no reader should raise
        return f"seed {seed}: {type(error).__name__}: {error}"[:300]
    return ""


def main() -> int:
    """Read everything, and say what it took."""
    given = [int(argument) for argument in sys.argv[1:]]
    size, count = [*given, *(MEGABYTES, DAMAGED)[len(given) :]]
    found = []
    for name in ATTACKS:
        found.append(attacked(name, size * MB))
        _say(found[-1])
    for name in SOUND:
        done = _run("tests.hostile.soak", "--damaged", name, str(count))
        found.append(Taken(**json.loads(done.stdout)) if not done.returncode else Taken(name, 0, 0, done.stderr[-300:]))
        _say(found[-1])
    for key, unit in (("peak", "MB"), ("seconds", "s")):
        most = max(found, key=lambda taken: float(getattr(taken, key)))
        sys.stdout.write(f"the most of {len(found)}: {getattr(most, key):.1f} {unit} ({most.name})\n")
    return int(any(taken.is_too_much for taken in found))


def _say(taken: Taken) -> None:
    mark = "TOO MUCH " if taken.is_too_much else ""
    sys.stdout.write(f"{taken.peak:6.0f} MB {taken.seconds:6.1f} s  {mark}{taken.name} {taken.wrong}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--damaged"]:
        sys.stdout.write(json.dumps(vars(damaged(sys.argv[2], int(sys.argv[3])))))
    else:
        sys.exit(main())
