"""The steps that provisioners come to."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...names import nearest, quoted
from ...quantities import format_duration
from ..cloudbuild.native_draft import Draft, Origin
from .execute_command import ScriptRunner, script_runner
from .expressions import Confidential, Varying, template_text
from .option_reader import OptionReader
from .options import OTHER_PROVISIONERS, PROVISIONERS
from .syntax import TemplateError
from .template import PackerPart, shown_kind

FILES = ".files"
"""Ends the name of the folder, beside a spec, of the files that are made for it."""

INLINE_SHEBANG = "/bin/sh -e"
_RETRIES_LIMIT = 10
_NAME = re.compile(r"[^-A-Za-z0-9_.]+")
_DURATION = re.compile(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})(?:\.[0-9]*)?s)?")
_REBOOTS = (("reboot",), ("shutdown", "-r", "now"), ("shutdown", "-r", "+0"), ("systemctl", "reboot"))
_HARMLESS = ("echo", "sleep", "sync", "#")
_SHARED = re.compile(r"/(?:tmp|run|var/run)\b")
_FOLDERS = ("/etc", "/opt", "/srv", "/root", "/usr/local/bin", "/usr/bin", "/etc/systemd/system")
"""Folders that are there, which a file goes into by its own name."""


@dataclass(frozen=True)
class TemplatePlaces:
    """The files that a template names, as the spec's context has them."""

    of_source: Callable[[str], str]  # of a path that the template says, relative to where Packer runs
    of_made: Callable[[str], str]  # of a file that is made for the spec, by its name
    is_folder: Callable[[str], bool | None] = lambda path: None  # None: nothing is there
    text: Callable[[str], str] = lambda path: ""  # of a file; empty where it is no text


