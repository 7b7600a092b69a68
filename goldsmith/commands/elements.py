"""goldsmith elements tree and explain: what elements bring, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.elements.chosen import choose, is_in_target, tree_document
from shared.errors import InputError

from ..screen.tables import print_json, print_table
from ..screen.text import complain, printable, say

ACTION = "elements"
PATH = ("elements",)  # where elements are looked for unless the command line says otherwise


@dataclass(frozen=True)
class Asked:
    """Elements, as a step of a spec or the command line asks for them."""

    names: Sequence[str]
    path: Sequence[str]
    on_image: bool
    step: str | None = None


def tree(asked: Sequence[Asked], *, verbose: bool, as_json: bool) -> None:
    """Print the merged hooks of elements, and the element that each comes from. InputError tells all problems."""
    documents = []
    problems = []
    for each in asked:
        try:
            document = tree_document(choose(each.names, each.path, on_image=each.on_image))
            documents.append(document if each.step is None else {"step": each.step, **document})
        except InputError as error:
            before = "" if each.step is None else f"step {each.step}: "
            problems += [before + line for line in str(error).splitlines()]
    if problems:
        raise InputError("\n".join(problems))
    if as_json:
        print_json(documents if len(documents) > 1 else documents[0])
        return
    for number, document in enumerate(documents):
        if len(documents) > 1:
            say(("\n" if number else "") + printable(f"step {document['step']}"))
        _print_tree(document, verbose=verbose)


def asked_by_words(names: str, path: Sequence[str], *, on_image: bool) -> Asked:
    """Return what a command line asks for. InputError."""
    asked = [name for name in (part.strip() for part in names.split(",")) if name]
    if not asked:
        raise InputError("--elements: names no element; write names with commas: vm,my-app")
    return Asked(asked, path or PATH, on_image)


def asked_by_spec(spec: Path, parameters: Mapping[str, str]) -> list[Asked]:
    """Return what the steps of a spec ask for. InputError, SpecError."""
    from .specs import read_builds

    file = read_builds(spec, parameters, f"goldsmith elements tree {spec}", None)
    found = []
    for build in file.builds:
        steps = [*build.spec.steps, *(build.spec.verify.steps if build.spec.verify else ())]
        context = file.folder / (build.spec.context or ".")
        for step in steps:
            if step.action != ACTION:
                continue
            if not context.is_dir():
                raise InputError(
                    f"{spec}: the context {context} is no folder; unpack it, and use --elements and --path"
                )
            path = [str(context / place) for place in step.inputs["path"]]
            found.append(Asked(step.inputs["elements"], path, on_image=True, step=step.name))
    if not found:
        raise InputError(f"{spec}: no step has the action {ACTION}; --elements NAME,... shows elements without a spec")
    return found


def _print_tree(document: Mapping[str, Any], *, verbose: bool) -> None:
    rows = [[each["name"], _why(each), _place(each["folder"])] for each in document["elements"]]
    print_table(["element", "why", "folder"], rows)
    for line in (*_hooks(document, verbose=verbose), *_replaced(document)):
        say(printable(line))
    if document["skipped"] and not verbose:
        count = len(document["skipped"])
        complain(
            f"{count} {'file' if count == 1 else 'files'} beside the hooks will not run; -v lists them, and says why"
        )


def _why(element: Mapping[str, Any]) -> str:
    reasons = ["asked for"] if element["asked"] else []
    if element["needed_by"]:
        reasons.append(f"needed by {', '.join(element['needed_by'])}")
    provides = f"provides {', '.join(element['provides'])}" if element["provides"] else ""
    return "; ".join(filter(None, [*reasons, provides]))


def _place(folder: str) -> str:
    """Return a folder as a path from the current one, if it is below it."""
    here = Path.cwd()
    return str(Path(folder).relative_to(here)) if Path(folder).is_relative_to(here) else folder


def _hooks(document: Mapping[str, Any], *, verbose: bool) -> Iterator[str]:
    phases = {"environment.d": document["environment"], **document["phases"]}
    skipped = [each for each in document["skipped"] if verbose]
    for phase, hooks in phases.items():
        others = [each for each in skipped if each["phase"] == phase]
        if not hooks and not others:
            continue
        yield ""
        yield f"{phase}, {_where(phase, document)}"
        width = max(len(each["name"]) for each in (*hooks, *others))
        yield from (f"  {hook['name'].ljust(width)}  {hook['element']}" for hook in hooks)
        yield from (f"- {each['name'].ljust(width)}  {each['element']}: {each['reason']}" for each in others)


def _where(phase: str, document: Mapping[str, Any]) -> str:
    if phase == "environment.d":
        return "read before each phase"
    if phase in document["not_run"]:
        return "which does not run: the image is there"
    return "in the image" if is_in_target(phase) else "on the build machine"


def _replaced(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what hides something else."""
    lines = [
        f"  {each['element']}: {_place(each['folder'])} instead of {_place(each['instead_of'])}"
        for each in document["overrides"]
    ]
    lines += [
        f"  {each['name']}: that of {each['element']} instead of that of {each['instead_of']}"
        for each in document["hidden"]
    ]
    if lines:
        yield from ("", "overrides", *lines)


def explain(name: str, path: Sequence[str], *, as_json: bool) -> None:
    """Print what an element is for, what it needs, and the variables that it knows. InputError."""
    from shared.elements.explanation import explain_element

    document = explain_element(name, path or PATH)
    if as_json:
        print_json(document)
        return
    for line in _explanation(document):
        say(printable(line))


def _explanation(document: Mapping[str, Any]) -> Iterator[str]:
    yield f"{document['name']}: {document['summary'] or 'has no README'}"
    yield ""
    lists = ("dependencies", "provides", "needed_by", "packages", "services")
    named = [("folder", _place(document["folder"]))]
    named += [("instead of", _place(folder)) for folder in document["instead_of"]]
    named += [(key.replace("_", " "), ", ".join(document[key])) for key in lists if document[key]]
    named += [(phase, ", ".join(hooks)) for phase, hooks in document["phases"].items()]
    named += [("environment.d", ", ".join(document["environment"]))] if document["environment"] else []
    width = max(len(key) for key, _ in named) + 1
    yield from (f"{key + ':':<{width}} {value}" for key, value in named)
    for skipped in document["skipped"]:
        yield f"{skipped['phase']}/{skipped['name']} does not run: {skipped['reason']}"
    if document["variables"]:
        yield ""
        yield "variables"
        yield from (f"  {line}" for line in map(_variable, document["variables"]))


def _variable(variable: Mapping[str, Any]) -> str:
    value = "" if variable["default"] is None else f" = {variable['default'] or '(empty)'}"
    how = [f"exported by {', '.join(variable['exports'])}"] if variable["exports"] else []
    how += [f"read by {', '.join(variable['reads'])}"] if variable["reads"] else []
    return f"{variable['name']}{value}: {'; '.join(how)}"
