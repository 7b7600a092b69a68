"""Debian from nothing as one file system, against its peers: `python -m benchmarks.from_nothing`, as root.

disk-image-create makes debian-minimal as a raw file system image; `goldsmith dib` makes it of the same
elements. The packages that it has got, as its own manifest names them, are what `goldsmith build` (source.bootstrap),
mkosi and mmdebstrap install. The last two make a tree, around which mke2fs writes the file system. All start with an
empty cache, but for the second builds of ours. All fetch from the same mirror. All take turns in one run.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import LIMITS_HEAD, Candidate, Sample, busy, compare, limit_row, machine, table
from tests.provisioner.elements.element_folders import ORIGINAL, PACKAGE

ROOT = Path(__file__).parents[1]
GOLDSMITH = ROOT / ".venv/bin/goldsmith"
ORIGINALS, ELEMENTS, ELEMENTS_AGAIN = "disk-image-create", "goldsmith dib", "goldsmith dib, again"
PACKAGES, PACKAGES_AGAIN = "goldsmith build", "goldsmith build, again"
MKOSI, PLAIN = "mkosi, mke2fs -d", "mmdebstrap, mke2fs -d"
LIMITS = (
    (ELEMENTS, ORIGINALS, 0.3),
    (ELEMENTS_AGAIN, ORIGINALS, 0.05),
    (PACKAGES, ORIGINALS, 0.3),
    (PACKAGES_AGAIN, ORIGINALS, 0.05),
    (PACKAGES, MKOSI, 1.0),
    (PACKAGES, PLAIN, 1.2),
)
RELEASE = "bookworm"
SYSTEM_PYTHON = Path("/usr/bin/python3")  # which has the libraries that disk-image-create imports
BYTES = "3G"
MEMORY_FILES = Path("/dev/shm")
SUDO = """#!/bin/sh
# disk-image-create runs this for what takes root, which it is here.
while :; do
    case ${1-} in
    -*) shift ;;
    *=*) exec env "$@" ;;
    *) exec "$@" ;;
    esac
done
"""
# It leaves mounts behind when it fails: they are in a namespace of their own, and so are its processes.
ALONE = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")
MKOSI_SCRIPT = """\
set -eu
mount -t tmpfs none /run
tree=$1 disk=$2 mirror=$3
packages=$(sed 's/^/--package=/' "$4")
shift 4
mkosi --force --format=directory --distribution=debian --release=bookworm --mirror="$mirror" --with-network=yes \\
    --with-docs=yes --without-unified-kernel-images --nspawn-keep-unit --workspace-dir="${tree%/*}" \\
    --output="$tree" $packages build
truncate --size=@BYTES@ "$disk"
mke2fs -q -F -t ext4 -d "$tree" "$disk"
"""
PLAIN_SCRIPT = """\
set -eu
tree=$1 disk=$2 packages=$(paste -sd, "$4")
shift 4
mmdebstrap --variant=minbase --format=directory --aptopt='APT::Install-Recommends "false"' --include="$packages" \\
    bookworm "$tree" "$@"
truncate --size=@BYTES@ "$disk"
mke2fs -q -F -t ext4 -d "$tree" "$disk"
"""
SPEC = """\
name: minimal
source:
  bootstrap: {{distribution: debian, release: bookworm, variant: minbase, mirror: "{mirror}", packages: [{packages}]}}
disk: filesystem
hygiene: warn
output: {{name: minimal, export: {{to: "{to}"}}, formats: [raw]}}
steps:
- {{name: done, action: run-script, inputs: {{script: done.sh}}}}
context: .
local: {{engine: chroot, network: false}}
"""
_PACKAGE = re.compile(r'"package": "([a-z0-9][^":]*)')


@dataclass(frozen=True)
class Place:
    """Where all is made: `memory` for trees of files, `folder` for disks and caches."""

    folder: Path
    memory: Path
    mirror: str

    @property
    def sources(self) -> list[str]:
        """Return the lines of sources.list."""
        return [
            f"deb {self.mirror} {RELEASE} main",
            f"deb {self.mirror} {RELEASE}-updates main",
            f"deb {self.mirror}-security {RELEASE}-security main",
        ]

    @property
    def elements(self) -> Mapping[str, str]:
        """Return the variables of elements, and where they are."""
        return {
            "DIB_RELEASE": RELEASE,
            "DIB_DISTRIBUTION_MIRROR": self.mirror,
            "DIB_DEBIAN_SECURITY_MIRROR": f"{self.mirror}-security",
            "ELEMENTS_PATH": str(ORIGINAL),
        }

    def packages(self) -> list[str]:
        """Return the names of the packages that disk-image-create has installed, as its manifest has them."""
        manifest = self.folder / "original" / "out.d" / "dib-manifests" / "dib-manifest-dpkg-out"
        return _PACKAGE.findall(manifest.read_text())

    def afresh(self, *names: str) -> None:
        """Empty folders."""
        for name in names:
            for parent in (self.folder, self.memory):
                shutil.rmtree(parent / name, ignore_errors=True)
                (parent / name).mkdir()


def original(place: Place) -> Candidate:
    """Return disk-image-create, whose package is unpacked in .venv/share and runs on the system's Python."""
    folder = place.folder / "original"

    def prepare() -> None:
        place.afresh("original")
        (folder / "bin").mkdir()
        (folder / "bin" / "sudo").write_text(SUDO)
        (folder / "bin" / "sudo").chmod(0o755)

    environment = {
        **place.elements,
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(PACKAGE),
        "DIB_IMAGE_CACHE": str(folder / "cache"),
        "TMP_DIR": str(folder),
    }
    words: list[str | Path] = [
        SYSTEM_PYTHON,
        PACKAGE / "bin" / "disk-image-create",
        "-t",
        "raw",
        "-o",
        folder / "out",
        "debian-minimal",
    ]
    return Candidate(ORIGINALS, [[*ALONE, *words]], prepare=prepare, environment=environment)


