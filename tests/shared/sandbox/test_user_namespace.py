import ctypes
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from shared.errors import EnvironmentFault, GoldsmithError, ImageFileError, MissingTool, NoSpace
from shared.sandbox.user_namespace import (
    IdRanges,
    enter_user_namespace,
    is_in_user_namespace,
    own_id_ranges,
    refusal,
    run_with_all_ids,
    subordinate_ids,
)
from tests.shared.sandbox.ordinary_user import AS_ROOT, AS_USER, MODES, place_for, run

ERRORS: dict[str, type[GoldsmithError]] = {"image": ImageFileError, "space": NoSpace, "environment": EnvironmentFault}


def looked_around(place: str) -> Any:
    """Enter a namespace, and tell what the process is there."""
    home = Path(place, "of-the-user")
    home.touch()
    opened = os.open(home, os.O_RDONLY)
    ranges = own_id_ranges() if os.geteuid() else IdRanges(3_000_000, 4_000_000)
    was = is_in_user_namespace()
    enter_user_namespace(ranges)
    made = Path(place, "made")
    if ranges.users != 3_000_000:
        made.touch()
        os.chown(made, 65535, 65534)
        home.write_text("still writable")
    maps = [Path(f"/proc/self/{name}").read_text().split() for name in ("uid_map", "gid_map")]
    return {
        "ids": [*os.getresuid(), *os.getresgid()],
        "groups": os.getgroups(),
        "maps": [list(map(int, each)) for each in maps],
        "in": [was, is_in_user_namespace()],
        "home": [os.fstat(opened).st_uid, os.fstat(opened).st_gid],
        "ranges": [ranges.users, ranges.groups],
    }


def test_user_becomes_root_of_the_files_of_a_whole_range() -> None:
    with place_for(AS_USER) as place:
        found = run(AS_USER, looked_around, place)
        users, groups = found["ranges"]
        owner, made = (place / "of-the-user").stat(), (place / "made").stat()
        assert found["maps"] == [
            [0, users, 65536, 65536, owner.st_uid, 1],
            [0, groups, 65536, 65536, owner.st_gid, 1],
        ]
        assert found["ids"] == [0] * 6
        assert found["groups"] == []
        assert found["in"] == [False, True]
        assert found["home"] == [65536, 65536]
        assert (made.st_uid, made.st_gid) == (users + 65535, groups + 65534)
        assert (place / "of-the-user").read_text() == "still writable"


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode == AS_ROOT])
def test_root_gives_any_range_and_is_not_in_it(mode: str) -> None:
    with place_for(mode) as place:
        found = run(mode, looked_around, place)
    assert found["maps"] == [[0, 3_000_000, 65536], [0, 4_000_000, 65536]]
    assert found["ids"] == [0] * 6
    assert found["home"] == [65534, 65534]  # of no user that the namespace knows


def nested() -> str:
    """Enter a namespace in a namespace."""
    return run_with_all_ids(lambda: _entered(IdRanges(0, 0)))


def _entered(ranges: IdRanges) -> str:
    enter_user_namespace(ranges)
    return Path("/proc/self/uid_map").read_text(encoding="ascii")


def test_a_namespace_may_hold_another() -> None:
    assert run(AS_USER, nested).split() == ["0", "0", "65536"]


def without_namespaces() -> str:
    """Enter a namespace in one that allows none: the limit is a setting of each namespace."""
    return run_with_all_ids(_refused)


def _refused() -> str:
    Path("/proc/sys/user/max_user_namespaces").write_text("0\n", encoding="ascii")
    return _entered(IdRanges(0, 0))


def test_a_kernel_that_allows_none_is_told_with_its_setting() -> None:
    with pytest.raises(EnvironmentFault, match="max_user_namespaces is 0; allow them, as root, with: sysctl -w"):
        run(AS_USER, without_namespaces)


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"),
        ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
    ],
)
def test_each_setting_is_named(tmp_path: Path, name: str, value: str, remedy: str) -> None:
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text(f"{value}\n")
    assert str(refusal(OSError(errno.EPERM, "no"), tmp_path)).endswith(remedy)


