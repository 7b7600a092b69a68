"""The layers of tests/project/layers.py hold, nothing imports in a circle, and packages are used where they belong."""

import ast
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from tests.project.layers import (
    BY_ROOM,
    EXCEPTIONS,
    OURS,
    PAGE,
    circles,
    floors,
    forbidden_imports,
    homeless,
    layer_of,
    page,
)
from tests.project.source_tree import ROOT, Module, imports, is_within, modules

# The emulator plays Google's part, by Google's own message classes (docs/decisions/0012-emulator.md).
ONLY_IN = {
    "google": ("shared.gcp", "emulator"),
    "typer": ("goldsmith",),
    "rich": ("goldsmith",),
    "pydantic": ("shared.spec",),
}
LAZY = {"shared.runtime.opening": "shared"}  # it opens what one process needs; the packages of the other may be absent
OF_ONE_MACHINE = ("shared.local", "shared.machines", "shared.images", "shared.disks")
NOT_IN = {
    "shared.runtime.cloud": OF_ONE_MACHINE,
    "shared.runtime.terminal": OF_ONE_MACHINE,
    **{
        f"shared.runtime.{name}": ("shared.gcp",)
        for name in ("one_machine", "builds", "images", "dispatcher", "doctor")
    },
}
"""What each file of runtime/ does without: a function takes longer to start with it, and a command."""

IO_MODULES = frozenset(
    """asyncio ctypes fcntl glob http multiprocessing os random sched secrets select selectors shutil signal socket
    socketserver sqlite3 ssl subprocess tempfile threading time urllib.request uuid""".split()  # noqa: SIM905 - readable
)
IO_CALLS = frozenset(
    """cwd exists glob home input is_dir is_file iterdir mkdir open print read_bytes read_text rglob rmdir stat unlink
    write_bytes write_text""".split()  # noqa: SIM905 - readable
)
CLOCK_CALLS = frozenset(["date.today", "datetime.now", "datetime.today", "datetime.utcnow"])


def misplaced_packages(root: Path) -> list[str]:
    """Find packages of others that are imported where they do not belong."""
    return [
        found.at(why)
        for module in modules(root, "main.py", *OURS)
        for found in imports(module)
        if (why := _why_not(module.name, found.target))
    ]


def _why_not(importer: str, target: str) -> str:
    top = target.split(".")[0]
    if importer.split(".")[0] == "provisioner" and top != "provisioner" and top not in sys.stdlib_module_names:
        return "the provisioner runs where there is only the standard library"
    for package, homes in ONLY_IN.items():
        if is_within(target, package) and not any(is_within(importer, home) for home in homes):
            return f"only {' and '.join(homes)} may import {package}"
    if top in {"tests", "benchmarks"}:
        return f"{target} is not deployed"
    return ""


def foreign_adapters(root: Path) -> list[str]:
    """Find files of runtime/ that import the adapters of the other place."""
    return [
        found.at(f"{module.name} may not import {found.target}: it is of the other place")
        for module in modules(root, "shared")
        for found in imports(module)
        if any(is_within(found.target, other) for other in NOT_IN.get(module.name, ()))
    ]


def eager_adapters(root: Path) -> list[str]:
    """Find what runtime/opening.py imports before it is asked for it."""
    return [
        found.at(f"{found.target} is imported inside the function that opens it: its packages may be absent here")
        for module in modules(root, "shared")
        if module.name in LAZY
        for found in imports(module)
        if not found.lazy and (layer := layer_of(found.target)) and layer.io
    ]


def io_where_there_is_none(root: Path) -> list[str]:
    """Find what reads, writes, asks the time or draws a random number in a room that does not."""
    return [
        f"{module.path}:{line}: {what}: {layer.room} does no I/O, reads no clock, draws no random number"
        for module in modules(root, *OURS)
        if (layer := layer_of(module.name)) and not layer.io and str(module.path) not in EXCEPTIONS
        for line, what in _io(module)
    ]


def _io(module: Module) -> Iterator[tuple[int, str]]:
    for found in imports(module):
        if any(is_within(found.target, name) for name in IO_MODULES):
            yield found.line, f"imports {found.target}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            last = called.rsplit(".", 1)[-1]
            if last in IO_CALLS or any(called.endswith(clock) for clock in CLOCK_CALLS):
                yield node.lineno, f"calls {called}()"


def hidden_packages(root: Path, path: list[str]) -> list[str]:
    """Find which of our packages would be imported from elsewhere than `root`, were `root` looked at last."""
    specs = {name: PathFinder.find_spec(name, path) for name in OURS}
    return [
        f"{name} is provided by {spec.origin}: it would hide this checkout's"
        for name, spec in specs.items()
        if spec and spec.origin and not Path(spec.origin).resolve().is_relative_to(root)
    ]


