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
    left_out = '{"dev": {"approvers": null, "approve_within": null}}'  # as Terraform writes it
    assert read_channels(left_out) == {"dev": Channel()}


def test_approvers_are_told_apart_as_mail_addresses_are_and_have_a_time() -> None:
    found = read_channels('{"prod": {"approvers": ["Ann@Example.com", "ann@example.com"], "approve_within": "36h"}}')
    assert found == {"prod": Channel(("ann@example.com",), 129_600.0)}
    assert Channel().approve_within == 7 * 86_400.0


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
        ('{"prod": {"approve_within": "soon"}}', "prod.approve_within: 'soon' is no duration from 1m to 90d; write 7d"),
        ('{"prod": {"approve_within": "59s"}}', "prod.approve_within: '59s' is no duration from 1m"),
        ('{"prod": {"approve_within": "91d"}}', "prod.approve_within: '91d' is no duration"),
        ('{"prod": {"approve_within": 7}}', "prod.approve_within: '7' is no duration"),
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
