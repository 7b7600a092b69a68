"""Look over a system that has booted from a new image for the first time, before anything is run on it.

All checks are made, so that a person reads every problem at once. One that cannot be made says why: a system that was
not looked at must not seem to be well. What is of this boot has times of this boot: whatever is older came with the
image, and every machine of the image has the same.
"""

from __future__ import annotations

import os
import time

from ..protocol import CHECKS, CheckImage
from ..system.files import read_text
from ..system.mounts import mounts
from ..system.process import find_program, output_of
from .identity import HOST_KEYS, MACHINE_IDS, identity
from .machine import SYSTEMD
from .system_state import default_target, incomplete, is_direct_boot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

METADATA = "http://169.254.169.254"
QUESTION = "/computeMetadata/v1/"
ANSWER = 10.0  # seconds for the metadata server to answer
SETTLING = 60.0  # seconds from the first question in which the network may come up, and the clock be set
PAUSE = 1.0  # seconds between two questions
DAY = 86400.0  # seconds: a clock that was set further began with no time at all
MOST_OFF = 60.0  # seconds between two clocks: certificates and signed requests allow minutes
ROUNDING = 2.0  # seconds: the clock of a machine begins with whole ones
LEAST_ROOM = 32 << 20  # bytes: what a boot and a day's logs write
REST = 8  # a root file system may leave the eighth part of its place unused: its tables and its journal take some
GIB = 1 << 30
UNIT = 512  # bytes: /sys counts in these, whatever the disk does
ASKING = 30.0  # seconds that systemctl may take
OF_ONE_MACHINE = "every machine of this image would have the same"
ID_DIGITS = 32
LEFT = ("var/lib/goldsmith", "var/lib/goldsmith/logs", "var/lib/cloud/instances")  # folders of a build's machine
KEPT_RESOLV_CONF = ("etc", "resolv.conf.goldsmith", "")
JOURNALS = "var/log/journal"  # its folders are named by machine-ids
SHOWN_PATHS = 5
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Sighting:
    """What the checks have seen, could not see, and found wrong: a line each."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.unseen: list[str] = []
        self.problems: list[str] = []
        self.identity: tuple[str, ...] = ()  # for comparison with other machines of the image

    def note(self) -> str:
        """Return what was seen, and what was not, in one line."""
        left_out = f"not checked: {'; '.join(self.unseen)}" if self.unseen else ""
        return "; ".join(filter(None, [*self.seen, left_out]))


class SystemChecks:
    """The checks of one system, whose files are below `root`."""

    def __init__(
        self,
        root: str,
        asked: CheckImage,
        interrupted: bool = False,
        metadata: str = METADATA,
        settling: float = SETTLING,
    ) -> None:
        """Take what the job asks for. `interrupted`: the machine went down during these checks, and has booted again.

        `metadata` is the URL of the metadata server; network and clock may take `settling` seconds to be well.
        """
        self._root = root
        self._asked = asked
        self._interrupted = interrupted
        self._metadata = metadata
        self._settling = settling
        self._until: Optional[float] = None  # monotonic time, from the first question on
        self._found = Sighting()
        self._answer: Optional[tuple[float, dict[str, str]]] = None  # the clock's time, and the server's headers

    def run(self) -> Sighting:
        """Make all checks that are not to be left out."""
        for name in CHECKS:
            if name in self._asked.skip or (name == "growth" and "disk" in self._asked.skip):
                self._found.unseen.append(f"{name} (verify.skip)")
            else:
                getattr(self, f"_{name}")()
        return self._found

    def _boot(self) -> None:
        """See the default target reached, and how long that took."""
        if is_direct_boot(self._root):
            self._found.unseen.append("boot loader (the VM was booted directly; write verify.boot: firmware)")
        if not os.path.isdir(os.path.join(self._root, SYSTEMD)):
            self._no_boot_time("this system has no systemd")
            return
        target = default_target(self._root)
        problem, _ = incomplete(self._root, target, None)
        if problem:
            self._found.problems.append(f"boot: {problem}")
            return
        seconds, most = self._awaited(target), self._asked.boot_seconds
        if seconds is None:
            self._no_boot_time(f"systemd does not say when {target} was reached")
            return
        if not seconds:
            self._not_reached(target)
            return
        self._found.seen.append(f"{target} after {seconds:.1f} s")
        if most is not None and seconds > most:
            self._found.problems.append(
                f"boot: {target} was reached {seconds:.1f} s after the kernel's start, and verify.boot_seconds "
                f"allows {most:g}; systemd-analyze critical-chain shows what took the time"
            )

    def _no_boot_time(self, why: str) -> None:
        if self._asked.boot_seconds is None:
            self._found.unseen.append(f"boot time ({why})")
        else:
            self._found.problems.append(f"boot: {why}, so verify.boot_seconds cannot be checked; leave it out")

    def _not_reached(self, target: str) -> None:
        most = self._asked.boot_seconds
        if most is None:
            self._found.unseen.append(f"boot time ({target} was not reached yet)")
            return
        self._found.problems.append(
            f"boot: {target} was not reached within the {most:g} s that verify.boot_seconds allows; systemctl "
            "list-jobs shows what it waits for"
        )

    def _awaited(self, target: str) -> Optional[float]:
        """Return what _reached() does; where a budget is to be kept, wait as long as it allows: COS comes late."""
        began, up = time.monotonic(), _text(self._root, "proc/uptime").split()
        left = 0.0 if self._asked.boot_seconds is None or not up else self._asked.boot_seconds - float(up[0])
        seconds = self._reached(target)
        while not seconds and time.monotonic() - began < left:
            time.sleep(PAUSE)
            seconds = self._reached(target)
        return seconds

    def _reached(self, target: str) -> Optional[float]:
        """Return how many seconds after the kernel's start a unit became active: 0.0 for not yet, None for not told."""
        program = find_program("systemctl", self._root)
        argv = [program, "show", "--property=ActiveEnterTimestampMonotonic", target]
        _, _, digits = output_of(argv, ASKING).decode("ascii", "replace").strip().partition("=")
        return int(digits) / 1e6 if digits.isdigit() else None

    def _network(self) -> None:
        """See the metadata server answer. A network that leads nowhere else has no default route, and is up."""
        way = "" if self._has_default_route() else "there is no default route"
        try:
            self._ask()
        except OSError as error:
            problem = "; ".join(filter(None, [f"the metadata server {self._metadata} does not answer: {error}", way]))
            self._found.problems.append(f"network: {problem}; look at the image's configuration of the network")
            return
        self._found.seen.append("network is up")
        if way:
            self._found.unseen.append(f"other networks ({way})")

    def _has_default_route(self) -> bool:
        """Return whether the kernel has one, as proc(5) and the kernel's ipv6_route list them."""
        zero = "0" * 32
        routes = [(1, "00000000", 7, "00000000", 0), (0, zero, 1, "00", 9)]
        for name, (at, destination, mask_at, mask, device_at) in zip(("route", "ipv6_route"), routes):
            for line in _text(self._root, f"proc/net/{name}").splitlines():
                words = line.split()
                found = len(words) > max(mask_at, device_at) and (words[at], words[mask_at]) == (destination, mask)
                if found and words[device_at] != "lo":
                    return True
        return False

    def _ask(self) -> tuple[float, dict[str, str]]:
        """Return the clock's time of the metadata server's last answer, and its headers. OSError.

        It is asked until it answers or the time for that is over: the default target does not wait for a network.
        """
        from ..system.http import exchange  # sockets are slow to import

        if self._until is None:
            self._until = time.monotonic() + self._settling
        while self._answer is None:
            try:
                headers = {"Metadata-Flavor": "Google"}
                _, told, _ = exchange("GET", self._metadata + QUESTION, headers, b"", ANSWER)
                self._answer = time.time(), told
            except OSError:
                if not self._may_settle():
                    raise
        return self._answer

    def _may_settle(self) -> bool:
        """Return, after a pause, whether there is time to ask once more."""
        if self._until is None or time.monotonic() >= self._until:
            return False
        time.sleep(PAUSE)
        return True

    def _clock(self) -> None:
        """Compare the clock with the metadata server's, until it is set or the time for that is over."""
        while True:
            try:
                now, headers = self._ask()
            except OSError:
                self._found.unseen.append("clock (the metadata server does not answer)")
                return
            told = read_date(headers.get("date", ""))
            if told is None:
                self._found.unseen.append("clock (the metadata server does not tell the time)")
                return
            off = now - told
            if abs(off) <= MOST_OFF:
                self._found.seen.append("clock is right")
                return
            if not self._may_settle():
                break
            self._answer = None
        how = f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} that of its host"
        self._found.problems.append(f"clock: it is {how}; look at what sets it in the image")

    def _disk(self) -> None:
        """See the root file system have room, within what it may take."""
        stats = os.statvfs(self._root)
        size, free = stats.f_blocks * stats.f_frsize, stats.f_bavail * stats.f_frsize
        used = (stats.f_blocks - stats.f_bfree) * stats.f_frsize
        self._found.seen.append(f"files take {used >> 20} of {size >> 20} MiB")
        most = self._asked.disk_gb
        if most is not None and used > most * GIB:
            self._found.problems.append(
                f"disk: the files of the root file system take {used / GIB:.2f} GB, and verify.disk_gb allows {most:g}"
            )
        if stats.f_flag & os.ST_RDONLY:  # of Container-Optimized OS
            self._found.unseen.append("room (the root file system is read-only)")
        elif free < LEAST_ROOM or (stats.f_files and not stats.f_favail):
            self._found.problems.append(
                f"disk: the root file system has room for {free >> 20} MiB and {stats.f_favail} files more; raise "
                "output.disk_size_gb, or delete in the steps what the image does not need"
            )

    def _growth(self) -> None:
        """See the root file system fill its partition, and a last partition its disk, which the host has made larger.

        In a direct boot, the host and the provisioner have seen to that, and not the image.
        """
        if is_direct_boot(self._root):
            self._found.unseen.append("growth (the VM was booted directly; write verify.boot: firmware)")
            return
        stats = os.statvfs(self._root)
        size = stats.f_blocks * stats.f_frsize
        try:
            place = self._root_partition()
            partition, rest = _sizes(place)
        except (OSError, ValueError):
            self._found.unseen.append("growth (the root file system is on no partition of its own)")
            return
        remedy = "look at growpart and resize2fs, or their like, in the image"
        if size < partition - partition // REST:
            self._found.problems.append(
                f"growth: the root file system has {size >> 20} of the {partition >> 20} MiB of its partition; {remedy}"
            )
        if rest > partition // REST:
            self._found.problems.append(
                f"growth: {rest >> 20} MiB behind the root partition of {partition >> 20} MiB are unused; {remedy}"
            )

    def _root_partition(self) -> str:
        """Return the folder of the root's partition below /sys. OSError where it is on none."""
        mount = [mount for mount in mounts(self._root) if mount.path == "/"][-1:]
        if not mount:
            raise OSError("the root is not mounted")
        device = mount[0].device
        if device.startswith("0:"):  # btrfs: the number is not its disk's
            number = os.stat(mount[0].source).st_rdev
            device = f"{os.major(number)}:{os.minor(number)}"
        folder = os.path.realpath(os.path.join(self._root, "sys/dev/block", device))
        os.stat(os.path.join(folder, "partition"))
        return folder

    def _identity(self) -> None:
        """See that the machine-id and the ssh host keys were made at this boot."""
        if not self._asked.again:
            self._found.identity = identity(self._root)
        since = self._first_boot("identity")
        if since is None:
            return
        problems = []
        machine_id = _text(self._root, MACHINE_IDS[0]).strip()
        has_systemd = os.path.isdir(os.path.join(self._root, SYSTEMD))
        if has_systemd and (len(machine_id) != ID_DIGITS or machine_id.strip("0123456789abcdef")):
            problems.append("/etc/machine-id has no id of this machine")
        if "systemd.machine_id=" in _text(self._root, "proc/cmdline"):
            problems.append(f"the kernel's command line names a machine-id, and {OF_ONE_MACHINE}; remove it there")
        keys = [path for place in HOST_KEYS for path in _listed(self._root, *place)]
        ids = [path for path in MACHINE_IDS if _is_file(self._root, path)]
        old = [path for path in (*ids, *keys) if _is_older(self._root, path, since)]
        if old:
            problems.append(f"{_shown(old)} came with the image, and {OF_ONE_MACHINE}; remove it in the last step")
        self._found.problems += [f"identity: {problem}" for problem in problems]
        if not keys:
            self._found.unseen.append("ssh host keys (there are none)")
        if not ids and not has_systemd:
            self._found.unseen.append("machine-id (there is none)")
        if not problems:
            made = ["machine-id"] * bool(ids) + [f"{len(keys)} ssh host keys"] * bool(keys)
            self._found.seen += [f"{' and '.join(made)} made at this boot"] if made else []

    def _leftovers(self) -> None:
        """See that nothing is left of the machine that has built the image."""
        since = self._first_boot("leftovers")
        if since is None:
            return
        paths = [path for folder in LEFT for path in _listed(self._root, folder)]
        paths += [path for path in _listed(self._root, JOURNALS) if len(os.path.basename(path)) == ID_DIGITS]
        paths += _listed(self._root, *KEPT_RESOLV_CONF)
        left = [path for path in paths if _is_older(self._root, path, since)]
        if left:
            self._found.problems.append(f"leftovers: {_shown(left)} of the machine that has built the image is there")
        else:
            self._found.seen.append("nothing is left of the build")

    def _first_boot(self, name: str) -> Optional[float]:
        """Return when this boot began, in Unix seconds; None, with a line, where files of it cannot be told by that."""
        try:
            up = float(_text(self._root, "proc/uptime").split()[0])
        except (ValueError, IndexError):
            self._found.unseen.append(f"{name} (the kernel does not say when it began)")
            return None
        if self._interrupted or self._asked.again:
            self._found.unseen.append(f"{name} (the VM has restarted since its first boot)")
            return None
        since = time.time() - up - ROUNDING
        first = self._first_time()
        if first is None or not 0 < since - first <= DAY:
            return since
        self._found.unseen.append(
            f"{name} of what is less than {since - first:.0f} s older than this boot (the clock was set meanwhile)"
        )
        return first - ROUNDING

    def _first_time(self) -> Optional[float]:
        """Return the earliest time that this boot has made files at, by a clock that may have been set since."""
        folder = os.path.join(self._root, "run")
        try:
            if not any(mount.path == "/run" and mount.kind == "tmpfs" for mount in mounts(self._root)):
                return None  # a folder of the image's
            return min((os.lstat(os.path.join(folder, name)).st_ctime for name in os.listdir(folder)), default=None)
        except OSError:  # one of the files is gone meanwhile
            return None


