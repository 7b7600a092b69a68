"""Values of secrets: read once, refused where they are unfit, and quoted by no message."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from provisioner.protocol import Step
from provisioner.system.redaction import LEAST_VALUE as LEAST
from provisioner.system.redaction import MOST_VALUE as MOST
from shared.errors import InputError
from shared.local.secret_values import MOST_IN_ALL, HostSecrets


def steps(*places: str) -> list[Step]:
    return [
        Step(f"s{index}", "run-script", {"script": "s"}, secrets={"TOKEN": place}) for index, place in enumerate(places)
    ]


def test_values_are_read_once(tmp_path: Path) -> None:
    path, environment = tmp_path / "key", {"KEY": "of the environment"}
    path.write_bytes(b"first line\nsecond \xff\r\n")
    secrets, asked = HostSecrets(environment), steps(f"file:{path}", "env:KEY", "env:KEY")
    wanted = {f"file:{path}": b"first line\nsecond \xff", "env:KEY": b"of the environment"}
    assert secrets.of(asked) == wanted
    path.unlink()
    environment.clear()
    assert secrets.of(asked) == wanted
    assert HostSecrets({}).of([]) == {}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            b"x" * (LEAST - 1),
            "has 7 bytes, and a value of less than 8 is found in any text by chance; use a longer one",
        ),
        (b"x" * (MOST + 1), "has more than 65536 bytes; keep what is secret apart from the rest"),
        (b"12345\x00678", "has a NUL byte, which no variable can have; encode it, in base64 for instance"),
        (b" \n" * 10, "has nothing but spaces; write the value"),
        (b"", "has 0 bytes"),
        (b"a" + b"\r\n" * 9 + b"b", "has 2 bytes beside its line breaks, and a value of less than 8 is found in any"),
    ],
)
def test_unfit_values_are_refused_without_being_quoted(value: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(value)
    with pytest.raises(InputError) as caught:
        HostSecrets({}).of(steps(f"file:{tmp_path / 'key'}"))
    assert str(caught.value).startswith(f"steps: s0: secrets.TOKEN: file:{tmp_path / 'key'}: {told}")
    assert not value.strip() or value.decode("latin-1") not in str(caught.value)


def test_places_without_a_value_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for place, told in {
        "env:NONE": "the variable is not set, or empty; set NONE for this command",
        f"file:{tmp_path}/none": "cannot be read: No such file or directory; check the path",
        f"file:{tmp_path}": "is no regular file; write the path of one",
        f"file:{tmp_path}/fifo": "is no regular file; write the path of one",
        "projects/p/secrets/s/versions/1": "is none of this machine's; write env:NAME or file:PATH",
    }.items():
        with pytest.raises(InputError) as caught:
            HostSecrets({"OTHER": "x"}).of(steps(place))
        assert str(caught.value) == f"steps: s0: secrets.TOKEN: {place}: {told}"


def test_a_crash_of_a_process_that_has_values_leaves_no_core() -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        secrets = HostSecrets({"KEY": "of the environment"})
        secrets.of([])
        assert resource.getrlimit(resource.RLIMIT_CORE)[0] == before[1]
        secrets.of(steps("env:KEY"))
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


def test_all_together_are_bounded() -> None:
    environment = {f"V{index}": str(index) * MOST for index in range(1, 1 + MOST_IN_ALL // MOST)}
    places = [f"env:{name}" for name in environment]
    assert len(HostSecrets(environment).of(steps(*places))) == len(places)
    environment["MORE"] = "x" * LEAST
    with pytest.raises(InputError, match="have 524296 bytes, and 524288 is the most"):
        HostSecrets(environment).of(steps(*places, "env:MORE"))
