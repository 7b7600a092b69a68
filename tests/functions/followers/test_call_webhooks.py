"""call_webhooks: a finished build leads to one message for each webhook, and each of those to one call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from shared.build.build import Outcome, State
from shared.build.orders import Order
from shared.engine.messages import order_message
from shared.ports import Message
from shared.topology import EVENTS_TOPIC, WEBHOOKS_TOPIC
from shared.webhooks.webhook import read_webhooks
from tests.functions.deployed import Deployment
from tests.shared.webhooks.receiver import Receiver, receiver
from tests.world import values

FUNCTION = "call_webhooks"


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as kept:
        yield kept


def deployment(there: Receiver) -> Deployment:
    made = Deployment()
    given = {
        "chat": {"url": there.url, "format": "slack", "outcomes": ["failed"]},
        "ci": {"url": there.url, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
    }
    settings = replace(made.backend.settings, webhooks=read_webhooks(json.dumps(given)))
    made.backend = replace(made.backend, settings=settings)
    return made


def announcement(outcome: Outcome) -> Message:
    build = values.build(state=State.FINISHED, outcome=outcome)
    return order_message(Order(build.id, 9, "announce", 1), build)


def test_each_webhook_gets_a_message_of_its_own_and_is_told_by_it(there: Receiver) -> None:
    made = deployment(there)
    assert made.push(FUNCTION, announcement(Outcome.FAILED)).status_code == 200
    calls = list(made.world.bus.published)
    assert [(call.topic, call.attributes["webhook"]) for call in calls] == [
        (WEBHOOKS_TOPIC, "chat"),
        (WEBHOOKS_TOPIC, "ci"),
    ]
    assert there.got == []
    assert [made.push(FUNCTION, call).status_code for call in calls] == [200, 200]
    assert [sorted(json.loads(body)) for body in there.bodies] == [["blocks", "text"], ["data", "timestamp", "type"]]


def test_what_may_pass_is_delivered_again_and_a_refusal_is_not(there: Receiver) -> None:
    made = deployment(there)
    made.push(FUNCTION, announcement(Outcome.SUCCEEDED))
    [call] = made.world.bus.published
    there.answers += [503, 410]
    assert [made.push(FUNCTION, call).status_code for _ in range(2)] == [500, 200]
    assert len(there.got) == 2


def test_other_messages_are_dropped(there: Receiver) -> None:
    made = deployment(there)
    for message in (Message(EVENTS_TOPIC, b"{}", {}, ""), Message(WEBHOOKS_TOPIC, b"{}", {"webhook": "gone"}, "")):
        assert made.push(FUNCTION, message).status_code == 200
    assert there.got == []


def test_a_deployment_without_webhooks_publishes_nothing() -> None:
    made = Deployment()
    assert made.push(FUNCTION, announcement(Outcome.FAILED)).status_code == 200
    assert list(made.world.bus.published) == []
