"""The layers as data: which room may import which, and where input and output may be done.

A room is a folder of the tree, or some files directly in a top-level folder. A line of LAYERS says what it may import
beside itself; nothing else of ours, also not lazily or for types alone. docs/architecture.md shows them as a picture
and a table, both written by `python -m tests.project.layers`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.project.source_tree import ROOT, Import, Module, imports, is_within, modules

OURS = ("main", "functions", "goldsmith", "provisioner", "shared", "emulator")
PAGE = "docs/architecture.md"


@dataclass(frozen=True)
class Layer:
    """One room: its folder or its files, what it may import beside itself, whether it may do I/O."""

    room: str
    members: tuple[str, ...]  # dotted
    may_import: tuple[str, ...]  # rooms
    io: bool


def _layer(room: str, may_import: str = "", *, io: bool = False, files: str = "") -> Layer:
    folder = room.split("/", maxsplit=1)[0]
    members = tuple(f"{folder}.{name}" for name in files.split()) or (room.replace("/", "."),)
    return Layer(room, members, tuple(may_import.split()), io)


LAYERS = (
    _layer("provisioner/protocol", files="protocol frames"),
    _layer("provisioner/system", "provisioner/protocol", io=True),
    _layer("provisioner/reporting", "provisioner/protocol provisioner/system", io=True),
    _layer("provisioner/cos", "provisioner/protocol provisioner/system provisioner/reporting", io=True),
    _layer("provisioner/machine", "provisioner/protocol provisioner/system provisioner/cos", io=True),
    _layer("provisioner/hygiene", "provisioner/protocol provisioner/system provisioner/machine", io=True),
    _layer("provisioner/elements", "provisioner/protocol provisioner/system provisioner/reporting", io=True),
    _layer(
        "provisioner/steps",
        "provisioner/protocol provisioner/system provisioner/reporting provisioner/cos provisioner/machine "
        "provisioner/elements",
        io=True,
    ),
    _layer(
        "provisioner/job",
        "provisioner/protocol provisioner/system provisioner/reporting provisioner/cos provisioner/machine "
        "provisioner/hygiene provisioner/steps",
        io=True,
    ),
    _layer(
        "provisioner/main",
        "provisioner/protocol provisioner/system provisioner/cos provisioner/machine provisioner/job",
        io=True,
        files="__main__ light_dataclasses",
    ),
    _layer(
        "shared/ground",
        files="architectures errors names quantities json_values named_documents budget interruption topology "
        "submission quick_dataclasses",
    ),
    _layer("shared/clock", io=True),
    _layer("shared/build", "provisioner/protocol shared/ground"),
    _layer("shared/gpu_drivers", "shared/ground shared/build", io=True),
    _layer("shared/host", "shared/ground", io=True),
    _layer("shared/archives", "shared/ground", io=True),
    _layer("shared/delivery", "provisioner/protocol shared/ground shared/host", io=True),
    _layer("shared/context", "provisioner/system shared/ground shared/build shared/archives", io=True),
    _layer("shared/disks", "provisioner/system shared/ground shared/build shared/host shared/archives", io=True),
    _layer(
        "shared/ports",
        "provisioner/protocol provisioner/hygiene shared/ground shared/build",
        files="ports build_search export_ports kept_documents identities image_users keys backend ownership "
        "person_requests backlog",
    ),
    _layer("shared/engine", "provisioner/protocol shared/ground shared/build shared/ports"),
    _layer("shared/published", "shared/ground shared/build shared/ports", io=True),
    _layer("shared/webhooks", "shared/ground shared/build shared/ports shared/engine", io=True),
    _layer("shared/tracing", "provisioner/protocol shared/ground shared/build shared/ports shared/engine", io=True),
    _layer("shared/sbom", "provisioner/protocol provisioner/system shared/ground shared/build shared/ports"),
    _layer(
        "shared/provenance",
        "provisioner/protocol shared/ground shared/build shared/ports shared/engine shared/host shared/delivery",
        io=True,
    ),
    _layer("shared/spec", "provisioner/protocol shared/ground shared/build shared/context shared/sbom"),
    _layer(
        "shared/elements",
        "provisioner/system provisioner/elements shared/ground shared/build shared/context shared/spec shared/host",
        io=True,
    ),
    _layer("shared/cache", "provisioner/protocol shared/ground shared/build shared/host shared/disks", io=True),
    _layer(
        "shared/sandbox",
        "provisioner/protocol provisioner/system shared/ground shared/build shared/ports shared/host shared/disks "
        "shared/cache",
        io=True,
    ),
    _layer(
        "shared/machines",
        "provisioner/protocol shared/ground shared/build shared/ports shared/host shared/archives shared/disks "
        "shared/delivery shared/cache shared/sandbox",
        io=True,
    ),
    _layer(
        "shared/block_devices",
        "shared/ground shared/build shared/host shared/disks shared/sandbox shared/machines",
        io=True,
    ),
    _layer(
        "shared/images",
        "provisioner/hygiene provisioner/system shared/ground shared/build shared/ports shared/host shared/archives "
        "shared/disks shared/block_devices",
        io=True,
    ),
    _layer(
        "shared/origins",
        "provisioner/system provisioner/elements shared/ground shared/build shared/ports shared/host shared/archives "
        "shared/delivery shared/disks shared/spec shared/elements shared/sandbox shared/machines shared/block_devices "
        "shared/images",
        io=True,
    ),
    _layer(
        "shared/local",
        "provisioner/protocol provisioner/hygiene provisioner/system shared/ground shared/build shared/ports "
        "shared/gpu_drivers shared/host shared/disks shared/delivery shared/cache shared/sandbox shared/images "
        "shared/machines",
        io=True,
    ),
    _layer(
        "shared/maker",
        "provisioner/protocol shared/ground shared/clock shared/build shared/ports shared/host shared/disks "
        "shared/delivery shared/elements shared/images shared/machines shared/origins shared/local",
        io=True,
    ),
    _layer(
        "shared/gcp",
        "provisioner/protocol provisioner/hygiene shared/ground shared/build shared/ports shared/gpu_drivers "
        "shared/archives shared/delivery shared/webhooks",
        io=True,
    ),
    _layer(
        "shared/planning",
        "provisioner/protocol shared/ground shared/build shared/ports shared/context shared/spec shared/engine",
    ),
    _layer(
        "shared/people",
        "shared/ground shared/build shared/ports shared/engine shared/planning shared/published",
        io=True,
    ),
    _layer(
        "shared/workers",
        "provisioner/protocol provisioner/hygiene shared/ground shared/build shared/ports shared/engine "
        "shared/published shared/sbom shared/provenance",
        io=True,
    ),
    _layer(
        "shared/upkeep",
        "provisioner/protocol shared/ground shared/build shared/ports shared/engine shared/planning shared/workers",
        io=True,
    ),
    _layer(
        "shared/intake",
        "provisioner/system shared/ground shared/build shared/ports shared/engine shared/planning shared/spec "
        "shared/elements shared/context shared/sbom shared/delivery",
        io=True,
    ),
    _layer(
        "shared/runtime",
        "provisioner/protocol shared/ground shared/clock shared/build shared/ports shared/engine shared/published "
        "shared/planning shared/spec shared/elements shared/context shared/sbom shared/upkeep "
        "shared/workers shared/people shared/host shared/images shared/origins shared/machines "
        "shared/cache shared/sandbox shared/local shared/gcp shared/webhooks "
        "shared/provenance shared/tracing",
        io=True,
    ),
    _layer(
        "shared/dashboard",
        "provisioner/protocol shared/ground shared/build shared/ports shared/engine shared/published shared/planning "
        "shared/people shared/sbom shared/images shared/upkeep",
        io=True,
    ),
    _layer(
        "functions",
        "shared/ground shared/build shared/ports shared/engine shared/published shared/planning shared/intake "
        "shared/upkeep shared/workers shared/people shared/runtime shared/webhooks shared/dashboard shared/tracing",
        io=True,
    ),
    _layer("main", "functions"),
    _layer(
        "goldsmith/screen",
        "provisioner/protocol shared/ground shared/build shared/ports shared/planning shared/runtime",
        io=True,
    ),
    _layer(
        "goldsmith/home",
        "goldsmith/screen shared/ground shared/build shared/ports shared/runtime",
        io=True,
        files="home home_folder places exit_status version",
    ),
    _layer(
        "goldsmith/commands",
        "goldsmith/home goldsmith/screen shared/ground shared/build shared/ports shared/gpu_drivers shared/engine "
        "shared/published shared/planning shared/spec shared/elements shared/context shared/intake shared/host "
        "shared/delivery shared/images shared/runtime shared/provenance shared/dashboard",
        io=True,
    ),
    _layer("goldsmith/completion", "shared/ground", io=True),
    _layer(
        "goldsmith/cli",
        "goldsmith/home goldsmith/screen goldsmith/commands goldsmith/completion shared/ground",
        io=True,
    ),
    _layer(
        "goldsmith/main",
        "goldsmith/home goldsmith/screen goldsmith/completion goldsmith/cli shared/ground",
        io=True,
        files="__main__",
    ),
    _layer("emulator/web", "shared/ground shared/host shared/machines", io=True),
    _layer("emulator/pubsub", "shared/ground shared/ports", io=True),
    _layer("emulator/storage", "emulator/web shared/host", io=True),
    _layer(
        "emulator/compute",
        "emulator/web shared/ground shared/clock shared/build shared/ports shared/host shared/disks shared/images "
        "shared/machines",
        io=True,
    ),
    _layer("emulator/security", "emulator/web shared/host", io=True),
    _layer(
        "emulator/cloud",
        "emulator/web emulator/pubsub emulator/storage emulator/security emulator/compute shared/ground shared/build "
        "shared/ports shared/host",
        io=True,
    ),
    _layer("emulator/main", "emulator/cloud shared/ground shared/build", io=True, files="__main__"),
)
BY_ROOM = {layer.room: layer for layer in LAYERS}

EXCEPTIONS = {
    "shared/spec/read.py": "reads the spec's file",
    "shared/spec/files.py": "checks that the files that a spec names are there",
}
"""Files that do I/O in a room that does none, each with its reason."""


def layer_of(name: str) -> Layer | None:
    """Return the layer of a module, or of a name in one; a package that holds rooms has none."""
    found = [layer for layer in LAYERS if any(is_within(name, member) for member in layer.members)]
    return found[0] if found else None


def homeless(root: Path) -> list[str]:
    """Find modules that are in no room, and rooms that have no module."""
    named = {module.name: module for module in modules(root) if module.name.split(".")[0] in OURS}
    lost = [
        f"{module.path}:1: no room of tests/project/layers.py holds it; give it one"
        for module in named.values()
        if layer_of(module.name) is None and not (module.is_package and "." not in module.name)
    ]
    empty = [
        f"tests/project/layers.py:1: there is no {member}; take it out of {layer.room}"
        for layer in LAYERS
        for member in layer.members
        if not any(is_within(name, member) for name in named)
    ]
    return lost + empty


def forbidden_imports(root: Path) -> list[str]:
    """Find the imports between rooms that the table does not have."""
    return [
        found.at(f"{layer.room} may not import {target.room} ({found.target})")
        for module in modules(root, "main.py", *OURS)
        if (layer := layer_of(module.name))
        for found in imports(module)
        if (target := layer_of(found.target)) and target is not layer and target.room not in layer.may_import
    ]


def edges(module: Module, known: frozenset[str]) -> Iterator[tuple[str, Import]]:
    """Yield the modules of ours that a module imports."""
    for found in imports(module):
        target = found.target
        while target and target not in known:
            target = target.rpartition(".")[0]
        if target and target != module.name:
            yield target, found


def circles(root: Path) -> list[str]:
    """Find files, and folders that lie side by side, that import each other in a circle."""
    ours = modules(root, "main.py", *OURS)
    packages = frozenset(module.name for module in ours if module.is_package)
    graph = {
        module.name: {
            target for target, _ in edges(module, frozenset(each.name for each in ours)) if target not in packages
        }
        for module in ours
    }
    found = [_circle(graph)]
    for folder in sorted({"", *packages}):
        among: dict[str, set[str]] = {}
        for name, targets in graph.items():
            for target in targets:
                pair = _child(name, folder), _child(target, folder)
                if pair[0] and pair[1] and pair[0] != pair[1]:
                    among.setdefault(pair[0], set()).add(pair[1])
        found.append(_circle(among))
    return sorted({circle for circle in found if circle})


def _child(name: str, folder: str) -> str:
    """Return what holds a module directly in a folder: itself or a folder; nothing where it is elsewhere."""
    if folder and not name.startswith(folder + "."):
        return ""
    return ".".join(name.split(".")[: (folder.count(".") + 1 if folder else 0) + 1])


def _circle(graph: dict[str, set[str]]) -> str:
    """Return one circle as `a -> b -> a`, or nothing."""
    done: set[str] = set()
    for start in sorted(graph):
        path: list[str] = []
        pending = [(start, iter(sorted(graph[start])))] if start not in done else []
        path += [start] if pending else []
        while pending:
            name, rest = pending[-1]
            following = next(rest, None)
            if following is None:
                pending.pop()
                path.pop()
                done.add(name)
            elif following in path:
                return " -> ".join([*path[path.index(following) :], following])
            elif following not in done and following in graph:
                path.append(following)
                pending.append((following, iter(sorted(graph[following]))))
    return ""


def floors(rooms: Iterable[Layer]) -> list[list[Layer]]:
    """Return rooms by floor, the lowest first: a room stands one floor above the highest one that it may import."""
    floor: dict[str, int] = {}
    for layer in rooms:
        floor[layer.room] = 1 + max((floor[room] for room in layer.may_import if room in floor), default=-1)
    return [[BY_ROOM[room] for room in floor if floor[room] == number] for number in range(len(set(floor.values())))]


def picture() -> str:
    """Return the rooms as a drawing: a box for each top-level folder, and in it a line for each floor."""
    tops = [_box("main, functions"), _box("goldsmith"), _box("emulator")]
    height = max(len(box) for box in tops)
    padded = [[box[0], *[f"│{' ' * (len(box[0]) - 2)}│"] * (height - len(box)), *box[1:]] for box in tops]
    rows = ["  ".join(parts) for parts in zip(*padded, strict=True)]
    lower = [line for name in ("shared", "provisioner") for line in _box(name, len(rows[0]))]
    return "\n".join(["```text", *rows, *lower, "```"]) + "\n"


def _box(title: str, width: int = 0) -> list[str]:
    """Return the box of one or more top-level folders, `width` characters wide or as wide as it needs."""
    rooms = [layer for layer in LAYERS if layer.room.split("/")[0] in title.split(", ")]
    lines = ["   ".join(_name(each) + ("" if each.io else "*") for each in floor) for floor in reversed(floors(rooms))]
    width = max(width - 4, len(title) + 2, *(len(line) for line in lines))
    return [
        f"┌─ {title} {'─' * (width - len(title) - 1)}┐",
        *(f"│ {line.ljust(width)} │" for line in lines),
        f"└{'─' * (width + 2)}┘",
    ]


def _name(layer: Layer) -> str:
    """Return a room's name without its top-level folder."""
    return layer.room.rpartition("/")[2]


