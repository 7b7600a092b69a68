"""A whole build in a sandbox against one by hand, and against its peers: `python -m benchmarks.sandbox`, as root.

By hand is what no way without a VM can do without. As root that is a copy of the source's disk, its root mounted by a
loop device in a mount namespace, and the script in a chroot; for an ordinary user an overlay over the unpacked root in
a user namespace, the script in a chroot, and a new file system in a copy of the disk. Neither has isolation, a check of
the result or a record. All take turns in one run; compare no times across runs.
"""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks.build import virt_customize
from benchmarks.measure import LIMITS_HEAD, Candidate, Sample, busy, compare, limit_row, machine, table
from shared.clock import SystemClock
from shared.disks.disk import Disk
from shared.images.bootstrap.bootstrap import bootstrap_image
from shared.images.bootstrap.root_tree import BASE_PACKAGES
from shared.images.catalogue import Catalogue
from tests.shared.sandbox.ordinary_user import AS_USER, give, place_for
from tests.system.as_user import as_ordinary_user

ROOT = Path(__file__).parents[1]
SANDBOX, USERS, VM = "goldsmith build --engine chroot", "the same, as an ordinary user", "goldsmith build"
BY_HAND, BY_USERS_HAND, VIRT_CUSTOMIZE = "by hand", "by an ordinary user's hand", "virt-customize"
MKOSI = "mkosi --incremental, mke2fs -d"
MOST, MOST_OF_USERS, MOST_OF_VIRT_CUSTOMIZE, MOST_OF_MKOSI = 3.0, 2.0, 0.08, 0.3
SCRIPT = '#!/bin/bash\nset -eu\necho "hello from $(uname --machine)" > /var/lib/hello\n'
SPEC = """\
name: hello
source: {project: local, family: debian-12}
context: .
steps:
  - {name: greet, action: run-script, inputs: {script: hello.sh}}
output: {name: hello}
local: {network: false}
"""
LINES = """set -eu
cp --sparse=always --reflink=auto "$0" "$1"
chmod u+w "$1"
mount -o loop,offset="$2" "$1" "$3"
cp "$4" "$3/tmp/hello.sh"
chroot "$3" /bin/bash /tmp/hello.sh
rm "$3/tmp/hello.sh"
umount "$3"
"""
USERS_TREE = """set -eu
mkdir "$1"
tar --extract --numeric-owner --xattrs --xattrs-include='*' --exclude='./dev/*' --directory "$1"
"""
USERS_LINES = """set -eu
cp --sparse=always --reflink=auto "$0" "$1"
chmod u+w "$1"
rm -rf "$4/upper" "$4/work"
mkdir -p "$4/upper" "$4/work" "$4/merged"
mount -t overlay -o "userxattr,lowerdir=$4/tree,upperdir=$4/upper,workdir=$4/work" none "$4/merged"
cp "$5" "$4/merged/tmp/hello.sh"
chroot "$4/merged" /bin/bash /tmp/hello.sh
rm "$4/merged/tmp/hello.sh"
mke2fs -q -F -t ext4 -b 4096 -E offset="$2",nodiscard,lazy_itable_init=1 -d "$4/merged" "$1" "$3"
"""
# Version 14, of Debian 12, customizes no disk: it begins with the tree of packages that its first run has kept. It also
# looks for that of a build script, and keeps none where there is no script: without it, it begins anew each time.
MKOSI_LINES = """set -eu
mount -t tmpfs none /run
cd "$0"
script=$1
shift
mkdir -p tree.cache-pre-dev
mkosi --force --incremental --format=directory --distribution=debian --release=bookworm \\
    --without-unified-kernel-images --nspawn-keep-unit --mirror=http://deb.debian.org/debian \\
    --with-network=yes --postinst-script="$script" --workspace-dir="$0" --output="$0/tree" "$@" build
rm -f disk.raw
truncate --size=10G disk.raw
mke2fs -q -F -t ext4 -E nodiscard,lazy_itable_init=1 -d tree disk.raw
"""
NAMESPACES = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child")
AS_USERS_ROOT = ("--user", "--map-auto", "--map-root-user")


class Place:
    """Where one user builds: a home with the base, the spec, and the disk that is made by hand."""

    def __init__(self, folder: Path, home: Path) -> None:
        """Write the spec; the home has the base already."""
        self.folder = folder
        self.home = home
        (folder / "spec").mkdir()
        self.script = folder / "spec" / "hello.sh"
        self.script.write_text(SCRIPT)
        self.spec = folder / "spec" / "build.yaml"
        self.spec.write_text(SPEC)
        self.by_hand = folder / "by-hand.raw"

    def afresh(self) -> None:
        """Remove what an earlier run has made."""
        Catalogue(self.home, SystemClock()).delete("hello")
        for name in ("by-hand.raw", "peer.raw"):
            (self.folder / name).unlink(missing_ok=True)

    def build(self, title: str, *arguments: str, user: tuple[str, ...] = ()) -> Candidate:
        """Return a build of the spec."""
        line: list[str | Path] = [*user, ROOT / ".venv/bin/goldsmith", "build", self.spec, *arguments]
        return Candidate(title, [line], prepare=self.afresh, environment={"GOLDSMITH_HOME": str(self.home)})


