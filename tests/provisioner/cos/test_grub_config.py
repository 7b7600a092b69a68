"""Edits of grub.cfg change what is asked for and no other byte, or are refused with a clear reason."""

from __future__ import annotations

import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.cos.grub_config import (
    MOST,
    GrubConfigError,
    with_masked,
    with_oem_verity,
    with_parameters,
    with_suffix,
    without_suffix,
)
from tests.provisioner.cos.disk import LINUX, Place, grub_cfg

UUID = "8AC60384-1187-9E49-91CE-3ABD8DA20008"
HASH, SALT = "12" * 32, "34" * 32
CONFIG = grub_cfg({3: Place(0, 0, LINUX, UUID, "", ""), 5: Place(0, 0, LINUX, UUID, "", "")})
VROOT = f"vroot none ro 1,0 4077568 verity payload=PARTUUID={UUID} alg=sha256 root_hexdigest=ab salt=cd"
SUFFIX = " init=/bin/sh -- -c 'mount -t proc proc /proc; for d in /dev/*; do exec sh x; done'"


def kernel_lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if re.match(r"\s*linux(16|efi)?\s", line)]


def line(arguments: str) -> str:
    """Return a configuration of one kernel line."""
    return f"linux /vmlinuz {arguments}\n"


def test_update_engine_is_masked() -> None:
    """disable-auto-update: systemd.mask=update-engine.service after each cros_efi in grub.cfg, once."""
    edited = with_masked(CONFIG, "update-engine.service")
    assert edited == CONFIG.replace(" cros_efi ", " cros_efi systemd.mask=update-engine.service ")
    assert edited.count("systemd.mask=") == 4
    assert with_masked(edited, "update-engine.service") == edited


def test_second_unit_is_masked_too() -> None:
    """seal-oem: masks update-engine and usr-share-oem.mount."""
    edited = with_masked(with_masked(CONFIG, "update-engine.service"), "usr-share-oem.mount")
    for one in kernel_lines(edited):
        assert " cros_efi systemd.mask=usr-share-oem.mount systemd.mask=update-engine.service " in one


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("cros_efi", "cros_efi systemd.mask=a.service"),
        ("a cros_efi\tb", "a cros_efi systemd.mask=a.service\tb"),
        ("cros_efi systemd.mask=a.service.d", "cros_efi systemd.mask=a.service systemd.mask=a.service.d"),
        ("systemd.mask=a.service cros_efi", "systemd.mask=a.service cros_efi"),
        ("cros_efix=1 cros_efi", "cros_efix=1 cros_efi systemd.mask=a.service"),
    ],
)
def test_mask_is_a_word_of_its_own(before: str, after: str) -> None:
    assert with_masked(line(before), "a.service") == line(after)


def test_kernel_lines_of_others_are_not_masked() -> None:
    other = 'linux /memtest quiet "cros_efi"\n# cros_efi\n'
    assert with_masked(line("cros_efi") + other, "a.service") == line("cros_efi systemd.mask=a.service") + other
    with pytest.raises(GrubConfigError, match="no kernel line with cros_efi"):
        with_masked(other, "a.service")


@pytest.mark.parametrize("unit", ["", "update-engine", "a b.service", "a.service\n", "a;b.service", 'a".mount', "$a.b"])
def test_hostile_units_are_refused(unit: str) -> None:
    with pytest.raises(GrubConfigError, match="is not a systemd unit"):
        with_masked(CONFIG, unit)


def test_oem_is_verified() -> None:
    """seal-oem: in each line with dm=, the count becomes 2, and the oemroot table is appended inside the quotes."""
    entry = (
        f",oemroot none ro 1, 0 32768 verity payload=PARTUUID={UUID} hashtree=PARTUUID={UUID} hashstart=32768 "
        f'alg=sha256 root_hexdigest={HASH} salt={SALT}"'
    )
    edited = with_oem_verity(CONFIG, UUID, 32768, HASH, SALT)
    expected = [
        re.sub(r'dm="1 (.*)"$', lambda found: f'dm="2 {found[1]}{entry}', one) if "dm=" in one else one
        for one in CONFIG.split("\n")
    ]
    assert edited.split("\n") == expected
    assert edited.count("oemroot") == 2
    assert with_oem_verity(edited, UUID, 32768, HASH, SALT) == edited


