"""Hooks of all elements become one list a phase, sorted as `LC_ALL=C sort -n` does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.elements.hooks import HOOK_FILE_LIMIT, HOOK_PHASES, Hook, HookTree, hook_order, merge_hooks
from provisioner.elements.model import Element, ElementsError
from tests.provisioner.elements.element_folders import element


def merged(folder: Path, *names: str) -> HookTree:
    return merge_hooks([Element(name, str(folder / name), (), ()) for name in names])


def names(tree: HookTree, phase: str = "install.d") -> str:
    return " ".join(hook.name for hook in tree.phases[phase])


def test_hooks_of_all_elements_are_one_list(tmp_path: Path) -> None:
    element(tmp_path, "a", {"install.d/9-z": "", "install.d/10-a": "", "install.d/plain": "", "root.d/10-root": ""})
    element(
        tmp_path, "b", {"install.d/09-y": "", "install.d/100-x": "", "install.d/00-first": "", "install.d/-1-minus": ""}
    )
    tree = merged(tmp_path, "a", "b")
    assert names(tree) == "-1-minus 00-first plain 09-y 9-z 10-a 100-x"
    assert [(hook.element, hook.path) for hook in tree.phases["root.d"]] == [("a", str(tmp_path / "a/root.d/10-root"))]
    assert list(tree.phases) == list(HOOK_PHASES)
    assert merged(tmp_path, "b", "a").phases == tree.phases
    assert not tree.skipped
    assert not tree.hidden


@settings(max_examples=30, deadline=None)
@given(st.lists(st.from_regex("[0-9A-Za-z_-]{1,6}", fullmatch=True), unique=True, min_size=1, max_size=20))
def test_order_is_that_of_sort(found: list[str]) -> None:
    done = subprocess.run(
        ["sort", "-n"], input="\n".join(found), env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    ours = sorted((Hook("install.d", name, "", "") for name in found), key=hook_order)
    assert [hook.name for hook in ours] == done.stdout.splitlines()


def test_files_that_do_not_run_are_told_with_the_reason(tmp_path: Path) -> None:
    made = element(
        tmp_path,
        "a",
        {"install.d/10-good": "", "install.d/20-not-": "", "install.d/30-dot.sh": "", "install.d/.hidden": "",
         "install.d/40 space": "", "install.d/folder/50-inner": ""},
    )  # fmt: skip
    (made / "install.d/60-lost").symlink_to("nothing")
    (made / "install.d/65-ring").symlink_to("65-ring")
    os.mkfifo(made / "install.d/70-fifo")
    (made / "install.d/80-link").symlink_to("10-good")
    tree = merged(tmp_path, "a")
    assert names(tree) == "10-good 80-link"
    assert {hook.name: hook.reason for hook in tree.skipped} == {
        ".hidden": "its name begins with a dot",
        "20-not": "is not executable",
        "30-dot.sh": "its name has a dot",
        "40 space": "its name has more than letters, digits and _-",
        "60-lost": "is a link to nothing",
        "65-ring": "is a link to nothing",
        "70-fifo": "is no regular file",
        "folder": "is a folder",
    }


def test_files_of_the_environment_need_no_mode_and_come_by_their_bytes(tmp_path: Path) -> None:
    element(tmp_path, "a", {"environment.d/9-a.bash-": "", "environment.d/10-b": "", "environment.d/x~": ""})
    element(tmp_path, "b", {"environment.d/10-01-c.bash-": "", "environment.d/.bashrc-": ""})
    tree = merged(tmp_path, "a", "b")
    assert [hook.name for hook in tree.environment] == ["10-01-c.bash", "10-b", "9-a.bash"]
    assert {hook.name for hook in tree.skipped} == {"x~", ".bashrc"}
    assert "environment.d" not in tree.phases


@pytest.mark.parametrize(
    "place", ["install.d/10-same", "install.d/data.conf-", "environment.d/10-same-", "bin/tool", "udev.d/x"]
)
def test_file_of_two_elements_is_an_error(tmp_path: Path, place: str) -> None:
    element(tmp_path, "a", {place: ""})
    element(tmp_path, "b", {place: ""})
    with pytest.raises(ElementsError) as caught:
        merged(tmp_path, "a", "b")
    place = place.removesuffix("-")
    assert str(caught.value) == (
        f"{tmp_path}/b/{place}: element b and element a both have {place} ({tmp_path}/a/{place}); rename one of them"
    )


def test_all_duplicates_are_told_at_once(tmp_path: Path) -> None:
    for name in "abc":
        element(tmp_path, name, {"install.d/10-x": "", "root.d/20-y": ""})
    with pytest.raises(ElementsError) as caught:
        merged(tmp_path, "a", "b", "c")
    assert len(caught.value.problems) == 4


def test_folders_and_hidden_files_of_two_elements_are_no_error(tmp_path: Path) -> None:
    for name in "ab":
        files = {"static/etc/x": "", "install.d/.gitignore": "", "tests/x": "", "__pycache__/x": "", "x.pyc": ""}
        element(tmp_path, name, files)
    assert [(file.folder, file.name) for file in merged(tmp_path, "a", "b").files] == [("static", "etc")] * 2


def test_file_outside_of_folders_hides_that_of_an_element_before(tmp_path: Path) -> None:
    for name in "ab":
        element(tmp_path, name, {"source-repository-x": name, "README.rst": "", "bin/" + name: ""}, needs="os")
    tree = merged(tmp_path, "a", "b")
    [(used, other)] = tree.hidden
    assert (used.element, other.element, used.name) == ("b", "a", "source-repository-x")
    assert [file.element for file in tree.files if file.name == "source-repository-x"] == ["b"]
    assert [file.path for file in tree.files if file.folder == "bin"] == [f"{tmp_path}/a/bin/a", f"{tmp_path}/b/bin/b"]


def test_element_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    element(tmp_path, "a", {"install.d/10-x": ""})
    with pytest.raises(ElementsError) as caught:
        merged(tmp_path, "a", "nothing")
    assert str(caught.value) == f"{tmp_path}/nothing: no such file or directory"


def test_too_many_files_are_told(tmp_path: Path) -> None:
    made = element(tmp_path, "a", {"install.d/x": ""})
    for number in range(HOOK_FILE_LIMIT):
        (made / "install.d" / str(number)).symlink_to("x")
    with pytest.raises(ElementsError, match=f"more than {HOOK_FILE_LIMIT} files"):
        merged(tmp_path, "a")
