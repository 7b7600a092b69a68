"""What a person says of a promotion in a project: what is published, and when it counts as recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from shared.build.image.approval import Approval, AskedPromotion, PromotionAnswer, proof_of, purpose_of
from shared.errors import InputError
from shared.gcp.identities import GoogleIdentities
from shared.runtime.terminal import CloudClient
from tests.world.fakes import FakeClock, FakeCompute, MemoryBus
from tests.world.memory_bucket import MemoryBucket
from tests.world.memory_store import MemoryStore
from tests.world.tokens import DEPLOYMENT, SigningKey, certificates_page

KEY = SigningKey("a1")
ANN, BEN = "ann@example.com", "ben@example.com"
ASKED = AskedPromotion("my-project", "web-1", "4711", "prod", 1, 0.0, 1e12)


@pytest.fixture
def client() -> Iterator[CloudClient]:
    clock, bucket = FakeClock(), MemoryBucket()
    with certificates_page(KEY) as page:
        people = GoogleIdentities(DEPLOYMENT, page.url)
        compute = FakeCompute(clock, bucket)
        yield CloudClient("bucket", MemoryStore(), bucket, MemoryBus(), clock, compute, people, compute)  # type: ignore[arg-type]  # not used but for promotions


def recorded(client: CloudClient, token: str = "", answer: PromotionAnswer = "approve") -> bool:
    """Say a word of Ann's without patience; return whether it counts as recorded."""
    known, done = client.answer(ASKED, answer, "good", token or KEY.token(ANN, purpose_of(ASKED, answer)), 0.0)
    assert known == (client.store.promotion(ASKED.id) or ASKED)
    return done


def test_a_word_is_published_and_recorded_once_its_token_is(client: CloudClient) -> None:
    token = KEY.token(ANN, purpose_of(ASKED, "approve"))
    assert client.store.save_promotion(ASKED, None)
    assert not recorded(client, token)
    [message] = client.bus.waiting  # type: ignore[attr-defined]  # of the memory's
    told = {"image": "my-project/web-1", "channel": "prod", "reason": "good", "token": token}
    assert json.loads(message.data) == {"approve": told}
    client.store.save_promotion(replace(ASKED, approvals=(Approval(ANN, 1.0, "good", proof_of(token)),)), ASKED)
    assert recorded(client, token)


def test_a_second_yes_of_a_person_waits_for_nothing(client: CloudClient) -> None:
    approved = replace(ASKED, approvals=(Approval(ANN, 1.0, "good", "of another token"),))
    assert client.store.save_promotion(approved, None)
    assert recorded(client)
    assert not recorded(client, answer="refuse")
    assert not recorded(client, KEY.token(BEN, purpose_of(ASKED, "approve")))
    client.store.save_promotion(replace(approved, number=2), approved)
    assert not recorded(client), "it is a yes to the promotion before"


def test_a_token_that_cannot_count_is_not_published(client: CloudClient) -> None:
    with pytest.raises(InputError, match="the token is for"):
        recorded(client, KEY.token(ANN, purpose_of(ASKED, "refuse")))
    assert client.bus.waiting == []  # type: ignore[attr-defined]  # of the memory's
