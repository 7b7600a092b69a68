"""Whether programs know the commands and options that the pages give them, by what the programs say of themselves."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import typer.main

from goldsmith.cli.app import app
from tests.docs.pages import ASSIGNMENT
from tests.project.source_tree import ROOT

NESTED = re.compile(r"\$\(([^()]*)\)")
SEPARATORS = frozenset(("|", "||", "&&", ";"))
OPTION = re.compile(r"--?[a-zA-Z][\w-]*")
OTHER_PARSERS = ("goldsmith dib", "goldsmith convert --")  # what follows is disk-image-create's


def unknown_options(text: str) -> list[str]:
    """Return what is wrong with the commands and options of a shell's line; of other programs than ours, nothing."""
    return [fault for command in simple_commands(text) for fault in _of_one(command)]


def simple_commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of a line, those in $( ) too."""
    for nested in NESTED.findall(text):
        yield from simple_commands(nested)
    lexer = shlex.shlex(NESTED.sub("nested", text), posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    held: list[str] = []
    for word in [*lexer, ";"]:
        if word not in SEPARATORS:
            held += [word] if held or not ASSIGNMENT.match(word + " ") else []
        elif held:
            yield held
            held = []


def _of_one(words: list[str]) -> list[str]:
    line = " ".join(words)
    if line.startswith(OTHER_PARSERS):
        return []
    if words[0] == "terraform":
        return _unknown_to_terraform(words)
    tree = _tree(words[0])
    if tree is None:
        return []
    known, here = set(tree["flags"]), tree
    for word in words[1:]:
        if word == "--":
            break
        if option := OPTION.match(word) if not re.match(r"--?\d", word) else None:
            forms = {option[0], option[0].replace("--no-", "--", 1)}
            if not forms & (known | _below(here)):
                return [f"{words[0]} has no option {option[0]} here: {line}"]
        elif here["commands"] and re.fullmatch(r"[a-z][\w-]*", word):
            if word not in here["commands"]:
                return [f"{words[0]} has no command {word}: {line}"]
            here = here["commands"][word]
            known |= set(here["flags"])
    return []


def _below(tree: Any) -> set[str]:
    """Return the options of all commands of a group, for those that are written before the command's name."""
    return {flag for below in tree["commands"].values() for flag in {*below["flags"], *_below(below)}}


def _tree(program: str) -> Any:
    if program == "goldsmith":
        return _goldsmith(typer.main.get_command(app))
    data = _sdk() / "data" / "cli"
    if program == "gsutil" and data.is_dir():
        return json.loads((data / "gsutil.json").read_text("utf-8"))
    if program == "gcloud" and data.is_dir():
        return _gcloud(data / "gcloud_completions.py")
    return None


@cache
def _gcloud(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("gcloud_completions", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.STATIC_COMPLETION_CLI_TREE


@cache
def _sdk() -> Path:
    program = shutil.which("gcloud")
    root = os.environ.get("CLOUDSDK_ROOT", "")
    return Path(root) if root or program is None else Path(program).resolve().parents[1]


def _goldsmith(command: Any) -> dict[str, Any]:
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    return {
        "flags": {form for option in options for form in (*option.opts, *option.secondary_opts)} | {"--help"},
        "commands": {name: _goldsmith(below) for name, below in getattr(command, "commands", {}).items()},
    }


def _unknown_to_terraform(words: list[str]) -> list[str]:
    if shutil.which("terraform") is None:
        return []
    names = [word for word in words[1:] if not word.startswith("-")]
    subcommand = names[:2] if names[0] == "providers" else names[:1]
    planning = ["plan"] if subcommand[0] in {"apply", "destroy"} else []  # whose options these take as well
    help_text = _terraform_help(*subcommand) + _terraform_help(*planning) + _terraform_help()
    options = [OPTION.match(word) for word in words[1:] if word.startswith("-")]
    return [
        f"terraform {' '.join(subcommand)} has no option {option[0]}"
        for option in options
        if option and not re.search(rf"^\s+{option[0]}\b", help_text, re.MULTILINE)
    ]


@cache
def _terraform_help(*words: str) -> str:
    done = subprocess.run(["terraform", *words, "-help"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout
