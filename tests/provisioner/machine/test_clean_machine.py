"""The clean-up removes what identifies the machine, keeps what the image needs, and touches nothing outside."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.machine.clean_machine import clean
from provisioner.protocol import COMPLETED
from provisioner.system.tree import DEEPEST
from tests.provisioner.provisioning import Provisioning, job, script

ROOT = Path(__file__).parents[3]
GONE = """
    etc/ssh/ssh_host_ed25519_key etc/ssh/ssh_host_ed25519_key.pub etc/netplan/50-cloud-init.yaml
    etc/network/interfaces.d/50-cloud-init etc/udev/rules.d/70-persistent-net.rules
    var/lib/dbus/machine-id var/lib/systemd/random-seed var/lib/systemd/credential.secret
    var/lib/cloud/instance/x var/lib/cloud/sem/y var/lib/dhcp/dhclient.eth0.leases var/lib/NetworkManager/eth0.lease
    var/log/journal/0123/system.journal var/log/syslog.1 var/log/dpkg.log.2.gz var/log/cloud-init.log
    var/log/cloud-init-output.log var/lib/apt/lists/deb_InRelease var/lib/apt/lists/partial/x
    var/cache/apt/pkgcache.bin var/cache/apt/archives/curl.deb var/cache/dnf/x/y var/cache/zypp/z
    tmp/t tmp/.X11-unix/X0 var/tmp/deep/er/file root/.bash_history root/.python_history home/ann/.bash_history
    etc/docker/key.json etc/dropbear/dropbear_rsa_host_key var/lib/urandom/random-seed var/lib/dhcpcd/duid
    var/lib/wicked/lease-eth0-dhcp-ipv4.xml home/ann/.viminfo var/crash/core.1 var/lib/systemd/coredump/core.2
    var/log/audit/audit.log var/lib/fwupd/pki/secret.key var/lib/fwupd/pki/client.pem
    etc/passwd- etc/shadow- etc/group- etc/gshadow- etc/subuid- etc/subgid- var/backups/shadow.bak
""".split()  # noqa: SIM905 - readable
EMPTIED = ["etc/machine-id", "var/log/syslog", "var/log/wtmp", "var/log/apt/history.log"]
KEPT = """
    etc/ssh/sshd_config etc/netplan/01-own.yaml var/cache/debconf/config.dat var/lib/cloud/seed/nocloud/user-data
    etc/passwd etc/shadow etc/gshadow etc/subuid var/backups/dpkg.status.0
    var/lib/dpkg/status root/.bashrc home/ann/notes etc/hostname
    var/lib/systemd/deb-systemd-helper-enabled/ssh.service.dsh-also var/lib/systemd/linger/ann
    var/lib/metrics/prometheus.db mnt/stateful_partition/etc/kept etc/docker/daemon.json
""".split()  # noqa: SIM905 - readable
FOLDERS = """
    var/cache/apt/archives var/lib/apt/lists var/log/journal var/log/apt tmp var/tmp var/lib/cloud
""".split()  # noqa: SIM905 - readable
LINKED = "tmp var/tmp var/log var/cache var/lib/cloud var/lib/apt/lists var root home/ann etc/ssh".split()  # noqa: SIM905


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a machine's files."""
    root = tmp_path / "root"
    for name in (*GONE, *EMPTIED, *KEPT):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def files(root: Path) -> set[str]:
    """Return the paths of all that is not a folder, relative to the root."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or not path.is_dir()}


def test_the_machine_is_cleaned(root: Path) -> None:
    assert clean(str(root)) == []
    assert files(root) == {*EMPTIED, *KEPT}
    assert all((root / name).stat().st_size == 0 for name in EMPTIED)
    assert all((root / name).read_text() == name for name in KEPT)
    assert all((root / name).is_dir() for name in FOLDERS)
    assert list((root / "var/log/journal").iterdir()) == []  # its folder has the machine-id for a name


COS_GONE = """
    mnt/stateful_partition/etc/machine-id etc/netplan/01-own.yaml var/cache/x/link var/lib/cloud/seed/nocloud/user-data
    var/lib/systemd/linger/ann var/lib/systemd/timers/stamp-x var/lib/crash_reporter/run var/lib/metrics/metrics.db
    var/lib/update_engine/prefs/id var/lib/whitelist/x var/log/journal/x/system.journal var/log/audit/audit.log
    etc/docker/key.json etc/ssh/ssh_host_rsa_key var/lib/systemd/random-seed tmp/x var/tmp/x
