"""One function as Google Cloud runs it, in a process that never outlives the emulator.

    python -m emulator.function_process --target=NAME --source=main.py --host=127.0.0.1 --port=P

The functions framework starts a server that forks workers. Who ties the server to the emulator's life does not tie
those: a fork forgets whose end was to be its own. So each asks the kernel for that anew.
"""

from __future__ import annotations

import ctypes
import os
import signal

import functions_framework._cli

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent() -> None:
    """Have the kernel kill this process as soon as the one that forked it is gone."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    os.register_at_fork(after_in_child=end_with_parent)
    functions_framework._cli._cli()
