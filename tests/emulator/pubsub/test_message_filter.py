"""Pub/Sub's filters, as its page on filtering has them."""

from __future__ import annotations

import pytest

from emulator.pubsub.message_filter import message_filter
from shared.build.orders import ORDER_KINDS
from shared.topology import SUBSCRIPTIONS


@pytest.mark.parametrize(
    ("text", "attributes", "expected"),
    [
        ("", {}, True),
        ('attributes.order = "clean_up"', {"order": "clean_up"}, True),
        ('attributes.order="clean_up"', {"order": "clean"}, False),
        ('attributes.order = "clean_up"', {}, False),
        ('attributes.order != "clean_up"', {}, True),
        ('attributes.order != "clean_up"', {"order": "clean_up"}, False),
        ("attributes:order", {"order": ""}, True),
        ("attributes:order", {"orders": ""}, False),
        ('attributes:"a b"', {"a b": ""}, True),
        ('hasPrefix(attributes.order, "cl")', {"order": "clean_up"}, True),
        ('hasPrefix(attributes.order, "")', {}, False),
        ('hasPrefix(attributes.order, "up")', {"order": "clean_up"}, False),
        ("NOT attributes:order", {}, True),
        ("-attributes:order", {"order": ""}, False),
        ('attributes.a = "1" AND attributes.b = "2"', {"a": "1", "b": "2"}, True),
        ('attributes.a = "1" AND attributes.b = "2"', {"a": "1"}, False),
        ('attributes.a = "1" OR attributes.b = "2"', {"b": "2"}, True),
        ('(attributes.a = "1" OR attributes:b) AND NOT attributes:c', {"b": "", "c": ""}, False),
        ('attributes.a = "say \\"hi\\" and a \\\\"', {"a": 'say "hi" and a \\'}, True),
    ],
)
def test_what_passes(text: str, attributes: dict[str, str], expected: bool) -> None:
    assert message_filter(text)(attributes) is expected


@pytest.mark.parametrize(
    "text",
    [
        "attributes.order",
        "attributes.order = clean_up",
        'order = "clean_up"',
        'attributes.a = "1" AND',
        'attributes.a = "1" AND attributes:b OR attributes:c',
        '(attributes.a = "1"',
        'attributes.a = "1" attributes:b',
        'attributes.a > "1"',
        'attributes.a = "1',
        "NOT " * 1000 + "attributes:a",
        "(" * 257,
    ],
)
def test_what_is_no_filter(text: str) -> None:
    with pytest.raises(ValueError, match="filter"):
        message_filter(text)


def test_each_order_goes_to_one_worker() -> None:
    filters = [message_filter(each.filter) for each in SUBSCRIPTIONS if each.filter]
    for kind in ORDER_KINDS:
        assert sum(passes({"order": kind}) for passes in filters) == (kind != "announce")
