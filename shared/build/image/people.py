"""The people of a deployment, as a person writes them: {"ann": {"addresses": ["ann@example.com"]}}. Pure.

One person may have several addresses: of a login, which Identity-Aware Proxy tells, and of a service account, of which
there are tokens. Only a person that is named here can be known as an image's author. An address that is not named here
counts as a person of its own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import InputError
from ...named_documents import read_by_name
from ...names import quoted
from ...topology import PEOPLE

MOST_PEOPLE = 200
_PERSON = re.compile(r"[a-z]([-a-z0-9]{0,30}[a-z0-9])?")
_MAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}")
_FORM = '{"ann": {"addresses": ["ann@example.com"], "folder": true}}'


@dataclass(frozen=True)
class PersonRule:
    """What a deployment knows of one person."""

    addresses: tuple[str, ...]  # mail addresses, in lower case, that are this person's and no other's
    folder: bool = False  # whether specs/people/NAME/ of the bucket is this person's alone
    operator: bool = False  # whether this person may end builds, revoke images and the like in the dashboard


People = Mapping[str, PersonRule]


def no_people() -> People:
    """Return the people of a deployment that names none."""
    return {}


def read_people(text: str) -> People:
    """Read people in the order of their names. InputError has a line for each fault."""
    faults: list[str] = []
    named = read_by_name(text, "people", MOST_PEOPLE, _FORM)
    found = {name: _person(name, value, faults) for name, value in named.items()}
    addresses = [mail for person in found.values() for mail in person.addresses]
    faults += [
        f"{mail}: is the address of two people" for mail in sorted({m for m in addresses if addresses.count(m) > 1})
    ]
    if faults:
        raise InputError("\n".join(faults))
    return found


def person_of(mail: str, people: People) -> str:
    """Return whose an address is: the person's name, or the address itself where nobody named here has it."""
    return next((name for name, person in people.items() if mail in person.addresses), mail)


def is_person(mail: str, people: People) -> bool:
    """Return whether an address is that of a person who is named here."""
    return person_of(mail, people) != mail


def persons_of(mails: Collection[str], people: People) -> frozenset[str]:
    """Return whose some addresses are: each person once."""
    return frozenset(person_of(mail, people) for mail in mails)


def owner_of(name: str, people: People) -> tuple[str, str] | None:
    """Return the folder of one person that an object lies in, and that person's first address; None outside of one."""
    for person, rule in people.items():
        folder = f"{PEOPLE}{person}/"
        if rule.folder and name.startswith(folder):
            return folder, rule.addresses[0]
    return None


def _person(name: str, given: Any, faults: list[str]) -> PersonRule:
    if not _PERSON.fullmatch(name):
        faults.append(f"{quoted(name)} is no name of a person; write up to 32 lower-case letters, digits and dashes")
    if not isinstance(given, dict):
        faults.append(f"{quoted(name)} is not an object; write {_FORM}")
        return PersonRule(())
    unknown = [key for key in given if key not in ("addresses", "folder", "operator")]
    faults += [f"{name}: {quoted(str(key))}: unknown key; write addresses, folder or operator" for key in unknown]
    addresses = given.get("addresses")
    if not isinstance(addresses, list) or not addresses:
        faults.append(f"{name}.addresses: is no list of mail addresses; write {_FORM}")
        return PersonRule(())
    flags = {key: given.get(key, False) for key in ("folder", "operator")}
    for key, value in flags.items():
        if not isinstance(value, bool):
            faults.append(f"{name}.{key}: {quoted(str(value))} is neither true nor false")
    wrong = [each for each in addresses if not isinstance(each, str) or not _MAIL.fullmatch(each)]
    faults += [f"{name}.addresses: {quoted(str(each))} is no mail address; write ann@example.com" for each in wrong]
    mails = tuple(dict.fromkeys(each.lower() for each in addresses if each not in wrong))
    return PersonRule(mails, flags["folder"] is True, flags["operator"] is True)
