"""The backend of this machine: state.db, the catalogue, QEMU.

Every command opens it. images.py and builds.py work with it; a command imports the one that it needs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

from ..backend import Backend, ReportTarget
from ..build.image.channels import Channels, no_channels, read_channels
from ..clock import SystemClock
from ..errors import InputError, NoSpace
from ..host.reserve import Reserve
from ..host.secret_file import NoPlainFile, read_plain
from ..images.catalogue import Catalogue
from ..keys import Keys
from ..local.bucket import LocalBucket
from ..local.bus import LocalBus
from ..local.compute import LocalCompute
from ..local.database import Database
from ..local.master_key import master_key
from ..local.store import LocalStore
from ..machines.machines import Machines
from ..machines.qemu import ADDRESS
from ..names import LOCAL
from ..ownership import ALL_FAMILIES
from ..ports import Message, Progress
from ..provenance.signing_key import SigningKey
from ..topology import REPORTS_TOPIC
from .followers.spans import traces_here
from .followers.webhooks import calls_here

CHANNELS_FILE = "channels.json"  # of the home
LARGEST_CHANNELS = 64 << 10  # bytes
PUBLISH_URL = f"http://{ADDRESS}/v1/projects/{LOCAL}/topics/{REPORTS_TOPIC}:publish"


def _silent(what: str, done: int, total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class LocalBackend(Backend):
    """The backend of this machine. Close it, or use it as a context manager."""

    home: Path
    catalogue: Catalogue
    queue: LocalBus  # what `bus` is, with its reading end
    machines: Machines
    reserve: Reserve
    events: LocalStore  # what `store` is
    _closing: ExitStack = field(repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()


def open_one_machine(home: Path, progress: Progress | None = None, concurrency: int | None = None) -> LocalBackend:
    """Open the backend whose state is below `home`; the folder is made where it does not exist.

    With `concurrency`, the builds of this process wait while so many have VMs.
    """
    with ExitStack() as stack:
        reserve = Reserve(home)
        database = stack.enter_context(_database(home / "state.db", reserve))
        queue = LocalBus(database, partial(_follow, home))
        stack.callback(queue.close)
        clock, store = SystemClock(), LocalStore(database)
        catalogue = Catalogue(home, clock)
        machines = stack.enter_context(Machines(home, queue.publish))
        return LocalBackend(
            compute=LocalCompute(home, catalogue, machines, clock),
            store=store,
            bucket=LocalBucket(home),
            bus=queue,
            clock=clock,
            keys=Keys(master_key(home)),
            reports=ReportTarget(PUBLISH_URL, None),
            logs=str(home / "builds" / "{build_id}" / "logs"),
            progress=progress or _silent,
            adopted_families=(ALL_FAMILIES,),  # whose else should they be?
            concurrency=concurrency,
            channels=partial(_home_channels, home),
            signer=SigningKey(home),
            home=home,
            catalogue=catalogue,
            queue=queue,
            machines=machines,
            reserve=reserve,
            events=store,
            _closing=stack.pop_all(),
        )


def _follow(home: Path, finished: Message) -> Sequence[Message]:
    """Return what a finished build leads to."""
    return (*calls_here(home, finished), *traces_here(finished, os.environ))


def _database(path: Path, reserve: Reserve) -> Database:
    """Open the state; on a full disk in the reserve's place, so that what is large can be ended and deleted."""
    try:
        return Database(path)
    except NoSpace:
        if not reserve.give_up():
            raise
        return Database(path)


def _home_channels(home: Path) -> Channels:
    """Read the channels of a home. InputError has a line for each fault, with the file and the key."""
    path = home / CHANNELS_FILE
    try:
        data, _ = read_plain(path, LARGEST_CHANNELS + 1)
        text = data.decode("utf-8")
    except FileNotFoundError:
        return no_channels()
    except NoPlainFile as error:
        raise InputError(f"{path} is no plain file; write the channels into one") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; make it a plain file that you may read") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; correct it") from error
    if len(data) > LARGEST_CHANNELS:
        raise InputError(f"{path} has more than {LARGEST_CHANNELS >> 10} KiB; make it smaller")
    try:
        return read_channels(text)
    except InputError as error:
        raise InputError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from error
