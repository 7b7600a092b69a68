"""ansible: run a playbook on this machine, with an ansible-core that is here for the step alone.

Its Python packages are fetched into a folder beside the context and run from there by the image's own Python, so that
nothing is installed and nothing has to be taken back. All that Ansible writes for itself goes into the same folder.
"""

from __future__ import annotations

import json
import os
import shutil
import sys

from ..protocol import IMAGES_ANSIBLE, KEPT_ANSIBLE, Ansible
from ..system.process import find_program
from .ansible_packages import CANNOT, release_for
from .step_context import StepContext, StepError

LONGEST_REASON = 1000  # characters
PROGRAMS = ("ansible", "ansible-playbook", "ansible-galaxy")
_OWN_FOLDERS = ("root/.ansible", "root/.ansible_async")
_FETCH = (
    "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
    "from provisioner.steps.ansible_packages import main\nsys.exit(main(sys.argv[1:]))"
)
_CALLBACK = """
import json
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "goldsmith_failure"

    def v2_runner_on_failed(self, result, ignore_errors=False):
        found = getattr(result, "result", None) or result._result
        inner = next((each for each in found.get("results", ()) if each.get("failed")), found)
        errors = (inner.get("stderr") or inner.get("module_stderr") or "").strip().splitlines()
        words = [inner.get("msg") or inner.get("censored") or "", *errors[-1:]]
        task = getattr(result, "task", None) or result._task
        if not ignore_errors:
            with open(FAILURE, "w") as file:
                json.dump([task.get_name(), ": ".join(str(each) for each in words if each)], file)
"""
_RUN = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); sys.argv[0] = sys.argv.pop(1)\n"
    "from importlib import import_module\n"
    "sys.exit(import_module('ansible.cli.' + (sys.argv[0].partition('-')[2] or 'adhoc')).main())"
)


def act(inputs: Ansible, context: StepContext) -> int:
    """Return the exit status of ansible-playbook, or of what failed before it."""
    playbook = context.in_context(inputs.playbook)
    folder = os.path.join(os.path.dirname(os.path.abspath(context.folder)), "ansible")
    before = [name for name in _OWN_FOLDERS if os.path.lexists(os.path.join(context.root, name))]
    shutil.rmtree(folder, ignore_errors=True)  # left by an interrupted try
    os.makedirs(folder)
    try:
        run = _AnsibleRun(inputs, context, folder, playbook)
        status = run.requirements() or run.playbook()
        if inputs.keep and not status:
            run.keep()
        return status
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for name in _OWN_FOLDERS:
            if name not in before:
                shutil.rmtree(os.path.join(context.root, name), ignore_errors=True)


