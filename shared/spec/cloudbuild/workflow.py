"""Cloud Build workflows that run COS Customizer: an unchanged cloudbuild.yaml becomes native documents, one a build.

    steps:
    - name: gcr.io/cos-cloud/cos-customizer
      args: [start-image-build, -image-project=cos-cloud, ...]     the builds, put together by builds_of
    - name: gcr.io/cloud-builders/gsutil                           not taken over, and listed

Reading continues where it found faults, so that all are reported at once, each with its place in the workflow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from ...names import nearest, quoted, shown_value
from ..document import Document, KeyPath, Position, Problem, key_path
from .builds import Drafted, builds_of
from .commands import ASIDE, INSTALL_ANTHOS, Command, read_command
from .keys import MERGE, entry, merged, snake_case, with_lists
from .native_draft import Origin
from .substitutions import KEY as SUBSTITUTIONS
from .substitutions import Substitutions, declared
from .wait_for import before_each

CUSTOMIZERS = ("cos-customizer", "cos_customizer")
ENTRYPOINT = "cos_customizer"
STEP_LIMIT, ARGUMENT_LIMIT = 300, 100  # Cloud Build's
INSTALLER = "_ANTHOS_INSTALLER"  # a substitution of ours: the archive that COS Customizer has built in

_STEP_KEYS = (
    *("name", "args", "env", "dir", "id", "waitFor", "entrypoint", "secretEnv", "volumes", "timeout", "script"),
    *("automapSubstitutions", "allowFailure", "allowExitCodes"),
)
_KEYS = (
    *("steps", "timeout", "images", SUBSTITUTIONS, "options", "tags", "artifacts", "secrets", "availableSecrets"),
    *("logsBucket", "serviceAccount", "queueTtl", "dependencies", "gitConfig"),
)
_WITHOUT_EFFECT = ("images", "artifacts")  # what a person would miss
_STEP_WITHOUT_EFFECT = ("env", "secretEnv", "volumes", "allowFailure", "allowExitCodes")
_TIMEOUT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s")
_IMAGE = re.compile(r"[/:@]")  # what the names of specs' steps never hold


@dataclass(frozen=True, order=True)
class Note:
    """A setting of a workflow that has no effect here."""

    position: Position
    text: str


@dataclass
class Workflow:
    """The conversion of a workflow: its builds in the order of their ends, its problems, and what is not taken over."""

    document: Document  # with its merge keys resolved
    builds: list[Drafted] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    empty: list[Problem] = field(
        default_factory=list
    )  # built-ins without a value: reported with problems, else as notes
    notes: list[Note] = field(default_factory=list)


def is_workflow(data: Any) -> bool:
    """Return whether values are a Cloud Build workflow: its steps run images, and it has no source as specs have."""
    if not isinstance(data, dict) or "steps" not in data or "source" in data:
        return False
    steps = with_lists(data)["steps"]
    found = [step for step in steps if isinstance(step, dict)]
    runs_images = any({"args", "script", MERGE} & set(step) or _IMAGE.search(str(step.get("name"))) for step in found)
    return runs_images and not any("action" in step for step in found)


def is_customizer(image: str) -> bool:
    """Return whether an image is COS Customizer's: any registry and tag, or built locally as bazel:cos_customizer."""
    name, _, tag = image.partition("@")[0].rpartition("/")[2].partition(":")
    return name in CUSTOMIZERS or (name == "bazel" and tag in CUSTOMIZERS)


def read_workflow(document: Document, stem: str, overrides: Mapping[str, str], builtin: Mapping[str, str]) -> Workflow:
    """Read a workflow's values. `stem` names a build where nothing else does; values from outside win."""
    return _Reader(merged(document), overrides, builtin).read(stem)