@dataclass
class StepMaker:
    """Makes the steps of one spec, in the order of its provisioners."""

    draft: Draft
    places: TemplatePlaces
    names: Mapping[str, str] = field(default_factory=dict)  # variables of scripts, such as PACKER_BUILD_NAME
    made: dict[str, str] = field(default_factory=dict)  # texts of files that go with the spec, by name
    named: list[str] = field(default_factory=list)  # paths that the template says
    readers: list[OptionReader] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    shares: bool = False  # whether a step before has left something in /tmp or /run
    runs_as_user: Origin | None = None  # the first provisioner whose scripts Packer ran without sudo

    def add(self, component: PackerPart) -> None:
        """Add the steps of a provisioner."""
        table = PROVISIONERS.get(component.kind)
        if table is None:
            remedy = OTHER_PROVISIONERS.get(component.kind)
            what = f"is not taken over: {remedy}" if remedy else f"is no provisioner here; {self.near(component.kind)}"
            self.draft.fault((), what, component.place)
            return
        options = OptionReader(component, table, self.draft)
        self.readers.append(options)
        options.asked |= {"only", "except", "override"}
        kinds = {"shell": self.shell, "file": self.file, "ansible-local": self.ansible_local, "ansible": self.ansible}
        if component.kind in kinds:
            before = len(self.steps)
            kinds[component.kind](options)
            self.common(options, range(before, len(self.steps)))
        options.finish()

    def near(self, kind: str) -> str:
        """Return the provisioner that was meant."""
        return nearest(kind, [*PROVISIONERS, *OTHER_PROVISIONERS])

    # What all have

    def put(self, name: str, action: str, inputs: Mapping[str, Any], place: Origin, **more: Any) -> None:
        """Add one step; its name is made unique."""
        name = _NAME.sub("-", name).strip("-.")[:50] or "step"
        unique, number = name, 2
        while unique in self.steps:
            unique, number = f"{name}-{number}", number + 1
        path = ("steps", len(self.steps))
        self.steps.append(unique)
        step = {"name": unique, "action": action, **({"inputs": dict(inputs)} if inputs else {}), **more}
        if self.shares and action != "reboot":
            step["cache"] = False
        self.draft.put(path, step, place)

    def common(self, options: OptionReader, steps: range) -> None:
        """Set the limits of a provisioner's steps."""
        timeout, retries = options.text("timeout"), options.number("max_retries")
        if retries is not None and not 0 <= retries <= _RETRIES_LIMIT:
            options.fault("max_retries", f"cannot be {retries}; write {_RETRIES_LIMIT} at most")
            retries = None
        for index in steps:
            if timeout is not None and (duration := seconds_of(timeout)):
                self.draft.put(("steps", index, "timeout"), format_duration(duration), options.place("timeout"))
            elif timeout is not None:
                options.fault("timeout", f"{quoted(timeout)} is no duration; write one such as 10m")
            if retries:
                self.draft.put(("steps", index, "retries"), retries, options.place("max_retries"))

    def make(self, name: str, text: str) -> str:
        """Add a file that goes with the spec; return its path in the context."""
        unique, number = name, 2
        stem, dot, ending = name.partition(".")
        while self.made.get(unique, text) != text:
            unique, number = f"{stem}-{number}{dot}{ending}", number + 1
        self.made[unique] = text
        return self.places.of_made(unique)

    def path(self, options: OptionReader, name: str, path: str) -> str | None:
        """Return a path of the template as the context has it; one that is not there is a problem."""
        if self.places.is_folder(path) is None:
            what = f"{quoted(path)} is not there; name the folder in which packer is run by --source, or make it"
            options.fault(name, what)
            return None
        self.named.append(path)
        return self.places.of_source(path)

    # shell

    def shell(self, options: OptionReader) -> None:
        """Run scripts of the template, and inline commands as a script."""
        env, secrets = self.environment(options)
        runner = self.runner(options)
        inline = options.texts("inline")
        shebang = options.text("inline_shebang") or INLINE_SHEBANG
        scripts = [*options.texts("scripts"), *filter(None, [options.text("script")])]
        disconnects = options.flag("expect_disconnect")
        if disconnects and inline and _only_reboots(inline):
            self.put("reboot", "reboot", {}, options.place("inline"), reads=[])
            self.shares = False
            return
        texts = ["\n".join(inline), *(self.places.text(path) for path in scripts)]
        if disconnects and any(_reboots(line) for text in texts for line in text.split("\n")):
            what = "makes the machine reboot within a script; end that with exit 194 in place of the reboot"
            options.fault("expect_disconnect", what)
        elif disconnects:
            options.note("expect_disconnect", "not taken over: there is no connection that ends")
        if not {"inline", "script", "scripts"} & set(options.component.settings):
            self.draft.fault((), "runs nothing; write inline, script or scripts", options.component.place)
        more = {"secrets": secrets} if secrets else {}
        if inline and runner is not None:
            self.inline(inline, shebang, runner, env, more, options)
        for path in scripts if runner is not None else ():
            key = "script" if "script" in options.component.settings else "scripts"
            found = self.path(options, key, path)
            if found is not None and runner is not None:
                self.script(path, found, runner, env, more, options.place(key))
        self.shares |= any(_SHARED.search(text) for text in texts)

    def inline(
        self,
        lines: list[str],
        shebang: str,
        runner: ScriptRunner,
        env: Mapping[str, str],
        more: Mapping[str, Any],
        options: OptionReader,
    ) -> None:
        """Write inline commands into a script."""
        if runner.program:
            shebang = " ".join([_absolute(runner.program), *runner.options])
            if len(runner.options) > 1:
                shebang = f"{_absolute(runner.program)} -{''.join(each.strip('-') for each in runner.options)}"
        number = 1 + sum(name.startswith("inline-") for name in self.steps)
        path = self.make(f"inline-{number}.sh", "\n".join([f"#!{shebang.removeprefix('#!')}", *lines, ""]))
        self.put(f"inline-{number}", "run-script", _inputs(path, env), options.place("inline"), reads=[], **more)

    def script(
        self,
        path: str,
        found: str,
        runner: ScriptRunner,
        env: Mapping[str, str],
        more: Mapping[str, Any],
        place: Origin,
    ) -> None:
        """Run a script of the template; one whose interpreter has options is run by a script of ours."""
        name = posixpath.basename(path).partition(".")[0] or "script"
        inputs, reads = _inputs(found, env), []
        if runner.options:
            words = [_absolute(runner.program), *runner.options, found]
            text = f"#!/bin/sh\nexec {' '.join(map(shlex.quote, words))}\n"
            inputs, reads = _inputs(self.make(f"{name}-runner.sh", text), env), [found]
        elif runner.program:
            inputs["interpreter"] = _absolute(runner.program)
        self.put(name, "run-script", inputs, place, reads=reads, **more)

    def runner(self, options: OptionReader) -> ScriptRunner | None:
        """Return how scripts are run; None where that is a problem."""
        command = options.text("execute_command")
        found = script_runner(command) if command else ScriptRunner()
        if found is None:
            what = "does more than to run the script as root; write the rest into the script, or leave it out"
            options.fault("execute_command", what)
            return None
        if not found.as_root and self.runs_as_user is None:
            self.runs_as_user = options.component.place
        return found

    def environment(self, options: OptionReader) -> tuple[dict[str, str], dict[str, str]]:
        """Return a step's variables, and those that are secrets."""
        env, secrets = dict(self.names), {}
        runner = script_runner(options.text("execute_command") or "") or ScriptRunner()
        env |= dict(runner.env)
        for name, key, value in self.variables(options):
            if isinstance(value, Confidential) and value.is_whole:
                secrets[name] = value.place or f"env:PKR_VAR_{value.variable}"
                options.note(key, _secret_note(name, value))
            elif isinstance(value, (Confidential, Varying)):
                remedy = "give the sensitive variable alone" if isinstance(value, Confidential) else "use date there"
                options.fault(key, f"{name} has {shown_kind(value)} in it; {remedy}")
            else:
                try:
                    env[name] = template_text(value, options.place(key).position)
                except TemplateError as error:
                    options.fault(key, f"{name} {error}")
        return env, secrets

    def variables(self, options: OptionReader) -> list[tuple[str, str, Any]]:
        """Return the variables of both options: name, option, value."""
        found = []
        listed = options.setting("environment_vars")
        for each in listed.value if listed and isinstance(listed.value, list) else []:
            pair = _pair(each)
            if pair is None:
                options.fault("environment_vars", f"{quoted(str(each))} is no variable; write NAME=VALUE")
            else:
                found.append((pair[0], "environment_vars", pair[1]))
        mapped = options.setting("env")
        for name, value in (mapped.value if mapped and isinstance(mapped.value, dict) else {}).items():
            found.append((name, "env", value))
        return found

    # file

    def file(self, options: OptionReader) -> None:
        """Copy files and folders into the machine."""
        destination = options.text("destination") or ""
        if (options.text("direction") or "upload") != "upload":
            options.fault("direction", "a file of the machine cannot be fetched; take it from the finished image")
            return
        if not destination.startswith("/"):
            what = f"{quoted(destination)} is in a home that is not there; write an absolute path, and in scripts too"
            options.fault("destination", what)
            return
        content = options.setting("content")
        if content is not None:
            self.content(options, destination)
        for key in ("source", "sources"):
            for path in options.texts(key):
                found = self.path(options, key, path)
                if found is not None:
                    self.copy(path, found, destination, options.place(key), several=key == "sources")
        self.shares |= _SHARED.match(destination) is not None

    def content(self, options: OptionReader, destination: str) -> None:
        """Copy a text into the machine."""
        text = options.text("content") or ""
        name = posixpath.basename(destination) or "content"
        path = self.make(_NAME.sub("-", name), text)
        inputs = {"source": path, "destination": destination, "mode": "0644"}
        self.put(f"copy-{name}", "copy-files", inputs, options.place("content"), reads=[])

    def copy(self, path: str, found: str, destination: str, place: Origin, *, several: bool) -> None:
        """Copy as scp does: a folder without / at its end comes with its name, a file goes into a folder."""
        name = posixpath.basename(path.rstrip("/"))
        is_folder = self.places.is_folder(path)
        goes_into = destination.endswith(("/", "/tmp")) or destination in _FOLDERS or several  # noqa: S108 - there
        if (is_folder and not path.endswith("/")) or (not is_folder and goes_into):
            destination = posixpath.join(destination, name)
        inputs = {"source": found, "destination": posixpath.normpath(destination)}
        self.put(f"copy-{name}", "copy-files", inputs, place, reads=[])

    # ansible

    def ansible_local(self, options: OptionReader) -> None:
        """Run playbooks that Packer ran on the machine."""
        playbooks = [*options.texts("playbook_files"), *filter(None, [options.text("playbook_file")])]
        command = options.text("command") or ""
        if command.split()[-1:] not in ([], ["ansible-playbook"]):
            what = "is not the step's ansible-playbook; leave it out, or run your own program by a shell provisioner"
            options.fault("command", what)
        options.asked |= {"playbook_dir", "playbook_paths"}
        self.beside(options, "group_vars", playbooks)
        self.beside(options, "host_vars", playbooks)
        roles = self.roles(options, "role_paths", playbooks, is_parent=False)
        self.playbooks(options, playbooks, options.texts("inventory_groups"), roles)

    def ansible(self, options: OptionReader) -> None:
        """Run a playbook that Packer ran on the machine that builds."""
        playbooks = list(filter(None, [options.text("playbook_file")]))
        roles = self.roles(options, "roles_path", playbooks, is_parent=True)
        note = "the playbook runs on the machine itself, and not on this one over ssh"
        options.note("playbook_file", f"{note}: what it does on localhost, it does there")
        self.playbooks(options, playbooks, options.texts("groups"), roles)

    def beside(self, options: OptionReader, key: str, playbooks: list[str]) -> None:
        """Refuse variables that the playbook would not find where they are."""
        folders = [posixpath.normpath(posixpath.dirname(playbook)) for playbook in playbooks]
        for path in options.texts(key):
            if posixpath.normpath(posixpath.dirname(path.rstrip("/"))) not in folders:
                options.fault(key, f"{quoted(path)} is not found from the playbook here; move it beside that")

    def roles(self, options: OptionReader, key: str, playbooks: list[str], *, is_parent: bool) -> list[str]:
        """Return the folders of roles that are not beside the playbook; `is_parent`: an option names those."""
        beside = {posixpath.normpath(posixpath.join(posixpath.dirname(playbook), "roles")) for playbook in playbooks}
        found = []
        for path in options.texts(key):
            path = posixpath.normpath(path)
            folder = path if is_parent or path in beside else posixpath.dirname(path) or "."
            if folder not in beside and (place := self.path(options, key, folder)) and place not in found:
                found.append(place)
        return found

    def playbooks(self, options: OptionReader, playbooks: list[str], groups: list[str], roles: list[str]) -> None:
        """Run playbooks, each as a step."""
        inputs: dict[str, Any] = {"groups": groups} if groups else {}
        inputs |= {"roles": roles} if roles else {}
        galaxy = options.text("galaxy_file")
        if galaxy and (found := self.path(options, "galaxy_file", galaxy)):
            inputs["requirements"] = found
        arguments = options.texts("extra_arguments")
        try:
            inputs |= ansible_arguments(arguments)
        except ValueError as error:
            options.fault("extra_arguments", str(error))
        key = "playbook_file" if "playbook_file" in options.component.settings else "playbook_files"
        if not playbooks:
            self.draft.fault((), "runs no playbook; write playbook_file", options.component.place)
        for path in playbooks:
            found = self.path(options, key, path)
            if found is not None:
                name = posixpath.basename(path).partition(".")[0]
                home = posixpath.dirname(found)
                more = {"reads": [home]} if home else {}
                self.put(name, "ansible", {"playbook": found, **inputs}, options.place(key), **more)


