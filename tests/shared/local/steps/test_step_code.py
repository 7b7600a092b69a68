"""Which code the keys of layers hold: all that shapes what a step leaves, and none of the host's."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.protocol import Step
from shared.build.plan import CachePlan, MachinePlan, Plan
from shared.local.steps.step_cache import chain_of
from shared.local.steps.step_code import NOT_OF_STEPS, TREE
from tests.project.source_tree import imports, modules
from tests.world.values import plan as a_plan

MACHINE = a_plan().machine
MACHINES: dict[str, MachinePlan] = {
    "chroot": replace(MACHINE, engine="chroot"),
    "direct": replace(MACHINE, engine="vm", boot="direct"),
    "firmware": replace(MACHINE, engine="vm", boot="firmware"),
}
ENGINES = tuple(MACHINES)
ALLOWED = {  # imports of files that do not count: these tell what happens, run after the last step, or for a person
    ("provisioner.elements.run", "provisioner.reporting.script_facts"),
    ("provisioner.hygiene.hygiene", "provisioner.hygiene.rules"),
    ("provisioner.hygiene.hygiene", "provisioner.hygiene.secret_shapes"),
    ("provisioner.job.runner", "provisioner.job.hold"),
    ("provisioner.job.session", "provisioner.hygiene.self_check"),
    ("provisioner.job.session", "provisioner.job.inventory"),
    ("provisioner.job.session", "provisioner.machine.clean_machine"),
    ("provisioner.job.session", "provisioner.reporting.publisher"),
    ("provisioner.job.session", "provisioner.reporting.report_port"),
    ("provisioner.job.session", "provisioner.reporting.reports"),
    ("provisioner.job.step_secrets", "provisioner.reporting.publisher"),
    ("provisioner.reporting.journal", "provisioner.reporting.reports"),
    ("provisioner.steps.elements", "provisioner.reporting.script_facts"),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tree like this one, of links."""
    root = tmp_path_factory.mktemp("tree")
    for package in ("provisioner", "shared", "goldsmith"):
        for folder, _, names in os.walk(TREE / package):
            place = root / Path(folder).relative_to(TREE)
            place.mkdir()
            for name in names:
                (place / name).symlink_to(Path(folder, name))
    return root


def keys(tree: Path, source: Path, engine: str) -> list[str]:
    """Return the keys of two steps whose layers can be kept."""
    steps = (Step("one", "run-script", {"script": "a.sh"}), Step("two", "reboot", {}))
    plan: Plan = replace(a_plan(), context=None, machine=MACHINES[engine], steps=steps, cache=CachePlan(True, 60.0))
    return [layer.key for layer in chain_of(plan, source, tree)]


@pytest.mark.parametrize(
    ("changed", "engines"),
    [
        ("goldsmith/commands/build.py", ()),
        ("goldsmith/cli/app.py", ()),
        ("shared/engine/lifecycle.py", ()),
        ("shared/workers/export_image.py", ()),
        ("shared/local/compute.py", ()),
        ("shared/machines/qemu.py", ()),
        ("shared/sandbox/supervisor.py", ()),
        ("provisioner/hygiene/rules.py", ()),
        ("provisioner/machine/clean_machine.py", ()),
        ("provisioner/reporting/publisher.py", ()),
        ("provisioner/protocol.py", ENGINES),
        ("provisioner/bootstrap.sh", ENGINES),
        ("provisioner/steps/run_script.py", ENGINES),
        ("provisioner/job/runner.py", ENGINES),
        ("provisioner/reporting/state.py", ENGINES),
        ("provisioner/hygiene/source_record.py", ENGINES),
        ("shared/sandbox/shims.py", ("chroot",)),
        ("shared/sandbox/seccomp.py", ("chroot",)),
        ("shared/sandbox/user_namespace.py", ("chroot",)),
        ("shared/sandbox/roots/layer_stack.py", ("chroot",)),
        ("shared/machines/direct_boot/units.py", ("direct",)),
        ("shared/machines/direct_boot/guest/start", ("direct",)),
        ("provisioner/steps/a_new_one.py", ENGINES),
        ("shared/sandbox/a_new_one.py", ("chroot",)),
    ],
)
def test_code_that_runs_steps_is_in_the_keys_and_the_hosts_is_not(
    tree: Path, tmp_path: Path, changed: str, engines: tuple[str, ...]
) -> None:
    source = tmp_path / "disk.raw"
    source.write_bytes(b"disk")
    before = {engine: keys(tree, source, engine) for engine in ENGINES}
    path = tree / changed
    was = path.read_bytes() if path.exists() else None
    path.unlink(missing_ok=True)
    try:
        path.write_bytes((was or b"") + b"\n# changed\n")
        after = {engine: keys(tree, source, engine) for engine in ENGINES}
    finally:
        path.unlink()
        if was is not None:
            path.symlink_to(TREE / changed)
    assert {engine for engine in ENGINES if not set(before[engine]) & set(after[engine])} == set(engines)
    assert {engine for engine in ENGINES if before[engine] != after[engine]} == set(engines)


def test_what_is_left_out_is_there_and_no_step_uses_it() -> None:
    assert {name for name in NOT_OF_STEPS if not (TREE / name).is_file()} == set()
    left_out = {name.removesuffix(".py").replace("/", ".") for name in NOT_OF_STEPS}
    used = set()
    for module in modules(TREE, "provisioner"):
        if module.name in left_out:
            continue
        for target in (each.target for each in imports(module)):
            used |= {(module.name, name) for name in left_out if target == name or target.startswith(f"{name}.")}
    assert used == ALLOWED
