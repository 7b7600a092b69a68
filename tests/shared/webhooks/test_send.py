"""What is sent and signed, and what each answer means."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.build.build import Build, Outcome, State
from shared.build.orders import Order
from shared.engine.messages import order_message
from shared.errors import Permanent, PoisonMessage, Transient
from shared.ports import Message
from shared.webhooks.body import webhook_body
from shared.webhooks.calls import calls_of, make_call
from shared.webhooks.send import send, signature
from shared.webhooks.webhook import Webhook
from tests.shared.webhooks.receiver import Receiver, receiver
from tests.world import values

ROOT = Path(__file__).parents[3]
SECRET = b"0123456789abcdef01234567"
NOW = values.NOON + 90.5


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as kept:
        yield kept


def finished(**changes: object) -> Build:
    given = {
        "state": State.FINISHED,
        "outcome": Outcome.SUCCEEDED,
        "updated": values.NOON + 61,
        "image": values.image_record(),
        **changes,
    }
    return values.build(**given)


def announcement(build: Build) -> Message:
    return order_message(Order(build.id, 9, "announce", 1), build)


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of its own documentation."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    assert signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == (
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


def test_a_call_is_signed_and_has_the_same_id_each_time(there: Receiver) -> None:
    hook = Webhook("ci", there.url, secret=SECRET)
    [call] = calls_of(announcement(finished()), [hook])
    for now in (NOW, NOW + 600):
        make_call(call, [hook], "/logs/{build_id}", now)
    (first, body), (second, again) = there.got
    assert first["webhook-id"] == second["webhook-id"] == f"{values.BUILD_ID}.1795176000"
    assert body == again
    signed = b".".join((first["webhook-id"].encode(), first["webhook-timestamp"].encode(), body))
    expected = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    assert first["webhook-signature"] == f"v1,{expected}"
    assert (first["content-type"], first["webhook-timestamp"]) == ("application/json", "1795176090")


def test_the_document_is_the_result(there: Receiver) -> None:
    document = json.loads(webhook_body(finished(reason=""), "json", "/logs/x"))
    assert (document["type"], document["timestamp"]) == ("build.finished", "2026-11-20T12:01:01Z")
    data = document["data"]
    assert (data["build"], data["outcome"], data["family"]) == (values.BUILD_ID, "succeeded", "hello")
    assert (data["image"]["name"], data["logs"]) == (values.image_record().name, "/logs/x")


def test_a_message_of_a_chat_says_what_and_why_and_mentions_nobody() -> None:
    body = json.loads(
        webhook_body(finished(outcome=Outcome.FAILED, reason="<!channel> ``` & <http://x|y>"), "slack", "/l")
    )
    assert body["text"] == "hello: failed"
    text = body["blocks"][0]["text"]["text"]
    assert text.splitlines() == [
        ":x: *hello* failed after 1m1s",
        "```&lt;!channel&gt; ''' &amp; &lt;http://x|y&gt;```",
        f"Build `{values.BUILD_ID}`, logs: /l",
    ]
    good = json.loads(webhook_body(finished(), "slack", "/l"))["blocks"][0]["text"]["text"]
    assert "Image `local/hello-20261120` of family `hello`" in good


def test_only_outcomes_that_are_wanted_are_told() -> None:
    failures = Webhook("chat", "https://x/", "slack", (Outcome.FAILED,))
    all_of_them = Webhook("ci", "https://x/", secret=SECRET)
    good = list(calls_of(announcement(finished()), [failures, all_of_them]))
    assert [call.attributes["webhook"] for call in good] == ["ci"]
    bad = list(calls_of(announcement(finished(outcome=Outcome.FAILED)), [failures, all_of_them]))
    assert [call.attributes["webhook"] for call in bad] == ["chat", "ci"]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_what_may_pass_is_tried_again(there: Receiver, status: int) -> None:
    there.answers.append(status)
    with pytest.raises(Transient, match=f"webhook ci at 127.0.0.1: answers with status {status}"):
        send(Webhook("ci", there.url), "id", b"{}", NOW)


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 410])
def test_what_will_not_pass_is_given_up_and_no_redirect_is_followed(there: Receiver, status: int) -> None:
    there.answers.append(status)
    with pytest.raises(Permanent, match=f"status {status}") as told:
        send(Webhook("ci", there.url), "id", b"{}", NOW)
    assert len(there.got) == 1
    assert "/hook" not in str(told.value)


def test_no_proxy_gets_what_stays_on_this_machine(there: Receiver) -> None:
    """In the environment of a process of its own: the library reads it whenever it sends."""
    program = (
        "import sys; from shared.webhooks.send import send; from shared.webhooks.webhook import Webhook;"
        "send(Webhook('ci', sys.argv[1]), 'id', b'{}', 0.0)"
    )
    proxies = {"http_proxy": "http://127.0.0.1:9", "PATH": "/usr/bin"}
    subprocess.run([sys.executable, "-c", program, there.url], env=proxies, cwd=ROOT, check=True, timeout=60)
    assert there.bodies == [b"{}"]


def test_a_reason_full_of_signs_fits_into_a_message() -> None:
    failed = finished(outcome=Outcome.FAILED, reason="<&" * 5000)
    text = json.loads(webhook_body(failed, "slack", "/l"))["blocks"][0]["text"]["text"]
    assert len(text) < 3000
    assert text.count("&lt;&amp;") > 100


def test_nobody_there_is_tried_again() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/secret-path"
        with pytest.raises(Transient, match=r"webhook ci at 127\.0\.0\.1: cannot be reached") as told:
            send(Webhook("ci", url), "id", b"{}", NOW)
    assert "secret-path" not in str(told.value)


def test_a_receiver_that_never_ends_its_answer_holds_nobody_up(there: Receiver) -> None:
    there.silent.set()
    began = time.monotonic()
    with pytest.raises(Transient, match="gives no answer within 0 s"):
        send(Webhook("ci", there.url), "id", b"{}", NOW, patience=0.3)
    assert time.monotonic() - began < 5


def test_what_is_no_call_is_dropped() -> None:
    hook = Webhook("ci", "https://x/", secret=SECRET)
    [call] = calls_of(announcement(finished()), [hook])
    with pytest.raises(PoisonMessage, match="webhook 'ci', which there is not"):
        make_call(call, [], "", NOW)
    for data in (b"{", b"[]", b'{"version": 1}'):
        with pytest.raises(PoisonMessage, match="no finished build"):
            make_call(Message(call.topic, data, call.attributes, call.ordering_key), [hook], "", NOW)