def ansible_arguments(arguments: list[str]) -> dict[str, Any]:
    """Return the inputs of a step for arguments of ansible-playbook. ValueError."""
    words = [word for argument in arguments for word in _words(argument)]
    inputs: dict[str, Any] = {}
    while words:
        flag, equals, value = words.pop(0).partition("=")
        if re.fullmatch(r"-v+|--verbose|--diff|-D|-b|--become", flag):
            continue
        if flag not in ("-e", "--extra-vars", "--tags", "-t", "--skip-tags") or not (equals or words):
            raise ValueError(f"{quoted(flag)} is not taken over; write it into the playbook or into ansible.cfg")
        value = value if equals else words.pop(0)
        if flag in ("-e", "--extra-vars"):
            inputs.setdefault("extra_vars", {}).update(_extra_vars(value))
        else:
            inputs["skip_tags" if flag == "--skip-tags" else "tags"] = value.split(",")
    return inputs


def _words(argument: str) -> list[str]:
    """Take apart an argument that has a flag and its value in one text, as Packer's shell did."""
    flag, space, rest = argument.partition(" ")
    return [flag, rest.strip().strip("\"'")] if space and flag.startswith("-") else [argument]


def _extra_vars(text: str) -> dict[str, str]:
    found = {}
    for word in shlex.split(text):
        name, equals, value = word.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise ValueError(f"{quoted(text)} is no NAME=VALUE; write extra variables so")
        found[name] = value
    return found


