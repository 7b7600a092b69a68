"""The layers of a build's steps on this machine: which there can be, and what their keys are made of."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from provisioner.protocol import Job
from provisioner.system.context import selected_digest

from ...build.plan import Plan
from ...cache.disk_delta import apply_delta, read_delta
from ...cache.disk_digest import kept_digest
from ...cache.layer_store import LayerStore, StepLayer, folder_of_layers, open_chain
from ...cache.step_keys import layer_chain
from ...errors import EnvironmentFault, ImageFileError, InputError, NotFound
from ...machines.machines import CHROOT
from ...machines.qemu import StepCache
from ...ports import MachineRequest
from ...quantities import parse_size
from ...topology import CACHE_SIZE, CACHE_SIZE_DEFAULT
from .step_code import TREE, code_of_steps

LOG = logging.getLogger(__name__)


def cache_size(environment: Mapping[str, str]) -> int:
    """Return how many bytes the layers may take. EnvironmentFault."""
    try:
        return parse_size(environment.get(CACHE_SIZE) or CACHE_SIZE_DEFAULT)
    except ValueError as error:
        raise EnvironmentFault(f"{CACHE_SIZE}: {error}") from error


def make_room(home: Path, environment: Mapping[str, str]) -> None:
    """Remove the layers that were used longest ago, if all take more than they may."""
    _store(home).prune(cache_size(environment))


def step_cache(request: MachineRequest, source: Callable[[], Path]) -> StepCache | None:
    """Return the cache of a machine's steps; None where it has none. `source` returns the disk of its source image."""
    plan = request.whole_plan
    if plan is None or not plan.cache.enabled or plan.layout is not None:
        return None
    try:
        chain = chain_of(plan, source())
    except NotFound:  # deleted meanwhile: another attempt has its own disk
        return None
    return StepCache(plan.build_id, chain, plan.cache.max_age, key=request.job.key)


def chain_of(plan: Plan, source: Path, tree: Path = TREE) -> tuple[StepLayer, ...]:
    """Return the layers of a plan's steps. `source` is the disk of its source image, `tree` has our packages."""
    context = None if plan.context is None else Path(plan.context.uri)
    base = {
        "engine": plan.machine.engine,
        "code": code_of_steps(plan.machine.engine, plan.machine.boot, tree),
        "disk_size_gb": plan.machine.disk_size_gb,
        "source_date": plan.source_date,
    }
    if plan.machine.engine != CHROOT:
        base["boot"] = plan.machine.boot
        base["disk"] = kept_digest(source)  # its blocks, which an image that was made again may have elsewhere
    else:
        base["user"] = os.geteuid()  # whose ids the files of its layers have
    return layer_chain(plan, base, lambda patterns: _selected(context, patterns))


def with_layers(job: Job, cache: StepCache | None, first: int = 0) -> Job:
    """Return the job with the steps after which the disk is kept, and the first step that a VM's disk has not."""
    layers = () if cache is None else tuple(layer.step for layer in cache.chain)
    return replace(job, layers=layers, first=first)


def after_layers(cache: StepCache, home: Path, disk: Path) -> StepCache:
    """Bring a VM's disk, a copy of its source, to where earlier builds have left it; return what is left to keep.

    OSError.
    """
    store = _store(home)
    with ExitStack() as stack:
        deltas, bad = [], list[str]()
        stack.callback(lambda: [store.discard(key) for key in bad])  # when they are closed
        chain = open_chain(store, cache.chain, cache.max_age)
        for opened in chain:
            stack.callback(opened.close)
        for opened in chain:
            try:
                deltas.append((opened, read_delta(opened.content, disk.stat().st_size)))
            except ImageFileError as error:
                LOG.warning("a layer is of no use: %s", error)
                bad.append(opened.record.key)
                break
        with disk.open("r+b") as file:
            for opened, changes in deltas:
                apply_delta(opened.content, changes, file.fileno())
        if not deltas:
            return cache
        done, last = len(deltas), deltas[-1][0].record
        return replace(cache, chain=cache.chain[done:], before=last, first=cache.chain[done - 1].step + 1)


def check_reads(plan: Plan) -> None:
    """Refuse patterns that select no file of the context. InputError."""
    for step in (*plan.steps, *(plan.verify_steps or ())):
        for pattern in step.reads or ():
            if plan.context is not None and not _count(Path(plan.context.uri), pattern):
                raise InputError(
                    f"steps: {step.name}: reads: {pattern!r} selects no file of the context; write a pattern of files "
                    "that are there"
                )


def _store(home: Path) -> LayerStore:
    return LayerStore(folder_of_layers(home), _remove)


def _remove(folder: Path) -> None:
    from ...machines.start_sandbox import remove_folder  # loads all of the sandbox: only where something is removed

    remove_folder(folder)


def _selected(context: Path | None, patterns: Sequence[str]) -> str:
    if context is None:
        return ""
    with context.open("rb") as file:
        return selected_digest(file, patterns)[0]


def _count(context: Path, pattern: str) -> int:
    with context.open("rb") as file:
        return selected_digest(file, (pattern,))[1]