class _Reader:
    def __init__(self, document: Document, overrides: Mapping[str, str], builtin: Mapping[str, str]) -> None:
        self.document = document
        self.data = with_lists(document.data)
        self.result = Workflow(document)
        options = self.data.get("options", {})
        options = options if isinstance(options, dict) else {}
        dynamic = entry(options, "dynamicSubstitutions")[1] in (True, "true")
        loose = entry(options, "substitutionOption")[1] == "ALLOW_LOOSE"
        self.values, problems = declared(self.data, overrides, builtin, dynamic=dynamic)
        self.strict = Substitutions(self.values, loose=loose)
        self.result.problems += problems
        self.overrides = overrides
        self.others: dict[int, str] = {}  # images of other containers, by their step
        self.unreadable = False  # whether a step of COS Customizer has no readable subcommand

    def read(self, stem: str) -> Workflow:
        result = self.result
        self.keys()
        steps = self.data["steps"]
        if len(steps) > STEP_LIMIT:
            text = f"has {len(steps)} entries, more than Cloud Build takes; write {STEP_LIMIT} at most"
            self.problem(("steps",), text)
            return result
        before, problems = before_each(steps)
        result.problems += problems
        commands = [command for index, step in enumerate(steps) if (command := self.step(index, step))]
        whole = self.strict.value({key: self.data[key] for key in ("timeout",) if key in self.data}, ())
        limit = self.timeout(whole, ())
        limits = {command.index: self.timeout(command.step, command.path) for command in commands}
        result.problems += self.strict.problems
        self.unused_overrides()
        if not commands and not result.problems:
            text = "make no image; goldsmith reads workflows in which cos-customizer does, by finish-image-build"
            result.problems.append(Problem(("steps",), text))
        result.builds, problems = builds_of(commands, before, limit, limits, stem)
        if not self.unreadable:  # or what is missing may be what could not be read
            result.problems += problems
        self.note_others()
        result.empty += self.strict.empty
        for found in self.strict.empty:
            result.notes.append(Note(self.document.position(found.path), f"{key_path(found.path)}: {found.text}"))
        return result

    def note_others(self) -> None:
        """Note the steps of other containers."""
        last = max((build.last for build in self.result.builds), default=0)
        for index, image in self.others.items():
            text = f"{quoted(image)} is not run"
            if index < last:
                text += "; files that it makes for the build have to be there already"
            self.note(("steps", index), f"steps[{index}]", text)

    def keys(self) -> None:
        """Refuse unknown keys; note those that have no effect."""
        for key in self.data:
            if key not in _KEYS and key not in map(snake_case, _KEYS):
                self.problem((key,), f"unknown key; {nearest(key, _KEYS)}")
            elif key in _WITHOUT_EFFECT:
                self.note((key,), key, "what it names is not stored")

    def step(self, index: int, step: Any) -> Command | None:
        """Read one step; None where it is not COS Customizer's, or cannot be read."""
        path: KeyPath = ("steps", index)
        if not isinstance(step, dict):
            text = f"needs keys and values, not {shown_value(step)}; the keys here are: {', '.join(_STEP_KEYS)}"
            self.problem(path, text)
            return None
        for key in step:
            if key not in _STEP_KEYS and key not in map(snake_case, _STEP_KEYS):
                self.problem((*path, key), f"unknown key; {nearest(key, _STEP_KEYS)}")
        if "name" not in step:
            self.problem((*path, "name"), "is missing; write the image that the step runs in")
            return None
        if not self.is_text(step["name"], (*path, "name")):
            return None
        image = self.strict.text(step["name"], (*path, "name"))
        if is_customizer(image):
            return self.customizer(index, step)
        loose = Substitutions(self.values, loose=True)  # what it does with them is not ours to judge
        loose.value({key: value for key, value in step.items() if key != "script"}, path)
        self.strict.used |= loose.used
        self.others[index] = image
        return None

    def customizer(self, index: int, step: dict[str, Any]) -> Command | None:
        """Read a step that runs COS Customizer."""
        path: KeyPath = ("steps", index)
        written = {key: value for key, value in step.items() if key not in ("id", "waitFor", "wait_for", "script")}
        values = self.strict.value(written, path) | {"id": step.get("id")}
        entrypoint = values.get("entrypoint", ENTRYPOINT)
        if "script" in step or str(entrypoint).rpartition("/")[2] != ENTRYPOINT:
            key = "script" if "script" in step else "entrypoint"
            text = "makes the container run something else than its subcommands; write one of them as args"
            self.problem((*path, key), f"{text}, and do other work in another container")
            self.unreadable = True
            return None
        if not self.arguments(values, path) or not self.is_text(values.get("dir", ""), (*path, "dir")):
            self.unreadable = True
            return None
        command, problems = read_command(index, values, self.document)
        self.result.problems += problems
        if command is not None and command.name == INSTALL_ANTHOS and self.values.get(INSTALLER):
            command = replace(command, installer=self.values[INSTALLER])
            self.strict.used.add(INSTALLER)
        for key in _STEP_WITHOUT_EFFECT:
            name, value = entry(step, key)
            if value is not None:
                self.note((*path, name), f"steps[{index}].{name}", "it has no effect here")
        if command is not None and command.endpoint is not None and command.endpoint.value:
            place = (*path, "args", command.endpoint.argument)
            self.note(place, f"steps[{index}] -compute-endpoint", "the deployment says which endpoint is asked")
        self.unreadable |= command is None
        return None if command is None or self.prints(command) else command

    def prints(self, command: Command) -> bool:
        """Return whether a step only prints something, which is noted."""
        if command.name in ASIDE:
            self.note(command.path, command.place.shown, "it only prints")
        elif command.switch("get-valid-drivers"):
            self.note(command.path, command.place.shown, "it only prints drivers: see goldsmith gpu-drivers")
        else:
            return False
        return True

    def arguments(self, step: Mapping[str, Any], path: KeyPath) -> bool:
        """Return whether the arguments are texts; else that is a problem."""
        arguments = step.get("args", ())
        if len(arguments) > ARGUMENT_LIMIT:
            self.problem((*path, "args"), f"has more than {ARGUMENT_LIMIT} entries, which Cloud Build does not take")
            return False
        texts = [self.is_text(item, (*path, "args", number)) for number, item in enumerate(arguments)]
        return all(texts)

    def is_text(self, value: Any, path: KeyPath) -> bool:
        """Return whether a value is text; else that is a problem."""
        if not isinstance(value, str):
            self.problem(path, f'needs text, not {shown_value(value)}; put it in quotes: "..."')
        return isinstance(value, str)

    def timeout(self, mapping: Mapping[str, Any], path: KeyPath) -> list[tuple[Fraction, Origin]]:
        """Return the timeout of a workflow or a step, references replaced: nothing, or seconds and their place."""
        where: KeyPath = (*path, "timeout")
        if "timeout" not in mapping:
            return []
        text = mapping["timeout"]
        match = _TIMEOUT.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            self.problem(where, f"needs seconds, not {shown_value(text)}; write them with their unit, such as 1500s")
            return []
        seconds = Fraction(match[1])
        shown = "timeout" if not path else f"steps[{path[1]}].timeout"
        return [(seconds, Origin(self.document.position(where), shown))] if seconds else []

    def unused_overrides(self) -> None:
        """Refuse values that are given for what the workflow neither declares nor uses: slips of the pen."""
        loose = Substitutions(self.values, loose=True)
        loose.value({key: value for key, value in self.data.items() if key != "steps"}, ())
        written = self.data.get(SUBSTITUTIONS, {})
        known = {*self.strict.used, *loose.used, *(written if isinstance(written, dict) else ())}
        for name in self.overrides:
            if name.startswith("_") and name not in known:
                users = ", ".join(sorted(other for other in known if other.startswith("_")))
                hint = f"it knows {users}" if users else "leave it out"
                text = f"a value is given for {quoted(name)}, which the workflow neither declares nor uses; {hint}"
                self.problem((SUBSTITUTIONS,), text)

    def problem(self, path: KeyPath, text: str) -> None:
        self.result.problems.append(Problem(path, text))

    def note(self, path: KeyPath, shown: str, text: str) -> None:
        self.result.notes.append(Note(self.document.position(path), f"{shown}: not taken over: {text}"))