VERITY = f"vroot,,,ro,0 4077568 verity 0 PARTUUID={UUID} PARTUUID={UUID} 4096 4096 509696 509696 sha256 ab cd"


@pytest.mark.parametrize("name", ["dm-mod.create", "dm_mod.create"])
def test_oem_is_verified_by_newer_kernels(name: str) -> None:
    """seal-oem, where the kernel has Linux's own parameter, as Container-Optimized OS 117 and others do."""
    entry = f"oemroot,,,ro,0 32768 verity 0 PARTUUID={UUID} PARTUUID={UUID} 4096 4096 4096 4096 sha256 {HASH} {SALT}"
    config = re.sub('dm="1 [^"]*"', f'{name}="{VERITY}"', CONFIG)
    edited = with_oem_verity(config, UUID, 32768, HASH, SALT)
    assert edited == config.replace(f'{VERITY}"', f'{VERITY};{entry}"')
    assert edited.count("oemroot") == 2
    assert with_oem_verity(edited, UUID, 32768, HASH, SALT) == edited
    assert with_oem_verity(with_oem_verity(config, UUID, 65536, SALT, HASH), UUID, 32768, HASH, SALT) == edited


def test_older_oemroot_is_replaced() -> None:
    first = with_oem_verity(CONFIG, UUID, 65536, SALT, HASH)
    assert with_oem_verity(first, UUID, 32768, HASH, SALT) == with_oem_verity(CONFIG, UUID, 32768, HASH, SALT)


def test_dm_is_found_wherever_it_stands() -> None:
    edited = with_oem_verity(line(f'a\tdm="1 {VROOT}"\tb "dm is" c') + line("no"), UUID, 8, HASH, SALT)
    assert edited.startswith(f'linux /vmlinuz a\tdm="2 {VROOT},oemroot none ro 1, 0 8 verity ')
    assert edited.endswith(f'salt={SALT}"\tb "dm is" c\n{line("no")}')


@pytest.mark.parametrize(
    "dm",
    [
        f'dm="2 {VROOT}"',
        f'dm="3 {VROOT},oemroot none ro 1, 0 8 verity x"',
        f'dm="1 {VROOT},oemroot none ro 1, 0 8 verity x"',
        f'dm="2 {VROOT},other none ro 1, 0 8 verity x"',
        f"dm='1 {VROOT}'",
        f'"dm=1 {VROOT}"',
        "dm=1",
        'dm="1 vroot none ro 1,0 100 linear /dev/sda 0"',
        f'dm="1 {VROOT}"x',
        'dm=""',
        f'dm-mod.create="{VERITY};other,,,ro,0 8 verity 0 x"',
        f'dm-mod.create="{VERITY},8 8 linear /dev/sda 0"',
        'dm-mod.create="vroot,,,rw,0 8 verity 0 x"',
        f'"dm-mod.create={VERITY}"',
        "dm-mod.create=x",
    ],
)
def test_other_dm_is_refused(dm: str) -> None:
    with pytest.raises(GrubConfigError, match=r"grub\.cfg:3: .* is not a dm= of one verified root file system"):
        with_oem_verity(line("a") + f'linux /x dm="1 {VROOT}"\n' + line(dm), UUID, 8, HASH, SALT)


@pytest.mark.parametrize(
    ("uuid", "sectors", "digest", "salt"),
    [
        (UUID[1:], 8, HASH, SALT),
        (UUID, 0, HASH, SALT),
        (UUID, 12, HASH, SALT),
        (UUID, 8, 'a"', SALT),
        (UUID, 8, HASH, ""),
        (UUID, 8, "a", SALT),
    ],
)
def test_what_is_no_hash_tree_is_refused(uuid: str, sectors: int, digest: str, salt: str) -> None:
    with pytest.raises(GrubConfigError, match=r"cannot be verified|is not a root hash or a salt"):
        with_oem_verity(CONFIG, uuid, sectors, digest, salt)


