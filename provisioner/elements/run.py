"""Run the phases of elements, in a process and a mount namespace of their own.

    host phases     extra-data.d, post-root.d, block-device.d, pre-finalise.d, cleanup.d: in the image's own system,
                    which stands for the build machine, with a /tmp and a HOME of their own; the image is at TARGET_ROOT
    target phases   pre-install.d, install.d, post-install.d, finalise.d: after chroot(8) to the image, with the merged
                    hooks at /tmp/in_target.d, read-only

The image at TARGET_ROOT is the root file system once more, so what one of them mounts there the others see. All mounts
go with the namespace. The first script that fails ends the phases; cleanup.d runs nevertheless, to its end.

The step starts this process with the name of a folder, in which it finds run.json and writes result.json. A run whose
machine is held for a person ends at the script that fails, and leaves all as it is: stopped.json says where, for a
shell that begins there, and for the next run, which goes on there.
"""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import suppress

from ..protocol import OUTPUT_LIMIT, ScriptFact
from ..reporting.script_facts import ScriptLog
from ..system.files import read_text, write_whole
from ..system.mounts import mounts
from ..system.output import ProgramOutput
from ..system.process import TimedOut, find_program, run_captured, run_quietly
from ..system.redaction import Redactor, hidden_forms
from ..system.script_text import LOOK, fault
from ..system.step_group import StepGroup
from .environment import source_environment
from .hooks import (
    BLOCK_DEVICE,
    CLEANUP,
    FINALISE,
    HOOK_PHASES,
    INSTALL,
    PRE_FINALISE,
    PRE_INSTALL,
    TARGET_PHASES,
    Hook,
    merge_hooks,
)
from .model import Element, ElementsError
from .variables import IN_TARGET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Sequence

