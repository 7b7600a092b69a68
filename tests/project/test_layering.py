"""Who may import whom, and where input and output may be done.

main → functions → shared → provisioner.protocol → standard library;  goldsmith → shared;  emulator → shared

Everything directly in shared/ is the core unless it is named in OUTER: a new module is held to the strictest rule until
somebody decides otherwise, here.
"""

import ast
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from tests.project.source_tree import ROOT, Import, Module, imports, is_within, modules

OURS = ("main", "functions", "goldsmith", "provisioner", "shared", "emulator", "tests", "benchmarks")

MAY_IMPORT_OF_OURS = {
    "main": ("functions",),
    "functions": ("functions", "shared", "provisioner.protocol"),
    "goldsmith": ("goldsmith", "shared", "provisioner.protocol"),
    "emulator": ("emulator", "shared", "provisioner.protocol"),
    # One set of rules, and one reader of contexts, in the VM and on the host.
    "shared": ("shared", "provisioner.protocol", "provisioner.hygiene", "provisioner.context"),
    "provisioner": ("provisioner",),
}

MACHINES = "shared.local"  # of which the emulator's instances, disks and images are made, too
ADAPTERS = ("shared.gcp", MACHINES)
FACTORY = "shared.factory"
# What works on files, or with a factory in hand.
ACTING = (
    "shared.bundle",
    "shared.cidata",
    "shared.clock",
    "shared.context",
    "shared.context_members",
    "shared.expiry",
    "shared.gpu_drivers",
    "shared.intake",
    "shared.intake_places",
    "shared.requests",
    "shared.spec_file",
    "shared.ownership",
    "shared.sweep",
    "shared.stored_content",
    "shared.uploads",
    "shared.watch",
    "shared.workers",
)
OUTER = (FACTORY, *ACTING, *ADAPTERS)  # all of shared/ that is not the core

# Both adapters need them: the clock, the cidata, which reads the provisioner's sources, and a public list of Google's.
OF_ALL_ADAPTERS = ("shared.cidata", "shared.clock", "shared.gpu_drivers")

# They put the parts together on one machine, as functions/ and Google's services do in the cloud.
COMPOSITION = ("shared.gcp.factory", "shared.local.dispatcher", "shared.local.factory")

# The emulator plays Google's part, by Google's own message classes (docs/decisions/0012-emulator.md).
ONLY_IN = {"google": ("shared.gcp", "emulator"), "typer": ("goldsmith",), "rich": ("goldsmith",)}

IO_MODULES = frozenset(
    """asyncio ctypes fcntl glob http multiprocessing os random sched secrets select selectors shutil signal socket
    socketserver sqlite3 ssl subprocess tempfile threading time urllib.request uuid""".split()  # noqa: SIM905 - readable
)
IO_CALLS = frozenset(
    """cwd exists glob home input is_dir is_file iterdir mkdir open print read_bytes read_text rglob rmdir stat unlink
    write_bytes write_text""".split()  # noqa: SIM905 - readable
)
CLOCK_CALLS = frozenset(["date.today", "datetime.now", "datetime.today", "datetime.utcnow"])


def is_core(name: str) -> bool:
    """Tell whether a module, or a name in one, belongs to the core."""
    return is_within(name, "shared") and not any(is_within(name, outer) for outer in OUTER)


def forbidden_imports(root: Path) -> list[str]:
    """Find the imports that go against the direction of the layers."""
    return [
        found.at(f"{found.module.name} imports {found.target}: {why}")
        for module in modules(root, "main.py", *MAY_IMPORT_OF_OURS)
        for found in imports(module)
        if (why := _why_not(found))
    ]


def _why_not(found: Import) -> str:
    importer, target = found.module.name, found.target
    top = importer.split(".")[0]
    if any(is_within(target, ours) for ours in OURS):
        if not any(is_within(target, allowed) for allowed in MAY_IMPORT_OF_OURS[top]):
            return f"of ours, {top} may import only {', '.join(MAY_IMPORT_OF_OURS[top])}"
        return _why_not_within_shared(found) if is_within(target, "shared") else ""
    if top == "provisioner" and target.split(".")[0] not in sys.stdlib_module_names:
        return "the provisioner runs where there is only the standard library"
    for package, homes in ONLY_IN.items():
        if is_within(target, package) and not any(is_within(importer, home) for home in homes):
            return f"only {' and '.join(homes)} may import {package}"
    return ""


def _why_not_within_shared(found: Import) -> str:
    importer, target = found.module.name, found.target
    top = importer.split(".")[0]
    home = next((adapter for adapter in ADAPTERS if is_within(importer, adapter)), None)
    for adapter in ADAPTERS:
        if is_within(target, adapter) and adapter != home and not (top == "emulator" and adapter == MACHINES):
            if importer != FACTORY:
                return f"only {FACTORY} knows the adapters"
            if not found.lazy:
                return "an adapter is imported inside the function that needs it: the other's packages may be absent"
    allowed = is_core(target) or any(is_within(target, name) for name in OF_ALL_ADAPTERS)
    if home and importer not in COMPOSITION and not is_within(target, home) and not allowed:
        return "an adapter may import its own folder and the core"
    if is_core(importer) and not is_core(target):
        return "the core imports nothing but the core"
    return ""


