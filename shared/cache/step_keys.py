"""The keys of the layers of a build: what the result of each of its steps depends on.

    base ── step 1 ── step 2 ── step 3          each key is a digest of the one before it, and of what its step does
    k0      k1        k2        k3              and sees

There are no layers from the first step with secrets on.
The same key stands for the same work on the same disk. A step whose successor goes on from its processes (with
`cache: false`) has no layer of its own: what both have done is kept after the second.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from provisioner.protocol import Step

from ..build.plan import Plan
from .layer_store import StepLayer

FORMAT = 2  # of layers: raise it when code packs, applies or means them otherwise; it makes all that there are useless


def layer_chain(plan: Plan, base: dict[str, Any], selected: Callable[[Sequence[str]], str]) -> tuple[StepLayer, ...]:
    """Return the layers of a plan's steps, in order.

    `base` names the disk that the first step begins with, and how steps are run on it; `selected` returns the digest of
    the files of the context that patterns select.
    """
    whole = plan.context.digest if plan.context else ""
    common = {"source": plan.source.id, "internet": plan.machine.internet, "date": plan.source_date}
    key = _digest({**base, "format": FORMAT, **common})
    found, networked = [], False
    for index, step in enumerate(plan.steps):
        if step.secrets:  # no key may depend on their values, and what the step leaves may
            break
        seen = whole if step.reads is None else selected(step.reads)
        key = _digest({**_work(step), "before": key, "context": seen})
        networked = networked or (step.network and plan.machine.internet)
        following = plan.steps[index + 1 : index + 2]
        if not all(step.cache for step in following):
            continue
        found.append(StepLayer(index, step.name, key, networked, index < _end(plan)))
        networked = False
    return tuple(found)


def _end(plan: Plan) -> int:
    """Return the index of the first step that the build has to run."""
    return len(plan.steps) if plan.cache.first is None else plan.cache.first


def _work(step: Step) -> dict[str, Any]:
    """Return what a step does: not how long or how often it may be tried."""
    return {
        "action": step.action,
        "inputs": dict(step.inputs),
        "network": step.network,
        "reads": step.reads is not None,
        "cache": step.cache,  # without a border before it, a step may come to another result
    }


def _digest(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
