"""The people of a deployment: how they are written, and whose an address is."""

from __future__ import annotations

import json

import pytest

from shared.build.image.people import MOST_PEOPLE, PersonRule, owner_of, person_of, read_people
from shared.errors import InputError

PEOPLE = {"ann": PersonRule(("ann@example.com", "ann@p.iam.gserviceaccount.com"), folder=True)}


def test_people_are_read() -> None:
    text = '{"ann": {"addresses": ["Ann@example.com", "ann@p.iam.gserviceaccount.com"], "folder": true}}'
    assert read_people(text) == PEOPLE
    assert read_people("{}") == {}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("[]", "not an object"),
        ("[" * 9999, "not JSON"),
        ({"Ann": {"addresses": ["a@b"]}}, "'Ann' is no name of a person"),
        ({"ann/": {"addresses": ["a@b"]}}, "'ann/' is no name of a person"),
        ({"ann": []}, "'ann' is not an object"),
        ({"ann": {}}, "ann.addresses: is no list"),
        ({"ann": {"addresses": []}}, "ann.addresses: is no list"),
        ({"ann": {"addresses": ["ann"]}}, "ann.addresses: 'ann' is no mail address"),
        ({"ann": {"addresses": ["a@b"], "folder": 1}}, "ann.folder: '1' is neither true nor false"),
        ({"ann": {"addresses": ["a@b"], "mail": 1}}, "ann: 'mail': unknown key"),
        ({"ann": {"addresses": ["a@b"]}, "ben": {"addresses": ["A@b"]}}, "a@b: is the address of two people"),
        ({f"p{n}": {"addresses": [f"{n}@b"]} for n in range(MOST_PEOPLE + 1)}, "200 are the most"),
    ],
)
def test_what_is_wrong_is_said(given: object, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_people(given if isinstance(given, str) else json.dumps(given))


def test_an_address_is_that_of_a_person_or_stands_for_itself() -> None:
    assert person_of("ann@p.iam.gserviceaccount.com", PEOPLE) == "ann"
    assert person_of("eve@example.com", PEOPLE) == "eve@example.com"


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("specs/people/ann/web.yaml", ("specs/people/ann/", "ann@example.com")),
        ("specs/people/ann", None),
        ("specs/people/anna/web.yaml", None),
        ("specs/web.yaml", None),
    ],
)
def test_a_folder_is_one_persons(name: str, owner: tuple[str, str] | None) -> None:
    assert owner_of(name, PEOPLE) == owner
    assert owner_of(name, {"ann": PersonRule(("ann@example.com",))}) is None
