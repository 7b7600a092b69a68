"""Marks and line ends of other systems' editors, with which Linux runs a script wrongly, or not at all."""

from __future__ import annotations

LOOK = 1 << 20  # bytes of a script that are looked at

_MARKS = ((b"\xef\xbb\xbf", "UTF-8"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


def fault(script: bytes) -> str:
    """Return what is wrong with a script, from its first LOOK bytes, with the line and a remedy; "" for nothing.

    A zero byte ends the text: an installer may carry files behind its script.
    """
    for mark, name in _MARKS:
        if script.startswith(mark):
            return (
                f"line 1 begins with the byte order mark of {name}, which hides the interpreter that it names; save "
                "the file as UTF-8 without it"
            )
    text = script.partition(b"\0")[0]
    at = text.find(b"\r\n")
    if at < 0:
        return ""
    line = text.count(b"\n", 0, at) + 1
    return (
        f"line {line} ends with CR and LF, as on Windows, and the shell takes the CR for part of its last word; save "
        "the file with LF alone, for example with sed -i 's/\\r$//'"
    )
