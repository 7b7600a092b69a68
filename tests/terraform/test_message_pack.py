"""Terraform's values: what is packed can be unpacked, in all the forms that Terraform itself writes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.terraform.message_pack import UNKNOWN, pack, unpack

SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS | st.just(UNKNOWN),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(VALUES)
def test_value_comes_back(value: Any) -> None:
    assert unpack(pack(value)) == value


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("07", 7),
        ("e0", -32),
        ("ccff", 255),
        ("cd0100", 256),
        ("d0ff", -1),
        ("ca3f800000", 1.0),
        ("a26869", "hi"),
        ("d9026869", "hi"),
        ("da00026869", "hi"),
        ("c4026869", b"hi"),
        ("920102", [1, 2]),
        ("dc00020102", [1, 2]),
        ("81a16101", {"a": 1}),
        ("de0001a16101", {"a": 1}),
        ("d40000", UNKNOWN),
        ("c7030c810105", UNKNOWN),  # one of which something is known
        ("92d40000c0", [UNKNOWN, None]),
    ],
)
def test_short_forms_are_read(data: str, value: object) -> None:
    assert unpack(bytes.fromhex(data)) == value


def test_more_than_one_value_is_refused() -> None:
    with pytest.raises(ValueError, match="1 bytes follow"):
        unpack(b"\x01\x02")


def test_what_terraform_has_no_type_for_is_refused() -> None:
    with pytest.raises(TypeError, match="set"):
        pack({"a": {1}})