def test_settings_that_allow_it_are_not_named(tmp_path: Path) -> None:
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel/unprivileged_userns_clone").write_text("1\n")
    assert "a container" in str(refusal(OSError(errno.EPERM, "no"), tmp_path))
    assert "too many user namespaces" in str(refusal(OSError(errno.ENOSPC, "no"), tmp_path))


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("me:100000:65536\n", 100000),
        ("1000:200000:65537\n", 200000),
        ("other:100000:65536\nme:165536:65536\nme:300000:65536", 165536),
        ("me:1:100\nme:500000:70000\n", 500000),
        ("nonsense\n\nme:x:65536\nme:5\n me:400000:65536 \n", 400000),
    ],
)
def test_the_first_range_that_is_long_enough_counts(tmp_path: Path, text: str, first: int) -> None:
    (tmp_path / "subuid").write_text(text)
    assert subordinate_ids(tmp_path / "subuid", "me", 1000, "--add-subuids") == first


@pytest.mark.parametrize(
    ("text", "complaint", "line"),
    [
        (None, "has no range of ids for me", "me:100000:65536"),
        ("other:100000:65536\n", "has no range of ids for me", "me:165536:65536"),
        ("me:100000:65535\n", "a range of only 65535 ids for me", "me:165535:65536"),
        ("mega:100000:65536\nme2:5:5", "has no range of ids for me", "me:165536:65536"),
    ],
)
def test_too_few_ids_are_told_with_the_line_to_add(tmp_path: Path, text: str | None, complaint: str, line: str) -> None:
    if text is not None:
        (tmp_path / "subgid").write_text(text)
    with pytest.raises(EnvironmentFault) as error:
        subordinate_ids(tmp_path / "subgid", "me", 1000, "--add-subgids")
    assert complaint in str(error.value)
    first = int(line.split(":")[1])
    assert f"add the line {line} (as root: usermod --add-subgids {first}-{first + 65535} me)" in str(error.value)


def without_programs() -> None:
    os.environ["PATH"] = "/nonexistent"
    run_with_all_ids(lambda: "")


def with_no_new_privileges() -> None:
    ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    run_with_all_ids(lambda: "")


def test_missing_newuidmap_is_told() -> None:
    with pytest.raises(EnvironmentFault, match=r"newuidmap is not installed; .* apt-get install uidmap"):
        run(AS_USER, without_programs)


def test_newuidmap_that_may_not_is_quoted() -> None:
    with pytest.raises(EnvironmentFault, match=r"newuidmap ended with status 1: .*; it has to be setuid root"):
        run(AS_USER, with_no_new_privileges)


def failing(kind: str) -> None:
    run_with_all_ids(lambda: _raise(kind))


def _raise(kind: str) -> str:
    if kind == "tool":
        raise MissingTool("program", "package")
    raise ERRORS[kind]("why, \udcff")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ERRORS)
def test_errors_reach_the_caller(mode: str, kind: str) -> None:
    with pytest.raises(ERRORS[kind], match="why, \udcff") as error:
        run(mode, failing, kind)
    assert type(error.value) is ERRORS[kind]


def test_an_error_with_its_own_arguments_reaches_the_caller() -> None:
    with pytest.raises(EnvironmentFault, match=r"program is not installed; .*package"):
        run(AS_USER, failing, "tool")


def faulty() -> str:
    def work() -> str:
        os.environ["NO_SUCH_VARIABLE"]
        return ""

    try:
        return run_with_all_ids(work)
    except RuntimeError as error:
        return str(error)


def killed() -> None:
    run_with_all_ids(_kill)


def _kill() -> str:
    os.kill(os.getpid(), 9)
    return ""


def test_other_errors_are_quoted() -> None:
    assert "KeyError: 'NO_SUCH_VARIABLE'" in run(AS_USER, faulty)


def test_a_killed_process_is_told() -> None:
    with pytest.raises(EnvironmentFault, match="ended with status -9, and without a result"):
        run(AS_USER, killed)