def of_elements(place: Place) -> list[Candidate]:
    """Return ours of the same elements, without a cache and again."""
    folder = place.folder / "elements"
    line: list[str | Path] = [GOLDSMITH, "dib", "-t", "raw", "-o", folder / "out", "debian-minimal"]

    def again() -> None:
        for path in folder.glob("out.*"):
            path.unlink()

    environment = {**place.elements, "GOLDSMITH_HOME": str(folder / "home")}
    return [
        Candidate(ELEMENTS, [line], prepare=lambda: place.afresh("elements"), environment=environment),
        Candidate(ELEMENTS_AGAIN, [line], prepare=again, environment=environment),
    ]


def of_packages(place: Place) -> list[Candidate]:
    """Return ours of the same packages, without a cache and again."""
    folder = place.folder / "packages"
    spec = folder / "spec" / "build.yaml"

    def afresh() -> None:
        place.afresh("packages")
        spec.parent.mkdir()
        packages = ", ".join(place.packages())
        spec.write_text(SPEC.format(mirror=place.mirror, packages=packages, to=folder / "minimal.tar.gz"))
        spec.with_name("done.sh").write_text("#!/bin/sh\n")

    def again() -> None:
        subprocess.run([GOLDSMITH, "images", "delete", "minimal"], env=environment, check=True, capture_output=True)
        for path in folder.glob("minimal.*"):
            path.unlink()

    environment = {**os.environ, "GOLDSMITH_HOME": str(folder / "home")}
    line: list[str | Path] = [GOLDSMITH, "build", spec]
    return [
        Candidate(PACKAGES, [line], prepare=afresh, environment=environment),
        Candidate(PACKAGES_AGAIN, [line], prepare=again, environment=environment),
    ]


def of_peers(place: Place) -> list[Candidate]:
    """Return what installs the same packages without us; mkosi where it is installed."""
    found = []
    scripts = {PLAIN: ("plain", PLAIN_SCRIPT, place.sources)}
    if shutil.which("mkosi"):
        scripts = {MKOSI: ("mkosi", MKOSI_SCRIPT, []), **scripts}
    for title, (name, script, sources) in scripts.items():
        folder = place.folder / name

        def prepare(name: str = name, folder: Path = folder) -> None:
            place.afresh(name)
            (folder / "packages").write_text("\n".join(place.packages()))

        words: list[str | Path] = [
            place.memory / name / "tree",
            folder / "disk.raw",
            place.mirror,
            folder / "packages",
            *sources,
        ]
        line: list[str | Path] = [*ALONE, "sh", "-c", script.replace("@BYTES@", BYTES), "sh", *words]
        found.append(Candidate(title, [line], prepare=prepare))
    return found


def report(samples: Mapping[str, Sequence[Sample]], rounds: int) -> None:
    """Print the tables: times, and what they are held to."""
    print(f"debian-minimal as one file system; {rounds} rounds; {busy()}; {machine()}\n")
    print(table(samples, ORIGINALS))
    print(LIMITS_HEAD)
    for name, base, most in LIMITS:
        if name in samples and base in samples:
            print(limit_row(samples, name, base, most))


def main() -> None:
    """Measure in folders of its own."""
    parser = argparse.ArgumentParser(prog="benchmarks.from_nothing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where disks and caches go (15 GB); default: a temporary one")
    parser.add_argument("--mirror", default="http://deb.debian.org/debian")
    parser.add_argument("--without", nargs="*", default=[], choices=["elements", "packages", "peers"])
    given = parser.parse_args()
    subprocess.run([ROOT / "setup/apt-packages.sh", "peers"], check=True)
    memory = MEMORY_FILES if MEMORY_FILES.is_dir() else given.folder
    with (
        tempfile.TemporaryDirectory(prefix="goldsmith-bench-", dir=given.folder) as folder,
        tempfile.TemporaryDirectory(prefix="goldsmith-bench-", dir=memory) as trees,
    ):
        place = Place(Path(folder), Path(trees), given.mirror)
        parts = {"elements": of_elements, "packages": of_packages, "peers": of_peers}
        chosen = [candidate for name, of in parts.items() if name not in given.without for candidate in of(place)]
        report(compare([original(place), *chosen], given.rounds, warm_up=False), given.rounds)


if __name__ == "__main__":
    main()
