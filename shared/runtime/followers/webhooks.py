"""The webhooks of this machine: webhooks.json of the home, and the calls that wait in the home's queue.

A call is put into the queue in the write that announces a build, and stays there until its receiver has it, or has been
tried too often. It is made at the end of the build, and, where that does not work, at the end of later ones.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import GoldsmithError, InputError, NoSpace, Permanent, PoisonMessage, Transient
from ...host.secret_file import NoPlainFile, read_plain
from ...ports import Message
from ...topology import WEBHOOKS_TOPIC

if TYPE_CHECKING:
    from ...local.bus import LeasedMessage, LocalBus
    from ...ports import Clock
    from ...webhooks.webhook import Webhook

LOG = logging.getLogger(__name__)

FILE = "webhooks.json"
LARGEST_FILE = 64 << 10  # bytes
MOST_TRIES = 20  # of one call
LONGEST_DELAY = 600.0  # seconds between two of them, at least
CALLS_PATIENCE = 5.0  # seconds for which the end of a build waits for calls that are tried again

CallNote = Callable[[Message, str, float, float, str | None], None]
"""Is told of each call: the message, the webhook's name, beginning and end in Unix seconds, and why it failed."""


def home_webhooks(home: Path) -> tuple[Webhook, ...]:
    """Read the webhooks of a home; () where it has none. InputError names file and key."""
    path = home / FILE
    try:
        data = _private_content(path)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; make it a plain file that you may read") from error
    from ...webhooks.webhook import read_webhooks

    try:
        return read_webhooks(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; correct it") from error
    except InputError as error:
        raise InputError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from error


def _private_content(path: Path) -> bytes:
    """Read a small plain file that only its owner can read. InputError, OSError."""
    try:
        data, mode = read_plain(path, LARGEST_FILE + 1)
    except NoPlainFile:
        raise InputError(f"{path} is no plain file; write the webhooks into one") from None
    if mode & 0o077:
        raise InputError(f"{path} can be read by others, and has secrets in it; protect it with: chmod 600 {path}")
    if len(data) > LARGEST_FILE:
        raise InputError(f"{path} has more than {LARGEST_FILE >> 10} KiB; make it smaller")
    return data


def calls_here(home: Path, finished: Message) -> Sequence[Message]:
    """Return the calls that a finished build of this machine leads to; with a file that cannot be read, none."""
    try:
        hooks = home_webhooks(home)
    except InputError as error:
        LOG.warning("no webhook is told that build %s has finished: %s", finished.ordering_key, error)
        return ()
    if not hooks:
        return ()
    from ...webhooks.calls import calls_of

    return tuple(calls_of(finished, hooks))


def make_calls(home: Path, queue: LocalBus, logs: str, clock: Clock, note: CallNote | None = None) -> None:
    """Make the calls that wait, each webhook's on a thread of its own. Faults are logged, and none is raised.

    `logs` has {build_id} in it, and is where the consoles of a build's machines are. `note` is called on those threads.
    """
    try:
        hooks = home_webhooks(home)
    except InputError as error:
        LOG.warning("%s", error)
        return
    from ...webhooks.calls import line_of

    queue.forget_lines(WEBHOOKS_TOPIC, keep=[line_of(hook.name) for hook in hooks])
    if not hooks:
        return
    with ThreadPoolExecutor(len(hooks), thread_name_prefix="webhook") as pool:
        for hook in hooks:
            pool.submit(_of_one, hook, queue, logs, clock, note)


def _of_one(hook: Webhook, queue: LocalBus, logs: str, clock: Clock, note: CallNote | None) -> None:
    """Make the calls of one webhook, one after the other, until none is due any more."""
    try:
        for waiting in _due(hook, queue):
            _try(waiting, hook, logs, clock, note)
    except NoSpace as error:
        LOG.warning("webhook %s: %s", hook.name, error)
    except GoldsmithError as error:
        LOG.warning("%s", error)


def _due(hook: Webhook, queue: LocalBus) -> Iterator[LeasedMessage]:
    from ...webhooks.calls import line_of

    line, end = line_of(hook.name), time.monotonic() + CALLS_PATIENCE
    tried = False
    while queue.pending(line):
        if tried and time.monotonic() >= end:
            LOG.warning("webhook %s: calls are left; the next build, or goldsmith sweep, makes them", hook.name)
            return
        waiting = queue.receive(build_id=line, seconds=max(0.0, end - time.monotonic()))
        if waiting is None:
            LOG.warning("webhook %s: calls are left; the next build, or goldsmith sweep, makes them", hook.name)
            return
        yield waiting
        tried = True


def _try(waiting: LeasedMessage, hook: Webhook, logs: str, clock: Clock, note: CallNote | None) -> None:
    from ...webhooks.calls import make_call

    start, failure = clock.now(), None
    try:
        make_call(waiting.message, (hook,), logs, start)
    except Transient as error:
        failure = str(error)
        if waiting.attempt < MOST_TRIES:
            LOG.info("%s", error)
            waiting.retry(min(2.0**waiting.attempt, LONGEST_DELAY))
            return
        LOG.warning("given up after %d tries: %s", waiting.attempt, error)
    except (Permanent, PoisonMessage) as error:
        failure = str(error)
        LOG.warning("%s", error)
    except Exception:
        failure = "internal fault"
        LOG.exception("webhook %s: internal fault; it is not told of this build", hook.name)
    finally:
        if note is not None:
            note(waiting.message, hook.name, start, clock.now(), failure)
    waiting.acknowledge()
