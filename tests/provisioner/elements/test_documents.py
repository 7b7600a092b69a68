"""package-installs, pkg-map and svc-map mean what diskimage-builder's pages say, and its faults are mended."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.elements.documents import (
    DOCUMENTS,
    INSTALL_PHASES,
    PhasePackages,
    decode_documents,
    document_faults,
    family_of,
    fault_text,
    install_entries,
    is_wanted,
    mapped_packages,
    merged_services,
    phase_packages,
)
from provisioner.elements.model import ElementsError

PHASES = "pre-install.d, install.d, post-install.d"
CONDITIONS = "VARIABLE = value, VARIABLE != value, or a list of these"
DEBIAN = {"ARCH": "amd64", "DISTRO_NAME": "debian", "DIB_RELEASE": "bookworm", "DIB_PYTHON_VERSION": "3"}


def packages(elements: dict[str, Any], environment: dict[str, str] | None = None) -> dict[str, tuple[str, str]]:
    """Return the phases with packages to install and to uninstall; `elements` are package-installs by element."""
    documents = {
        name: files if "package-installs.yaml" in files else {"package-installs.yaml": files}
        for name, files in elements.items()
    }
    documents = dict(decode_documents(json.dumps(documents)))
    found = phase_packages(install_entries(documents, documents), documents, {**DEBIAN, **(environment or {})})
    return {
        phase: (" ".join(each.install), " ".join(each.uninstall))
        for phase, each in found.items()
        if each != PhasePackages((), ())
    }


def installs(element: str, environment: dict[str, str], entry: dict[str, Any]) -> bool:
    documents = {element: {"package-installs.yaml": {"p": entry}}}
    assert document_faults("package-installs.yaml", documents[element]["package-installs.yaml"]) == []
    [request] = install_entries(documents, [element])
    return is_wanted(request, {**DEBIAN, **environment})


def faults(file: str, document: Any) -> list[str]:
    return [fault_text(fault) for fault in document_faults(file, document)]


def test_packages_go_to_their_phases_in_the_order_of_the_elements() -> None:
    found = packages(
        {
            "b": {"z": None, "a": {"phase": "pre-install.d"}, "y": {}},
            "a": {"c": [{"phase": "post-install.d"}, {"phase": "install.d"}], "z": None},
        }
    )
    assert found == {"pre-install.d": ("a", ""), "install.d": ("z y c", ""), "post-install.d": ("c", "")}


def test_json_and_yaml_of_one_element_both_count() -> None:
    documents = {"a": {"package-installs.yaml": {"y": None}, "package-installs.json": {"j": None}}}
    assert [each.package for each in install_entries(documents, ["a", "none"])] == ["j", "y"]


def test_uninstall_removes_at_the_end_of_its_phase() -> None:
    assert packages({"a": {"p": {"uninstall": True, "phase": "post-install.d"}}}) == {"post-install.d": ("", "p")}


def test_build_only_is_installed_and_removed() -> None:
    """Mended: in diskimage-builder, some build-only packages stay without a word."""
    assert packages({"a": {"gcc": {"build-only": True}}}) == {"install.d": ("gcc", "gcc")}
    assert packages({"a": {"gcc": {"build-only": True, "uninstall": True}}}) == {"install.d": ("gcc", "gcc")}


@pytest.mark.parametrize("first", ["plain", "other"])
@pytest.mark.parametrize(
    ("field", "plain_phase", "expected"),
    [
        ("build-only", "install.d", {"install.d": ("gcc", "")}),
        ("build-only", "pre-install.d", {"pre-install.d": ("gcc", ""), "install.d": ("gcc", "")}),
        ("build-only", "post-install.d", {"install.d": ("gcc", ""), "post-install.d": ("gcc", "")}),
        ("uninstall", "install.d", {"install.d": ("gcc", "")}),
        ("uninstall", "pre-install.d", {"pre-install.d": ("gcc", ""), "install.d": ("", "gcc")}),
    ],
)
def test_plain_request_wins(first: str, field: str, plain_phase: str, expected: dict[str, tuple[str, str]]) -> None:
    """In whichever order: a build-only package stays, and uninstalling counts for its phase."""
    elements = {"plain": {"gcc": {"phase": plain_phase}}, "other": {"gcc": {field: True}}}
    assert packages({name: elements[name] for name in sorted(elements, reverse=first == "plain")}) == expected


def test_plain_request_that_does_not_count_keeps_nothing() -> None:
    """Mended: diskimage-builder drops the uninstalling before it looks at the conditions."""
    assert packages({"a": {"gcc": {"build-only": True}}, "b": {"gcc": {"arch": "arm64"}}}) == {
        "install.d": ("gcc", "gcc")
    }


@pytest.mark.parametrize("no", [False, "no", "Off", "false"])
@pytest.mark.parametrize("field", ["uninstall", "build-only"])
def test_false_means_no(field: str, no: Any) -> None:
    """Mended: diskimage-builder takes `uninstall: False` for true."""
    assert packages({"a": {"p": {field: no}}}) == {"install.d": ("p", "")}


@pytest.mark.parametrize("yes", [True, "yes", "ON", "true"])
def test_true_is_as_yaml_has_it(yes: Any) -> None:
    assert packages({"a": {"p": {"uninstall": yes}}}) == {"install.d": ("", "p")}


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ({"arch": "amd64"}, True),
        ({"arch": "ppc64, amd64"}, True),  # mended: diskimage-builder compares " amd64"
        ({"arch": "ppc64,ppc64le"}, False),
        ({"arch": ["arm64", "amd64"]}, True),
        ({"not-arch": "ppc64, amd64"}, False),
        ({"not-arch": "ppc64, ppc64le"}, True),
        ({"installtype": "source"}, True),
        ({"installtype": "package"}, False),
        ({"dib_python_version": 3}, True),
        ({"dib_python_version": "2"}, False),
        ({"when": "DISTRO_NAME = debian"}, True),
        ({"when": "DISTRO_NAME=debian"}, True),
        ({"when": "DISTRO_NAME != debian"}, False),
        ({"when": "DISTRO_NAME!=ubuntu"}, True),
        ({"when": ["DISTRO_NAME = debian", "ARCH != arm64"]}, True),
        ({"when": ["DISTRO_NAME = debian", "ARCH = arm64"]}, False),
        ({"when": "EMPTY ="}, True),
        ({"when": "WORDS = two words"}, True),
    ],
)
def test_conditions(entry: dict[str, Any], wanted: bool) -> None:
    """Mended: of `arch: amd64, arm64`, diskimage-builder compares ` arm64` with its space."""
    assert installs("a", {"EMPTY": "", "WORDS": "two words"}, entry) is wanted


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"DIB_DEFAULT_INSTALLTYPE": "package"}, True),
        ({"DIB_INSTALLTYPE_my_app": "package"}, True),
        ({"DIB_DEFAULT_INSTALLTYPE": "package", "DIB_INSTALLTYPE_my_app": "source"}, False),
        ({"DIB_INSTALLTYPE_app": "package"}, False),
    ],
)
def test_install_type_is_of_the_element(environment: dict[str, str], wanted: bool) -> None:
    assert installs("my-app", environment, {"installtype": "package"}) is wanted


def test_unset_variables_are_all_told() -> None:
    with pytest.raises(ElementsError) as caught:
        packages({"a": {"p": {"when": ["ARCH = arm64", "FLAG = 1"]}, "q": {"when": "OTHER != 1"}}})
    assert caught.value.problems == (
        "a/package-installs.yaml: p: the variable FLAG is not set; export it in a file of environment.d, or set it in "
        "the step's env",
        "a/package-installs.yaml: q: the variable OTHER is not set; export it in a file of environment.d, or set it in "
        "the step's env",
    )


def test_unset_variable_behind_another_condition_is_no_matter() -> None:
    assert packages({"a": {"p": {"arch": "arm64", "when": "FLAG = 1"}}}) == {}


def test_lists_of_entries_are_alternatives() -> None:
    entry = [
        {"not-arch": "arm64", "when": "KERNEL = generic"},
        {"arch": "arm64", "when": ["DIB_RELEASE != xenial", "KERNEL = generic"]},
    ]
    assert packages({"a": {"linux": entry}}, {"KERNEL": "generic"}) == {"install.d": ("linux", "")}
    assert packages({"a": {"linux": entry}}, {"KERNEL": "kvm"}) == {}
    assert packages({"a": {"linux": entry}}, {"KERNEL": "generic", "ARCH": "arm64", "DIB_RELEASE": "xenial"}) == {}


def test_packages_are_compared_by_the_names_of_the_package_manager() -> None:
    found = packages(
        {
            "a": {
                "package-installs.yaml": {"compiler": {"build-only": True}, "headers": {"build-only": True}},
                "pkg-map": {"family": {"debian": {"compiler": "gcc make"}}, "default": {"headers": ""}},
            },
            "b": {"gcc": None},
        }
    )
    assert found == {"install.d": ("gcc make", "make")}


MAP = {
    "release": {"debian": {"bookworm": {"p": "of-release", "nothing": ""}}, "centos": {"8": {"p": "of-8"}}},
    "distro": {"debian": {"p": "of-distro", "q": "of-distro"}},
    "family": {"debian": {"p": "of-family", "q": "of-family", "r": "of-family other"}},
    "default": {"p": "of-default", "q": "of-default", "r": "of-default", "s": "of-default", "nothing": "something"},
}


@pytest.mark.parametrize(
    ("distro", "release", "package", "names"),
    [
        ("debian", "bookworm", "p", ("of-release",)),
        ("debian", "trixie", "p", ("of-distro",)),
        ("debian", "bookworm", "q", ("of-distro",)),
        ("ubuntu", "bookworm", "q", ("of-family",)),
        ("debian", "bookworm", "r", ("of-family", "other")),
        ("fedora", "41", "r", ("of-default",)),
        ("fedora", "", "s", ("of-default",)),
        ("debian", "bookworm", "nothing", ()),
        ("debian", "trixie", "nothing", ("something",)),
        ("centos", "8-stream", "p", ("of-8",)),
        ("centos", "9-stream", "p", ("of-default",)),
        ("debian", "bookworm", "unknown", None),
    ],
)
def test_package_map_says_most_about_the_release(
    distro: str, release: str, package: str, names: tuple[str, ...] | None
) -> None:
    assert document_faults("pkg-map", MAP) == []
    assert mapped_packages(MAP, distro, release, package) == names


@pytest.mark.parametrize(
    ("distro", "family"),
    [
        *((distro, "redhat") for distro in ("almalinux", "centos", "fedora", "openeuler", "rhel", "rocky")),
        *((distro, "debian") for distro in ("debian", "ubuntu")),
        *(("opensuse", "suse"), ("gentoo", "gentoo"), ("arch", "")),
    ],
)
def test_families(distro: str, family: str) -> None:
    assert family_of(distro) == family


SERVICES = {
    "a": {"svc-map": {"ssh": {"default": "sshd", "debian": "ssh", "fedora": "sshd-of-fedora"}, "own": {"suse": "x"}}},
    "b": {"svc-map": {"time": {"redhat": "chronyd", "default": "ntp"}}},
}


@pytest.mark.parametrize(
    ("distro", "names"),
    [
        ("debian", {"ssh": "ssh", "own": "own", "time": "ntp"}),
        ("ubuntu", {"ssh": "ssh", "own": "own", "time": "ntp"}),
        ("fedora", {"ssh": "sshd-of-fedora", "own": "own", "time": "chronyd"}),
        ("rocky", {"ssh": "sshd", "own": "own", "time": "chronyd"}),
        ("opensuse", {"ssh": "sshd", "own": "x", "time": "ntp"}),
    ],
)
def test_services_have_the_names_of_the_distribution(distro: str, names: dict[str, str]) -> None:
    assert merged_services(SERVICES, ["a", "b"], distro) == names


def test_service_of_two_elements_is_an_error() -> None:
    documents = {name: {"svc-map": {"ssh": {"default": name}}} for name in "abc"}
    with pytest.raises(ElementsError) as caught:
        merged_services(documents, ["a", "b", "c"], "debian")
    assert caught.value.problems == (
        "b/svc-map: service ssh is in a/svc-map, too; keep one",
        "c/svc-map: service ssh is in a/svc-map, too; keep one",
    )


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ([], ["holds no packages; write lines such as rsync: or rsync: {phase: install.d}"]),
        ({"p": "x"}, ["p: has 'x'; write fields such as phase: install.d, or leave it empty"]),
        ({"-e": None}, ["-e: is no name of a package; write one, without spaces and without a dash before it"]),
        ({"a b": None}, ["a b: is no name of a package; write one, without spaces and without a dash before it"]),
        ({"p": {"phase": "finalise.d"}}, ["p.phase: is 'finalise.d'; write " + PHASES]),
        ({"p": {"phase": ["install.d"]}}, ["p.phase: is ['install.d']; write " + PHASES]),
        ({"p": {"uninstall": "maybe"}}, ["p.uninstall: is 'maybe'; write true or false"]),
        ({"p": {"build-only": None}}, ["p.build-only: is empty; write true or false"]),
        ({"p": {"arch": " , "}}, ["p.arch: names no architecture; write names with commas: amd64, arm64"]),
        ({"p": {"arch": "amd64", "not-arch": "arm64"}}, ["p.not-arch: stands beside arch; write one of the two"]),
        ({"p": {"installtype": True}}, ["p.installtype: is true or false; write source or package"]),
        ({"p": {"dib_python_version": 3.1}}, ["p.dib_python_version: is a number; write 2 or 3"]),
        ({"p": {"when": "DISTRO"}}, ["p.when: has 'DISTRO'; write VARIABLE = value or VARIABLE != value"]),
        ({"p": {"when": "A == b"}}, ["p.when: has 'A == b'; write VARIABLE = value or VARIABLE != value"]),
        ({"p": {"when": []}}, ["p.when: is a list; write " + CONDITIONS]),
        ({"p": {"when": {"A": "b"}}}, ["p.when: is keys and values; write " + CONDITIONS]),
        (
            {"p": [{}, {"build_only": True}], "q": {"notarch": "x"}},
            [
                f"{path}: is no field of a package; write one of phase, uninstall, build-only, installtype, arch, "
                "not-arch, dib_python_version, when"
                for path in ("p[1].build_only", "q.notarch")
            ],
        ),
    ],
)  # fmt: skip
def test_faults_of_package_installs(document: Any, told: list[str]) -> None:
    assert faults("package-installs.yaml", document) == told


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (["a"], ['holds no names; write sections such as {"default": {"name": "package"}}']),
        ({"families": {}}, ["families: is no section of a pkg-map; write one of default, family, distro, release"]),
        ({"default": {"p": ["a"]}}, ['default.p: is a list; write the package\'s name, or "" for none']),
        ({"family": {"debian": "x"}}, ["family.debian: is 'x'; write names and packages"]),
        ({"distro": []}, ["distro: is a list; write sections by name"]),
        ({"release": {"debian": {"p": "x"}}}, ["release.debian.p: is 'x'; write names and packages"]),
    ],
)
def test_faults_of_a_package_map(document: Any, told: list[str]) -> None:
    assert faults("pkg-map", document) == told


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ("x", ["holds no services; write lines such as ssh: {default: sshd}"]),
        ({"ssh": "sshd"}, ["ssh: is 'sshd'; write names such as {default: sshd, debian: ssh}"]),
        ({"ssh": None}, ["ssh: is empty; write names such as {default: sshd, debian: ssh}"]),
        (
            {"ssh": {"debian": 1, "default": ""}},
            ["ssh.debian: is a number; write the service's name", "ssh.default: is empty; write the service's name"],
        ),
    ],
)  # fmt: skip
def test_faults_of_a_service_map(document: Any, told: list[str]) -> None:
    assert faults("svc-map", document) == told


@pytest.mark.parametrize("text", ["", "[", "[]", '{"a": []}', "[" * 100_000])
def test_documents_that_are_no_objects_are_refused(text: str) -> None:
    with pytest.raises(ElementsError, match="documents of the elements: not "):
        decode_documents(text)


def test_faults_of_all_documents_are_told_at_once() -> None:
    with pytest.raises(ElementsError) as caught:
        decode_documents(json.dumps({"a": {"svc-map": [], "other": {}}, "b": {"pkg-map": {"x": {}}}}))
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["a/svc-map", "a/other", "b/pkg-map"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["p", "phase", "arch", "not-arch", "when", "uninstall", "default", "family", "debian"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(DOCUMENTS), VALUES), st.sampled_from(["amd64", "", "x,y"]))
def test_documents_without_faults_can_be_used(files: dict[str, Any], arch: str) -> None:
    documents = {"a": {name: value for name, value in files.items() if not document_faults(name, value)}}
    environment = {**DEBIAN, "ARCH": arch}
    requests = install_entries(documents, ["a"])
    variables = {condition.variable: "x" for request in requests for condition in request.when}
    assert set(phase_packages(requests, documents, {**variables, **environment})) == set(INSTALL_PHASES)
    merged_services(documents, ["a"], "debian")