def table() -> str:
    """Return what each room may import as a table of Markdown, the lowest room first."""
    rows = ["| room | may import |", "| --- | --- |"]
    for layer in LAYERS:
        files = ", ".join(f"`{member.partition('.')[2]}`" for member in layer.members) if len(layer.members) > 1 else ""
        room = f"{layer.room} ({files})" if files else layer.room
        rows.append(f"| {room} | {_imported(layer) or '–'} |")
    return "\n".join(rows) + "\n"


def _imported(layer: Layer) -> str:
    """Return what a room may import: rooms of its own folder by name, others as `folder: names`."""
    by_folder: dict[str, list[str]] = {}
    for room in layer.may_import:
        by_folder.setdefault(room.rpartition("/")[0], []).append(_name(BY_ROOM[room]))
    own = ", ".join(by_folder.pop(layer.room.rpartition("/")[0], []))
    others = (f"{folder}: {', '.join(names)}" for folder, names in sorted(by_folder.items()))
    return "; ".join(filter(None, [own, *others]))


def page(text: str) -> str:
    """Return docs/architecture.md with the picture and the table as they are now."""
    for kind, drawn in (("picture", picture()), ("table", table())):
        begin, end = f"<!-- {kind}: python -m tests.project.layers -->\n", f"<!-- end of {kind} -->\n"
        before, _, rest = text.partition(begin)
        text = before + begin + "\n" + drawn + "\n" + end + rest.partition(end)[2]
    return text


if __name__ == "__main__":
    path = ROOT / PAGE
    path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")
