"""Webhooks as people write them."""

import base64
import json

import pytest

from shared.build.build import Outcome
from shared.errors import InputError
from shared.webhooks.webhook import MOST_WEBHOOKS, Webhook, read_webhooks

KEY = b"0123456789abcdef01234567"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
CI = {"url": "https://ci.example.com/hook?x=1", "secret": SECRET}


def test_what_is_left_out_has_its_default() -> None:
    [ci] = read_webhooks(json.dumps({"ci": CI}))
    assert ci == Webhook("ci", "https://ci.example.com/hook?x=1", "json", tuple(Outcome), KEY)


def test_a_chat_needs_no_secret_and_may_want_some_outcomes_alone() -> None:
    chat = {"url": "https://hooks.slack.com/services/T/B/X", "format": "slack", "outcomes": ["failed", "timed_out"]}
    found = read_webhooks(json.dumps({"chat": chat, "a": CI}))
    assert [hook.name for hook in found] == ["a", "chat"]
    assert (found[1].format, found[1].outcomes, found[1].secret) == (
        "slack",
        (Outcome.FAILED, Outcome.TIMED_OUT),
        None,
    )


def test_no_text_shows_what_is_secret() -> None:
    shown = repr(read_webhooks(json.dumps({"ci": CI})))
    assert "example.com" not in shown
    assert KEY.decode() not in shown


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "not JSON"),
        ("[]", "not an object"),
        (json.dumps({f"w{number}": CI for number in range(MOST_WEBHOOKS + 1)}), "21 webhooks; 20 are the most"),
        (json.dumps({"CI!": CI}), "'CI!' is no name"),
        (json.dumps({"ci": 7}), "'ci' is not an object"),
        (json.dumps({"ci": {**CI, "urls": 1}}), "ci.urls: unknown key; write one of url, format, outcomes, secret"),
        (json.dumps({"ci": {"secret": SECRET}}), "ci.url: is missing"),
        (json.dumps({"ci": {**CI, "url": "https://[::1"}}), "ci.url: is missing, or no URL"),
        (json.dumps({"ci": {**CI, "url": "https://a b/"}}), "ci.url: is missing, or no URL"),
        (json.dumps({"ci": {**CI, "url": "https://x:port/"}}), "ci.url: is missing, or no URL"),
        (json.dumps({"ci": {**CI, "url": "http://ci.example.com/"}}), "ci.url: is not https"),
        (json.dumps({"ci": {**CI, "url": "file:///etc/passwd"}}), "ci.url: is missing, or no URL"),
        (json.dumps({"ci": {**CI, "url": "ftp://ci.example.com/"}}), "ci.url: is not https"),
        (json.dumps({"ci": {**CI, "url": "https://u:p@ci.example.com/"}}), "ci.url: has a user"),
        (json.dumps({"ci": {**CI, "format": "teams"}}), "ci.format: write one of json, slack"),
        (json.dumps({"ci": {**CI, "outcomes": ["good"]}}), "ci.outcomes: write a list of some of succeeded"),
        (json.dumps({"ci": {**CI, "outcomes": []}}), "ci.outcomes: write a list"),
        (json.dumps({"ci": {"url": CI["url"]}}), "ci.secret: is missing"),
        (json.dumps({"ci": {**CI, "secret": "whsec_c2hvcnQ="}}), "ci.secret: is no secret of 24 to 64 bytes"),
        (json.dumps({"ci": {**CI, "secret": 5}}), "ci.secret: is no secret"),
    ],
)
def test_each_fault_is_told_by_its_key(text: str, fault: str) -> None:
    with pytest.raises(InputError) as told:
        read_webhooks(text)
    assert fault in str(told.value)
    assert KEY.decode() not in str(told.value)
    assert "/hook" not in str(told.value)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(InputError) as told:
        read_webhooks(json.dumps({"ci": {"url": "x", "format": "y", "outcomes": 1}, "B": CI}))
    assert [line.split()[0] for line in str(told.value).splitlines()] == [
        "'B'",
        "ci.format:",
        "ci.url:",
        "ci.outcomes:",
    ]