TASK, RESULT, STOPPED = "run.json", "result.json", "stopped.json"
STOPPED_LIMIT = 8 << 20  # bytes: mostly of variables
CLEANUP_SECONDS = 120.0  # for cleanup.d after a failure, and after the step's time is up
NOT_FOUND = 127  # bash's exit status where it finds no program
LAST_WORDS = 3  # lines that have to do with a failure; scripts go on without a program that they can do without
_DEVICE = "IMAGE_BLOCK_DEVICE="
_UNINSTALLS = "package-uninstalls"  # ends the names of the scripts that remove build-only packages
_INSTALL_PACKAGES, _THE_STEP = "install-packages", "the step's packages"
_ANYWHERE = "00000000"  # a destination in the kernel's table of routes
_INSTALLER = Hook(INSTALL, f"../bin/{_INSTALL_PACKAGES}", "", "")  # where it lies in the merged hooks
_PACKAGE_INSTALLS = "install.d/01-package-installs"  # is there where elements install packages
_OF_SYSTEMD = ("/run/systemd/private", "/run/dbus/system_bus_socket")  # on a VM: the system that booted is not theirs
_KEPT_OPTIONS = frozenset(["nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "ro"])
_INTERPRETED, _PROGRAM = b"#!", b"\x7fELF"
_CUT_LINE = re.compile(rb"[^\r\n]*[\r\n]+([^\r\n].*)", re.DOTALL)
_CUT_WORD = re.compile(rb"\S*\s+(\S.*)", re.DOTALL)


class ScriptOutput(ProgramOutput):
    """The output of one script: it goes on at once, and its end is kept."""

    def __init__(self) -> None:
        super().__init__()
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Pass on the next piece."""
        super().feed(data)
        self._size += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(1, view) :]

    def whole_lines(self) -> bytes:
        """Return its last lines, without one that OUTPUT_LIMIT cuts; of a single long line whole words.

        The step looks for whole passwords in them. It would not find one that has lost its beginning here.
        """
        if self._size <= OUTPUT_LIMIT:
            return self.tail
        return (_CUT_LINE.match(self.tail) or _CUT_WORD.match(self.tail) or [b"", b""])[1]


class _NoGroup(StepGroup):
    """The processes of scripts stay in the group that this process was started in."""

    def __init__(self) -> None:
        self._own = self._path = ""


class Failure:
    """What ended the phases: of a script its status; a time limit that has passed."""

    def __init__(self, text: str, status: int, tail: bytes = b"", *, timed_out: bool = False) -> None:
        self.text = text
        self.status = status
        self.tail = tail
        self.timed_out = timed_out
        self.stopped = False  # all is left as the script has left it


class ElementsRun:
    """One run of the phases."""

    def __init__(self, work: str, task: Mapping[str, Any]) -> None:
        """Begin a run; `task` is what run.json holds."""
        self._work = work
        self._hooks = os.path.join(work, "hooks")
        self._target = os.path.join(work, "mnt")
        # The scripts alone get them: what environment.d makes of the variables goes through a file.
        self._secrets = {name: os.environ.pop(name) for name in task.get("secrets", ()) if name in os.environ}
        self._variables: Dict[str, str] = {**os.environ, **task["variables"]}
        self._array: str = task["array"]
        self._origins: Mapping[str, str] = task["origins"]  # element by PHASE/NAME, of scripts and of folders in phases
        self._own_cleanup = frozenset(task["unrooted"])  # elements whose root.d did not run
        self._phases: Sequence[str] = task["phases"]
        self._packages: Sequence[str] = task.get("packages", ())
        self._deadline = time.monotonic() + task["seconds"]
        self._held: bool = task.get("held", False)
        stopped: Mapping[str, Any] = task.get("stopped") or {"phase": HOOK_PHASES[0], "done": [], "device": {}}
        self._first = HOOK_PHASES.index(stopped["phase"])
        self._earlier = frozenset(stopped["done"])  # PHASE/NAME of the scripts that have succeeded before
        self._done: List[str] = list(stopped["done"])  # and now
        self._device: Mapping[str, str] = {**task["device"], **stopped["device"]}
        self._mounted: FrozenSet[str] = frozenset()  # places at which something is mounted before any script runs
        self._began: List[str] = []  # PHASE/NAME of the scripts that have been started
        self._log = ScriptLog(work)
        self.scripts: List[Dict[str, Any]] = []

    def run(self) -> Optional[Failure]:
        """Run all phases; return what ended them early."""
        failure = self._attempt(self._mount)
        for phase in self._phases if failure is None else ():
            if HOOK_PHASES.index(phase) < self._first:
                continue
            failure = self._phase(phase)
            if failure is None and phase == INSTALL and self._packages:
                failure = self._install_packages()
            if failure is not None and failure.stopped:
                return failure
            if failure is not None:
                self._remove_build_packages(phase)
                break
        if failure is not None:
            self._deadline = max(self._deadline, time.monotonic() + CLEANUP_SECONDS)
        cleaned = self._phase(CLEANUP, to_the_end=not self._held) if _is_mounted(self._target) else None
        return failure or cleaned

    def hide(self, data: bytes) -> bytes:
        """Return output without the secrets of the step, for a file."""
        forms = {form for value in self._secrets.values() for form in hidden_forms(os.fsencode(value))}
        return Redactor(sorted(forms, key=len, reverse=True)).hide(data) if forms else data

    def enter(self, phase: str) -> List[str]:
        """Make what the scripts of a phase see; return the beginning of the command for what is to see it, too.

        ElementsError; OSError.
        """
        self._mount()
        if phase in TARGET_PHASES:
            self._show_hooks()
        return self._entry(phase in TARGET_PHASES)

    def _attempt(self, act: Any) -> Optional[Failure]:
        try:
            act()
        except (ElementsError, OSError) as error:
            return Failure(str(error), 1)
        return None

    def _mount(self) -> None:
        """Make the image's second place, and the /tmp of the build machine, unless they are there. ElementsError."""
        if not _is_mounted(self._target):
            self._make_mounts()
        self._mounted = frozenset(mount.path for mount in mounts()) | {self._target + IN_TARGET}

    def _make_mounts(self) -> None:
        if os.statvfs(self._work).f_flag & os.ST_NOEXEC:  # as /var of Container-Optimized OS
            _mount("--bind", self._work, self._work)
            _remount(self._work, "exec")
        bind_tree("/", self._target)
        for socket in filter(os.path.lexists, (self._target + path for path in _OF_SYSTEMD)):
            _mount("--bind", "/dev/null", socket)
        own = os.path.join(self._work, "tmp")
        if not self._work.startswith("/tmp/"):  # noqa: S108 - it would hide the work
            _mount("--bind", own, "/tmp")  # noqa: S108 - of this namespace alone

    def _phase(self, phase: str, *, to_the_end: bool = False) -> Optional[Failure]:
        """Run the scripts of a phase; return the first failure."""
        began = time.monotonic()
        if HOOK_PHASES.index(phase) >= HOOK_PHASES.index(PRE_FINALISE):
            self._variables.update(self._device)
        try:
            hooks = self._hooks_of(phase)
        except ElementsError as error:
            return Failure(str(error), 1)
        if not hooks:
            return None
        if phase not in TARGET_PHASES:
            return self._scripts(phase, hooks, began, to_the_end=to_the_end)
        try:
            self._show_hooks()
            return self._scripts(phase, hooks, began, to_the_end=to_the_end)
        except (ElementsError, OSError) as error:
            return Failure(f"{phase}: {error}", 1)
        finally:
            self._hide_hooks()

    def _install_packages(self) -> Optional[Failure]:
        """Install the step's own packages, by the distribution's install-packages; return what failed."""
        try:
            self._show_hooks()
            environment = self._environment(True)
            if self._origins.get(_PACKAGE_INSTALLS) is None:
                self._update_lists(environment)
            hook = Hook(INSTALL, _INSTALL_PACKAGES, "", "")
            failure = self._script(hook, environment, True, [_INSTALL_PACKAGES, *self._packages])
        except (ElementsError, OSError) as error:
            return Failure(f"{_INSTALL_PACKAGES}: {error}", 1)
        finally:
            self._hide_hooks()
        if failure is not None and self._held:
            failure.stopped = self._stop(_INSTALLER, environment, True, _THE_STEP)
        return failure

    def _show_hooks(self) -> None:
        """Put the merged hooks into the image's tree, read-only. ElementsError; OSError."""
        place = self._target + IN_TARGET
        os.makedirs(place, exist_ok=True)
        _mount("--bind", self._hooks, place)
        _remount(place, "ro")

    def _hide_hooks(self) -> None:
        place = self._target + IN_TARGET
        while _is_mounted(place) and not run_quietly([_program("umount"), "-l", place]):
            pass
        with suppress(OSError):  # not there any more, or in use: the step's end removes it
            os.rmdir(place)

    def _hooks_of(self, phase: str) -> Sequence[Hook]:
        """Return the scripts of a phase as they are now, but for those that the run before has run."""
        hooks = merge_hooks([Element("", self._hooks, (), ())]).phases[phase]
        return [hook for hook in hooks if f"{hook.phase}/{hook.name}" not in self._earlier]

    def _scripts(self, phase: str, hooks: Sequence[Hook], began: float, *, to_the_end: bool) -> Optional[Failure]:
        failure = None
        inside = phase in TARGET_PHASES
        try:
            environment = self._environment(inside)
        except ElementsError as error:
            return Failure(f"{phase}: environment.d: {error}", 1)
        if phase == PRE_INSTALL and self._origins.get(_PACKAGE_INSTALLS) is not None:
            self._update_lists(environment)
        for hook in hooks:
            found = self._script(hook, environment, inside)
            tolerated = found is not None and phase == CLEANUP and self._element(hook) in self._own_cleanup
            if found is not None and tolerated:
                tell(
                    f"{found.text}; it undoes what root.d would have done, which does not run on an image: passed over"
                )
            elif found is not None:
                failure = failure or found
                failure.stopped = self._held and self._stop(hook, environment, inside)
                if not to_the_end:
                    break
            else:
                self._done.append(f"{hook.phase}/{hook.name}")
        self._table(phase, time.monotonic() - began)
        return failure

    def _environment(self, inside: bool) -> Dict[str, str]:
        """Return the variables of the scripts of a phase. ElementsError."""
        base = dict(self._variables)
        base.pop("TMPDIR", None)
        if inside:
            base.pop("VIRTUAL_ENV", None)
            base["HOME"] = "/root"
            folders = [os.path.join(self._work, "programs"), base["PATH"], os.path.join(self._work, "fallback")]
        else:
            base["HOME"] = os.path.join(self._work, "home")
            base["PYTHONPATH"] = os.path.join(self._work, "python")
            folders = [os.path.join(self._work, name) for name in ("host", "programs")]
            folders += [base["PATH"], os.path.join(self._work, "fallback")]
        base["PATH"] = ":".join(folders)
        hooks = merge_hooks([Element("", self._hooks, (), ())]).environment
        place = IN_TARGET if inside else self._hooks
        files = {os.path.join(place, hook.phase, hook.name): self._element(hook) for hook in hooks}
        bash = find_program("bash")
        if not bash:
            raise ElementsError(["this image has no bash, which elements are written for; install it in a step before"])
        command = [*self._entry(inside), bash]
        told = os.path.join(self._work, "environment")

        def run(argv: List[str]) -> int:
            return run_captured(argv, base, ScriptOutput(), self._deadline, _NoGroup())

        try:
            return source_environment(list(files), self._array, told, command, run, files)
        except TimedOut as error:
            raise ElementsError(["not read within the step's time"]) from error

    def _script(
        self, hook: Hook, environment: Mapping[str, str], inside: bool, command: Sequence[str] = ()
    ) -> Optional[Failure]:
        """Run one script, or a command in its place; return how it failed."""
        name, element = f"{hook.phase}/{hook.name}", _THE_STEP if command else self._element(hook)
        tell(f"{name} ({element})")
        self._began.append(name)
        self._log.add(ScriptFact(hook.phase, hook.name, element))
        output = ScriptOutput()
        began = time.monotonic()
        timed_out, problem = False, ""
        try:
            line = [*self._entry(inside), *(command or self._command(hook, inside))]
            given = {**environment, **self._secrets}
            status = run_captured(line, given, output, self._deadline, _NoGroup())
        except TimedOut as error:
            status, timed_out = error.status, True
        except (ElementsError, OSError) as error:
            status, problem = 126, str(error)
        seconds = time.monotonic() - began
        if output.tail and not output.tail.endswith(b"\n"):
            output.feed(b"\n")
        self.scripts.append(
            {"phase": hook.phase, "file": hook.name, "element": element, "seconds": seconds, "status": status}
        )
        self._log.add(ScriptFact(hook.phase, hook.name, element, seconds, status))
        tell(f"{name} ({element}): {seconds:.1f} s" + (f", exit status {status}" if status else ""))
        tail = output.whole_lines()
        if hook.phase == BLOCK_DEVICE:
            self._take_device(tail)
        if not status and not timed_out:
            return None
        what = "not done within the step's time" if timed_out else problem or f"exit status {status}"
        return Failure(
            f"{name} of {'' if command else 'element '}{element}: {what}{self.hint(status, tail)}",
            status,
            tail,
            timed_out=timed_out,
        )

    def hint(self, status: int, tail: bytes) -> str:
        """Return what to do about a program that a script has not found; "" for nothing."""
        return program_hint(status, tail)

    def _stop(self, hook: Hook, environment: Mapping[str, str], inside: bool, element: str = "") -> bool:
        """Write down where the run stops; return whether that is done."""
        place = IN_TARGET if inside else self._hooks
        document = {
            "phase": hook.phase,
            "file": hook.name,
            "element": element or self._element(hook),
            "path": os.path.normpath(os.path.join(place, hook.phase, hook.name)),
            "environment": dict(environment),
            "done": self._done,
            "device": dict(self._device),
            "mounts": sorted({mount.path for mount in mounts()} - self._mounted),
        }
        try:
            write_whole(os.path.join(self._work, STOPPED), json.dumps(document).encode())
        except OSError as error:
            tell(f"where it has failed cannot be kept: {error}")
            return False
        return True

    def _element(self, hook: Hook) -> str:
        """Return the element that a script comes from; of a link to one in a folder of the phase, that folder's."""
        path = os.path.join(self._hooks, hook.phase, hook.name)
        names = [hook.name]
        if os.path.islink(path):
            names += os.path.normpath(os.readlink(path)).split("/")[:1]
        found = (self._origins.get(f"{hook.phase}/{name}") for name in names)
        return next(filter(None, found), "made by a script")

    def _entry(self, inside: bool) -> List[str]:
        return [_program("chroot"), self._target] if inside else []

    def _command(self, hook: Hook, inside: bool) -> List[str]:
        """Return what runs a script: bash where it does not say. ElementsError for text of another system."""
        path = os.path.join(self._hooks, hook.phase, hook.name)
        with open(path, "rb") as file:
            text = file.read(LOOK)
        wrong = "" if text.startswith(_PROGRAM) else fault(text)
        if wrong:
            raise ElementsError([wrong])
        here = os.path.join(IN_TARGET, hook.phase, hook.name) if inside else path
        return [here] if text.startswith((_INTERPRETED, _PROGRAM)) else [find_program("bash"), here]

    def _take_device(self, tail: bytes) -> None:
        """Take the block device that a script of block-device.d has printed."""
        for line in tail.decode("utf-8", "replace").splitlines():
            if line.startswith(_DEVICE):
                self._device = {**self._device, "IMAGE_BLOCK_DEVICE": line[len(_DEVICE) :].strip("\"' ")}

    def _update_lists(self, environment: Mapping[str, str]) -> None:
        """Fetch the lists of packages where the image came without: elements expect an image that has just got them."""
        lists = os.path.join(self._target, "var/lib/apt/lists")
        apt = find_program("apt-get", self._target)
        if not apt:
            return
        if os.path.isdir(lists) and any(name.endswith("Release") for name in os.listdir(lists)):
            return
        if not _has_way_out():
            tell("the image has no lists of packages, and there is no network to fetch them by")
            return
        tell("the image has no lists of packages: fetching them")
        command = [*self._entry(True), "/" + os.path.relpath(apt, self._target), "-q", "-y", "update"]
        status = 0
        try:
            status = run_captured(command, environment, ScriptOutput(), self._deadline, _NoGroup())
        except TimedOut as error:
            status = error.status
        if status:
            tell(f"apt-get update: exit status {status}; going on")

    def _remove_build_packages(self, phase: str) -> None:
        """After a failure, remove the packages that were installed for one phase alone, as its end would have done."""
        if phase not in TARGET_PHASES or phase == FINALISE:
            return
        self._deadline = max(self._deadline, time.monotonic() + CLEANUP_SECONDS)
        hooks = self._hooks_of(phase)
        installs = f"{phase}/{_installs_of(hooks)}"
        left = [hook for hook in hooks if hook.name.endswith(_UNINSTALLS) and f"{phase}/{hook.name}" not in self._began]
        if not left or installs not in self._began:
            return
        try:
            self._show_hooks()
            environment = self._environment(True)
            for hook in left:
                self._script(hook, environment, True)
        except (ElementsError, OSError) as error:
            tell(f"packages for the build alone may be left: {error}")
        finally:
            self._hide_hooks()

    def _table(self, phase: str, seconds: float) -> None:
        """Print the seconds of each script of a phase."""
        tell(f"{phase}: {seconds:.1f} s")
        for script in self.scripts:
            if script["phase"] == phase:
                tell(f"{script['seconds']:10.3f} {script['file']} ({script['element']})")


def _installs_of(hooks: Sequence[Hook]) -> str:
    return next((hook.name for hook in hooks if hook.name.endswith("-package-installs")), "")


def program_hint(status: int, tail: bytes) -> str:
    """Return what to do about a program that the image does not have; "" for another failure."""
    if not status:
        return ""
    lines = tail.decode("utf-8", "replace").splitlines()
    for line in reversed(lines if status == NOT_FOUND else lines[-LAST_WORDS:]):
        before, found, _ = line.rpartition(": command not found")
        if found:
            name = before.rpartition(": ")[2].strip()
            return f": this image has no {name}; install it in a step before this one (action: install-packages)"
    return ""


def _mount(*arguments: str) -> None:
    """Mount something by mount(8). ElementsError."""
    status = run_quietly([_program("mount"), *arguments])
    if status:
        raise ElementsError([f"mount {' '.join(arguments)}: exit status {status}; elements need to mount, as root can"])


def bind_tree(source: str, target: str) -> None:
    """Show a tree, with what is mounted in it, at another place too. ElementsError."""
    _mount("--rbind", source, target)


def _has_way_out() -> bool:
    """Return whether this network has a default route: without one, apt-get tries for seconds."""
    with suppress(OSError):
        for line in read_text("/proc/net/route").splitlines()[1:]:
            if line.split()[1:2] == [_ANYWHERE]:
                return True
        for words in (line.split() for line in read_text("/proc/net/ipv6_route").splitlines()):
            if words[:2] == [_ANYWHERE * 4, "00"] and words[-1] != "lo":
                return True
    return False


def _is_mounted(place: str) -> bool:
    """Return whether something is mounted at a place; os.path.ismount() knows no binds of the same file system."""
    return any(mount.path == place for mount in mounts())


def _remount(place: str, option: str) -> None:
    """Change one option of a mount; the others have to be told again. ElementsError."""
    kept: List[str] = []
    for mount in mounts():
        if mount.path == place:  # the last one is on top
            kept = sorted(_KEPT_OPTIONS & mount.options)
    options = [each for each in kept if option not in (each, each[len("no") :])]
    _mount("-o", ",".join(["remount", "bind", option, *options]), place)


def _program(name: str) -> str:
    found = find_program(name)
    if not found:
        raise ElementsError([f"this image has no {name}, which running elements needs; install it in a step before"])
    return found


def tell(text: str) -> None:
    """Print a line of the run's own among the output of scripts."""
    data = memoryview(f"elements: {text}\n".encode("utf-8", "replace"))
    while data:
        data = data[os.write(1, data) :]


def read_stopped(work: str) -> Optional[Mapping[str, Any]]:
    """Return where a run has stopped; None for one that has not, or for what a script has written in its place."""
    try:
        found = json.loads(read_text(os.path.join(work, STOPPED), STOPPED_LIMIT))
    except (OSError, ValueError, RecursionError):
        return None
    kinds = {"phase": str, "file": str, "element": str, "path": str, "environment": dict, "done": list}
    kinds.update(device=dict, mounts=list)
    if not isinstance(found, dict) or not all(isinstance(found.get(key), kind) for key, kind in kinds.items()):
        return None
    names = [*found["environment"], *found["device"]]
    texts = [*found["environment"].values(), *found["device"].values(), *found["done"], *found["mounts"]]
    texts += [*names, found["file"], found["element"], found["path"]]
    right = all(map(_can_be_passed, texts)) and not any(not name or "=" in name for name in names)
    return found if right and found["phase"] in HOOK_PHASES else None


def _can_be_passed(text: object) -> bool:
    """Return whether a program can be given a text as a variable, an argument or a path."""
    try:
        return isinstance(text, str) and b"\0" not in text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False


def land(work: str, start: str) -> int:
    """Become the shell of a person, in place of the script at which a run has stopped; `start` is a file for bash.

    Returns the exit status of a shell that cannot be started.
    """
    stopped = read_stopped(work)
    if stopped is None:
        tell(f"{work}/{STOPPED} is not there any more; continue builds anew")
        return 1
    with open(os.path.join(work, TASK), "rb") as file:
        task = json.loads(file.read().decode())
    try:
        command = [*ElementsRun(work, task).enter(stopped["phase"]), _program("bash"), "--rcfile", start, "-i"]
        os.execve(command[0], command, os.environ)  # noqa: S606 - a fixed command
    except (ElementsError, OSError) as error:
        tell(f"no shell can be started where the script has failed: {error}")
    return 1


def main(work: str) -> int:
    """Run what run.json of a folder says; return the exit status of the script that failed, or 0."""
    with open(os.path.join(work, TASK), "rb") as file:
        task = json.loads(file.read().decode())
    run = ElementsRun(work, task)
    failure = run.run()
    result: Dict[str, Any] = {"scripts": run.scripts, "problem": "", "status": 0, "timed_out": False, "tail": ""}
    if failure is not None:
        status = failure.status or 1
        problem, tail = (run.hide(text).decode("utf-8", "replace") for text in (failure.text.encode(), failure.tail))
        result.update(problem=problem, status=status, timed_out=failure.timed_out, tail=tail)
    with open(os.path.join(work, RESULT), "w", encoding="utf-8") as written:
        json.dump(result, written)
    return int(result["status"])
