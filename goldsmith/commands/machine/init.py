"""goldsmith init: writes a first spec, of answers, or of what another system's file comes to."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shared.errors import InputError
from shared.host.known_names import known_names
from shared.names import LOCAL, SPEC_NAME_LENGTH, check_name
from shared.spec.read import parse, parse_file, read_specs
from shared.spec.write import spec_text

from ...home_folder import home
from ...screen.questions import ask, can_ask
from ...screen.text import complain, say
from ..dialects.convert import convert
from ..schema import SCHEMA_FILE

SCHEMA_NAME = "spec.schema.json"
SCHEMA_LINE = f"# yaml-language-server: $schema={SCHEMA_NAME}\n"
BOOTSTRAPPED = ("debian-12", "debian-13")
FIRST_FAMILY = "debian-12"
FIRST_SCRIPT = """\
#!/bin/sh
# Runs as root in the image, with the folder of the spec as its working directory.
set -eu

echo "hello from $(uname -m)" >/etc/motd
"""
_PACKAGES = re.compile(r"[\s,]+")


@dataclass(frozen=True)
class Answers:
    """What a first spec is made of; None is asked for, or left to a default."""

    name: str | None = None
    source: str | None = None  # FAMILY of this machine, or PROJECT/FAMILY
    packages: tuple[str, ...] | None = None
    script: str | None = None  # a path below the spec's folder; "": none
    family: str | None = None
    engine: str | None = None
    project: str | None = None  # on Google Cloud; None: this machine


def init(path: Path, answers: Answers, origin: Path | None, *, defaults: bool) -> None:
    """Write a spec that is not there yet, with its script and the schema beside it. InputError."""
    if not path.name:  # "", as of an unset variable of a script
        raise InputError("no file is named; write one, such as: goldsmith init build.yaml")
    if path.exists():
        raise InputError(f"{path} exists already; remove it, or name another file: goldsmith init other.yaml")
    with _made_folder(path.parent):
        if origin is not None:
            if answers != Answers():
                raise InputError(
                    "--from takes everything from that file; leave the other options out, and edit the spec"
                )
            text, script = _converted(path, origin), ""
        else:
            known = answers if defaults or not can_ask() else _asked(path, answers)
            text, script = _composed(path, known)
        text = SCHEMA_LINE + text
        read_specs(parse(text, str(path)))
        _write_beside(path, script)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    say(f"{path} is written; check it, and build it, with:")
    say(f"  goldsmith validate {shlex.quote(str(path))}")
    say(f"  goldsmith {'submit' if answers.project else 'build'} {shlex.quote(str(path))}")


@contextlib.contextmanager
def _made_folder(folder: Path) -> Iterator[None]:
    """Make a folder, and remove it again, with those above it that were made, where nothing has come into it."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for each in made:
            with contextlib.suppress(OSError):
                each.rmdir()
        raise


def _asked(path: Path, answers: Answers) -> Answers:
    """Return the answers with those of the person for what no option says."""
    name = answers.name or ask("name of the image", _folder_name(path), _check_name)
    source = answers.source or ask("image family to start from, or PROJECT/FAMILY", _first_source(answers.project))
    packages = answers.packages
    if packages is None:
        packages = tuple(filter(None, _PACKAGES.split(ask("packages to install, if any", ""))))
    script = answers.script
    if script is None:
        script = ask("script to run as root, written if it is not there; - for none", "setup.sh")
        script = "" if script == "-" else script
    family = answers.family or ask("family that the image joins", name, check_name)
    return replace(answers, name=name, source=source, packages=packages, script=script, family=family)


def _composed(path: Path, answers: Answers) -> tuple[str, str]:
    """Return the text of a spec, and the script that it runs. InputError."""
    name = answers.name or _folder_name(path)
    script = ("" if answers.packages else "setup.sh") if answers.script is None else answers.script
    try:
        _check_name(name)
    except ValueError as error:
        raise InputError(f"--name: {error}") from error
    project, _, family = (answers.source or _first_source(answers.project)).rpartition("/")
    steps: list[Mapping[str, Any]] = []
    if answers.packages:
        inputs: Mapping[str, Any] = {"packages": list(answers.packages)}
        steps.append({"name": "packages", "action": "install-packages", "inputs": inputs})
    if script:
        _check_script(path, script)
        steps.append({"name": "setup", "action": "run-script", "inputs": {"script": script}})
    spec: dict[str, Any] = {"name": name, "source": {"project": project or LOCAL, "family": family}}
    if script:
        spec["context"] = "."
    spec["steps"] = steps
    spec["output"] = {"family": answers.family or name}
    if answers.project:
        spec["output"] = {"project": answers.project, **spec["output"]}
        spec["build"] = {"project": answers.project}
    else:
        spec["local"] = {"engine": answers.engine or "auto"}
        _note_missing_family(project or LOCAL, family)
    return spec_text(spec, ("Every key is explained in docs/spec.md of Goldsmith.",)), script


def _converted(path: Path, origin: Path) -> str:
    """Return the text of a spec that another system's file comes to, as seen from the spec's folder. InputError.

    A workflow is taken to be built from its own folder.
    """
    origin = origin.absolute()
    source = origin.parent if parse_file(origin).is_workflow else None
    printed = io.StringIO()
    with contextlib.chdir(path.parent), contextlib.redirect_stdout(printed):
        convert([str(origin)], {}, None, source, ())
    if re.search(r"^---$", printed.getvalue(), re.MULTILINE):
        raise InputError(f"--from {origin.name}: comes to several specs; write them with: goldsmith convert --output")
    return printed.getvalue()


def _write_beside(path: Path, script: str) -> None:
    """Write the schema, and the script that the spec runs, where they are not there yet."""
    beside = {path.parent / SCHEMA_NAME: SCHEMA_FILE.read_text(encoding="utf-8")}
    if script:
        beside[path.parent / script] = FIRST_SCRIPT
    for target, text in beside.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), target.open("x", encoding="utf-8") as file:
            file.write(text)


def _check_name(name: str) -> None:
    """Check a spec's name. ValueError."""
    check_name(name, SPEC_NAME_LENGTH)


def _check_script(path: Path, script: str) -> None:
    """Check that a script lies in the spec's folder, which is all that its steps see. InputError."""
    inside = os.path.normpath(script)
    if Path(script).is_absolute() or inside.startswith("..") or (path.parent / script).is_dir():
        raise InputError(f"--script {script}: name a file below the folder of {path}; the steps see nothing else")


def _folder_name(path: Path) -> str:
    """Return the name of a spec's folder as a name for the spec, as nearly as it can be one."""
    name = re.sub(r"[^a-z0-9]+", "-", path.absolute().parent.name.lower()).strip("-0123456789")[:SPEC_NAME_LENGTH]
    return name.rstrip("-") or "hello"


def _first_source(project: str | None) -> str:
    """Return the family that most people start from: one that this machine has, if a build here is meant."""
    if project:
        return f"debian-cloud/{FIRST_FAMILY}"
    known = known_names(home(), "family", "")
    return FIRST_FAMILY if FIRST_FAMILY in known or not known else known[0]


def _note_missing_family(project: str, family: str) -> None:
    """Say how to get the image to start from, where this machine does not have it."""
    if project == LOCAL and family not in known_names(home(), "family", family):
        how = (
            f"goldsmith images bootstrap {family}" if family.startswith("debian-1") else "goldsmith images import FILE"
        )
        complain(f"this machine has no image of family {family} yet; make it with: {how}")
