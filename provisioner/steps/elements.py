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
from ..elements.hooks import ROOT, merge_hooks
from ..elements.leftovers import Leftovers
from ..elements.model import OPERATING_SYSTEM, ElementsError, expand_elements, find_elements
from ..elements.prepare import Chosen, prepare
from ..elements.run import CLEANUP_SECONDS, RESULT
from ..elements.script_facts import ScriptReports
from ..elements.tools import PACKAGE_PLACE
from ..elements.variables import WORK, root_label
from ..protocol import Elements
from ..system.files import read_text
from ..system.process import find_program
from .apt_locks import wait_for_apt
from .step_context import StepContext, StepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, Mapping

BOOTLOADER = "bootloader"
RESULT_LIMIT = 8 << 20  # bytes: a line of each of the most scripts that elements can have
_RUN = """import sys
sys.path.insert(0, sys.argv[1])
from provisioner.elements.run import main
sys.exit(main(sys.argv[2]))
"""


def act(inputs: Elements, context: StepContext) -> int:
    """Return 0. StepError names the element, the phase and the file that failed, and has the script's exit status."""
    state = os.path.dirname(os.path.realpath(context.folder))
    work = os.path.join(state, WORK)
    leftovers = Leftovers(context.root, state)
    unshare = find_program("unshare")
    if not unshare:
        raise StepError("this image has no unshare(1) of util-linux, which elements need; install it in a step before")
    environment = {**wait_for_apt(context), **inputs.env}
    try:
        chosen = _chosen(inputs, context)
        leftovers.begin()
        prepare(chosen, context.root, work, context.deadline - time.monotonic(), context.output.say)
        command = [unshare, "-m", "--", sys.executable, "-ISE", "-c", _RUN, PACKAGE_PLACE, work]
        context.deadline += CLEANUP_SECONDS + 10.0  # the run keeps the step's own limit, and then cleans up
        with ScriptReports(work, context.tell_scripts) as reports:
            status = context.run(command, environment)
        result = run_result(work)
    except ElementsError as error:
        raise StepError("\n".join(error.problems)) from error
    finally:
        left = context.group.end()
        problems = leftovers.remove()
        if left:
            context.output.say(f"elements: ended what scripts left running: {', '.join(left[:10])}")
        if problems:
            context.output.say(f"elements: not all could be removed: {'; '.join(problems[:5])}")
    status = _told(status, result, context)
    if reports.left_out:
        context.note += f"; {reports.left_out} of them are told of in its log alone"
    return status


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
    return Chosen(elements, inputs.elements, path, inputs.env, documents, inputs.packages)


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
    tail = str(result.get("tail", "")).strip()
    if tail:
        context.output.say(f"elements: the end of its output:\n{tail}")
    raise StepError(problem, int(result.get("status", status)) or 1)