def test_every_module_has_a_room() -> None:
    found = homeless(ROOT)
    assert not found, "\n".join(found)


def test_imports_follow_the_layers() -> None:
    found = forbidden_imports(ROOT) + misplaced_packages(ROOT) + eager_adapters(ROOT) + foreign_adapters(ROOT)
    assert not found, "\n".join(found)


def test_rooms_stand_on_rooms_below_them() -> None:
    below: set[str] = set()
    for room, layer in BY_ROOM.items():
        assert below.issuperset(layer.may_import), f"{room} may import what stands above it"
        below.add(room)


def test_nothing_is_imported_in_a_circle() -> None:
    assert circles(ROOT) == []


def test_rooms_without_io_do_none() -> None:
    found = io_where_there_is_none(ROOT)
    assert not found, "\n".join(found)


def test_the_page_shows_the_layers() -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    assert text == page(text), "run: python -m tests.project.layers"


def test_a_page_of_other_layers_is_written_anew() -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    for line in ("│ planning*", "| shared/engine |"):
        assert page(text.replace(line, "stale")) == text


def test_a_room_is_drawn_above_all_that_it_imports() -> None:
    rooms = [BY_ROOM[room] for room in ("shared/ground", "shared/clock", "shared/host", "shared/local")]
    assert [[layer.room for layer in floor] for floor in floors(rooms)] == [
        ["shared/ground", "shared/clock"],
        ["shared/host"],
        ["shared/local"],
    ]


def test_our_packages_come_from_this_checkout() -> None:
    found = hidden_packages(ROOT, [entry for entry in sys.path if entry and Path(entry).resolve() != ROOT])
    assert not found, "\n".join(found)