def test_without_any_dm_nothing_can_be_verified() -> None:
    with pytest.raises(GrubConfigError, match="no kernel line with dm="):
        with_oem_verity(line('x "a dm=1" y="dm=2" -- dm=3'), UUID, 8, HASH, SALT)


@pytest.mark.parametrize(
    ("before", "add", "remove", "after"),
    [
        ("quiet ro", ["a=1", "b"], [], "quiet ro a=1 b"),
        ("a=1 b", ["a=1", "b", "b"], [], "a=1 b"),
        ("a=1", ["a=2"], [], "a=1 a=2"),
        ("a=1", ["a=2"], ["a"], "a=2"),
        ("x  a=1\ta a=2 b", [], ["a"], "x b"),
        ("a=1 a=2 a", [], ["a=2"], "a=1 a"),
        ("a", ["b"], ["a"], "b"),
        ("a -- -x quiet", ["b"], ["quiet"], "a b -- -x quiet"),
        ("-- -x", ["b"], [], "b -- -x"),
        (f'dm="1 {VROOT}" q', [], ["salt", "root_hexdigest"], f'dm="1 {VROOT}" q'),
        ("a", ['d="x y"'], [], 'a d="x y"'),
        ("q a\\\n  b", ["c"], ["a"], "q\\\n  b c"),
        ("q a\\\nb", ["c"], ["a"], "q a\\\nb c"),
    ],
)
def test_parameters_are_added_and_removed(before: str, add: list[str], remove: list[str], after: str) -> None:
    assert with_parameters(line(before), add, remove) == line(after)


def test_parameters_reach_every_kernel_line() -> None:
    edited = with_parameters(CONFIG, ["mitigations=off"], ["console"])
    assert [one.endswith(" mitigations=off") for one in kernel_lines(edited)] == [True] * 4
    assert "console" not in edited
    assert [one for one in edited.split("\n") if "linux" not in one] == [
        one for one in CONFIG.split("\n") if "linux" not in one
    ]


@pytest.mark.parametrize(
    "bad", ["", "a b", "a\n", "a;b", "$x", "a'b", 'a="', 'a="b" c', "#a", "a\\", "{a}", "a>b", 'a="$b"']
)
def test_hostile_parameters_are_refused(bad: str) -> None:
    for add, remove in (([bad], []), ([], [bad])):
        with pytest.raises(GrubConfigError, match="is no kernel parameter; write NAME or NAME=VALUE"):
            with_parameters(CONFIG, add, remove)


@pytest.mark.parametrize(
    "text", [CONFIG, CONFIG.replace("\n", "\r\n"), CONFIG.rstrip(), "\tlinuxefi /x a \t\r\nlinux16\t/y"]
)
def test_suffix_comes_and_goes(text: str) -> None:
    """Maintenance boot: each kernel line (linux, linux16, linuxefi) ends in it; without it, all is as it was."""
    edited = with_suffix(text, SUFFIX)
    assert edited.count(SUFFIX) == len(kernel_lines(text)) > 1
    assert all(one.rstrip("\r").endswith(SUFFIX) for one in kernel_lines(edited))
    assert edited.replace(SUFFIX, "") == text
    assert with_suffix(edited, SUFFIX) == edited
    assert without_suffix(edited, SUFFIX) == text
    assert without_suffix(text, SUFFIX) == text


