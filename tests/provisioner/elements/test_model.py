"""Elements are found on the path and chosen by name, in one order, with every problem named at once."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from provisioner.elements.model import (
    ELEMENT_LIMIT,
    FOLDER_LIMIT,
    MISSING_LIMIT,
    NAME_LIMIT,
    NAME_LIST_LIMIT,
    ElementsError,
    expand_elements,
    find_elements,
)
from tests.provisioner.elements.element_folders import element


def chosen(folder: Path, names: str, *provided: str) -> str:
    return " ".join(each.name for each in expand_elements(names.split(), find_elements([str(folder)]), provided))


def problems(folder: Path, names: str, *provided: str) -> list[str]:
    with pytest.raises(ElementsError) as caught:
        chosen(folder, names, *provided)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    element(tmp_path, "os", provides="operating-system")
    return tmp_path


@pytest.mark.parametrize(
    ("names", "order"),
    [
        ("os", "os"),
        ("os top", "os base middle top"),  # each after those that it needs
        ("top os", "base middle top os"),
        ("base top os", "base middle top os"),
        ("round os", "about round os"),
        ("itself os", "itself os"),
        ("disk plain-disk os", "plain-disk disk os"),  # what stands in for a name comes before what needs the name
        ("os os", "os"),
    ],
)
def test_elements_come_with_what_they_need(folder: Path, names: str, order: str) -> None:
    element(folder, "base")
    element(folder, "middle", needs="base")
    element(folder, "top", needs="middle base")
    element(folder, "round", needs="about")
    element(folder, "about", needs="round")
    element(folder, "itself", needs="itself")
    element(folder, "disk", needs="block-device")
    element(folder, "plain-disk", provides="block-device")
    assert chosen(folder, names) == order


def test_provided_element_is_not_pulled_in_with_a_folder_of_that_name(folder: Path) -> None:
    element(folder, "machine", needs="loader")
    element(folder, "loader", needs="firmware")
    element(folder, "firmware")
    element(folder, "other-loader", provides="loader")
    assert chosen(folder, "machine os") == "firmware loader machine os"
    assert chosen(folder, "machine other-loader os") == "other-loader machine os"


def test_provider_that_comes_late_leaves_what_was_pulled_in_before(folder: Path) -> None:
    """As diskimage-builder does it: the element goes, the elements that it needs stay."""
    element(folder, "machine", needs="loader site")
    element(folder, "loader", needs="firmware")
    element(folder, "firmware")
    element(folder, "site", needs="other-loader")
    element(folder, "other-loader", provides="loader")
    assert chosen(folder, "machine os") == "other-loader site machine os firmware"


def test_name_that_is_provided_later_is_not_missing(folder: Path) -> None:
    element(folder, "top", needs="virtual real")
    element(folder, "real", provides="virtual")
    assert chosen(folder, "top os") == "real top os"


def test_disk_that_no_element_provides_is_the_usual_one(folder: Path) -> None:
    element(folder, "vm", needs="block-device")
    [problem] = problems(folder, "vm os")
    assert problem.startswith("vm/element-deps:1: there is no element block-device in ")
    element(folder, "block-device-mbr", needs="parts", provides="block-device")
    element(folder, "parts")
    element(folder, "own-disk", provides="block-device")
    assert chosen(folder, "vm os") == "parts block-device-mbr vm os"
    assert chosen(folder, "vm own-disk os") == "own-disk vm os"


def test_order_is_that_of_the_names_alone(folder: Path) -> None:
    """diskimage-builder's differs from run to run; here neither the order on the disk nor that of a hash counts."""
    names = [f"e{number}" for number in range(40)]
    for name in random.Random(7).sample(names, len(names)):
        element(folder, name, needs=" ".join(names[int(name[1:]) // 2 : int(name[1:])][:5]))
    found = chosen(folder, f"{names[-1]} os").split()
    assert found.index("e19") < found.index("e39")
    assert found == chosen(folder, f"{names[-1]} os").split()
    for name in found[:-1]:
        needed = (folder / name / "element-deps").read_text().split() if name != "e0" else []
        assert all(found.index(each) < found.index(name) for each in needed)


def test_leftmost_folder_of_the_path_wins(tmp_path: Path) -> None:
    element(tmp_path / "site", "os", provides="operating-system")
    element(tmp_path / "original", "os")
    element(tmp_path / "original", "more")
    found = find_elements([str(tmp_path / "site"), str(tmp_path / "original")])
    elements = expand_elements(["more", "os"], found)
    assert [each.folder for each in elements] == [str(tmp_path / "original/more"), str(tmp_path / "site/os")]
    [override] = found.overrides
    assert override == ("os", str(tmp_path / "site/os"), str(tmp_path / "original/os"))


def test_an_image_may_be_the_operating_system(folder: Path) -> None:
    element(folder, "app", needs="operating-system")
    assert chosen(folder, "app", "operating-system") == "app"
    assert chosen(folder, "app os", "operating-system") == "os app"
    assert problems(folder, "operating-system app", "operating-system") == [
        "elements: operating-system is there without an element; leave it out"
    ]


def test_element_behind_a_link_has_the_name_of_its_folder(folder: Path, tmp_path: Path) -> None:
    element(tmp_path / "elsewhere", "app-2")
    (folder / "app").symlink_to(tmp_path / "elsewhere" / "app-2")
    element(folder, "top", needs="app")
    assert chosen(folder, "app-2 os") == "app-2 os"
    assert chosen(folder, "top app app-2 os") == "app-2 top os"


def test_lists_may_have_blank_lines_and_spaces(folder: Path) -> None:
    made = element(folder, "app")
    (made / "element-deps").write_text("\n  os  \r\n\nos\n")
    assert chosen(folder, "app") == "os app"


def test_missing_elements_are_named_with_their_places(folder: Path) -> None:
    element(folder, "app", needs="os missing")
    element(folder, "disk", needs="block-device")
    element(folder, "block-device-mbr", provides="block-device")
    element(folder, "block-device-gpt", provides="block-device")
    assert problems(folder, "app disk oss other") == [
        f"elements: there is no element oss in {folder}; did you mean os?",
        f"elements: there is no element other in {folder}; add its folder to the path",
        f"app/element-deps:2: there is no element missing in {folder}, which app needs; add its folder to the path",
        "disk/element-deps:1: there is no element block-device, which disk needs; add one that provides it: "
        "block-device-gpt, block-device-mbr",
    ]


def test_missing_operating_system_is_told(tmp_path: Path) -> None:
    element(tmp_path, "app")
    element(tmp_path, "debian", provides="operating-system")
    assert problems(tmp_path, "app") == [
        "elements: none of app provides operating-system; add one that does: debian",
    ]
    assert problems(tmp_path, "") == [
        "elements: none of them provides operating-system; add one that does: debian",
    ]


def test_two_providers_are_told(folder: Path) -> None:
    element(folder, "mbr", provides="block-device")
    element(folder, "gpt", provides="something block-device")
    assert problems(folder, "mbr gpt os") == [
        "gpt/element-provides:2: block-device is provided by mbr already, and by gpt too; choose one of them"
    ]


def test_asking_for_what_another_one_provides_is_told(folder: Path) -> None:
    element(folder, "loader")
    element(folder, "other-loader", provides="loader")
    for names in ("loader other-loader os", "other-loader loader os"):
        assert problems(folder, names) == ["elements: loader is provided by other-loader; leave one of them out"]


def test_circular_provides_are_told(folder: Path) -> None:
    element(folder, "itself", provides="itself")
    element(folder, "top", needs="first second third")
    element(folder, "first", provides="extra")
    element(folder, "second", provides="first")
    element(folder, "third", provides="second")
    assert problems(folder, "itself os") == ["itself/element-provides:1: itself provides itself; take that line out"]
    assert problems(folder, "top os") == [
        "first/element-provides:1: first provides extra, and is itself provided by second; leave one of them out",
        "second/element-provides:1: second provides first, and is itself provided by third; leave one of them out",
    ]


def test_path_that_holds_no_elements_is_told(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(ElementsError) as caught:
        find_elements([str(folder / "file"), str(folder / "nothing"), str(folder)])
    assert caught.value.problems == (
        f"elements: {folder}/file: not a directory; name folders that hold elements",
        f"elements: {folder}/nothing: no such file or directory; name folders that hold elements",
    )


def test_lists_that_cannot_be_read_are_told(folder: Path) -> None:
    for name in ("fifo", "folder", "large"):
        element(folder, name)
    os.mkfifo(folder / "fifo" / "element-deps")
    (folder / "folder" / "element-provides").mkdir()
    (folder / "large" / "element-deps").write_text("x" * (NAME_LIST_LIMIT + 1))
    found = problems(folder, "fifo folder large os")
    assert [each.partition(":")[0] for each in found] == [
        "fifo/element-deps",
        "folder/element-provides",
        "large/element-deps",
    ]
    assert all("write names of elements, one a line" in each for each in found)


@pytest.mark.parametrize("name", ["a b", "$(reboot)", "-x", ".git", "a'b", "../os", "a/b", "a\nb", "\udcff"])
def test_hostile_names_are_no_elements(folder: Path, name: str) -> None:
    if "/" not in name:
        (folder / name).mkdir()
    with pytest.raises(ElementsError) as caught:
        expand_elements([name, "os"], find_elements([str(folder)]))
    [problem] = caught.value.problems
    assert problem.startswith("elements: there is no element ")
    assert "\n" not in problem
    problem.encode()  # it can be printed


def test_too_many_elements_are_told(folder: Path) -> None:
    many = " ".join(f"e{number}" for number in range(ELEMENT_LIMIT + 1))
    for name in many.split():
        (folder / name).mkdir()
    assert problems(folder, many) == [f"elements: more than {ELEMENT_LIMIT} for one image; choose fewer"]


def test_too_many_names_are_told(folder: Path) -> None:
    element(folder, "app", needs=" ".join(f"n{number}" for number in range(NAME_LIMIT + 1)))
    assert problems(folder, "app os") == [
        f"app/element-deps: element app: has more than {NAME_LIMIT} names; write fewer"
    ]


def test_list_of_missing_elements_has_an_end(folder: Path) -> None:
    element(folder, "app", needs=" ".join(f"n{number}" for number in range(MISSING_LIMIT + 3)))
    found = problems(folder, "app os")
    assert (len(found), found[-1]) == (MISSING_LIMIT + 1, "elements: 3 more elements are not there")


def test_links_that_lead_nowhere_are_passed_over(folder: Path) -> None:
    (folder / "ring").symlink_to("ring")
    (folder / "lost").symlink_to("nothing")
    assert chosen(folder, "os") == "os"
    assert problems(folder, "ring os")[0].startswith("elements: there is no element ring in ")


def test_too_many_folders_are_told(tmp_path: Path) -> None:
    for number in range(FOLDER_LIMIT + 1):
        (tmp_path / str(number)).mkdir()
    with pytest.raises(ElementsError, match=f"more than {FOLDER_LIMIT} folders"):
        find_elements([str(tmp_path)])
