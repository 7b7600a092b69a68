"""os-release: quotes are read as a shell reads them, and lines without a field are left out."""

from __future__ import annotations

import pytest

from provisioner.system.os_release import distribution, read_os_release

DEBIAN = """\
PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME='Debian'
# a comment
VERSION_ID="12"
ID=debian
EMPTY=
BROKEN="12
no field
2BAD=x
"""


def test_fields() -> None:
    assert read_os_release(DEBIAN) == {
        "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)",
        "NAME": "Debian",
        "VERSION_ID": "12",
        "ID": "debian",
        "EMPTY": "",
        "BROKEN": '"12',
    }
    assert read_os_release("") == {}


@pytest.mark.parametrize(
    ("text", "name"),
    [(DEBIAN, "debian-12"), ("ID=arch\n", "arch"), ("ID=cos\nVERSION_ID=117\nBUILD_ID=18613\n", "cos-117"), ("", "")],
)
def test_what_package_urls_call_a_distribution(text: str, name: str) -> None:
    assert distribution(read_os_release(text)) == name