class _AnsibleRun:
    def __init__(self, inputs: Ansible, context: StepContext, folder: str, playbook: str) -> None:
        self.inputs = inputs
        self.context = context
        self.folder = folder
        self.path = playbook
        self.packages = os.path.join(folder, "packages")
        self.failure = os.path.join(folder, "failure.json")
        self.environment = self._environment()
        if inputs.version != IMAGES_ANSIBLE:
            self._fetch()

    def _environment(self) -> dict[str, str]:
        """Return variables by which nothing is written outside of the folder."""
        home = os.path.join(self.folder, "home")
        os.makedirs(home)
        roles = [self.context.in_context(path) for path in self.inputs.roles]
        found = {
            "ANSIBLE_HOME": home,
            "ANSIBLE_LOCAL_TEMP": os.path.join(home, "tmp"),
            "ANSIBLE_REMOTE_TEMP": os.path.join(home, "remote"),
            "ANSIBLE_REMOTE_TMP": os.path.join(home, "remote"),
            "ANSIBLE_ASYNC_DIR": os.path.join(home, "async"),
            "ANSIBLE_GALAXY_CACHE_DIR": os.path.join(home, "cache"),
            "ANSIBLE_COLLECTIONS_PATH": os.path.join(home, "collections"),
            "ANSIBLE_ROLES_PATH": ":".join([os.path.join(home, "roles"), *roles]),
            "ANSIBLE_RETRY_FILES_ENABLED": "0",
            "ANSIBLE_NO_TARGET_SYSLOG": "1",
            "ANSIBLE_NOCOLOR": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        settings = os.path.join(os.path.dirname(self.path), "ansible.cfg")
        if os.path.isfile(settings):
            found["ANSIBLE_CONFIG"] = settings
        self._watch(home)
        return found

    def _watch(self, home: str) -> None:
        """Let Ansible write down the task that fails, where it looks for callbacks unless its settings differ."""
        folder = os.path.join(home, "plugins", "callback")
        os.makedirs(folder)
        with open(os.path.join(folder, "goldsmith_failure.py"), "w", encoding="utf-8") as file:
            file.write(f"FAILURE = {self.failure!r}\n{_CALLBACK}")

    def _fetch(self) -> None:
        """Fetch the packages of ansible-core, in a process of the step: it has the step's network. StepError."""
        version = self.inputs.version or release_for(sys.version_info[:2])
        if not version:
            raise StepError(
                "this image has Python {}.{}, and ansible-core {}; install the distribution's own ansible-core by a "
                "step before, and write version: image".format(*sys.version_info[:2], CANNOT)
            )
        place = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        self.context.output.say(f"fetching ansible-core {version}, for this step")
        command = [sys.executable or "python3", "-I", "-c", _FETCH, place, version, self.packages]
        status = self.context.run(command, {})
        if status:
            raise StepError(
                f"ansible-core {version} cannot be fetched from files.pythonhosted.org, as the lines above say; let "
                "the machine reach that, or install the image's own by a step before, and write version: image",
                status,
            )

    def _command(self, program: str) -> list[str]:
        """Return the beginning of the command line of one of Ansible's programs. StepError."""
        if self.inputs.version != IMAGES_ANSIBLE:
            return [sys.executable or "python3", "-I", "-c", _RUN, self.packages, program]
        found = find_program(program, self.context.root)
        if not found:
            raise StepError(f"this image has no {program}; install ansible-core by a step before, or leave version out")
        return [found]

    def requirements(self) -> int:
        """Install roles and collections for this step; return the exit status."""
        if self.inputs.requirements is None:
            return 0
        path = self.context.in_context(self.inputs.requirements)
        return self._run("ansible-galaxy", ["install", "-r", path])

    def playbook(self) -> int:
        """Run the playbook; return the exit status. StepError has the words of the task that has failed."""
        inventory, variables = os.path.join(self.folder, "inventory.json"), os.path.join(self.folder, "variables.json")
        host = {"localhost": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}
        groups: dict[str, object] = {name: {"hosts": {"localhost": {}}} for name in self.inputs.groups if name != "all"}
        _write(inventory, {"all": {"hosts": host, "children": groups}})
        _write(variables, dict(self.inputs.extra_vars))
        arguments = ["-i", inventory]
        arguments += ["-e", "@" + variables] if self.inputs.extra_vars else []
        arguments += ["--tags", ",".join(self.inputs.tags)] if self.inputs.tags else []
        arguments += ["--skip-tags", ",".join(self.inputs.skip_tags)] if self.inputs.skip_tags else []
        status = self._run("ansible-playbook", [*arguments, self.path])
        if status:
            self._tell_failure(status)
        return status

    def _tell_failure(self, status: int) -> None:
        """Raise StepError with the words of the task that has failed, where they are known."""
        try:
            with open(self.failure, encoding="utf-8") as file:
                task, words = json.load(file)
        except (OSError, ValueError):
            return
        raise StepError(f"the task {task!r} of the playbook has failed: {words}"[:LONGEST_REASON], status)

    def _run(self, program: str, arguments: list[str]) -> int:
        env = {**self.environment, **self.context.secrets}
        return self.context.run([*self._command(program), *arguments], env)

    def keep(self) -> None:
        """Put ansible-core into the image, with programs in /usr/local/bin."""
        if self.inputs.version == IMAGES_ANSIBLE:
            return
        target = os.path.join(self.context.root, KEPT_ANSIBLE.lstrip("/"))
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.packages, target)
        for program in PROGRAMS:
            path = os.path.join(self.context.root, "usr/local/bin", program)
            script = _RUN.replace(
                "sys.argv.pop(1)); sys.argv[0] = sys.argv.pop(1)", f"{KEPT_ANSIBLE!r}); sys.argv[0] = {program!r}"
            )
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"#!{sys.executable}\n{script}\n")
            os.chmod(path, 0o755)  # noqa: S103 - a program of the image


def _write(path: str, value: object) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file)
