"""goldsmith serve: the dashboard of this machine, for a browser on it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from shared.dashboard.app import make_app
from shared.dashboard.web.access import Access
from shared.dashboard.web.desk import Desk
from shared.dashboard.web.local_server import LOOPBACK_ADDRESS, local_server, loopback_socket
from shared.dashboard.web.served import Served
from shared.errors import EnvironmentFault
from shared.runtime import opening

from ...home import open_home
from ...screen.text import complain, say
from .local_look import LocalLook

if TYPE_CHECKING:
    from shared.runtime.opening import LocalBackend

THIS_MACHINE = "this machine"


def serve(port: int) -> None:
    """Serve the dashboard on a port of the loopback address, until Ctrl-C; 0 takes any free one."""
    with open_home() as backend:
        try:
            bound = loopback_socket(port)
        except OSError as error:
            raise EnvironmentFault(
                f"{LOOPBACK_ADDRESS}:{port}: {error.strerror}; take another port with --port"
            ) from error
        with bound:
            access = Access(bound.getsockname()[1])
            server = local_server(bound, make_app(served_here(backend), access))
        say(access.address)
        sys.stdout.flush()  # a program that has started this one reads it from a pipe
        complain("open this address in a browser of this machine; Ctrl-C ends it")
        server.serve_forever()


def served_here(backend: LocalBackend) -> Served:
    """Return what the dashboard of this machine serves."""
    builds = opening.builds_here(backend)
    local = opening.desk_here(backend)
    return Served(
        backend,
        THIS_MACHINE,
        is_interrupted=builds.is_interrupted,
        machine=LocalLook(backend),
        desk=Desk(local.who, local.send),
        streams=32,
        streams_each=32,  # there is one viewer
    )
