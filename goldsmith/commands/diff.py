"""goldsmith images diff: what differs between two images, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from shared.runtime import opening

from ..home import open_home
from ..screen.progress import shown
from ..screen.tables import print_json
from ..screen.text import printable, say

if TYPE_CHECKING:
    from shared.images.diff.result import FileChange, ImageDiff, PartitionFiles, Values

LONG = 60  # lines on the files of a partition; more are summed up by folder
SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def diff(before: str, after: str, *, everything: bool, exit_code: bool, as_json: bool) -> int:
    """Compare two images and print what differs; give 1 when something does and `exit_code` asks for it, else 0."""
    with shown() as progress, open_home(progress) as backend:
        found = opening.images_here(backend).diff(before, after)
    if as_json:
        print_json({"before": before, "after": after, "same": found.same, **asdict(found)})
    else:
        for line in lines(found, before, after, everything=everything):
            say(printable(line))  # a file's name may hold a line feed
    return int(exit_code and not found.same)


def lines(found: ImageDiff, before: str, after: str, *, everything: bool) -> Iterator[str]:
    """Return what differs, section by section; sections in which nothing does are left out."""
    yield f"- {before}"
    yield f"+ {after}"
    for note in found.notes:
        yield f"note: {note}"
    if found.same:
        yield "the images are the same, but for the times of their files"
        return
    yield from _disk(found)
    yield from _values("system, by its os-release", found.os_release)
    yield from _kernels(found)
    yield from _packages(found)
    yield from _values("kernel settings, by sysctl", found.sysctl)
    for inside in found.contents:
        yield from _files(inside, everything=everything)


def _section(title: str, body: Sequence[str]) -> Iterator[str]:
    if body:
        yield ""
        yield title
        yield from (f"  {line}" for line in body)


def _disk(found: ImageDiff) -> Iterator[str]:
    body = []
    if found.disk_bytes[0] != found.disk_bytes[1]:
        body.append(f"~ size: {found.disk_bytes[0]:,} -> {found.disk_bytes[1]:,} bytes")
    if found.table[0] != found.table[1]:
        body.append(f"~ partition table: {found.table[0]} -> {found.table[1]}")
    if found.boot_code:
        body.append("~ boot code for a BIOS")
    for partition in found.partitions:
        if partition.change != "same":
            body += _partition(partition.change, partition.before or {}, partition.after or {}, partition.fields)
    yield from _section("disk and partitions", body)


def _partition(
    change: str, before: Mapping[str, object], after: Mapping[str, object], fields: Sequence[str]
) -> Iterator[str]:
    shown = after or before
    title = f"{SIGNS[change]} {shown['number']} {shown['name']}".rstrip()
    if change == "changed":
        yield title
        yield from (f"    {name}: {_value(before[name])} -> {_value(after[name])}" for name in fields)
    else:
        yield f"{title}, {shown['file_system'] or 'no known file system'}, {shown['size']:,} bytes"


def _value(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _values(title: str, values: Values) -> Iterator[str]:
    body = []
    for key, (before, after) in values.items():
        if before is None:
            body.append(f"+ {key} = {after}")
        elif after is None:
            body.append(f"- {key} = {before}")
        else:
            body.append(f"~ {key} = {before} -> {after}")
    yield from _section(title, body)


def _kernels(found: ImageDiff) -> Iterator[str]:
    body = []
    for change in found.kernels:
        body.append(f"partition {change.partition}: {change.kernel}")
        body += [f"  - {parameter}" for parameter in change.removed]
        body += [f"  + {parameter}" for parameter in change.added]
    yield from _section("kernel command lines", body)


def _packages(found: ImageDiff) -> Iterator[str]:
    body = []
    for package in found.packages:
        name = f"{package.name} ({package.architecture})" if package.architecture else package.name
        if package.before is None:
            body.append(f"+ {name} {package.after}")
        elif package.after is None:
            body.append(f"- {name} {package.before}")
        else:
            body.append(f"~ {name} {package.before} -> {package.after}")
    yield from _section(f"packages: {_counts(body)}", body)


def _counts(body: Sequence[str]) -> str:
    """Count lines by their signs."""
    return ", ".join(f"{sum(line[0] == sign for line in body)} {what}" for what, sign in SIGNS.items())


def _files(inside: PartitionFiles, *, everything: bool) -> Iterator[str]:
    where = f"partition {inside.number} {inside.name}".rstrip()
    if inside.different_bytes:
        body = [f"~ about {inside.different_bytes:,} bytes differ, {inside.compared_bytes or 0:,} were compared"]
        yield from _section(f"{where}: {inside.note}", body)
    if not inside.files:
        return
    shown = [(change, ()) for change in inside.files] if everything else folded(inside.files)
    if len(shown) > LONG and not everything:
        body = [*_by_folder(inside.files), "", "each of them: --all"]
    else:
        body = [_file(change, below) for change, below in shown]
    sums = f"{_counts([SIGNS[change.change] for change in inside.files])}, {growth(inside.files):+,} bytes"
    yield from _section(f"files in {where}, {inside.file_system}: {sums}", body)


def folded(files: Sequence[FileChange]) -> list[tuple[FileChange, Sequence[FileChange]]]:
    """Put what is in a folder that was added, or removed, as a whole behind that folder; `files` by their paths."""
    inside: dict[tuple[str, str], list[FileChange]] = {}  # of whole folders: what is in each, or in that around it
    shown: list[tuple[FileChange, Sequence[FileChange]]] = []
    for change in files:
        around = inside.get((change.change, change.path.rpartition("/")[0]))
        below: list[FileChange] = [] if around is None else around
        if around is None:
            shown.append((change, below))
        else:
            around.append(change)
        if change.type == "folder" and change.change != "changed":
            inside[change.change, change.path] = below
    return shown


def growth(files: Sequence[FileChange]) -> int:
    """Return by how many bytes the files have grown, in words."""
    total = 0
    for change in files:
        if change.change == "changed":
            before, after = change.differences.get("size", (0, 0))
            total += int(str(after)) - int(str(before))
        else:
            total += change.size if change.change == "added" else -change.size
    return total


def _file(change: FileChange, below: Sequence[FileChange]) -> str:
    line = f"{SIGNS[change.change]} {change.path}"
    if change.change != "changed":
        if change.type == "folder":
            return f"{line}/" + (f"  {len(below)} in it, {sum(one.size for one in below):,} bytes" if below else "")
        if change.target is not None:
            return f"{line} -> {change.target}"
        return f"{line}  {change.size:,} bytes" if change.type == "file" else f"{line}  {change.type}"
    details = [f"{name} {_value(before)} -> {_value(after)}" for name, (before, after) in change.differences.items()]
    if change.contents and "size" not in change.differences:
        details.append(f"other contents, {change.size:,} bytes")
    return f"{line}  {'; '.join(details)}"


def _by_folder(files: Sequence[FileChange]) -> Iterator[str]:
    """Sum up by the first two folders of each path, as a table."""
    found: dict[str, list[FileChange]] = {}
    for change in files:
        parts = change.path.split("/")
        found.setdefault("/".join(parts[:3]) if len(parts) > 3 else "/".join(parts[:2]) or "/", []).append(change)
    width = max(len("folder"), *(len(folder) for folder in found))
    yield f"{'folder':{width}}  {'added':>7} {'removed':>7} {'changed':>7} {'bytes':>15}"
    for folder, changes in sorted(found.items()):
        counts = [sum(change.change == what for change in changes) for what in SIGNS]
        yield f"{folder:{width}}  " + " ".join(f"{count:>7,}" for count in counts) + f" {growth(changes):>+15,}"