""".split()  # noqa: SIM905 - readable
COS_KEPT = """
    mnt/stateful_partition/dev_image/x var/lib/docker/overlay2/x var/lib/nvidia/setup_gpu.sh home/ann/notes
    var/lib/systemd/deb-systemd-helper-enabled/x var/cache/debconf/config.dat etc/docker/daemon.json
""".split()  # noqa: SIM905 - readable


def test_container_optimized_os_is_cleaned_of_all_that_the_original_cleans(tmp_path: Path) -> None:
    """Clean-up of machine state, COS: STATE/etc, /etc/netplan, all of /var/lib/{cloud,systemd,metrics,...}."""
    for name in (*COS_GONE, *COS_KEPT, "var/log/messages"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "var/cache/x/link").unlink()
    (tmp_path / "var/cache/x/link").symlink_to("elsewhere")
    (tmp_path / "etc/os-release").write_text("NAME=x\nID=cos\n")
    assert clean(str(tmp_path)) == []
    assert files(tmp_path) == {*COS_KEPT, "var/log/messages", "etc/os-release"}
    assert (tmp_path / "var/log/messages").read_text() == ""  # cut to length 0, not removed
    assert not (tmp_path / "mnt/stateful_partition/etc").exists()
    folders = ("etc/netplan", "var/lib/cloud", "var/lib/metrics", "var/lib/whitelist", "var/lib/update_engine")
    assert all((tmp_path / folder).is_dir() for folder in folders)


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("# Generated by NetworkManager\nnameserver 10.0.2.3\n", False),
        ("; generated by /usr/sbin/dhclient-script\nnameserver 10.0.2.3\n", False),
        ("domain c.my-project.internal\nsearch c.my-project.internal. google.internal.\nnameserver 1.2.3.4\n", False),
        ("nameserver 169.254.169.3\n", False),
        ("nameserver 169.254.169.254\n", True),
        ("# ours\nnameserver 8.8.8.8\n", True),
        ("", True),
    ],
)
def test_name_servers_of_the_builds_network_go(root: Path, text: str, stays: bool) -> None:
    (root / "etc/resolv.conf").write_text(text)
    assert clean(str(root)) == []
    assert (root / "etc/resolv.conf").read_text() == (text if stays else "")


OWN, LENT = "nameserver 10.0.0.2\nsearch corp.example\n", "# lent\nnameserver 169.254.169.3\n"


@pytest.fixture
def lent(root: Path) -> Path:
    """Make a machine with the direct boot's resolv.conf, and the image's own beside it."""
    (root / "run/goldsmith").mkdir(parents=True)
    (root / "run/goldsmith/resolv.conf").write_text(LENT)
    (root / "etc/resolv.conf").write_text(LENT)
    (root / "etc/resolv.conf.goldsmith").write_text(OWN)
    os.utime(root / "etc/resolv.conf.goldsmith", ns=(1_000_000_007, 1_000_000_007))
    return root


def test_an_images_own_name_servers_come_back(lent: Path) -> None:
    before = (lent / "etc/resolv.conf").stat().st_ino
    assert clean(str(lent)) == []
    found = (lent / "etc/resolv.conf").stat()
    assert (lent / "etc/resolv.conf").read_text() == OWN
    assert (found.st_ino, found.st_mtime_ns) == (before, 1_000_000_007)
    assert list((lent / "etc").glob("resolv.conf*")) == [lent / "etc/resolv.conf"]


def test_what_a_step_has_made_of_the_name_servers_stays(lent: Path) -> None:
    own = lent / "etc/resolv.conf"
    own.write_text("nameserver 10.0.0.9\n")
    (lent / "etc/resolv.conf.goldsmith.new").touch()  # left by an interrupted boot
    assert clean(str(lent)) == []
    assert own.read_text() == "nameserver 10.0.0.9\n"
    assert list((lent / "etc").glob("resolv.conf*")) == [own]


@pytest.mark.parametrize("own", [OWN, OWN.rstrip("\n"), ""])
def test_what_a_step_adds_stays_beside_the_images_own(lent: Path, own: str) -> None:
    """As `echo options ndots:5 >>/etc/resolv.conf` does: only the build's name server is removed."""
    (lent / "etc/resolv.conf.goldsmith").write_text(own)
    (lent / "etc/resolv.conf").write_text(f"# first\n{LENT}options ndots:5\n")
    assert clean(str(lent)) == []
    kept = own if own.endswith("\n") or not own else f"{own}\n"
    assert (lent / "etc/resolv.conf").read_text() == f"# first\n{kept}options ndots:5\n"


