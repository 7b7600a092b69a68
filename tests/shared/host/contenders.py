"""Other processes that use the same database, for the tests of store and bus.

They are forked from a small server that has the imports done, so that one costs milliseconds.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from shared.errors import Conflict
from shared.local.bus import LocalBus
from shared.local.database import Database
from shared.local.store import LocalStore
from shared.ports import Message
from tests.world import values

_PROCESSES = multiprocessing.get_context("forkserver")

Work = Callable[[Path, Connection], None]


@contextmanager
def other_process(work: Work, path: Path) -> Iterator[tuple[BaseProcess, Any]]:
    """Run work(path, pipe) in a process of its own; give it and our end of the pipe. It is killed in the end."""
    ours, theirs = _PROCESSES.Pipe()
    process = _PROCESSES.Process(target=work, args=(path, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield process, ours
    finally:
        process.kill()
        process.join(60)
        process.close()
        ours.close()


def hear(pipe: Connection) -> Any:
    """Return the next thing said; a process that says nothing for two minutes has failed."""
    assert pipe.poll(120), "the other process says nothing"
    return pipe.recv()


def count_up(path: Path, pipe: Connection) -> None:
    """Raise a build's number of orders without end, an event each time; tell every number that is written."""
    with Database(path) as database:
        store = LocalStore(database)
        while True:
            stored = store.load(values.BUILD_ID)
            orders = stored.build.orders + 1
            store.save(replace(stored.build, orders=orders), stored.version, values.ticked(event_id=f"tick-{orders}"))
            pipe.send(orders)


def add_events(path: Path, pipe: Connection) -> None:
    """Write 25 events of the name that is told, starting again whenever another process was first."""
    name = hear(pipe)
    with Database(path) as database:
        store = LocalStore(database)
        for number in range(25):
            while True:
                stored = store.load(values.BUILD_ID)
                event = values.ticked(event_id=f"{name}-{number}")
                try:
                    store.save(replace(stored.build, orders=stored.build.orders + 1), stored.version, event)
                except Conflict:
                    continue
                break
        pipe.send("done")


def hold_a_message(path: Path, pipe: Connection) -> None:
    """Take a message, tell its number, and never finish with it."""
    with Database(path) as database:
        delivery = LocalBus(database).receive(build_id=values.BUILD_ID, seconds=60)
        pipe.send(delivery and delivery.id)
        pipe.recv()


def publish_when_told(path: Path, pipe: Connection) -> None:
    """Publish what is told, as it is told, and say so."""
    with Database(path) as database:
        bus = LocalBus(database)
        pipe.send("ready")
        while True:
            message: Message = pipe.recv()
            bus.publish(message)
            pipe.send("published")


def receive_all(path: Path, pipe: Connection) -> None:
    """Receive a build's messages until none comes for half a second; tell their data."""
    got = []
    with Database(path) as database:
        bus = LocalBus(database)
        while (delivery := bus.receive(build_id=values.BUILD_ID, seconds=0.5)) is not None:
            got.append(delivery.message.data)
            delivery.acknowledge()
    pipe.send(got)
