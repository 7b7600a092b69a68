"""The provisioner shell: scripts of the template, and inline commands as scripts."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..cloudbuild.native_draft import Origin
from .execute_command import ScriptRunner, script_runner
from .language.scope import Confidential, Varying, template_text
from .language.syntax import TemplateError
from .option_reader import OptionReader
from .parts import shown_kind
from .step_maker import SHARED, StepMaker

INLINE_SHEBANG = "/bin/sh -e"
_REBOOTS = (("reboot",), ("shutdown", "-r", "now"), ("shutdown", "-r", "+0"), ("systemctl", "reboot"))
_WAITS = re.compile(r"boot-finished|cloud-init\s+status")
_HARMLESS = ("echo", "sleep", "sync", "#")


def shell_steps(maker: StepMaker, options: OptionReader) -> None:
    """Run scripts of the template, and inline commands as a script."""
    scripts = _Scripts(maker, options)
    inline = options.texts("inline")
    shebang = options.text("inline_shebang") or INLINE_SHEBANG
    paths = [*options.texts("scripts"), *filter(None, [options.text("script")])]
    disconnects = options.flag("expect_disconnect")
    if disconnects and inline and _only_reboots(inline):
        maker.put("reboot", "reboot", {}, options.place("inline"), reads=[])
        maker.shares = False
        return
    if not {"inline", "script", "scripts"} & set(options.component.settings):
        maker.draft.fault((), "runs nothing; write inline, script or scripts", options.component.place)
    if inline:
        scripts.inline(inline, shebang)
    for path in paths:
        scripts.script(path, "script" if "script" in options.component.settings else "scripts")
    texts = ["\n".join(inline), *(maker.places.text(path) for path in paths)]
    if disconnects and any(_reboots(line) for text in texts for line in text.split("\n")):
        what = "makes the machine reboot within a script; end that with exit 194 in place of the reboot"
        options.fault("expect_disconnect", what)
    elif disconnects:
        options.note("expect_disconnect", "not taken over: there is no connection that ends")
    if any(_WAITS.search(text) for text in texts):
        place = options.component.place
        text = "waits for cloud-init, which is not run on one machine; leave that out for builds there"
        maker.notes.append((place.position, f"{place.shown}: {text}"))
    maker.shares |= any(SHARED.search(text) for text in texts)


class _Scripts:
    """Makes steps of the scripts of one provisioner, which have one interpreter and one environment."""

    def __init__(self, maker: StepMaker, options: OptionReader) -> None:
        self.maker = maker
        self.options = options
        self.runner = self._runner()
        self.env: dict[str, str] = {**maker.names, **dict(self.runner.env)}
        self.secrets: dict[str, str] = {}
        self._take_variables()

    def inline(self, lines: list[str], shebang: str) -> None:
        """Write inline commands into a script."""
        runner = self.runner
        if runner.program:
            login = " -l" if any("l" in option for option in runner.options if option.startswith("-")) else ""
            shebang = _absolute(runner.program) + login  # the kernel passes one option on, so the others are set
        flags = [option.replace("l", "") if option.startswith("-") else option for option in runner.options]
        flags = [flag for flag in flags if flag != "-"]
        arguments = [f"set -- {shlex.join(runner.arguments)}"] if runner.arguments else []
        lines = [*([f"set {' '.join(flags)}"] if flags else []), *arguments, *lines]
        name = f"inline-{1 + sum(name.startswith('inline-') for name in self.maker.steps)}"
        path = self.maker.make(f"{name}.sh", "\n".join([f"#!{shebang.removeprefix('#!')}", *lines, ""]))
        self._put(name, {"script": path}, self.options.place("inline"), [])

    def script(self, path: str, key: str) -> None:
        """Run a script of the template; one whose interpreter has options is run by a script of ours."""
        found = self.maker.path(self.options, key, path)
        if found is None:
            return
        name = posixpath.basename(path).partition(".")[0] or "script"
        inputs, reads = {"script": found}, []
        if self.runner.options or self.runner.arguments:
            words = [*self._interpreter(path), *self.runner.options, found, *self.runner.arguments]
            text = f"#!/bin/sh\nexec {shlex.join(words)}\n"
            inputs, reads = {"script": self.maker.make(f"{name}-runner.sh", text)}, [found]
        elif self.runner.program:
            inputs["interpreter"] = _absolute(self.runner.program)
        self._put(name, inputs, self.options.place(key), reads)

    def _interpreter(self, path: str) -> list[str]:
        """Return the words that begin the command of a script: the program's, or those of its first line."""
        if self.runner.program:
            return [_absolute(self.runner.program)]
        first = self.maker.places.text(path).partition("\n")[0]
        return first[2:].split() if first.startswith("#!") and first[2:].split() else ["/bin/sh"]

    def _put(self, name: str, inputs: Mapping[str, Any], place: Origin, reads: list[str]) -> None:
        script, *others = inputs.items()
        ordered = dict([script, *([("env", dict(self.env))] if self.env else []), *others])
        more = {"secrets": self.secrets} if self.secrets else {}
        self.maker.put(name, "run-script", ordered, place, reads=reads, **more)

    def _runner(self) -> ScriptRunner:
        """Return how scripts are run. What cannot be kept of it is a problem."""
        command = self._command()
        found = script_runner(command) if command else ScriptRunner()
        if found is None:
            what = "does more than to run the script as root; write the rest into the script, or leave it out"
            self.options.fault("execute_command", what)
            return ScriptRunner()
        if not found.as_root and self.maker.runs_as_user is None:
            self.maker.runs_as_user = self.options.component.place
        return found

    def _command(self) -> str | None:
        """Return the command; a sensitive text in it is a password for sudo, and does not matter."""
        setting = self.options.setting("execute_command")
        value = setting.value if setting else None
        if isinstance(value, Confidential) and (value.before or value.after):
            return f"{value.before}password{value.after}"
        return self.options.text("execute_command")

    def _take_variables(self) -> None:
        """Take the variables of the provisioner, and those that are secrets."""
        for name, key, value in _variables(self.options):
            if isinstance(value, Confidential) and value.is_whole:
                self.secrets[name] = value.place or f"env:PKR_VAR_{value.variable}"
                self.options.note(key, _secret_note(name, value))
            elif isinstance(value, (Confidential, Varying)):
                remedy = "give the sensitive variable alone" if isinstance(value, Confidential) else "use date there"
                self.options.fault(key, f"{name} has {shown_kind(value)} in it; {remedy}")
            else:
                try:
                    self.env[name] = template_text(value, self.options.place(key).position)
                except TemplateError as error:
                    self.options.fault(key, f"{name} {error}")


def _variables(options: OptionReader) -> list[tuple[str, str, Any]]:
    """Return the variables of both options: name, option, value."""
    found = []
    listed, mapped = options.setting("environment_vars"), options.setting("env")
    if listed is not None and not isinstance(listed.value, list):
        options.fault("environment_vars", f"needs a list of NAME=VALUE, not {shown_kind(listed.value)}; write one")
        listed = None
    if mapped is not None and not isinstance(mapped.value, dict):
        options.fault("env", f"needs names and values, not {shown_kind(mapped.value)}; write those")
        mapped = None
    for each in listed.value if listed else ():
        pair = _pair(each)
        if pair is None:
            options.fault("environment_vars", f"{shown_kind(each)} is no variable; write NAME=VALUE")
        else:
            found.append((pair[0], "environment_vars", pair[1]))
    found += [(name, "env", value) for name, value in (mapped.value.items() if mapped else ())]
    return found


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