@pytest.mark.parametrize("target", ["../run/systemd/resolve/stub-resolv.conf", None])
def test_a_step_may_remove_or_link_it(lent: Path, target: str | None) -> None:
    own = lent / "etc/resolv.conf"
    own.unlink()
    if target:
        own.symlink_to(target)
    assert clean(str(lent)) == []
    assert own.is_symlink() == (target is not None)
    assert [path for path in (lent / "etc").glob("resolv.conf*") if path != own] == []


def test_immutable_and_append_only_files_are_cleaned(root: Path) -> None:
    rules, log, folder = (root / name for name in ("etc/udev/rules.d/70-persistent-net.rules", "var/log/syslog", "tmp"))
    for flag, path in (("+i", rules), ("+a", log), ("+i", folder)):
        subprocess.run(["chattr", flag, path], check=True)
    try:
        assert clean(str(root)) == []
        assert not rules.exists()
        assert log.read_bytes() == b""
        assert list(folder.iterdir()) == []
        shown = subprocess.run(["lsattr", "-d", log, folder], capture_output=True, text=True, check=True).stdout
        assert [line[:22].replace("-", "").replace("e", "") for line in shown.splitlines()] == ["a", "i"]
    finally:
        for path in (rules, log, folder):
            subprocess.run(["chattr", "-f", "-ia", path])


def test_a_flag_that_cannot_be_taken_away_is_named(root: Path) -> None:
    rules = root / "etc/udev/rules.d/70-persistent-net.rules"
    subprocess.run(["chattr", "+i", rules], check=True)
    try:
        program = "import sys; from provisioner.machine.clean_machine import clean; print(clean(sys.argv[1]))"
        without = ["setpriv", "--bounding-set", "-linux_immutable", "--inh-caps", "-linux_immutable"]
        done = subprocess.run(
            [*without, sys.executable, "-c", program, root], capture_output=True, text=True, check=True, cwd=ROOT
        )
    finally:
        subprocess.run(["chattr", "-i", rules], check=True)
    assert (
        "/etc/udev/rules.d/70-persistent-net.rules: Operation not permitted: it, or its folder, is imm" in done.stdout
    )


def test_cleaning_twice_and_cleaning_nothing_are_fine(root: Path, tmp_path: Path) -> None:
    assert clean(str(root)) == clean(str(root)) == []
    (tmp_path / "bare").mkdir()
    assert clean(str(tmp_path / "bare")) == []
    assert list((tmp_path / "bare").iterdir()) == []


def test_an_image_whose_next_boot_is_the_first_one_stays_so(root: Path) -> None:
    (root / "etc/machine-id").write_text("uninitialized\n")
    assert clean(str(root)) == []
    assert (root / "etc/machine-id").read_text() == "uninitialized\n"
    assert not (root / "var/lib/dbus/machine-id").exists()


def test_a_link_to_the_machine_id_stays(root: Path) -> None:
    (root / "var/lib/dbus/machine-id").unlink()
    (root / "var/lib/dbus/machine-id").symlink_to("/etc/machine-id")
    clean(str(root))
    assert (root / "var/lib/dbus/machine-id").readlink() == Path("/etc/machine-id")


@pytest.mark.parametrize(
    "link",
    [
        "tmp",
        "var/tmp",
        "var/log",
        "var/cache",
        "var/lib/cloud",
        "var/lib/apt/lists",
        "var",
        "root",
        "home/ann",
        "etc/ssh",
    ],
)
def test_no_link_leads_out(root: Path, tmp_path: Path, link: str) -> None:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    names = ("x.1", "deep/x.gz", ".bash_history", "ssh_host_key", "cloud-init.log", "deep/machine-id")
    for name in names:
        (outside / name).write_text("precious")
    subprocess.run(["rm", "-rf", str(root / link)], check=True)
    (root / link).symlink_to(outside)
    clean(str(root))
    assert all((outside / name).read_text() == "precious" for name in names)
    assert (root / link).is_symlink()


