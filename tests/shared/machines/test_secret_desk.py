"""A machine gets its steps' secrets for its own key, until a person gets a shell on it."""

from __future__ import annotations

import json

import pytest

from provisioner.protocol import GIVE_SECRETS, LAYER_SIGNATURE, SECRETS_REQUEST, sign
from shared.machines.metadata_server import MetadataRequest, Response
from shared.machines.qemu import GivenSecrets
from shared.machines.secret_desk import SecretDesk

KEY = "5a" * 32
GIVEN = GivenSecrets(KEY, {"env:TOKEN": b"12345678\xff"})


def ask(desk: SecretDesk, key: str = KEY, body: bytes = SECRETS_REQUEST) -> Response:
    headers = {LAYER_SIGNATURE.lower(): sign(key, body)} if key else {}
    return desk.route.answer(MetadataRequest("POST", GIVE_SECRETS, headers, body, {}))


def test_the_machine_is_given_its_secrets_as_often_as_it_asks() -> None:
    desk = SecretDesk(GIVEN)
    for _ in range(2):
        assert json.loads(ask(desk).body) == {"env:TOKEN": "MTIzNDU2Nzj/"}
    desk.close()
    assert ask(desk).status == 410


@pytest.mark.parametrize(
    ("key", "body"), [("", SECRETS_REQUEST), ("5b" * 32, SECRETS_REQUEST), (KEY, b"something else")]
)
def test_others_are_given_nothing(key: str, body: bytes) -> None:
    answer = ask(SecretDesk(GIVEN), key, body)
    assert answer.status == 403
    assert b"MTIz" not in answer.body


def test_no_text_of_it_shows_a_value() -> None:
    assert repr(GIVEN) == "GivenSecrets()"