def read_date(text: str) -> Optional[float]:
    """Return the Unix seconds of a date of HTTP, such as `Sun, 06 Nov 1994 08:49:37 GMT`; None for another text."""
    from calendar import timegm

    words = text.replace(":", " ").split()
    if len(words) != 8 or words[2] not in MONTHS:
        return None
    try:
        day, year, hour, minute, second = (int(words[index]) for index in (1, 3, 4, 5, 6))
        return float(timegm((year, MONTHS.index(words[2]) + 1, day, hour, minute, second)))
    except (ValueError, OverflowError):
        return None


def _sizes(place: str) -> tuple[int, int]:
    """Return the bytes of a partition, and those behind it that are in no partition. OSError, ValueError."""
    disk = os.path.dirname(place)
    end = _number(place, "start") + _number(place, "size")
    names = [name for name in os.listdir(disk) if os.path.exists(os.path.join(disk, name, "partition"))]
    starts = [_number(os.path.join(disk, name), "start") for name in names]
    following = [start for start in starts if start >= end]
    rest = 0 if following else _number(disk, "size") - end
    return _number(place, "size") * UNIT, rest * UNIT


def _number(folder: str, name: str) -> int:
    return int(read_text(os.path.join(folder, name)))


def _text(root: str, path: str) -> str:
    """Return a file's text; "" where it cannot be read."""
    try:
        return read_text(os.path.join(root, path), errors="replace")
    except OSError:
        return ""


def _listed(root: str, folder: str, begin: str = "", end: str = "") -> list[str]:
    """Return the paths, relative to the root, of what is in a folder; none where there is no such folder."""
    try:
        names = os.listdir(os.path.join(root, folder))
    except OSError:
        return []
    return [f"{folder}/{name}" for name in sorted(names) if name.startswith(begin) and name.endswith(end)]


def _is_file(root: str, path: str) -> bool:
    """Return whether it is a file: D-Bus may have a link to the other machine-id."""
    whole = os.path.join(root, path)
    return os.path.isfile(whole) and not os.path.islink(whole)


def _is_older(root: str, path: str, since: float) -> bool:
    """Return whether something was there before; its mode may have been changed since."""
    try:
        found = os.lstat(os.path.join(root, path))
    except OSError:
        return False
    return min(found.st_mtime, found.st_ctime) < since


def _shown(paths: list[str]) -> str:
    more = f" and {len(paths) - SHOWN_PATHS} more" if len(paths) > SHOWN_PATHS else ""
    return ", ".join(f"/{path}" for path in paths[:SHOWN_PATHS]) + more
