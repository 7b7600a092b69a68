"""elements: run elements of diskimage-builder in the image, unmodified: their phases, packages, files and programs.

The image is the operating system that elements ask for, so root.d does not run. What the elements need for the build
alone is gone at the step's end, whether it has succeeded or not.
"""

from __future__ import annotations

import json
import os
import sys
import time

from ..elements.documents import decode_documents
from ..elements.hooks import ROOT, TARGET_PHASES, merge_hooks
from ..elements.leftovers import Leftovers
from ..elements.model import OPERATING_SYSTEM, ElementsError, expand_elements, find_elements
from ..elements.prepare import Chosen, prepare, prepare_again
from ..elements.run import CLEANUP_SECONDS, LAST_WORDS, RESULT, STOPPED, read_stopped
from ..elements.tools import PACKAGE_PLACE
from ..elements.variables import WORK, root_label
from ..protocol import Elements
from ..reporting.script_facts import ScriptReports
from ..system.files import read_text
from ..system.process import find_program
from .apt_locks import wait_for_apt
from .step_context import StepContext, StepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, List, Mapping, Optional, Tuple

BOOTLOADER = "bootloader"
_DEEPEST = 64  # folders between the root of an image and that of its namespace
TAIL = 2048  # characters of a failed script that are shown again, after those of cleanup.d
LONGEST_WORDS = 120  # characters of each of the last lines that an error has
RESULT_LIMIT = 8 << 20  # bytes: a line of each of the most scripts that elements can have
_RUN = """import sys
sys.path.insert(0, sys.argv[1])
from provisioner.elements import run
sys.exit(run.main(*sys.argv[2:]) if len(sys.argv) == 3 else run.land(*sys.argv[2:]))
"""


def act(inputs: Elements, context: StepContext) -> int:
    """Return 0. StepError names the element, the phase and the file that failed, and has the script's exit status."""
    state = os.path.dirname(os.path.realpath(context.folder))
    work = os.path.join(state, WORK)
    leftovers = Leftovers(context.root, state)
    command = _command(work)
    stopped = _stopped_before(work) if context.retried else None
    environment = {**wait_for_apt(context), **inputs.env, **context.secrets}
    try:
        chosen = _chosen(inputs, context)
        seconds = context.deadline - time.monotonic()
        if stopped is None:
            leftovers.begin()
            prepare(chosen, context.root, work, seconds, context.output.say, held=context.hold)
        else:
            prepare_again(chosen, context.root, work, seconds, stopped)
        context.deadline += CLEANUP_SECONDS + 10.0  # the run keeps the step's own limit, and then cleans up
        with ScriptReports(work, context.tell_scripts, context.output.hide) as reports:
            status = context.run(command, environment)
        result = run_result(work)
    except ElementsError as error:
        raise StepError("\n".join(error.problems)) from error
    finally:
        left = context.group.end()
        is_left = stopped is not None or (context.hold and read_stopped(work) is not None)
        problems = [] if is_left else leftovers.remove()
        if left:
            context.output.say(f"elements: ended what scripts left running: {', '.join(left[:10])}")
        if problems:
            context.output.say(f"elements: not all could be removed: {'; '.join(problems[:5])}")
    status = _told(status, result, context)
    if reports.left_out:
        context.note += f"; {reports.left_out} of them are told of in its log alone"
    if stopped is not None:
        os.unlink(os.path.join(work, STOPPED))
    return status


def _command(work: str, *arguments: str) -> List[str]:
    """Return the command of a run. StepError."""
    unshare = find_program("unshare")
    if not unshare:
        raise StepError("this image has no unshare(1) of util-linux, which elements need; install it in a step before")
    return [unshare, "-m", "--", sys.executable, "-ISE", "-c", _RUN, PACKAGE_PLACE, work, *arguments]


def _stopped_before(work: str) -> Optional[Mapping[str, Any]]:
    """Return where the try before has stopped; None where it has not, and has left nothing. StepError."""
    stopped = read_stopped(work)
    if stopped is None and os.path.isdir(work):
        raise StepError("its scripts have all run; to run them all again, build anew: continue")
    return stopped


