import struct

from hypothesis import given
from hypothesis import strategies as st

from shared.sandbox.roots.inode_fields import InodeFields

POLYNOMIAL = 0x82F63B78


def crc32c(data: bytes, value: int = 0xFFFFFFFF) -> int:
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (POLYNOMIAL if value & 1 else 0)
    return value


def with_checksum(record: bytes, seed: int) -> bytes:
    """Set an inode's checksum as ext4_inode_csum_set() of the kernel does."""
    new = bytearray(record)
    struct.pack_into("<H", new, 124, 0)
    wide = len(new) > 128 and struct.unpack_from("<H", new, 128)[0] >= 4
    if wide:
        struct.pack_into("<H", new, 130, 0)
    value = crc32c(bytes(new), seed)
    struct.pack_into("<H", new, 124, value & 0xFFFF)
    if wide:
        struct.pack_into("<H", new, 130, value >> 16)
    return bytes(new)


def inode(size: int, extra: int, filler: bytes) -> bytes:
    new = bytearray((filler * size)[:size])
    struct.pack_into("<H", new, 0, 0o100644)
    struct.pack_into("<H", new, 26, 1)
    if size > 128:
        struct.pack_into("<H", new, 128, extra)
    return bytes(new)


@given(
    size=st.sampled_from([128, 256, 512]),
    extra=st.sampled_from([0, 4, 24, 32]),
    filler=st.binary(min_size=1, max_size=40),
    seed=st.integers(0, 0xFFFFFFFF),
    times=st.tuples(*[st.integers(-(1 << 31) * 10**9, ((1 << 34) - (1 << 31) - 1) * 10**9)] * 4),
    owner=st.tuples(st.integers(0, 0xFFFFFFFE), st.integers(0, 0xFFFFFFFE)),
    mode=st.integers(0, 0o7777),
    device=st.tuples(st.integers(0, 0xFFF), st.integers(0, 0xFFFFF)),
)
def test_checksums_are_right_whatever_changes(
    size: int,
    extra: int,
    filler: bytes,
    seed: int,
    times: tuple[int, int, int, int],
    owner: tuple[int, int],
    mode: int,
    device: tuple[int, int],
) -> None:
    old = with_checksum(inode(size, extra, filler), seed)
    fields = InodeFields(old)
    fields.set_permissions(mode)
    fields.set_owner(*owner)
    fields.set_times(*times)
    fields.set_device(*device)
    new = fields.changed(checksums=True)
    assert new is None or new == with_checksum(new, seed)