@pytest.mark.parametrize("suffix", ["", "a", " a\nb", " a;b", " 'a", " #a", ' "', " a > b", " a\r", " a & b"])
def test_hostile_suffixes_are_refused(suffix: str) -> None:
    with pytest.raises(GrubConfigError):
        with_suffix(CONFIG, suffix)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("set timeout=0\n# linux /x\necho 'linux /x'\ninsmod linux\n", "has no kernel line"),
        ("echo 'a\nlinux /x a'\n", "has no kernel line"),
        ('menuentry "a" { linux /x }\n', r"grub\.cfg:1: a kernel line within another command"),
        ("a\nif true; then linux /x; fi\n", r"grub\.cfg:2: a kernel line within another command"),
        ("linux /x a; initrd /y\n", r"grub\.cfg:1: linux /x a; initrd /y: not a kernel line of plain words"),
        ("linux /x a # b\n", "not a kernel line of plain words"),
        ("linux /x a && b\n", "not a kernel line of plain words"),
        ("linux /x }\n", "not a kernel line of plain words"),
        ("linux \n", "not a kernel line of plain words|has no kernel line"),
        ("linux /x a\\", "not a kernel line of plain words"),
        ("linux /x a\\\r\nb\n", "not a kernel line of plain words"),
        ("set a=1\nlinux /x 'a b\n", r"grub\.cfg:2: a quote \('\) that is opened here is never closed"),
    ],
)
def test_other_shapes_are_refused(text: str, reason: str) -> None:
    with pytest.raises(GrubConfigError, match=reason):
        with_suffix(text, " a")
    with pytest.raises(GrubConfigError, match=reason):
        without_suffix(text, " a")
    with pytest.raises(GrubConfigError, match=reason):
        with_parameters(text, ["a"])


def test_command_line_that_the_kernel_would_cut_off_is_refused() -> None:
    """The kernel reads 2047 bytes: it would silently lose a root_hexdigest behind them, and not boot."""
    fits = MOST - len("BOOT_IMAGE=/vmlinuz ")
    assert with_parameters(line("x" * (fits - 2)), ["a"]).endswith(" a\n")
    with pytest.raises(GrubConfigError, match=r"grub\.cfg:1: the kernel's command line would have 2048 bytes"):
        with_parameters(line("x" * (fits - 1)), ["a"])
    assert with_parameters(line("x" * 3000), [], ["a"]) == line("x" * 3000)


@given(st.text(max_size=60), st.text("\t \"'\\#;|{}a\n-", max_size=40))
def test_any_text_is_edited_reversibly_or_refused(noise: str, arguments: str) -> None:
    text = f"{noise}\nlinux /vmlinuz {arguments}\nset a=1\n"
    try:
        edited = with_suffix(text, SUFFIX)
    except GrubConfigError:
        return
    assert without_suffix(edited, SUFFIX) == text.replace(SUFFIX + "\n", "\n")
    assert edited.replace(SUFFIX, "") == text.replace(SUFFIX, "")


@given(st.lists(st.sampled_from(["a", "b=1", 'c="x y"', "d='#;'", "cros_efi", "--", "q\\ z"]), max_size=8))
def test_other_words_mean_the_same_as_before(words: list[str]) -> None:
    """A shell splits words as GRUB does: all parameters that were not named are there, in their order."""
    before = " ".join(["linux", "/x", *words])
    after = with_parameters(before, ["new=1"], ["a"])
    kept = words[: words.index("--")] if "--" in words else words
    rest = words[len(kept) :]
    expected = [word for word in kept if word != "a"]
    assert shlex.split(after) == shlex.split(" ".join(["linux", "/x", *expected, "new=1", *rest]))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n" * (1 << 20) + "linux /vmlinuz", "grub.cfg has more than 1048576 characters"),
        ("linux /vmlinuz" + " a" * 40_000, "grub.cfg:1: a kernel line of 80014 characters"),
    ],
)
def test_what_is_too_large_for_a_boot_loader(text: str, reason: str) -> None:
    with pytest.raises(GrubConfigError, match=reason):
        with_parameters(text, add=["quiet"], remove=["a"])


def test_lines_are_counted_as_they_are_written() -> None:
    with pytest.raises(GrubConfigError, match=r"^grub\.cfg:5: a kernel line within another command"):
        with_parameters("linux /a \\\n b\n'x\n y'\nif true; then linux /b", add=["quiet"])
