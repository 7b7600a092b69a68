"""The provisioner shell: scripts of the template, and inline commands as scripts."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...names import quoted
from ..cloudbuild.native_draft import Origin
from .execute_command import ScriptRunner, script_runner
from .language.scope import Confidential, Varying, template_text
from .language.syntax import TemplateError
from .option_reader import OptionReader
from .step_maker import SHARED, StepMaker
from .template import shown_kind

INLINE_SHEBANG = "/bin/sh -e"
_REBOOTS = (("reboot",), ("shutdown", "-r", "now"), ("shutdown", "-r", "+0"), ("systemctl", "reboot"))
_WAITS = re.compile(r"boot-finished|cloud-init\s+status")
_HARMLESS = ("echo", "sleep", "sync", "#")


def shell_steps(maker: StepMaker, options: OptionReader) -> None:
    """Run scripts of the template, and inline commands as a script."""
    env, secrets = _environment(maker, options)
    runner = _runner(maker, options)
    inline = options.texts("inline")
    shebang = options.text("inline_shebang") or INLINE_SHEBANG
    scripts = [*options.texts("scripts"), *filter(None, [options.text("script")])]
    disconnects = options.flag("expect_disconnect")
    if disconnects and inline and _only_reboots(inline):
        maker.put("reboot", "reboot", {}, options.place("inline"), reads=[])
        maker.shares = False
        return
    texts = ["\n".join(inline), *(maker.places.text(path) for path in scripts)]
    if disconnects and any(_reboots(line) for text in texts for line in text.split("\n")):
        what = "makes the machine reboot within a script; end that with exit 194 in place of the reboot"
        options.fault("expect_disconnect", what)
    elif disconnects:
        options.note("expect_disconnect", "not taken over: there is no connection that ends")
    if not {"inline", "script", "scripts"} & set(options.component.settings):
        maker.draft.fault((), "runs nothing; write inline, script or scripts", options.component.place)
    more = {"secrets": secrets} if secrets else {}
    if inline and runner is not None:
        _inline(maker, inline, shebang, runner, env, more, options)
    for path in scripts if runner is not None else ():
        key = "script" if "script" in options.component.settings else "scripts"
        found = maker.path(options, key, path)
        if found is not None and runner is not None:
            _script(maker, path, found, runner, env, more, options.place(key))
    if any(_WAITS.search(text) for text in texts):
        place = options.component.place
        text = "waits for cloud-init, which is not run on one machine; leave that out for builds there"
        maker.notes.append((place.position, f"{place.shown}: {text}"))
    maker.shares |= any(SHARED.search(text) for text in texts)


def _inline(
    maker: StepMaker,
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
    number = 1 + sum(name.startswith("inline-") for name in maker.steps)
    path = maker.make(f"inline-{number}.sh", "\n".join([f"#!{shebang.removeprefix('#!')}", *lines, ""]))
    maker.put(f"inline-{number}", "run-script", _inputs(path, env), options.place("inline"), reads=[], **more)


def _script(
    maker: StepMaker,
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
        inputs, reads = _inputs(maker.make(f"{name}-runner.sh", text), env), [found]
    elif runner.program:
        inputs["interpreter"] = _absolute(runner.program)
    maker.put(name, "run-script", inputs, place, reads=reads, **more)


def _runner(maker: StepMaker, options: OptionReader) -> ScriptRunner | None:
    """Return how scripts are run; None where that is a problem."""
    command = options.text("execute_command")
    found = script_runner(command) if command else ScriptRunner()
    if found is None:
        what = "does more than to run the script as root; write the rest into the script, or leave it out"
        options.fault("execute_command", what)
        return None
    if not found.as_root and maker.runs_as_user is None:
        maker.runs_as_user = options.component.place
    return found


def _environment(maker: StepMaker, options: OptionReader) -> tuple[dict[str, str], dict[str, str]]:
    """Return a step's variables, and those that are secrets."""
    env, secrets = dict(maker.names), {}
    runner = script_runner(options.text("execute_command") or "") or ScriptRunner()
    env |= dict(runner.env)
    for name, key, value in _variables(maker, options):
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


def _variables(maker: StepMaker, options: OptionReader) -> list[tuple[str, str, Any]]:
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
