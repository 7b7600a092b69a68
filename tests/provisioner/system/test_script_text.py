"""Marks and line ends that editors of other systems put into scripts."""

from __future__ import annotations

import pytest

from provisioner.system.script_text import fault


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"#!/bin/sh\necho hello\n",
        b"printf 'GET / HTTP/1.0\\r\\n\\r\\n'\n",
        b"printf 'a\rb'\n",
        "echo ключ\n".encode(),
        b"#!/bin/sh\ntail -n +3 $0 | tar -xz; exit\n\x1f\x8b\x08\0\0\r\n",  # an installer with its files behind it
    ],
)
def test_a_script_of_linux_is_good(text: bytes) -> None:
    assert fault(text) == ""


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (b"#!/bin/bash\r\nset -e\r\n", "line 1 ends with CR and LF, as on Windows"),
        (b"#!/bin/bash\nset -e\n\ntrue\r\n", "line 4 ends with CR and LF, as on Windows"),
        (b"\xef\xbb\xbf#!/usr/bin/env python3\n", "line 1 begins with the byte order mark of UTF-8, which hides"),
        ("\ufeffecho\r\n".encode("utf-16-le"), "line 1 begins with the byte order mark of UTF-16"),
    ],
)
def test_what_linux_would_misread_is_told_with_its_line(text: bytes, wrong: str) -> None:
    assert fault(text).startswith(wrong)
    assert "; save the file" in fault(text)
