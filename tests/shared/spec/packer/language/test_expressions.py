"""Expressions of templates: what they come to, and the bounds of what hostile ones take."""

from __future__ import annotations

from typing import Any

import pytest

from shared.spec.packer.language.expressions import value_of
from shared.spec.packer.language.functions import functions
from shared.spec.packer.language.scope import Confidential, Scope, Varying
from shared.spec.packer.language.syntax import TemplateError, TemplateFiles, read_body
from tests.shared.spec.packer.templates import found_files, problems_of, read_file, template_of

NAMES: dict[str, Any] = {"x": "one", "list": ["a", "", "b"], "map": {"k": [{"z": 9}]}, "secret": Confidential("s", "v")}


def worked_out(text: str) -> Any:
    scope = Scope(
        lambda root, name, place: NAMES[name], functions({"HOME": "/home"}.__getitem__, read_file, found_files, "/work")
    )
    return value_of(read_body(f"x = {text}\n").attributes["x"], scope)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"a-${var.x}-${1 + 2 * 3}"', "a-one-7"),
        ('"${var.list}"', ["a", "", "b"]),
        ('"\\u00e9\\n\\"$${x} %%{y}"', 'é\n"${x} %{y}'),
        ('var.x == "one" && !false ? 1.5 : null', 1.5),
        ("(10 - 4) / 4 >= 1.5", True),
        ("-7 % 4", 1),
        ('{ a = 1, "b" : true, for = "x" }', {"a": 1, "b": True, "for": "x"}),
        ('var.map["k"][0].z', 9),
        ("var.map.k[*].z", [9]),
        ('[for each in var.list : upper(each) if each != ""]', ["A", "B"]),
        ('{for key, each in {a = 1} : "${key}x" => each + 1}', {"ax": 2}),
        ('join(",", concat([var.list, ["c"]]...))', "a,,b,c"),
        ('try(jsondecode("{"), "else")', "else"),
        ("can(var.map.nope)", False),
        ('format("%05d", 7)', "00007"),
        ('format("%s-%03d-%v%%", "a", 7, true)', "a-007-true%"),
        ('regex_replace("2024-01-02 a", "[- TZ:]", "")', "20240102a"),
        ('replace(env("HOME"), "/", ".")', ".home"),
        ('file("motd")', "hi\n"),
        ("merge({a = 1}, {a = 2, b = 3})", {"a": 2, "b": 3}),
        ('lookup({a = 1}, "b", 5) + length([1, 2])', 7),
        ('"v${timestamp()}"', Varying("v")),
        ('formatdate("YYYY", timestamp())', Varying()),
        ("var.secret", Confidential("s", "v")),
        ('"A=${var.secret}"', Confidential("s", "A=v", False, "A=")),
        ("upper(var.secret)", Confidential("s", None, False)),
        ("md5([var.secret])", Confidential("s", None, False)),
        ("reverse([var.secret, 1])", [1, Confidential("s", "v")]),
        ('"%{ if var.x == "one" }a%{ else }b%{ endif }c"', "ac"),
        ('"%{ for k, v in {a = 1} }${k}${v},%{ endfor }"', "a1,"),
        ('fileset(".", "*.sh")', ["setup.sh"]),
        ('[fileexists("motd"), fileexists("none"), pathexpand("~/x")]', [True, False, "/home/x"]),
        ('yamldecode("a: [1, b]")', {"a": [1, "b"]}),
        ("range(1, 7, 2)", [1, 3, 5]),
        ('can(regex("^[a-z]+$", "ab1")) || regex("[0-9]+", "ab12") == "12"', True),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert worked_out(text) == value


