"""Requests and answers are Google's messages, or they are not sent."""

from __future__ import annotations

import pytest

from emulator.compute.rest.contract import AnswerError, Contract
from emulator.compute.rest.filters import compiled
from emulator.compute.rest.refusals import Refusal


@pytest.fixture(scope="module")
def contract() -> Contract:
    return Contract()


def test_request_is_read_in_canonical_form(contract: Contract) -> None:
    body = b'{"name": "d", "sizeGb": 10, "sourceImage": "x"}'
    assert contract.request("Disk", body) == {"name": "d", "sizeGb": "10", "sourceImage": "x"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"nam": 1}', 'Unknown name "nam": Cannot find field.'),
        (b'{"disks": [{"boot": true, "labels": {}}]}', """Unknown name "labels" at 'disks[0]': Cannot find field."""),
        (b'{"name": 1}', "Invalid JSON payload received. Failed to parse name field"),
        (b"[]", "Invalid JSON payload received."),
    ],
)
def test_request_that_is_no_message_is_refused(contract: Contract, body: bytes, message: str) -> None:
    with pytest.raises(Refusal) as refused:
        contract.request("Instance", body)
    assert refused.value.status == 400
    assert message in refused.value.message


@pytest.mark.parametrize("document", [{"status": "GOING"}, {"progres": 1}, {"progress": "much"}])
def test_answer_that_google_would_not_give_is_an_error(contract: Contract, document: dict[str, object]) -> None:
    assert contract.answer("Operation", {"status": "DONE", "progress": 100})
    with pytest.raises(AnswerError, match="Operation: Invalid JSON"):
        contract.answer("Operation", document)


IMAGE = {
    "name": "hello-1",
    "id": "20",
    "labels": {"team": "infra", "empty": ""},
    "deprecated": {"state": "DEPRECATED"},
    "licenses": ["a/b", "c/d"],
    "ready": True,
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ("name=hello-1", True),
        ("name = hello*", True),
        ("name != hello-1", False),
        ("labels.team:*", True),
        ("labels.empty:*", True),
        ("labels.none:*", False),
        ("labels.none != x", True),
        ("-name=hello-1", False),
        ("-name=hello-2", True),
        ("-(name=hello-2)", True),
        ("NOT name=hello-1", False),
        ("labels.team=infra labels.empty=''", True),
        ("(name=x) OR ((labels.team=infra) AND NOT (id<3))", True),
        ("id>3", True),
        ("id<=20 AND id>=20", True),
        ("id>100", False),
        ("deprecated.state=DEPRECATED", True),
        ("licenses:c/", True),
        ("ready=true", True),
        (r'name eq ".*\bhello\-1\b.*"', True),
        ("name ne hello", True),
    ],
)
def test_filter_holds(text: str, holds: bool) -> None:
    assert compiled(text)(IMAGE) is holds


@pytest.mark.parametrize(
    "text", ["name", "name=", "=x", "(name=x", "name=x)", "name eq [", "a=b OR", "!", "name=x AND"]
)
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(Refusal, match="Invalid list filter expression"):
        compiled(text)