def io_in_the_core(root: Path) -> list[str]:
    """Find what reads, writes, asks the time or draws a random number in the core."""
    return [
        f"{module.path}:{line}: {what}: the core does no I/O, reads no clock, draws no random number"
        for module in modules(root, "shared")
        if is_core(module.name)
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


def test_imports_follow_the_layers() -> None:
    found = forbidden_imports(ROOT)
    assert not found, "\n".join(found)


def test_core_does_no_io() -> None:
    found = io_in_the_core(ROOT)
    assert not found, "\n".join(found)


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
        ("main.py", "import shared.engine", "main may import only functions"),
        ("functions/start_build.py", "from goldsmith import cli", "functions may import only"),
        ("functions/start_build.py", "import provisioner.runner", "functions may import only"),
        ("functions/start_build.py", "from shared.gcp import compute", "only shared.factory knows the adapters"),
        ("goldsmith/cli.py", "from shared.local.store import SqliteStore", "only shared.factory knows the adapters"),
        ("goldsmith/cli.py", "import tests.fakes", "goldsmith may import only"),
        ("goldsmith/cli.py", "import google.cloud.storage", "only shared.gcp and emulator may import google"),
        ("goldsmith/cli.py", "importlib.import_module('shared.gcp')", "only shared.factory knows the adapters"),
        ("emulator/gce.py", "def f():\n    from functions import start_build", "emulator may import only"),
        ("emulator/gce.py", "from shared.gcp import compute", "only shared.factory knows the adapters"),
        ("shared/engine.py", "from provisioner import runner", "shared may import only shared, provisioner.protocol"),
        ("shared/engine.py", "from .workers import export_image", "the core imports nothing but the core"),
        ("shared/engine.py", "from . import factory", "the core imports nothing but the core"),
        ("shared/brand_new.py", "from .local import store", "only shared.factory knows the adapters"),
        (
            "shared/workers/export_image.py",
            "from ..local import archive",
            "only shared.factory knows the adapters",
        ),
        ("shared/workers/export_image.py", "import rich.table", "only goldsmith may import rich"),
        ("shared/factory.py", "from .gcp import compute", "inside the function that needs it"),
        ("shared/local/store.py", "from ..gcp import firestore", "only shared.factory knows the adapters"),
        ("shared/local/store.py", "from ..workers import clean_up", "its own folder and the core"),
        ("shared/local/store.py", "from ..factory import local", "its own folder and the core"),
        ("provisioner/runner.py", "import yaml", "only the standard library"),
        ("provisioner/runner.py", "from shared.errors import InputError", "provisioner may import only"),
        ("provisioner/steps/__init__.py", "from ...shared import errors", "provisioner may import only"),
    ],
)
def test_forbidden_import_is_found(tmp_path: Path, path: str, text: str, reason: str) -> None:
    write(tmp_path, path, text)
    [found] = forbidden_imports(tmp_path)
    assert found.startswith(f"{path}:{len(text.splitlines())}: ")
    assert reason in found


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("main.py", "from functions.start_build import start_build"),
        ("functions/start_build.py", "import json\nfrom shared.factory import connect"),
        ("shared/plan.py", "from provisioner.protocol import Step\nfrom .errors import InputError\nimport pydantic"),
        ("shared/factory.py", "def local():\n    from .local import store\n    from .gcp import compute"),
        (
            "shared/gcp/compute.py",
            "from google.cloud import compute_v1\nfrom ..ports import Image\nfrom . import x",
        ),
        ("shared/local/__init__.py", "from .store import SqliteStore\nimport sqlite3"),
        ("provisioner/steps/reboot.py", "import os\nfrom ..protocol import Reboot"),
        ("goldsmith/cli.py", "import rich.live, typer\nfrom shared.engine import Engine"),
        ("emulator/gce.py", "from shared.local.machine import Machines\nimport google.cloud.compute_v1"),
    ],
)
def test_rightful_import_is_not_found(tmp_path: Path, path: str, text: str) -> None:
    write(tmp_path, path, text)
    assert forbidden_imports(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "text", "what"),
    [
        ("shared/plan.py", "import os.path", "imports os.path"),
        ("shared/plan.py", "from urllib.request import urlopen", "imports urllib.request.urlopen"),
        ("shared/engine.py", "def f():\n    import time", "imports time"),
        ("shared/engine.py", "open('x')", "calls open()"),
        ("shared/engine.py", "Path('x').read_text()", "calls Path('x').read_text()"),
        ("shared/lifecycle.py", "import datetime\ndatetime.datetime.now()", "calls datetime.datetime.now()"),
        ("shared/dialects/cloudbuild.py", "print('x')", "calls print()"),
        ("shared/spec.py", "path.write_text('x')", "calls path.write_text()"),
    ],
)
def test_io_in_the_core_is_found(tmp_path: Path, path: str, text: str, what: str) -> None:
    write(tmp_path, path, text)
    [found] = io_in_the_core(tmp_path)
    assert found.startswith(f"{path}:{len(text.splitlines())}: {what}: ")


def test_io_where_it_belongs_is_not_found(tmp_path: Path) -> None:
    write(tmp_path, "shared/spec_file.py", "path.read_text()\nopen('x')")
    write(tmp_path, "shared/local/store.py", "import sqlite3, time\nopen('x')")
    write(tmp_path, "shared/engine.py", "import datetime\nself.clock.now()\nstore.touch('b', 1.0)")
    assert io_in_the_core(tmp_path) == []


def test_installed_package_that_hides_ours_is_found(tmp_path: Path) -> None:
    write(tmp_path, "site-packages/shared/__init__.py", "")
    [found] = hidden_packages(ROOT, [str(tmp_path / "site-packages"), str(ROOT)])
    assert found.startswith("shared is provided by ")
