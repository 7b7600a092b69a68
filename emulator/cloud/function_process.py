"""One function as Google Cloud runs it, in a process that ends with the emulator.

    python -m emulator.cloud.function_process --target=NAME --source=main.py --host=127.0.0.1 --port=P

The functions framework starts a server that forks workers. The setting that ends the server with the emulator is not
inherited by forks, so each worker asks the kernel for it again.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal

import functions_framework
from functions_framework._http import create_server

from ..web.admission import admitted

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent() -> None:
    """Have the kernel kill this process as soon as the one that forked it is gone."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def serve(target: str, source: str, host: str, port: int) -> None:
    """Serve a function, but for requests of web pages, until this process is ended."""
    application = functions_framework.create_app(target, source, "http")  # type: ignore[no-untyped-call] # no types in it
    application.wsgi_app = admitted(application.wsgi_app, port)
    create_server(application, False).run(host, port)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    os.register_at_fork(after_in_child=end_with_parent)
    parser = argparse.ArgumentParser()
    for option in ("--target", "--source", "--host"):
        parser.add_argument(option, required=True)
    parser.add_argument("--port", type=int, required=True)
    serve(**vars(parser.parse_args()))
