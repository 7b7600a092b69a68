"""The steps that a build would take from the step cache if it began now, for a plan: nothing is changed or kept."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...build.plan import Plan
from ...cache.layer_store import Lack, LayerRecord, LayerStore, StepLayer, folder_of_layers, look_along
from ...machines.machines import CHROOT
from ...machines.start_sandbox import look_at_layers, remove_folder
from ...quantities import format_duration
from ...sandbox.roots.layer_stack import MOST_LOWER, CacheSpec
from ...topology import CACHE_SIZE
from .step_cache import cache_size, chain_of


@dataclass(frozen=True)
class CachedSteps:
    """The steps of a build that were run by earlier ones, whose layer it begins after, and why the next one is run."""

    steps: tuple[str, ...] = ()  # names, from the first on
    layer: str = ""  # its key
    build: str = ""  # the id of the build that has left it
    made: float = 0.0  # Unix seconds
    until: float | None = None  # when its results of other hosts are too old; None: they never are, or there are none
    why_not: str = ""  # why the step after these is run; "": all are from the cache


def cached_steps(plan: Plan, source: Path, home: Path, environment: Mapping[str, str]) -> CachedSteps:
    """Say which steps a build would take from the cache if it began now; nothing is changed. EnvironmentFault.

    `source` is the disk of its source image.
    """
    if plan.layout is not None:
        return CachedSteps(why_not="the disk grows while it is used, so there is no cache of its steps")
    if not plan.cache.enabled:
        return CachedSteps(why_not="the cache is not used")
    store, chain = LayerStore(folder_of_layers(home), remove_folder), chain_of(plan, source)
    gone = {record.key for record in store.surplus(cache_size(environment))}
    kept = tuple(itertools.takewhile(lambda layer: layer.key not in gone, chain))
    lack: Lack | None
    if plan.machine.engine == CHROOT and os.geteuid():
        found, lack = look_at_layers(CacheSpec(str(store.folder), plan.build_id, plan.cache.max_age, kept))
    else:
        most = MOST_LOWER if plan.machine.engine == CHROOT else len(kept)
        found, lack = look_along(store, kept[:most], plan.cache.max_age)
    if not found:
        return CachedSteps(why_not=_why_not(plan, chain, found, lack, gone))
    first, last = chain[len(found) - 1].step + 1, found[-1]
    return CachedSteps(
        tuple(step.name for step in plan.steps[:first]),
        last.key,
        last.build,
        last.made,
        None if last.oldest is None else last.oldest + plan.cache.max_age,
        _why_not(plan, chain, found, lack, gone),
    )


def _why_not(
    plan: Plan, chain: Sequence[StepLayer], found: Sequence[LayerRecord], lack: Lack | None, gone: Collection[str]
) -> str:
    """Return why a build runs the step after the layers that were found; "" without one."""
    first = chain[len(found) - 1].step + 1 if found else 0
    if first == len(plan.steps):
        return ""
    name = plan.steps[first].name
    if len(found) == len(chain):
        secret = next((step.name for step in plan.steps[first:] if step.secrets), "")
        why = f"steps from {secret} on are always run, since that one has secrets" if secret else "is always run"
        return f"{name}: {why}"
    layer = chain[len(found)]
    what = name if layer.name == name else f"{name} to {layer.name}, kept together"
    if layer.key in gone:
        return f"{what}: what was kept is removed when the build begins, since all takes more than {CACHE_SIZE}"
    if lack == "old":
        age = format_duration(plan.cache.max_age)
        return f"{what}: what was kept may have come from other hosts, and cache.max_age is {age}"
    if lack == "elsewhere":
        return f"{what}: what was kept was left on another result of the steps before"
    if lack == "missing":
        return f"{what}: no result is kept for these inputs, these files and these steps before"
    return f"{what}: comes after as many layers as there can be" if layer.usable else f"{what}: was asked for"