class StoppedScript:
    """The script at which a step of elements has stopped, and how a person gets there."""

    def __init__(self, work: str, stopped: Mapping[str, Any]) -> None:
        self._work = work
        self.path: str = stopped["path"]  # as it sees it itself
        self.environment: Mapping[str, str] = stopped["environment"]
        self.is_inside = stopped["phase"] in TARGET_PHASES
        self.element: str = stopped["element"]
        self.mounts: List[str] = stopped["mounts"]  # that scripts have made, and that went with the run

    def shell(self, start: str) -> List[str]:
        """Return the command of a shell there; `start` is what bash reads first. StepError."""
        return _command(self._work, start)


def stopped_script(state: str) -> Optional[StoppedScript]:
    """Return the script at which a step of a job has stopped; None where it has failed in another way."""
    work = os.path.join(os.path.realpath(state), WORK)
    stopped = read_stopped(work)
    return None if stopped is None else StoppedScript(work, stopped)


def leave_chroot() -> None:
    """Make the root of this process that of its mount namespace, out of the one of a shell in the image. OSError.

    A working directory that is not below the root has the way up to the real one.
    """
    os.chdir("/")
    os.chroot("/proc")
    for _ in range(_DEEPEST):
        os.chdir("..")
    os.chroot(".")


def _chosen(inputs: Elements, context: StepContext) -> Chosen:
    """Return the elements that the inputs ask for. ElementsError; StepError."""
    path = [os.path.realpath(context.in_context(folder)) for folder in inputs.path]
    elements = expand_elements(inputs.elements, find_elements(path), provided=(OPERATING_SYSTEM,))
    documents = decode_documents(inputs.documents or "{}")
    context.output.say(f"elements: {' '.join(element.name for element in elements)}")
    without = sorted({hook.element for hook in merge_hooks(elements).phases[ROOT]})
    if without:
        context.output.say(f"elements: root.d of {', '.join(without)} does not run: the image is there already")
    labelled = "DIB_ROOT_LABEL" in inputs.env or BOOTLOADER not in {element.name for element in elements}
    if not labelled and not root_label(context.root):
        raise ElementsError(
            [
                f"element {BOOTLOADER} names the root file system by its label, and this image's has none; leave "
                "it and vm out, since the image has a boot loader, or set DIB_ROOT_LABEL"
            ]
        )
    secrets = sorted(context.secrets)
    return Chosen(elements, inputs.elements, path, inputs.env, documents, inputs.packages, secrets)


def run_result(work: str) -> Mapping[str, Any]:
    """Return what the run has told; of one that was killed, nothing. A script may have written it, or a FIFO."""
    try:
        found = json.loads(read_text(os.path.join(work, RESULT), RESULT_LIMIT, errors="replace"))
    except (OSError, ValueError, RecursionError):
        return {}
    kinds = {"scripts": list, "problem": str, "status": int, "tail": str}
    right = isinstance(found, dict) and all(isinstance(found.get(key), kind) for key, kind in kinds.items())
    return found if right else {}


def _told(status: int, result: Mapping[str, Any], context: StepContext) -> int:
    """Return 0 for a run that has succeeded. StepError says what failed, and the script's last lines come before it."""
    problem = str(result.get("problem", ""))
    if not status and not problem and result:
        scripts: List[Any] = result.get("scripts", [])
        context.note = f"{len(scripts)} scripts of elements"
        return 0
    if not problem:
        why = f"exit status {status}" if status else "and has not told how; a script may have mounted over its folder"
        raise StepError(f"the run of the elements was ended ({why})", status or 1)
    problem, tail = failure_texts(result, context.output.hide)
    if tail:
        context.output.say(f"elements: the end of its output:\n{tail}")
    raise StepError(problem, int(result.get("status", status)) or 1)


def failure_texts(result: Mapping[str, Any], hide: Callable[[str], str]) -> Tuple[str, str]:
    """Return why a run has failed, with its script's last lines, and the end of that script's output.

    All is hidden that no output may show, before anything is cut: `hide` finds whole texts.
    """
    tail = hide(str(result["tail"])).strip()
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    shown = " | ".join("..." * (len(line) > LONGEST_WORDS) + line[-LONGEST_WORDS:] for line in lines[-LAST_WORDS:])
    return hide(str(result["problem"])) + (f"; its last lines: {shown}" if shown else ""), tail[-TAIL:]
