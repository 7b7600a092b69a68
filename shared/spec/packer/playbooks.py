"""The provisioners that run playbooks, as steps `ansible`."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from typing import Any

from ...names import quoted
from .option_reader import OptionReader
from .step_maker import StepMaker

_SWITCHES = re.compile(r"-v+|--verbose|--diff|-D|-b|--become")
_OF_CONNECTIONS = (
    *("-u", "--user", "-c", "--connection", "--private-key", "--key-file", "-T", "--timeout", "-f", "--forks"),
    *("--ssh-common-args", "--ssh-extra-args", "--scp-extra-args", "--sftp-extra-args", "--become-method"),
)
_NO_EFFECT = re.compile(
    r"ANSIBLE_(SSH|SCP|SFTP|PARAMIKO|HOST_KEY|PIPELINING|FORCE_COLOR|NOCOLOR|STDOUT|DISPLAY|CALLBACKS|TIMEOUT|FORKS"
    r"|DEPRECATION|SYSTEM_WARNINGS|LOCALHOST_WARNING|RETRY_FILES|REMOTE_TE?MP|LOCAL_TEMP|PYTHON_INTERPRETER)\w*"
    r"|PYTHON(UNBUFFERED|DONTWRITEBYTECODE)|(LANG|LC_ALL)"
)
_SUDO = re.compile(r"sudo|/usr/bin/sudo|env|-[EHSn]+|--preserve-env")
_HOST = re.compile(r"[-.\w]+")
_PROGRAM = re.compile(r"(/usr/(local/)?bin/)?ansible-playbook")


def local_playbooks(maker: StepMaker, options: OptionReader) -> None:
    """Run playbooks that Packer ran on the machine."""
    playbooks = [*options.texts("playbook_files"), *filter(None, [options.text("playbook_file")])]
    options.asked |= {"playbook_dir", "playbook_paths"}
    _beside(options, "group_vars", playbooks)
    _beside(options, "host_vars", playbooks)
    roles = _roles(maker, options, "role_paths", options.texts("role_paths"), playbooks, is_parent=False)
    settings = _program_settings(options.text("command") or "ansible-playbook")
    if settings is None:
        what = "is not the step's ansible-playbook; leave it out, or run your own program by a shell provisioner"
        options.fault("command", what)
    roles += _settings(maker, options, "command", settings or [], playbooks)
    _playbooks(maker, options, playbooks, options.texts("inventory_groups"), roles)


def remote_playbooks(maker: StepMaker, options: OptionReader) -> None:
    """Run a playbook that Packer ran on the machine that builds."""
    playbooks = list(filter(None, [options.text("playbook_file")]))
    roles = _roles(maker, options, "roles_path", options.texts("roles_path"), playbooks, is_parent=True)
    roles += _settings(maker, options, "ansible_env_vars", options.texts("ansible_env_vars"), playbooks)
    note = "the playbook runs on the machine itself, and not on this one over ssh"
    options.note("playbook_file", f"{note}: what it does on localhost, it does there")
    alias = options.text("host_alias") or "default"
    lines = [line for playbook in playbooks for line in maker.places.text(playbook).split("\n") if "hosts:" in line]
    groups = [alias] if any(alias in _HOST.findall(line) for line in lines) else []
    _playbooks(maker, options, playbooks, [*groups, *options.texts("groups")], roles)


def _beside(options: OptionReader, key: str, playbooks: list[str]) -> None:
    """Refuse variables that the playbook would not find where they are."""
    folders = [posixpath.normpath(posixpath.dirname(playbook)) for playbook in playbooks]
    for path in options.texts(key):
        if posixpath.normpath(posixpath.dirname(path.rstrip("/"))) not in folders:
            options.fault(key, f"{quoted(path)} is not found from the playbook here; move it beside that")


def _roles(
    maker: StepMaker, options: OptionReader, key: str, paths: list[str], playbooks: list[str], *, is_parent: bool
) -> list[str]:
    """Return the folders of roles that are not beside the playbook; `is_parent`: the paths name those."""
    beside = {posixpath.normpath(posixpath.join(posixpath.dirname(playbook), "roles")) for playbook in playbooks}
    found: list[str] = []
    for path in map(posixpath.normpath, paths):
        folder = path if is_parent or path in beside else posixpath.dirname(path) or "."
        if folder not in beside and (place := maker.path(options, key, folder)) and place not in found:
            found.append(place)
    return found


def _program_settings(command: str) -> list[str] | None:
    """Return the variables before ansible-playbook in a command; None where it does something else."""
    try:
        *before, program = shlex.split(command)
    except ValueError:
        return None
    settings = [word for word in before if re.match(r"[A-Za-z_]\w*=", word)]
    others = [word for word in before if word not in settings and not _SUDO.fullmatch(word)]
    return settings if _PROGRAM.fullmatch(program) and not others else None


def _settings(
    maker: StepMaker, options: OptionReader, key: str, settings: list[str], playbooks: list[str]
) -> list[str]:
    """Return the folders of roles that variables of Ansible name; refuse what else has an effect."""
    roles: list[str] = []
    for name, equals, value in (each.partition("=") for each in settings):
        if name == "ANSIBLE_ROLES_PATH":
            roles += _roles(maker, options, key, value.split(":"), playbooks, is_parent=True)
        elif name == "ANSIBLE_CONFIG" and equals:
            folders = {posixpath.normpath(posixpath.dirname(playbook)) for playbook in playbooks}
            if {posixpath.normpath(posixpath.dirname(value))} != folders or posixpath.basename(value) != "ansible.cfg":
                options.fault(key, f"{quoted(value)} is not found here; move it beside the playbook, as ansible.cfg")
        elif not _NO_EFFECT.fullmatch(name):
            options.fault(key, f"{quoted(name)} is not taken over; write it into ansible.cfg beside the playbook")
    return list(dict.fromkeys(roles))


def _playbooks(
    maker: StepMaker, options: OptionReader, playbooks: list[str], groups: list[str], roles: list[str]
) -> None:
    """Run playbooks, each as a step."""
    groups = [group for group in groups if group not in ("all", "ungrouped")]
    inputs: dict[str, Any] = {"groups": groups} if groups else {}
    inputs |= {"roles": list(dict.fromkeys(roles))} if roles else {}
    galaxy = options.text("galaxy_file")
    if galaxy and (found := maker.path(options, "galaxy_file", galaxy)):
        inputs["requirements"] = found
    arguments = options.texts("extra_arguments")
    try:
        inputs |= ansible_arguments(arguments)
    except ValueError as error:
        options.fault("extra_arguments", str(error))
    key = "playbook_file" if "playbook_file" in options.component.settings else "playbook_files"
    if not playbooks:
        maker.draft.fault((), "runs no playbook; write playbook_file", options.component.place)
    for path in playbooks:
        found = maker.path(options, key, path)
        if found is not None:
            name = posixpath.basename(path).partition(".")[0]
            home, is_below, _ = found.partition("/")  # playbooks name files beside their own folder, too
            more = {"reads": [home]} if is_below else {}
            maker.put(name, "ansible", {"playbook": found, **inputs}, options.place(key), **more)


def ansible_arguments(arguments: list[str]) -> dict[str, Any]:
    """Return the inputs of a step for arguments of ansible-playbook. ValueError."""
    words = [word for argument in arguments for word in _words(argument)]
    inputs: dict[str, Any] = {}
    while words:
        flag, equals, value = words.pop(0).partition("=")
        if not flag or _SWITCHES.fullmatch(flag):
            continue
        known = flag in ("-e", "--extra-vars", "--tags", "-t", "--skip-tags", *_OF_CONNECTIONS)
        if not known or not (equals or words):
            raise ValueError(f"{quoted(flag)} is not taken over; write it into the playbook or into ansible.cfg")
        value = value if equals else words.pop(0)
        if flag in ("-e", "--extra-vars"):
            inputs.setdefault("extra_vars", {}).update(_extra_vars(value))
        elif flag not in _OF_CONNECTIONS:
            inputs["skip_tags" if flag == "--skip-tags" else "tags"] = value.split(",")
    return {name: value for name, value in inputs.items() if value}


def _words(argument: str) -> list[str]:
    """Take apart an argument that has a flag and its value in one text, as Packer's shell did."""
    flag, space, rest = argument.partition(" ")
    return [flag, rest.strip().strip("\"'")] if space and flag.startswith("-") and "=" not in flag else [argument]


def _extra_vars(text: str) -> dict[str, str]:
    if text.lstrip().startswith("{"):
        return _extra_vars_in_json(text)
    if text.startswith("@"):
        raise ValueError(f"{quoted(text)} is a file; name it in vars_files of the playbook")
    found = {}
    for word in shlex.split(text):
        name, equals, value = word.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise ValueError(f"{quoted(text)} is no NAME=VALUE; write extra variables so")
        found[name] = value
    return found


def _extra_vars_in_json(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{quoted(text)} is no JSON: {error}; write NAME=VALUE") from error
    others = [name for name, value in found.items() if type(value) not in (str, int)]
    if others:
        raise ValueError(f"{quoted(others[0])} is no text in JSON; write it into vars of the playbook")
    return {name: str(value) for name, value in found.items()}
