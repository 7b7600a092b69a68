"""The webhooks of this machine: told at the end of a build, tried again by later commands, and never in their way."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.build.build import Build, Outcome, State
from shared.build.orders import Order
from shared.engine.messages import order_message
from shared.errors import InputError
from shared.runtime.followers.webhooks import CALLS_PATIENCE, FILE, LARGEST_FILE, home_webhooks, make_calls
from shared.runtime.one_machine import LocalBackend, open_one_machine
from shared.webhooks.calls import line_of
from tests.shared.webhooks.receiver import Receiver, receiver
from tests.world import values

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as kept:
        yield kept


def write(home: Path, **urls: str) -> None:
    home.mkdir(exist_ok=True)
    (home / FILE).touch(mode=0o600)
    (home / FILE).write_text(json.dumps({name: {"url": url, "secret": SECRET} for name, url in urls.items()}))


def announce(backend: LocalBackend, **changes: object) -> Build:
    done = values.build(**{"state": State.FINISHED, "outcome": Outcome.SUCCEEDED, **changes})
    backend.bus.publish(order_message(Order(done.id, 9, "announce", 1), done))
    return done


def call(backend: LocalBackend) -> None:
    make_calls(backend.home, backend.queue, backend.logs, backend.clock)


def waiting(backend: LocalBackend, name: str) -> int:
    return backend.queue.pending(line_of(name))


def test_each_webhook_is_told_once(tmp_path: Path, there: Receiver) -> None:
    write(tmp_path / "home", ci=there.url, other=there.url)
    with open_one_machine(tmp_path / "home") as backend:
        announce(backend)
        assert (waiting(backend, "ci"), waiting(backend, "other")) == (1, 1)
        call(backend)
        call(backend)
        assert (waiting(backend, "ci"), waiting(backend, "other")) == (0, 0)
        assert len(backend.queue.announcements()) == 1
    assert [json.loads(body)["data"]["build"] for body in there.bodies] == [values.BUILD_ID] * 2


def test_a_receiver_that_comes_back_in_time_is_told_by_the_same_command(tmp_path: Path, there: Receiver) -> None:
    write(tmp_path / "home", ci=there.url)
    there.answers += [503]
    with open_one_machine(tmp_path / "home") as backend:
        announce(backend)
        call(backend)
        assert waiting(backend, "ci") == 0
    assert len(there.got) == 2


def test_what_a_killed_process_has_left_is_made_by_the_next_one(tmp_path: Path, there: Receiver) -> None:
    write(tmp_path / "home", ci=there.url)
    with open_one_machine(tmp_path / "home") as backend:
        announce(backend)
    with open_one_machine(tmp_path / "home") as backend:
        call(backend)
    assert len(there.got) == 1


def test_a_receiver_that_does_not_want_it_is_not_asked_again(
    tmp_path: Path, there: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "home", ci=there.url)
    there.answers += [410]
    with open_one_machine(tmp_path / "home") as backend:
        announce(backend)
        call(backend)
        assert waiting(backend, "ci") == 0
    assert "webhook ci at 127.0.0.1: answers with status 410" in caplog.text
    assert there.url not in caplog.text


def test_a_home_without_webhooks_has_no_calls(tmp_path: Path) -> None:
    with open_one_machine(tmp_path / "home") as backend:
        announce(backend)
        call(backend)
        assert len(backend.queue.announcements()) == 1


def test_a_file_that_has_gone_bad_meanwhile_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "home", ci="https://ci.example.com/")
    with open_one_machine(tmp_path / "home") as backend:
        (tmp_path / "home" / FILE).write_text("{")
        with caplog.at_level(logging.WARNING):
            announce(backend)
            call(backend)
        assert len(backend.queue.announcements()) == 1
    assert "no webhook is told that build hello-0123456789ab has finished" in caplog.text


@pytest.mark.parametrize(
    ("content", "mode", "fault"),
    [
        (b"{}", 0o644, "can be read by others, and has secrets in it; protect it with: chmod 600"),
        (b"\xff", 0o600, "not UTF-8 at byte 0"),
        (b" " * (LARGEST_FILE + 1), 0o600, "has more than 64 KiB"),
        (b'{"ci": {}}', 0o600, f"{FILE}: ci.url: is missing"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_by_its_path(tmp_path: Path, content: bytes, mode: int, fault: str) -> None:
    (tmp_path / FILE).write_bytes(content)
    (tmp_path / FILE).chmod(mode)
    with pytest.raises(InputError) as told:
        home_webhooks(tmp_path)
    assert fault in str(told.value)
    assert str(told.value).startswith(str(tmp_path / FILE))


def test_a_pipe_or_a_folder_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / FILE, 0o600)
    with pytest.raises(InputError, match="is no plain file"):
        home_webhooks(tmp_path)
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    with pytest.raises(InputError, match="is no plain file"):
        home_webhooks(tmp_path)


def test_calls_of_a_webhook_that_was_taken_out_go_with_it(tmp_path: Path, there: Receiver) -> None:
    """Another one of that name, at another address, must not get what the first was to be told."""
    home = tmp_path / "home"
    write(home, ci="https://ci.example.com/")
    with open_one_machine(home) as backend:
        announce(backend)
        write(home, other=there.url)
        call(backend)
        assert waiting(backend, "ci") == 0
        write(home, ci=there.url)
        call(backend)
    assert there.got == []


def test_many_calls_to_a_receiver_that_is_down_hold_up_one_command_for_seconds(tmp_path: Path, there: Receiver) -> None:
    write(tmp_path / "home", ci=there.url)
    there.answers += [503] * 1000
    with open_one_machine(tmp_path / "home") as backend:
        for number in range(30):
            announce(backend, id=f"hello-{number:012}")
        began = time.monotonic()
        call(backend)
        assert time.monotonic() - began < 6 * CALLS_PATIENCE
        assert waiting(backend, "ci") == 30


def test_a_home_with_braces_in_its_path(tmp_path: Path, there: Receiver) -> None:
    home = tmp_path / "{home}"
    write(home, ci=there.url)
    with open_one_machine(home) as backend:
        announce(backend)
        call(backend)
    [body] = there.bodies
    assert "/{home}/builds/hello-0123456789ab/logs" in json.loads(body)["data"]["logs"]


def test_two_commands_at_once_make_one_call(tmp_path: Path, there: Receiver) -> None:
    write(tmp_path / "home", ci=there.url)
    with open_one_machine(tmp_path / "home") as one, open_one_machine(tmp_path / "home") as two:
        announce(one)
        threads = [threading.Thread(target=call, args=(backend,)) for backend in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(there.got) == 1
