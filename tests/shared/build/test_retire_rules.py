"""The rules by which old images go away, as people write them."""

from __future__ import annotations

from typing import Any

import pytest

from shared.build.image.retire_rules import RetireRule, read_retire_rules
from shared.errors import InputError

DAY = 86400.0


def test_rules_are_read() -> None:
    rules = {"hello": {"older_than": "90d", "keep": 3}, "base": {"keep": 2}, "other": {"older_than": "1h30m"}}
    read = read_retire_rules(rules, "file")
    assert read == {"hello": RetireRule(90 * DAY, 3), "base": RetireRule(0.0, 2), "other": RetireRule(5400.0, 1)}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([], "file: rules are an object of families"),
        ({}, "there must be one"),
        ({"Hello": {"keep": 1}}, "file: 'Hello' is not a valid name"),
        ({"hello": {}}, "file: hello: a rule has older_than, keep or both"),
        ({"hello": 3}, "file: hello: a rule has older_than"),
        ({"hello": {"kepe": 3}}, "file: hello: a rule has older_than"),
        ({"hello": {"keep": 0}}, "file: hello.keep: 0 is not a number of images; write 1 to 1000"),
        ({"hello": {"keep": True}}, "file: hello.keep: True is not a number"),
        ({"hello": {"keep": "3"}}, "file: hello.keep: 3 is not a number"),
        ({"hello": {"keep": 1001}}, "write 1 to 1000"),
        ({"hello": {"older_than": 90}}, "file: hello.older_than: not a text; write a duration such as 90d"),
        ({"hello": {"older_than": "90 days"}}, "file: hello.older_than: '90 days' is not a duration"),
    ],
)
def test_wrong_rules_are_refused(value: Any, text: str) -> None:
    with pytest.raises(InputError) as refused:
        read_retire_rules(value, "file")
    assert text in str(refused.value)
