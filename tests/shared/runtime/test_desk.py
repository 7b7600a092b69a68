"""What people ask for in the dashboard of one machine is done at once, in the account's name."""

from __future__ import annotations

import time
from pathlib import Path

from shared.build.build import Build, Outcome, State
from shared.host.build_folder import BuildFolder
from shared.people.targets import seen_of_build
from shared.person_requests import PersonRequest, PersonRequestKind
from shared.planning.retries import retry_id
from shared.runtime.builds import LocalBuilds
from shared.runtime.desk import LocalDesk
from shared.runtime.images import account_name
from shared.runtime.one_machine import LocalBackend
from tests.shared.runtime.test_builds import left
from tests.shared.runtime.test_retried_builds import fail
from tests.world.values import BUILD_ID

WAITS = 60.0  # seconds


def ask(backend: LocalBackend, kind: PersonRequestKind, build: Build, key: str = "ab" * 16) -> PersonRequest:
    desk = LocalDesk(backend)
    by = desk.who({})
    seen = seen_of_build(build)
    desk.send(PersonRequest(key, kind, build.id, by, "it hangs", time.time(), seen=seen))
    known = backend.store.person_request(key)
    assert known is not None
    assert known.by == account_name()
    return known


def test_a_build_that_a_killed_process_has_left_is_cancelled(backend: LocalBackend) -> None:
    left(backend, State.PROVISIONING)
    done = ask(backend, "cancel", backend.store.load(BUILD_ID).build)
    assert (done.state, done.told) == ("done", f"build {BUILD_ID} is cancelled")
    ended = backend.store.load(BUILD_ID).build
    assert (ended.outcome, ended.reason) == (Outcome.CANCELLED, f"cancelled by {account_name()}: it hangs")


def test_a_retry_begins_and_runs_beside_the_dashboard(
    backend: LocalBackend, folder: BuildFolder, tmp_path: Path
) -> None:
    first = fail(backend, LocalBuilds(backend), folder, tmp_path)
    (tmp_path / "out").unlink()
    done = ask(backend, "retry", first)
    again = retry_id(first)
    assert (done.state, done.told) == ("done", f"build {again} goes on with it")
    cancelled = ask(backend, "cancel", backend.store.load(again).build, "cd" * 16)
    assert cancelled.told == f"build {again} is being ended by its own process"
    give_up = time.monotonic() + WAITS
    while not (build := backend.store.load(again).build).ended:
        assert time.monotonic() < give_up, build.state
        time.sleep(0.1)
    assert (build.retry_of, build.outcome) == (first.id, Outcome.CANCELLED)


def test_a_retry_that_cannot_be_says_why(backend: LocalBackend) -> None:
    left(backend, State.PROVISIONING)
    done = ask(backend, "retry", backend.store.load(BUILD_ID).build)
    assert (done.state, "it can be retried once it has ended" in done.told) == ("failed", True)