def seconds_of(text: str) -> int:
    """Return the seconds of one of Go's durations; 0 for another text."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return 0
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def _inputs(script: str, env: Mapping[str, str]) -> dict[str, Any]:
    return {"script": script, **({"env": dict(env)} if env else {})}


def _absolute(program: str) -> str:
    return program if program.startswith("/") else f"/bin/{program}"


def _only_reboots(texts: list[str]) -> bool:
    """Return whether commands do nothing else than to reboot, and to say so."""
    lines = [line for text in texts for line in text.split("\n") if line.strip()]
    rest = [line for line in lines if not line.lstrip().startswith(_HARMLESS)]
    return bool(rest) and all(_reboots(line) for line in rest)


def _reboots(line: str) -> bool:
    words = [word for word in line.split() if word not in ("sudo", "-f", "&")]
    return (posixpath.basename(words[0]), *words[1:]) in _REBOOTS if words else False


def _pair(entry: Any) -> tuple[str, Any] | None:
    """Return the name and the value of `NAME=VALUE`."""
    if isinstance(entry, Confidential):
        return _confidential_pair(entry)
    if isinstance(entry, Varying):
        name, equals, _ = entry.prefix.partition("=")
        return (name, entry) if equals and name else None
    name, equals, value = str(entry).partition("=")
    return (name, value) if equals and name else None


def _confidential_pair(entry: Confidential) -> tuple[str, Any] | None:
    """Return the name of a variable whose whole value is confidential: `before` has it."""
    name, equals, rest = entry.before.partition("=")
    if not equals or not name:
        return None
    known = None if entry.value is None else str(entry.value).partition("=")[2]
    return name, replace(entry, value=known, is_whole=not rest and not entry.after, before=rest)


def _secret_note(name: str, value: Confidential) -> str:
    if value.place:
        return f"{name} is the secret {value.place}; on one machine, name another place there"
    what = f"{name} is a secret, and comes from the variable PKR_VAR_{value.variable} of goldsmith build"
    return f"{what}; for Google Cloud, name a secret of Secret Manager there"
