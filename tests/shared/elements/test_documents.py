"""The YAML and JSON files of elements are read with their places, all faults at once, however broken they are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from provisioner.elements.documents import DOCUMENTS, decode_documents
from provisioner.elements.model import Element, ElementsError, find_elements
from shared.elements.documents import (
    ELEMENT_DOCUMENT_LIMIT,
    PROBLEM_LIMIT,
    TOTAL_LIMIT,
    read_documents,
    read_element_document,
    told,
)
from tests.provisioner.elements.element_folders import ORIGINAL, element


def read(folder: Path, *names: str) -> dict[str, dict[str, Any]]:
    return read_documents([Element(name, str(folder / name), (), ()) for name in names])


def problems(folder: Path, *names: str) -> list[str]:
    with pytest.raises(ElementsError) as caught:
        read(folder, *names)
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]


def test_documents_are_by_element_and_file(tmp_path: Path) -> None:
    element(tmp_path, "a", {"package-installs.yaml": "rsync:\ngcc:\n  build-only: True\n  when: [A = 1, B != on]\n"})
    element(tmp_path, "b", {"pkg-map": '{"default": {"p": "", "q": "\\ud83d\\ude00"}}', "svc-map": "s: {default: t}\n"})
    element(tmp_path, "c", {"package-installs.json": '{"p": null}', "README.rst": "no document\n", "other.yaml": "[\n"})
    element(tmp_path, "d", {"package-installs.yaml": "# nothing\n", "pkg-map": " \n"})
    assert read(tmp_path, "a", "b", "c", "d") == {
        "a": {"package-installs.yaml": {"rsync": None, "gcc": {"build-only": True, "when": ("A = 1", "B != on")}}},
        "b": {"pkg-map": {"default": {"p": "", "q": "\U0001f600"}}, "svc-map": {"s": {"default": "t"}}},
        "c": {"package-installs.json": {"p": None}},
    }


def test_documents_of_all_original_elements_are_what_another_reader_says() -> None:
    folders = find_elements([str(ORIGINAL)]).by_name
    found = read_documents([Element(name, folder, (), ()) for name, folder in sorted(folders.items())])
    expected = {
        name: {file: yaml.safe_load(path.read_text()) for file in DOCUMENTS if (path := Path(folder, file)).is_file()}
        for name, folder in folders.items()
    }
    text = json.dumps(found)
    assert json.loads(text) == {name: files for name, files in expected.items() if files}
    assert decode_documents(text) == json.loads(text)
    assert len(found) > 60


CHECK_YAML = "; check the indentation, quotes and brackets here"
CHECK_JSON = "; check the quotes, commas and brackets here"
LEAVE_OUT = "leave it out, and quote what must be text"
SECTIONS = "write one of default, family, distro, release"
BAD = {
    "package-installs.yaml": [
        ("a:\n  phase: finalise.d\n", "2:3: a.phase: is 'finalise.d'; write pre-install.d, install.d, post-install.d"),
        ("a:\n- {}\n- arch: x\n  not-arch: y\n", "4:3: a[1].not-arch: stands beside arch; write one of the two"),
        ("a: [\n", "2:1: is not YAML: did not find expected node content" + CHECK_YAML),
        ("a:\n\tb: c\n", "2:1: a tab cannot indent YAML; use spaces"),
        ("a:\na:\n", "2:1: a: is written twice, first on line 1; keep one of them"),
        ("- a\n", "1:1: holds no packages; write lines such as rsync: or rsync: {phase: install.d}"),
        ("a: &x\n  arch: b\nc:\n  <<: *x\n", "4:3: c.<<: merges keys, which is not read here; write them out"),
        ("a: &x {arch: b}\n<<: *x\n", "2:1: <<: merges keys, which is not read here; write them out"),
        ("a: !!python/object:os.system {}\n",
         "1:4: the tag tag:yaml.org,2002:python/object:os.system is not allowed; " + LEAVE_OUT),
        ("a:\n---\nb:\n", "2:1: a second document starts here; write one in a file"),
    ],
    "pkg-map": [
        ('{\n "default": {\n  "a": "b",\n }\n}\n',
         "4:2: is not JSON: expecting property name enclosed in double quotes" + CHECK_JSON),
        ("default: {a: b}\n", "1:1: is not JSON: expecting value" + CHECK_JSON),
        ('{\n "defaults": {}}', "2:2: defaults: is no section of a pkg-map; " + SECTIONS),
        ('{"default": {\n"a": "b",\n"a": "c"}}', "3:1: default.a: is written twice, first on line 2; keep one of them"),
        ('{"family": {\n"debian": {"a": ["b"]}}}',
         '2:12: family.debian.a: is a list; write the package\'s name, or "" for none'),
        ('{"a": ' + "9" * 5000 + "}", "1:2: a: is too large a number; quote it if it is text"),
        ("[" * 1000, "1:22: is nested more than 20 deep; write it flatter"),
    ],
    "svc-map": [
        ("ssh: sshd\n", "1:1: ssh: is 'sshd'; write names such as {default: sshd, debian: ssh}"),
        ("ssh:\n", "1:1: ssh: is empty; write names such as {default: sshd, debian: ssh}"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("file", "text", "problem"), [(file, *pair) for file, pairs in BAD.items() for pair in pairs])
def test_faults_have_places(file: str, text: str, problem: str) -> None:
    document = read_element_document(file, text)
    assert told(document.problems[0], document) == problem


def test_all_faults_are_told_at_once_with_their_files(tmp_path: Path) -> None:
    element(tmp_path, "a", {"package-installs.yaml": "x: {arch: ''}\ny: {when: z}\n", "pkg-map": "{"})
    element(tmp_path, "b", {"svc-map": "x: 1\n"})
    assert [problem.partition(": ")[0] for problem in problems(tmp_path, "a", "b")] == [
        "a/package-installs.yaml:1:5",
        "a/package-installs.yaml:2:5",
        "a/pkg-map:1:2",
        "b/svc-map:1:1",
    ]


def test_service_of_two_elements_is_told_where_it_is_again(tmp_path: Path) -> None:
    element(tmp_path, "a", {"svc-map": "ssh: {default: sshd}\n"})
    element(tmp_path, "b", {"svc-map": "time: {default: ntp}\nssh: {default: sshd}\n"})
    assert problems(tmp_path, "a", "b") == ["b/svc-map:2:1: ssh: service ssh is in a/svc-map, too; keep one"]


def test_files_that_are_no_text_are_told(tmp_path: Path) -> None:
    made = element(tmp_path, "a")
    os.mkfifo(made / "package-installs.yaml")
    (made / "package-installs.json").write_bytes(b"a: \xff\n")
    (made / "pkg-map").symlink_to("/dev/zero")
    (made / "svc-map").write_text("#" * (ELEMENT_DOCUMENT_LIMIT + 1))
    assert problems(tmp_path, "a") == [
        "a/package-installs.json: is not UTF-8 at byte 4; save the file as UTF-8",
        "a/package-installs.yaml: is not a regular file; make it a small file",
        "a/pkg-map: is not a regular file; make it a small file",
        f"a/svc-map: has more than {ELEMENT_DOCUMENT_LIMIT} bytes; make it a small file",
    ]


def test_all_files_together_have_a_limit(tmp_path: Path) -> None:
    names = [f"e{number}" for number in range(TOTAL_LIMIT // ELEMENT_DOCUMENT_LIMIT + 1)]
    for name in names:
        element(tmp_path, name, {"svc-map": "#" * ELEMENT_DOCUMENT_LIMIT})
    assert problems(tmp_path, *names) == [
        f"{names[-1]}/svc-map: the elements have more than {TOTAL_LIMIT} bytes of such files; write less"
    ]


def test_list_of_problems_has_an_end(tmp_path: Path) -> None:
    element(tmp_path, "a", {"svc-map": "".join(f"s{number}: x\n" for number in range(PROBLEM_LIMIT + 5))})
    found = problems(tmp_path, "a")
    assert (len(found), found[-1]) == (PROBLEM_LIMIT + 1, "and 5 more problems")


LINES = st.lists(
    st.sampled_from(["a:", "  arch: b", "  - when: [x]", "{", "}", '"default": {', "<<: *x", "x: &x", "\t", "!!"])
    | st.text(max_size=6),
    max_size=8,
).map("\n".join)  # fmt: skip


@given(st.sampled_from(DOCUMENTS), LINES)
def test_any_text_is_read_or_told(file: str, text: str) -> None:
    document = read_element_document(file, text)
    if document.problems:
        assert all(told(problem, document).split(":")[0].isdecimal() for problem in document.problems)
    elif document.data is not None:
        decode_documents(json.dumps({"a": {file: document.data}}))
