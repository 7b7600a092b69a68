"""Compute Engine's rules for names and labels."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import names


@pytest.mark.parametrize("text", ["a", "a-b", "debian-12", "a" * 63])
def test_name_is_taken(text: str) -> None:
    assert names.check_name(text) == text


@pytest.mark.parametrize("text", ["", "-a", "a-", "1a", "A", "a_b", "a" * 64, "a\n", "ä"])
def test_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid name"):
        names.check_name(text)


@pytest.mark.parametrize("text", ["gs", "gsa-1", "my-gs-1", "hello"])
def test_output_name_is_taken(text: str) -> None:
    assert names.output_name(text) == text


@pytest.mark.parametrize("text", ["gs-nightly-0123456789ab-a1-verify-ci", "gs-hello", "gs-"])
def test_a_name_of_what_builds_make_for_themselves_is_no_outputs(text: str) -> None:
    with pytest.raises(ValueError, match=f"'{text}' begins with gs-, as the .* 'my-{text}'"):
        names.output_name(text)


@pytest.mark.parametrize(
    ("name", "build_id", "own"),
    [
        ("gs-hello-0123456789ab-a1-vm", "hello-0123456789ab", True),
        ("gs-hello-0123456789ab-a12-verify-ci", "hello-0123456789ab", True),
        ("gs-hello-0123456789ab-a1-vm", "", False),
        ("gs-hello-0123456789ab-a1-vm", "mallory-0123456789ab", False),
        ("gs-hello-0123456789ab-a1-vm", "hello-0123456789abc", False),
        ("gs-hello-a12345678901-a1-vm", "hello", False),
        ("prod-database", "hello-0123456789ab", False),
        ("gs-.*-a1-vm", ".*", True),
        ("gs-hello-0123456789ab-a1-vm", ".*", False),
    ],
)
def test_what_is_own_carries_the_label_of_the_build_in_its_name(name: str, build_id: str, own: bool) -> None:
    assert names.is_own(name, {names.BUILD_LABEL: build_id}) is own
    assert not names.is_own(name, {})


@given(st.text(max_size=80))
def test_proposed_name_is_valid(text: str) -> None:
    try:
        names.check_name(text)
    except ValueError as error:
        proposed = re.search(r", for example (.*)$", str(error))
        assert proposed is None or names.check_name(proposed[1])


@pytest.mark.parametrize("text", ["local", "cos-cloud", "my-project-123", "example.com:my-project"])
def test_project_is_taken(text: str) -> None:
    assert names.project_id(text) == text


@pytest.mark.parametrize("text", ["", "short", "My-Project", "123456", "a" * 31, "project-"])
def test_project_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a project id"):
        names.project_id(text)


@pytest.mark.parametrize("text", ["team", "a_b-1", "équipe", "日本", "a" * 63])
def test_label_key_is_taken(text: str) -> None:
    assert names.label_key(text) == text


@pytest.mark.parametrize("text", ["", "Team", "1a", "_a", "-a", "a b", "a" * 64, "日" * 43, "a\n"])
def test_label_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid label key"):
        names.label_key(text)


@pytest.mark.parametrize("text", ["Infra", "a b", "a.b", "a" * 64])
def test_label_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid label value"):
        names.label_value(text)


@given(st.text())
def test_any_text_can_become_a_label_value(text: str) -> None:
    assert names.label_value(names.as_label_value(text)) == names.as_label_value(text)


def test_label_value_keeps_what_can_be_kept() -> None:
    assert names.as_label_value("Debian 12.raw") == "debian-12-raw"


def test_long_text_is_cut_in_messages() -> None:
    assert len(names.quoted("x" * 1000)) == 62
