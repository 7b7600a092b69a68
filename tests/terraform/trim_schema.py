"""Makes provider_schema.json: what the resource types take that terraform/ and the pages use, out of provider packages.

Terraform itself shows a schema only with the provider's 100 MB at hand. The CDK's packages on PyPI carry the same
facts: arguments, their types, which are required, nested blocks, what is known after the apply. To make the file anew,
after a new resource type or a new version of a provider:

    pip download --no-deps cdktf-cdktf-provider-google==16.12.1 cdktf-cdktf-provider-archive==11.0.1 \
        cdktf-cdktf-provider-random==12.0.1 cdktf-cdktf-provider-time==11.0.1
    python -m tests.terraform.trim_schema cdktf_cdktf_provider_*.whl

What they do not tell: lists from sets, and that a plain argument is write-only.
"""

from __future__ import annotations

import io
import json
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.terraform.configuration import SCHEMA
from tests.terraform.shown_blocks import types_in_use

DOCUMENTED = re.compile(r"providers/hashicorp/(?P<provider>\w+)/(?P<version>[\d.]+)/docs/[^ #]*#(?P<argument>\w+) ")
PRIMITIVES = {"string": "string", "number": "number", "boolean": "bool"}
RESOLVED = {"cdktf.IResolvable": "bool", "cdktf.StringMap": ["map", "string"], "cdktf.NumberMap": ["map", "number"]}
INTERNAL = frozenset(("fqn", "internal_value", "tf_resource_type", "complex_object_index", "terraform_attribute"))

Types = Mapping[str, Any]


def types_of(wheel: Path) -> Types:
    """Read all types of a provider's package, by their full names."""
    with zipfile.ZipFile(wheel) as package:
        [name] = [name for name in package.namelist() if name.endswith(".tgz")]
        with tarfile.open(fileobj=io.BytesIO(package.read(name))) as archive:
            file = archive.extractfile("package/.jsii")
            assert file is not None, f"{wheel} has no assembly"
            types: Types = json.load(file)["types"]
    return types


def block_of(name: str, resource: str, types: Types) -> dict[str, Any]:
    """Return a block's {"arguments": {name: {"type", "required"}}, "blocks": {name: {"required", "many", "block"}}}.

    `resource` is the class that has what is known after the apply; {"type", "computed"} stands for that.
    """
    arguments: dict[str, Any] = {}
    blocks: dict[str, Any] = {}
    for argument, entry in _documented(types[name]):
        required = not entry.get("optional", False)
        nested, many = _nested(entry["type"])
        if nested in types:
            block = block_of(nested, nested + "OutputReference", types)
            blocks[argument] = {"required": required, "many": many, "block": block}
        else:
            arguments[argument] = {"type": _argument_type(entry["type"]), "required": required}
    for attribute, entry in _computed(types.get(resource, {})):
        if attribute not in arguments and attribute not in blocks:
            arguments[attribute] = {"type": _argument_type(entry["type"]), "computed": True}
    return {"arguments": dict(sorted(arguments.items())), "blocks": dict(sorted(blocks.items()))}


def _documented(kind: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Return a type's arguments by their names in Terraform, which the address of their documentation ends in."""
    for entry in kind.get("properties", ()):
        if match := DOCUMENTED.search(_docs(entry)):
            yield match["argument"], entry


def _docs(entry: Mapping[str, Any]) -> str:
    docs = entry.get("docs", {})
    return f"{docs.get('summary', '')} {docs.get('remarks', '')} {docs.get('see', '')} "


def _computed(kind: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for entry in kind.get("properties", ()):
        name = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", entry["name"]).lower()
        if not entry.get("static") and not name.endswith("_input") and name not in INTERNAL:
            yield name, entry


def _nested(kind: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the block's type ("" for a plain argument), and whether there may be several."""
    for one in kind.get("union", {}).get("types", [kind]):
        if one.get("collection", {}).get("kind") == "array":
            return one["collection"]["elementtype"].get("fqn", ""), True
        if "fqn" in one and one["fqn"] not in RESOLVED:
            return one["fqn"], False
    return "", False


def _argument_type(kind: Mapping[str, Any]) -> Any:
    """Return the type as Terraform's wire protocol has it."""
    for one in kind.get("union", {}).get("types", [kind]):
        if "primitive" in one:
            return PRIMITIVES[one["primitive"]]
        if "collection" in one:
            element = _argument_type(one["collection"]["elementtype"])
            return ["map" if one["collection"]["kind"] == "map" else "list", element]
        if one.get("fqn") in RESOLVED and "union" not in kind:
            return RESOLVED[one["fqn"]]
    return "dynamic"


def trimmed(wanted: set[str], packages: list[Types]) -> dict[str, Any]:
    """Return {"providers": {name: version}, "types": {type: block}}; data sources have `data.` before their type."""
    providers: dict[str, str] = {}
    found: dict[str, Any] = {}
    for types in packages:
        for name, kind in types.items():
            match = next((DOCUMENTED.search(_docs(entry)) for _, entry in _documented(kind)), None)
            if not name.endswith("Config") or match is None:
                continue
            providers[match["provider"]] = match["version"]
            resource, short = name.removesuffix("Config"), name.split(".")[-2]
            key = _terraform_type(match["provider"], short, wanted)
            if key and resource.rpartition(".")[2].lower() == short.lower():  # not of a nested block named ...Config
                found[key] = block_of(name, resource, types)
    missing = wanted - set(found)
    assert not missing, f"in none of the packages: {', '.join(sorted(missing))}"
    return {"providers": dict(sorted(providers.items())), "types": dict(sorted(found.items()))}


def _terraform_type(provider: str, name: str, wanted: set[str]) -> str:
    """Find a type by its name in the CDK, which has no underscores: pubsubTopic, dataGoogleProject."""
    for key in wanted:
        kind = key.removeprefix("data.").removeprefix(provider + "_").replace("_", "")
        if name.lower() == ("data" + provider + kind if key.startswith("data.") else kind):
            return key
    return ""


def main(wheels: list[str]) -> None:
    """Write the schema of the types in use."""
    schema = trimmed(types_in_use(), [types_of(Path(wheel)) for wheel in wheels])
    SCHEMA.write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
