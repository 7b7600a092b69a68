"""The bus on this machine: a durable queue in SQLite, one line per build.

publish() is the port. The rest is for the one process that carries a build out: it receives, in the order of
publishing, whatever is meant for that build, on every topic. A message stays until it is acknowledged. While it is
being worked on, its row names the bus that holds it, and by that the process; the messages of a process that was
killed are delivered again, to the next process, at once.

What VMs say is not trusted: so many reports of one build may wait, and so many bytes of them, and no more.

Finished builds' announcements have no receiver of their own here: the newest 1,000 are kept for readers. What they lead
to is published with them.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..errors import LineFull
from ..host.processes import is_alive, this_process
from ..ports import Message
from ..topology import FINISHED_TOPIC, REPORTS_TOPIC
from .database import Database

ANNOUNCEMENTS_KEPT = 1000
REPORTS_WAITING = 1000  # of one build
BYTES_WAITING = 4 << 20  # of them: the largest honest report has 640 KiB

_POLL = 0.1  # seconds between looks for what other processes publish; a look is one indexed SELECT, 0.15 ms


@dataclass(frozen=True)
class LeasedMessage:
    """A message that is this process's to work on, until it is acknowledged or given back."""

    message: Message
    id: int
    attempt: int  # 1 for the first delivery, counting those whose holder died
    _bus: LocalBus = field(repr=False, compare=False)

    def acknowledge(self) -> None:
        """Acknowledge the message, which removes it."""
        self._bus._acknowledge(self.id)  # the two halves of one thing; no other code may call it

    def retry(self, delay: float) -> None:
        """Return the message to the queue, to be delivered again after `delay` seconds."""
        self._bus._give_back(self.id, delay)


class LocalBus:
    """Messages by build. Thread-safe; any number of processes may use the same database at once."""

    def __init__(self, database: Database, follow: Callable[[Message], Sequence[Message]] = lambda _: ()) -> None:
        """`follow` gives the messages that an announcement leads to, which are published in the same write."""
        self._database = database
        self._follow = follow
        self._process = this_process()
        self._holder = f"{self._process}#{secrets.token_hex(4)}"
        self._arrival = threading.Condition()
        self._arrivals = 0

    def publish(self, message: Message) -> None:
        """Put a message in the line of the build that its ordering key names. It outlives this process.

        LineFull for a report that has to wait until some of its build are read.
        """
        announced = message.topic == FINISHED_TOPIC
        sent = self._follow(message) if announced else (message,)
        with self._database.transaction() as connection:
            if announced:
                _announce(connection, message)
            elif message.topic == REPORTS_TOPIC:
                _refuse_flood(connection, message)
            connection.executemany(
                "INSERT INTO messages (build_id, topic, attributes, data) VALUES (?, ?, ?, ?)",
                [(each.ordering_key, each.topic, json.dumps(dict(each.attributes)), each.data) for each in sent],
            )
        self._notify()

    def receive(self, *, build_id: str, seconds: float) -> LeasedMessage | None:
        """Wait up to `seconds` for a build's next message, and hold it; None when there is none.

        Oldest first; those that others hold, or whose delay has not passed, are left out.
        """
        end = time.monotonic() + seconds
        while True:
            seen = self._arrivals  # before the look: what arrives after the look must not be slept through
            delivery = self._take(build_id)
            left = end - time.monotonic()
            if delivery is not None or left <= 0:
                return delivery
            with self._arrival:
                self._arrival.wait_for(lambda: self._arrivals != seen, min(left, _POLL))  # noqa: B023 - called here only

    def pending(self, build_id: str) -> int:
        """Count a build's messages that are not acknowledged, held and delayed ones too."""
        count: int = self._database.read("SELECT count(*) FROM messages WHERE build_id = ?", (build_id,))[0][0]
        return count

    def forget(self, build_id: str) -> None:
        """Drop all messages of a build that is finished."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM messages WHERE build_id = ?", (build_id,))

    def forget_lines(self, topic: str, keep: Sequence[str]) -> None:
        """Drop the messages of a topic in all lines but some, when the others have no receiver any more."""
        lines = {
            line for (line,) in self._database.read("SELECT DISTINCT build_id FROM messages WHERE topic = ?", (topic,))
        }
        if gone := sorted(lines - set(keep)):
            with self._database.transaction() as connection:
                connection.executemany(
                    "DELETE FROM messages WHERE topic = ? AND build_id = ?", [(topic, line) for line in gone]
                )

    def announcements(self) -> Sequence[Message]:
        """Return the newest announcements of finished builds, oldest of them first."""
        rows = self._database.read("SELECT data, attributes, build_id FROM announcements ORDER BY id")
        return [Message(FINISHED_TOPIC, data, json.loads(attributes), key) for data, attributes, key in rows]

    def close(self) -> None:
        """Return to the queue, without a delay, the messages that this bus still holds."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE messages SET holder = NULL WHERE holder = ?", (self._holder,))

    def _take(self, build_id: str) -> LeasedMessage | None:
        rows = self._database.read(
            "SELECT id, holder FROM messages WHERE build_id = ? AND not_before <= ? ORDER BY id",
            (build_id, time.time()),
        )
        for number, holder in rows:
            if not self._is_held(holder):
                delivery = self._hold(number, holder)
                if delivery is not None:
                    return delivery
        return None

    def _is_held(self, holder: str | None) -> bool:
        if holder is None:
            return False
        process = holder.partition("#")[0]
        return process == self._process or is_alive(process)

    def _hold(self, number: int, holder: str | None) -> LeasedMessage | None:
        """Take a message that no process holds, or that a dead one held; None when another process was faster."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "UPDATE messages SET holder = ?, deliveries = deliveries + 1 WHERE id = ? AND holder IS ?"
                " RETURNING topic, data, attributes, build_id, deliveries",
                (self._holder, number, holder),
            ).fetchall()
        if not rows:
            return None
        topic, data, attributes, build_id, deliveries = rows[0]
        return LeasedMessage(Message(topic, data, json.loads(attributes), build_id), number, deliveries, self)

    def _acknowledge(self, number: int) -> None:
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM messages WHERE id = ? AND holder = ?", (number, self._holder))

    def _give_back(self, number: int, delay: float) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE messages SET holder = NULL, not_before = ? WHERE id = ? AND holder = ?",
                (time.time() + delay, number, self._holder),
            )
        self._notify()

    def _notify(self) -> None:
        with self._arrival:
            self._arrivals += 1
            self._arrival.notify_all()


def _announce(connection: sqlite3.Connection, message: Message) -> None:
    connection.execute(
        "INSERT INTO announcements (build_id, attributes, data) VALUES (?, ?, ?)",
        (message.ordering_key, json.dumps(dict(message.attributes)), message.data),
    )
    connection.execute(
        "DELETE FROM announcements WHERE id <= (SELECT max(id) FROM announcements) - ?", (ANNOUNCEMENTS_KEPT,)
    )


def _refuse_flood(connection: sqlite3.Connection, message: Message) -> None:
    """Raise LineFull when the reports of a build that wait are as many, or as large, as they may be."""
    query = "SELECT count(*), total(length(data)) FROM messages WHERE build_id = ? AND topic = ?"
    count, size = connection.execute(query, (message.ordering_key, REPORTS_TOPIC)).fetchone()
    if count >= REPORTS_WAITING or size + len(message.data) > BYTES_WAITING:
        raise LineFull(f"build {message.ordering_key}: {count} reports of {size / 1e6:.1f} MB wait to be read already")
