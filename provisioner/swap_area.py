"""What a swap area looks like: its first page ends with a mark."""

from __future__ import annotations

MAGIC = b"SWAPSPACE2"
PAGES = (4096, 16384, 65536)  # bytes of a page: x86, and arm64 in its three ways
HEAD = PAGES[-1]  # bytes of an area that tell how large its page is


def page_of(head: bytes) -> int:
    """Return the bytes of the page that a swap area begins with, or 0 for what is none."""
    return next((page for page in PAGES if head[page - len(MAGIC) : page] == MAGIC), 0)


def any_set(data: bytes) -> bool:
    """Tell whether a byte is not zero."""
    return data.count(0) != len(data)