def write(root: Path, path: str, text: str) -> None:
    """Put one file in a small tree."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text + "\n")


@pytest.mark.parametrize(
    ("path", "text", "reason"),
    [
        ("main.py", "import shared.engine.engine", "main may not import shared/engine"),
        ("functions/start_build.py", "from goldsmith import cli", "functions may not import goldsmith/cli"),
        ("functions/start_build.py", "import provisioner.job.runner", "functions may not import provisioner/job"),
        ("functions/start_build.py", "from shared.gcp import pubsub", "functions may not import shared/gcp"),
        (
            "goldsmith/cli/app.py",
            "from shared.local.store import LocalStore",
            "goldsmith/cli may not import shared/local",
        ),
        ("goldsmith/cli/app.py", "importlib.import_module('shared.gcp')", "goldsmith/cli may not import shared/gcp"),
        ("emulator/web/x.py", "def f():\n    from functions import start_build", "may not import functions"),
        ("emulator/compute/x.py", "from shared.gcp import compute", "emulator/compute may not import shared/gcp"),
        ("shared/engine/engine.py", "from ..workers import undo", "shared/engine may not import shared/workers"),
        ("shared/build/plan.py", "from ..spec.model import Spec", "shared/build may not import shared/spec"),
        ("shared/gcp/x.py", "from ..local import store", "shared/gcp may not import shared/local"),
        ("shared/local/x.py", "from ..runtime import opening", "shared/local may not import shared/runtime"),
        (
            "shared/build/build.py",
            "if TYPE_CHECKING:\n    from ..ports import Image",
            "shared/build may not import shared/ports",
        ),
        ("provisioner/job/x.py", "from shared.errors import InputError", "may not import shared/ground"),
        ("provisioner/steps/x.py", "from ...shared import errors", "may not import shared/ground"),
        ("provisioner/system/x.py", "from ..steps import reboot", "may not import provisioner/steps"),
    ],
)
def test_forbidden_import_is_found(tmp_path: Path, path: str, text: str, reason: str) -> None:
    write(tmp_path, path, text)
    [found] = forbidden_imports(tmp_path)
    assert found.startswith(f"{path}:{len(text.splitlines())}: ")
    assert reason in found


@pytest.mark.parametrize(
    ("path", "text", "reason"),
    [
        ("goldsmith/cli/app.py", "import google.cloud.storage", "only shared.gcp and emulator may import google"),
        ("goldsmith/cli/app.py", "import tests.world.world", "tests.world.world is not deployed"),
        ("shared/workers/x.py", "import rich.table", "only goldsmith may import rich"),
        ("shared/build/x.py", "from pydantic import BaseModel", "only shared.spec may import pydantic"),
        ("provisioner/job/x.py", "import yaml", "only the standard library"),
    ],
)
def test_misplaced_package_is_found(tmp_path: Path, path: str, text: str, reason: str) -> None:
    write(tmp_path, path, text)
    [found] = misplaced_packages(tmp_path)
    assert found.startswith(f"{path}:1: ")
    assert reason in found


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("shared/runtime/cloud.py", "from ..local import store"),
        ("shared/runtime/cloud.py", "def f():\n    from ..machines import qemu"),
        ("shared/runtime/one_machine.py", "from ..gcp import firestore"),
    ],
)
def test_an_adapter_of_the_other_place_is_found(tmp_path: Path, path: str, text: str) -> None:
    write(tmp_path, path, text)
    [found] = foreign_adapters(tmp_path)
    assert found.startswith(f"{path}:{len(text.splitlines())}: ")


def test_an_eager_adapter_is_found(tmp_path: Path) -> None:
    write(tmp_path, "shared/runtime/opening.py", "from .cloud import x\ndef f():\n    from .terminal import y")
    [found] = eager_adapters(tmp_path)
    assert found.startswith("shared/runtime/opening.py:1: ")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("main.py", "from functions.start_build import start_build"),
        ("functions/start_build.py", "import json\nfrom shared.runtime.opening import cloud"),
        (
            "shared/spec/model.py",
            "from provisioner.protocol import Step\nfrom ..errors import InputError\nimport pydantic",
        ),
        ("shared/runtime/opening.py", "def local():\n    from ..local import store\n    from ..gcp import pubsub"),
        ("shared/gcp/x.py", "from google.cloud import compute_v1\nfrom ..ports import Image\nfrom . import x"),
        ("provisioner/steps/reboot.py", "import os\nfrom ..protocol import Reboot"),
        ("goldsmith/cli/app.py", "import rich.live, typer\nfrom ..commands import build"),
        ("emulator/compute/x.py", "from shared.machines.machines import Machines\nimport google.cloud.compute_v1"),
    ],
)
def test_rightful_import_is_not_found(tmp_path: Path, path: str, text: str) -> None:
    write(tmp_path, path, text)
    assert forbidden_imports(tmp_path) + misplaced_packages(tmp_path) + eager_adapters(tmp_path) == []


@pytest.mark.parametrize(
    ("texts", "circle"),
    [
        (
            {"shared/a/x.py": "from . import y", "shared/a/y.py": "def f():\n    from .x import g"},
            "shared.a.x -> shared.a.y -> shared.a.x",
        ),
        (
            {
                "shared/a/one.py": "import shared.b.one",
                "shared/b/one.py": "",
                "shared/b/two.py": "from shared.a.two import x",
                "shared/a/two.py": "",
            },
            "shared.a -> shared.b -> shared.a",
        ),
    ],
)
def test_a_circle_is_found(tmp_path: Path, texts: dict[str, str], circle: str) -> None:
    for path, text in {
        **texts,
        "shared/__init__.py": "",
        "shared/a/__init__.py": "",
        "shared/b/__init__.py": "",
    }.items():
        write(tmp_path, path, text)
    assert circles(tmp_path) == [circle]


def test_a_module_without_a_room_is_found(tmp_path: Path) -> None:
    write(tmp_path, "shared/brand_new.py", "")
    assert homeless(tmp_path)[0].startswith("shared/brand_new.py:1: no room")


@pytest.mark.parametrize(
    ("path", "text", "what"),
    [
        ("shared/build/plan.py", "import os.path", "imports os.path"),
        ("shared/build/plan.py", "from urllib.request import urlopen", "imports urllib.request.urlopen"),
        ("shared/engine/engine.py", "def f():\n    import time", "imports time"),
        ("shared/engine/engine.py", "open('x')", "calls open()"),
        ("shared/engine/engine.py", "Path('x').read_text()", "calls Path('x').read_text()"),
        ("shared/engine/lifecycle.py", "import datetime\ndatetime.datetime.now()", "calls datetime.datetime.now()"),
        ("shared/spec/cloudbuild/x.py", "print('x')", "calls print()"),
        ("shared/spec/model.py", "path.write_text('x')", "calls path.write_text()"),
    ],
)
def test_io_where_there_is_none_is_found(tmp_path: Path, path: str, text: str, what: str) -> None:
    write(tmp_path, path, text)
    [found] = io_where_there_is_none(tmp_path)
    assert found.startswith(f"{path}:{len(text.splitlines())}: {what}: ")


def test_io_where_it_belongs_is_not_found(tmp_path: Path) -> None:
    write(tmp_path, "shared/spec/read.py", "path.read_text()\nopen('x')")
    write(tmp_path, "shared/local/store.py", "import sqlite3, time\nopen('x')")
    write(tmp_path, "shared/engine/engine.py", "import datetime\nself.clock.now()\nstore.touch('b', 1.0)")
    assert io_where_there_is_none(tmp_path) == []


def test_installed_package_that_hides_ours_is_found(tmp_path: Path) -> None:
    write(tmp_path, "site-packages/shared/__init__.py", "")
    [found] = hidden_packages(ROOT, [str(tmp_path / "site-packages"), str(ROOT)])
    assert found.startswith("shared is provided by ")
