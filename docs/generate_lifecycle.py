"""Write two pages from the table in shared/engine/lifecycle.py and the docstrings of what it names.

    docs/lifecycle.md        the life of an image, with the diagram of a build
    docs/state-machine.md    every rule, event, order and outcome

python -m docs.generate_lifecycle
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from shared.build.build import Outcome, State
from shared.build.events import Event
from shared.build.orders import ORDER_KINDS
from shared.engine.lifecycle import (
    CLEANING_PATIENCE,
    MAIN_PATH,
    ORDER_OF,
    PATIENCE,
    RULES,
    Rule,
    always,
    order_on_entering,
)

LIFE = f"""\
# The life of an image

An image is built, verified, published, perhaps promoted, replaced by a newer one, and deleted in the end. At each of
these a process may die between any two lines: what is done next is always in the store, and doing it twice is harmless.

## It is built

A spec, or a trigger, asks for a build. The build is in one of {len(State)} states, and each event leads it on by the
first [rule](state-machine.md#rules) that holds. Every build passes `cleaning`, where all that it has used is deleted,
and its outcome is decided once, on the way there. A build that fails after its steps keeps its image, or its disk, for
a while, and [a retry](published-images.md#retries) goes on from there.
"""

GOES_ON = """\
## It is verified and published

An image with `verify` in its spec is a draft until VMs have booted from it and have passed: it is in no family, and has
the label `goldsmith-verify: pending`. Publication then shows labels, manifest and bills of materials, is committed, and
puts the image into its family last of all. So the family leads to the old image or the new one at any moment. Builds of
one family publish one after another, and a build that ends late gives way to a newer image.

## Others get it

A [channel](published-images.md#channels) such as `prod` is a family of copies: a promotion puts a verified image there,
and where the channel names approvers, only after [two of them, or one who is not its author,](published-images.md#approvals) have proved their yes. A
spec asks for more of them with its [channels](spec.md#channels). A published image is shared with members and copied to
other projects and locations ([distribution](spec.md#distribution)), each target by itself.

## It is taken back, or replaced

| what happens | to the image | its family and channels |
| --- | --- | --- |
| a newer image is published | deprecated, with `output.deprecate_old` | lead to the newer one |
| it is [revoked](published-images.md#revoked-images) | OBSOLETE at once, with its copies | go back to the newest good image before it |
| a source of it is revoked | named; built again with `--cascade` | lead to the new build when that is published |
| [a rule](published-images.md#old-images) retires it | OBSOLETE; a day later deleted, if nothing uses it | never lose their newest |

Only images that the store says are ours are ever touched; `adopted_families` are deprecated, and never deleted.
`goldsmith images check NAME` answers in one call whether an image may be used, and [its origin](provenance.md) is
stated, and signed where there is a key.
"""  # noqa: E501 - rows of tables

MACHINE = f"""\
# The state machine of a build

An event that no rule is for (late, twice, of an earlier attempt, of another build) is ignored with a reason. Entering a
state gives the state's order, and writes into the ledger what that order may make. An order that is not answered within
{PATIENCE:.0f} s is given again; a clean-up after {CLEANING_PATIENCE:.0f} s, and ever more rarely when it is stuck.
[lifecycle.md](lifecycle.md) has the diagram.
"""

MADE = """\
Made from `shared/engine/lifecycle.py` by `python -m docs.generate_lifecycle`; a test holds both together, so change the
table there, never this page.
"""

ANNOUNCE = "The finished build, whole, to the topic builds-finished."
ABSENT = "–"


def pages() -> dict[str, str]:
    """Return both documents, by their names."""
    machine = [
        MACHINE,
        MADE,
        "## Rules\n\nThe first that holds wins.\n",
        rules(),
        "## Events\n",
        table(("event", "what has happened"), ((kind.__name__, sentence(kind)) for kind in get_args(Event))),
        "## Orders\n",
        table(("order", "given on entering", "what is asked for"), map(order, ORDER_KINDS)),
        "## Outcomes\n",
        table(("outcome", "decided by"), ((code(outcome), deciders(outcome)) for outcome in Outcome)),
    ]
    return {"lifecycle.md": "\n".join([LIFE, diagram(), GOES_ON]), "state-machine.md": "\n".join(machine)}


def diagram() -> str:
    """Return the state diagram; a rule for the whole main path is one arrow."""
    main = [f"        {line}" for line in arrows(rule for rule in RULES if rule.at != MAIN_PATH and on_main_path(rule))]
    rest = [f"    {line}" for line in arrows(rule for rule in RULES if rule.at == MAIN_PATH or not on_main_path(rule))]
    return "\n".join(
        [
            "```mermaid",
            "stateDiagram-v2",
            "    [*] --> queued : BuildRequested and queued",
            "    [*] --> preparing : BuildRequested",
            "    [*] --> cleaning : BuildRejected, or BuildRequested and unchanged",
            '    state "main path" as main {',
            *main,
            "    }",
            *rest,
            "    finished --> [*]",
            "```",
            "",
        ]
    )


def on_main_path(rule: Rule) -> bool:
    """Return whether a rule stays within the main path."""
    return rule.to in MAIN_PATH and set(rule.at) <= set(MAIN_PATH)


def arrows(chosen: Iterable[Rule]) -> list[str]:
    """Return the arrows of rules that enter a state, those between the same two states as one."""
    labels: dict[tuple[str, str], list[str]] = {}
    for rule in chosen:
        for state in ("main",) if rule.at == MAIN_PATH else rule.at:
            if rule.to is not None:
                labels.setdefault((state, rule.to), []).append(label(rule))
    return [f"{start} --> {end} : {'<br/>'.join(texts)}" for (start, end), texts in labels.items()]


def label(rule: Rule) -> str:
    """Return what an arrow says: the event, and its guard when it has one."""
    return rule.on.__name__ + ("" if rule.when is always else f", {rule.when.__name__}")


def rules() -> str:
    """Return all rules, in their order."""
    heads = ("in", "on", "when", "to", "outcome", "order", "also")
    return table(heads, (row(rule) for rule in RULES))


def row(rule: Rule) -> Sequence[str]:
    """Return one rule's line."""
    at = "the main path" if rule.at == MAIN_PATH else ", ".join(rule.at)
    entered = order_on_entering(rule.to, rule.at[0]) if rule.to else None
    given = (*rule.gives, *((entered,) if entered else ()))
    return (
        at,
        rule.on.__name__,
        condition(rule.when),
        rule.to or ABSENT,
        rule.outcome or ABSENT,
        ", ".join(map(code, given)) or ABSENT,
        sentence(rule.then) if rule.then else ABSENT,
    )


def order(kind: str) -> Sequence[str]:
    """Return one order's line: the first line of its worker's module."""
    states = [state for state, given in ORDER_OF.items() if given == kind]
    if kind == "announce":
        return code(kind), ", ".join(states), ANNOUNCE
    module = importlib.import_module(f"shared.workers.{kind}")
    return code(kind), ", ".join(states) or ABSENT, sentence(module).removeprefix(f"{kind}: ")


def deciders(outcome: Outcome) -> str:
    """Return the rules that decide an outcome."""
    found = list(dict.fromkeys(label(rule) for rule in RULES if rule.outcome is outcome))
    if outcome is Outcome.UNCHANGED:
        found.append("BuildRequested, when an image has this content already")
    if outcome is Outcome.FAILED:
        found.append("BuildRejected")
    return "; ".join(found)


def sentence(thing: Callable[..., Any] | object) -> str:
    """Return the first line of a docstring."""
    return (inspect.getdoc(thing) or "").splitlines()[0]


def condition(guard: Callable[..., bool]) -> str:
    """Return when a guard holds, from the docstring that says what it returns."""
    text = sentence(guard).removeprefix("Return whether ").removeprefix("Return True ")
    return text[0].upper() + text[1:]


def code(text: str) -> str:
    """Set a text as code."""
    return f"`{text}`"


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    shown = [heads, ["---"] * len(heads), *lines]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in shown)


if __name__ == "__main__":
    for name, text in pages().items():
        (Path(__file__).parent / name).write_text(text, encoding="utf-8")