def of_root(place: Place, disk: Path) -> list[Candidate]:
    """Return what root runs: the sandbox, a VM, the work by hand, and the peers that are installed."""
    with Disk(disk) as opened:
        offset = opened.root.partition.start
    mounted = place.folder / "mounted"
    mounted.mkdir()
    line: list[str | Path] = [*NAMESPACES, "sh", "-c", LINES, disk, place.by_hand, str(offset), mounted, place.script]
    found = [
        place.build(SANDBOX, "--engine", "chroot", "--no-cache"),
        place.build(VM, "--no-cache"),
        Candidate(BY_HAND, [line], prepare=place.afresh),
    ]
    if shutil.which("virt-customize"):
        found.append(virt_customize(disk, place.folder, place.script, place.afresh))
    if shutil.which("mkosi") and shutil.which("systemd-nspawn"):
        folder = place.folder / "mkosi"
        folder.mkdir()
        script = place.folder / "postinst.sh"
        script.write_text(SCRIPT)
        script.chmod(0o755)
        packages = [f"--package={name}" for name in BASE_PACKAGES]
        line = [*NAMESPACES, "--mount-proc", "sh", "-c", MKOSI_LINES, folder, script, *packages]
        found.append(Candidate(MKOSI, [line]))
    return found


def of_user(place: Place, disk: Path) -> list[Candidate]:
    """Return what an ordinary user runs: the sandbox, and the work by hand on an unpacked root."""
    with Disk(disk) as opened:
        offset, blocks = opened.root.partition.start, opened.root.partition.size // 4096
    user = as_ordinary_user()
    _unpack(disk, offset, place.folder, user)
    for path in (place.folder, place.home, *place.home.rglob("*")):
        give(path, AS_USER)
    arguments: list[str | Path] = [disk, place.by_hand, str(offset), str(blocks), place.folder, place.script]
    line: list[str | Path] = [*user, *NAMESPACES, *AS_USERS_ROOT, "sh", "-c", USERS_LINES, *arguments]
    return [
        place.build(USERS, "--engine", "chroot", "--no-cache", user=user),
        Candidate(BY_USERS_HAND, [line], prepare=place.afresh),
    ]


def _unpack(disk: Path, offset: int, folder: Path, user: tuple[str, ...]) -> None:
    """Unpack the root file system of a disk into `folder`/tree, as files of the user's namespace."""
    mounted = folder / "source"
    mounted.mkdir()
    subprocess.run(["mount", "-o", f"loop,ro,noload,offset={offset}", disk, mounted], check=True)
    try:
        packing: list[str | Path] = ["tar", "--create", "--xattrs", "--numeric-owner", "--directory", mounted, "."]
        unpacking: list[str | Path] = [
            *user,
            *NAMESPACES,
            *AS_USERS_ROOT,
            "sh",
            "-c",
            USERS_TREE,
            "sh",
            folder / "tree",
        ]
        give(folder, AS_USER)
        with subprocess.Popen(packing, stdout=subprocess.PIPE) as packed:
            subprocess.run(unpacking, stdin=packed.stdout, check=True)
    finally:
        subprocess.run(["umount", mounted], check=True)


def report(samples: dict[str, list[Sample]], rounds: int) -> None:
    """Print the tables: times, and what they are held to."""
    print(f"one script on a cached base; {rounds} rounds after one that does not count; {busy()}; {machine()}\n")
    print(table(samples, BY_HAND))
    print(LIMITS_HEAD)
    print(limit_row(samples, SANDBOX, BY_HAND, MOST))
    print(limit_row(samples, USERS, BY_USERS_HAND, MOST_OF_USERS))
    for peer, most in ((VIRT_CUSTOMIZE, MOST_OF_VIRT_CUSTOMIZE), (MKOSI, MOST_OF_MKOSI)):
        if peer in samples:
            print(limit_row(samples, SANDBOX, peer, most))
            print(limit_row(samples, USERS, peer, most))
    print(limit_row(samples, SANDBOX, VM, 1.0))


def main() -> None:
    """Measure in homes of its own; the base comes from a home that has it already, or is made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="a GOLDSMITH_HOME; by default a new one, with a new base")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as own, place_for(AS_USER) as users:
        home = given.home or Path(own) / "home"
        catalogue = Catalogue(home, SystemClock())
        disk = catalogue.disk(bootstrap_image("debian-12", catalogue, home=home).name)
        base = users / "base.raw"
        shutil.copyfile(disk, base)
        subprocess.run(["fallocate", "--dig-holes", base], check=True)
        theirs = users / "home"
        Catalogue(theirs, SystemClock()).add(base, "debian-12-base", transfer="copy", family="debian-12")
        (Path(own) / "place").mkdir()
        found = of_root(Place(Path(own) / "place", home), disk)
        found += of_user(Place(users, theirs), base)
        report(compare(found, given.rounds), given.rounds)


if __name__ == "__main__":
    main()
