"""What people ask for in the dashboard of one machine: done at once, by what the commands do, in the account's name."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ..backend import Backend
from ..errors import GoldsmithError, InputError, Transient
from ..interruption import Interruption
from ..people.acts import image_acts, resume_triggers
from ..people.take import Act, take_person_request
from ..person_requests import PersonRequest, PersonRequestKind
from ..planning.requests import ask_to_cancel
from ..planning.retries import retry_id
from .builds import LocalBuilds
from .images import LocalImages, account_name
from .one_machine import open_one_machine

if TYPE_CHECKING:
    from .one_machine import LocalBackend

LOG = logging.getLogger(__name__)

BEGINS_WITHIN = 60.0  # seconds until a retry has begun


class LocalDesk:
    """Takes requests on an opened backend. A retry runs in a thread; if that dies, the next command cleans up."""

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend
        self._acts: Mapping[PersonRequestKind, Act] = {
            "cancel": self._cancel,
            "retry": self._retry,
            "resume": resume_triggers,
            **image_acts(LocalImages(backend).with_users),
        }

    def who(self, _headers: Mapping[str, str]) -> str:
        """Return the name of the account that runs this process."""
        return account_name()

    def send(self, asked: PersonRequest) -> None:
        """Do what is asked for. Passing."""
        take_person_request(asked, self._acts, self._backend)

    def _cancel(self, asked: PersonRequest, backend: Backend) -> str:
        ask_to_cancel(asked.target, f"cancelled by {asked.by}: {asked.reason}", backend.bus, backend.clock)
        ended = LocalBuilds(self._backend).resume(asked.target)
        return f"build {asked.target} is {ended.outcome if ended is not None else 'being ended by its own process'}"

    def _retry(self, asked: PersonRequest, _backend: Backend) -> str:
        begun: queue.Queue[GoldsmithError | str] = queue.Queue()
        threading.Thread(target=self._run_retry, args=(asked.target, begun), daemon=True).start()
        try:
            known = begun.get(timeout=BEGINS_WITHIN)
        except queue.Empty as error:
            raise Transient(f"the retry of build {asked.target} has not begun within {BEGINS_WITHIN:.0f} s") from error
        if isinstance(known, GoldsmithError):
            raise known
        return f"build {known} goes on with it"

    def _run_retry(self, build_id: str, begun: queue.Queue[GoldsmithError | str]) -> None:
        try:
            with open_one_machine(self._backend.home, concurrency=self._backend.concurrency) as own:
                builds = LocalBuilds(replace(own, family_concurrency=self._backend.family_concurrency))
                first = builds.store.load(build_id).build
                with builds.building(retry_id(first)) as ours:
                    if not ours:
                        raise InputError(f"build {build_id} is being retried already, as build {retry_id(first)}")
                    request = builds.retry_request(first, None, None)
                    ended = builds.run(request, lambda build, _event: begun.put(build.id), Interruption())
                    LOG.info("build %s, a retry of build %s, is %s", ended.id, build_id, ended.outcome)
        except GoldsmithError as error:
            begun.put(error)
            LOG.warning("the retry of build %s cannot go on: %s", build_id, error)
