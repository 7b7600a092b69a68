"""The channels of a deployment: what a person may write, and which families they are."""

from __future__ import annotations

import json

import pytest

from shared.build.image.channels import MOST_CHANNELS, Channel, family_of_channel, no_channels, read_channels
from shared.errors import InputError


def test_channels_are_read_in_the_order_of_their_names() -> None:
    found = read_channels('{"prod": {"approvers": ["ann@example.com", "ben@example.com"]}, "dev": {}}')
    assert list(found.items()) == [("dev", Channel()), ("prod", Channel(("ann@example.com", "ben@example.com")))]
    assert read_channels("{}") == no_channels() == {}
    assert read_channels('{"dev": {"approvers": null}}') == {"dev": Channel()}  # as Terraform writes what is left out


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "not JSON: "),
        ("[" * 100_000, "not JSON: "),
        ("[]", "not an object; write "),
        ('{"Prod": {}}', "'Prod' is no name of a channel; write at most 16 lower-case letters and digits"),
        ('{"eu-prod": {}}', "'eu-prod' is no name of a channel"),
        ('{"": {}}', "'' is no name of a channel"),
        ('{"a2345678901234567": {}}', "is no name of a channel"),
        ('{"prod": []}', "'prod' is not an object"),
        ('{"prod": {"approver": []}}', "prod: 'approver': unknown key; write approvers"),
        ('{"prod": {"approvers": "ann@example.com"}}', "prod.approvers: is not a list"),
        ('{"prod": {"approvers": ["ann"]}}', "prod.approvers: 'ann' is no mail address"),
        ('{"prod": {"approvers": [7]}}', "prod.approvers: '7' is no mail address"),
        (json.dumps({f"c{number}": {} for number in range(MOST_CHANNELS + 1)}), "21 channels; 20 are the most"),
    ],
)
def test_what_is_wrong_is_said(text: str, fault: str) -> None:
    with pytest.raises(InputError) as caught:
        read_channels(text)
    assert fault in str(caught.value)


def test_all_faults_are_said_at_once() -> None:
    with pytest.raises(InputError) as caught:
        read_channels('{"A": {}, "prod": {"approver": 1, "approvers": ["x", "y"]}}')
    assert len(str(caught.value).splitlines()) == 4


def test_a_familys_name_is_divided_at_its_last_dash() -> None:
    channels = read_channels('{"dev": {}, "prod": {}}')
    assert family_of_channel("web-prod", channels) == ("web", "prod")
    assert family_of_channel("web-eu-prod", channels) == ("web-eu", "prod")
    for family in ("web", "prod", "-prod", "web-prod-1", "web-test", "webprod"):
        assert family_of_channel(family, channels) is None