def test_a_heredoc_loses_its_indent_and_keeps_its_own() -> None:
    assert worked_out('<<-END\n    a ${upper("}")}\n      $${b}\n  END') == "  a }\n    ${b}\n".replace(
        "  ", "", 1
    ).replace("\n    ", "\n  ")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("(" * 100, "nests brackets more than 60 deep"),
        ("1" + "+1" * 500, "nests too deep"),
        ("true" + ".a" * 5000, "nests too deep"),
        ("[for a in [1,2,3,4,5,6,7,8,9,0] : " * 6 + "a" + "]" * 6, "takes too many steps"),
        (
            'join("", [for a in [1, 2] : "' + "x" * 60_000 + '${"x"}"], [for a in [1, 2, 3] : "' + "y" * 60_000 + '"])',
            "gives too much",
        ),
        ('regex_replace("aaaa", "(a+)+$", "")', "is more than characters, classes and one quantifier"),
        ("[for a in [1,2,3,4,5,6,7,8,9] : " * 3 + f'upper("{"x" * 60_000}")' + "]" * 3, "takes too many steps"),
        ("9999999999 * 99999999999", "is too large a number"),
        ("1 / 0", "divided by zero"),
        ('cidrhost("10.0.0.0/8", 1)', "cidrhost() is not worked out here"),
        ('format("%9999999d", 1)', "with two digits at most"),
        ("upper(1, 2, 3)", "upper() cannot be worked out"),
        ('timestamp() == "x"', "depends on a value that is not known here"),
        ('"%{ if timestamp() }x%{ endif }"', "depends on a value that is not known here"),
        ('"%{ if true }x"', "has %{ if } without its end"),
        ('"x%{ endfor }"', "has %{endfor} without its beginning"),
        ('"%{ for a in 3 }x%{ endfor }"', "goes through something that is no list or object"),
        ("parseint(var.x, 10)", "parseint() cannot be worked out"),
    ],
)
def test_what_is_too_much_or_not_known_is_told(text: str, what: str) -> None:
    with pytest.raises(TemplateError) as caught:
        worked_out(text)
    assert what in str(caught.value)


@pytest.mark.parametrize("text", ["x {", "a = ", 'a = "', "<<A\n" * 2000, "/*" * 20_000, "${" * 9, "\0", "\ud800"])
def test_what_is_no_hcl_has_a_place(text: str) -> None:
    _, problems = TemplateFiles({"first.pkr.hcl": "# nothing\n", "bad.pkr.hcl": text}).blocks()
    assert [each.text.split("; ")[-1] for each in problems] == ["check it with: packer validate"]
    assert all(each.position is not None and each.position.line > 2 for each in problems)


def test_a_template_that_is_too_long_is_refused_at_once() -> None:
    _, problems = TemplateFiles({"long.pkr.hcl": "a = 1\n" * 30_000}).blocks()
    assert [each.text for each in problems] == [
        "is longer than 128 KiB; move texts into files, and name those by file()"
    ]


def test_values_that_double_are_refused_before_they_are_large() -> None:
    doubled = "".join(f"  v{number} = [local.v{number + 1}, local.v{number + 1}]\n" for number in range(60))
    text = f"locals {{\n{doubled}  v60 = 1\n}}\n" + 'source "qemu" "x" {\n  cpus = length(jsonencode(local.v0))\n}\n'
    problems = problems_of(template_of(text + 'build {\n  sources = ["qemu.x"]\n}\n'))
    assert [each for each in problems if "is too large; write less" in each]


def test_values_that_need_themselves_are_told() -> None:
    text = 'locals {\n  a = local.b\n  b = local.a\n}\nsource "qemu" "x" {\n  cpus = local.a\n}\n'
    problems = problems_of(template_of(text + 'build {\n  sources = ["qemu.x"]\n}\n'))
    assert "3: cpus: local.a needs itself; write its value" in problems


@pytest.mark.parametrize(
    ("mark", "text"),
    [
        ("<<", "        a: 1 2\n          some\n            b:\n          none\n            %{ text\n"),
        ("<<-", "    a: 1 2\n      some\n        b:\n      none\n        %{ text\n"),
    ],
)
def test_directives_of_heredocs(mark: str, text: str) -> None:
    heredoc = f"""{mark}END
    %{{ for key, each in {{a = [1, 2], b = []}} ~}}
    ${{key}}:%{{ for one in each }} ${{one}}%{{ endfor }}
    %{{ if length(each) == 0 ~}}
      none
    %{{ else ~}}
      some
    %{{ endif ~}}
    %{{ endfor ~}}
    %%{{ text
END
"""
    assert worked_out(heredoc) == text


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a ${x", "without its end"),
        ("%{ while x }", "is no directive"),
        ("%{ for x }%{ endfor }", "has a for without"),
        ("%{ if true }%{ endfor }", "without its end"),
        ("%{ if true }" * 3000 + "%{ endif }" * 3000, "nests too deep"),
        ("%{ for a in range(9999) }" * 2 + "x" + "%{ endfor }" * 2, "takes too many steps"),
    ],
)
def test_directives_that_cannot_be_kept(text: str, what: str) -> None:
    with pytest.raises(TemplateError) as caught:
        worked_out(f"<<END\n{text}\nEND\n")
    assert what in str(caught.value)
    assert caught.value.position.line >= 1