def test_links_inside_go_and_their_targets_stay(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    links = ("tmp/l", "var/tmp/l", "var/lib/cloud/l", "var/lib/dhcp/l.leases", "root/.l_history", "etc/ssh/ssh_host_l")
    for number, name in enumerate(links):
        (root / name).symlink_to(outside if number % 2 else outside / "file")
    for name in ("var/log/l", "var/cache/l", "etc/machine-id"):
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(outside / "file")
    problems = clean(str(root))
    assert (outside / "file").read_text() == "precious"
    assert not any((root / name).is_symlink() for name in links)
    assert problems == ["/etc/machine-id: Too many levels of symbolic links"]


def test_what_is_no_file_does_not_stop_the_cleaning(root: Path) -> None:
    (root / "tmp/dir.1").mkdir()
    (root / "var/log/dir.gz").mkdir()
    os.mkfifo(root / "var/log/fifo")
    os.mkfifo(root / "tmp/fifo")
    odd = os.fsdecode(b"od\xffd \n name")
    (root / "tmp" / odd).touch()
    assert clean(str(root)) == []
    assert list((root / "tmp").iterdir()) == []


def test_too_deep_is_a_problem_and_not_a_crash(root: Path) -> None:
    handle = os.open(root / "tmp", os.O_RDONLY)
    for _ in range(DEEPEST * 3):
        os.mkdir("d", dir_fd=handle)
        handle, above = os.open("d", os.O_RDONLY, dir_fd=handle), handle
        os.close(above)
    os.close(handle)
    problems = clean(str(root))
    assert any("too deep" in problem for problem in problems)
    subprocess.run(["rm", "-rf", str(root / "tmp")], check=True)


@pytest.fixture
def mounted(root: Path) -> Iterator[Path]:
    """Mount a file system in memory, and bind a folder, in the machine's temporary folder."""
    precious = root / "srv"
    precious.mkdir()
    (precious / "file").write_text("precious")
    places = [root / "tmp/memory", root / "tmp/bound"]
    for place in places:
        place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(places[0])], check=True)
    subprocess.run(["mount", "--bind", str(precious), str(places[1])], check=True)
    (places[0] / "file").write_text("precious")
    try:
        yield root
    finally:
        subprocess.run(["umount", *map(str, places)], check=True)


def test_no_mount_is_entered(mounted: Path) -> None:
    problems = clean(str(mounted))
    assert sorted(problem.split(":")[0] for problem in problems) == ["/tmp/bound", "/tmp/memory"]
    assert (mounted / "tmp/memory/file").read_text() == (mounted / "srv/file").read_text() == "precious"


@pytest.fixture
def in_memory(root: Path) -> Iterator[Path]:
    """Make a temporary folder in memory, with the files that Container-Optimized OS keeps there."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(root / "tmp")], check=True)
    (root / "tmp/etc_overlay/etc").mkdir(parents=True)
    (root / "tmp/etc_overlay/etc/hosts").write_text("changed")
    try:
        yield root
    finally:
        subprocess.run(["umount", str(root / "tmp")], check=True)


def test_what_is_in_memory_stays(in_memory: Path) -> None:
    """Container-Optimized OS would lose the changed files of its /etc while it still reports."""
    assert clean(str(in_memory)) == []
    assert (in_memory / "tmp/etc_overlay/etc/hosts").read_text() == "changed"


@pytest.fixture
def read_only(root: Path) -> Iterator[Path]:
    """Make a machine whose folder etc is on a read-only file system."""
    subprocess.run(["mount", "--bind", str(root / "etc"), str(root / "etc")], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(root / "etc")], check=True)
    try:
        yield root
    finally:
        subprocess.run(["umount", str(root / "etc")], check=True)


def test_what_cannot_have_been_written_need_not_be_cleaned(read_only: Path) -> None:
    """Clean-up of machine state: the root of Container-Optimized OS is read-only, and that is no problem."""
    assert clean(str(read_only)) == []
    assert (read_only / "etc/ssh/ssh_host_ed25519_key").exists()
    assert not (read_only / "tmp/t").exists()


@pytest.mark.parametrize(("target", "stays"), [("/run/goldsmith/resolv.conf", False), ("/run/systemd/x", True)])
def test_the_direct_boots_name_servers_go(root: Path, target: str, stays: bool) -> None:
    (root / "etc/resolv.conf").symlink_to(target)
    assert clean(str(root)) == []
    assert (root / "etc/resolv.conf").is_symlink() == stays


def test_empty_files_keep_their_time(root: Path) -> None:
    for name in EMPTIED:
        (root / name).write_text("")
        os.utime(root / name, (5, 5))
    clean(str(root))
    assert {(root / name).stat().st_mtime for name in EMPTIED} == {5}


def test_a_cleaned_machine_has_no_trace_of_us(tmp_path: Path) -> None:
    files_given = {"make": "mkdir -p $R/etc; echo id >$R/etc/machine-id"}
    step = script("make", env={"R": str(tmp_path / "m/root")})
    machine = Provisioning(tmp_path / "m", job(step, clean=True), files_given)
    assert machine.run().status == 0
    assert machine.kinds()[-1] == COMPLETED
    assert machine.read("etc/machine-id") == ""
    assert files(machine.root) == {"etc/machine-id"}
    assert list((machine.root / "var/lib").iterdir()) == []
