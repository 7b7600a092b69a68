"""Providers for Terraform that know schemas and nothing else, so that validate and plan work with no network.

Terraform talks to providers by gRPC and lets us name running ones (TF_REATTACH_PROVIDERS). So its own checks are run:
every argument, block, type, reference, function, condition and cycle, against provider_schema.json. No cloud is called,
and nothing can be applied. What is known after the apply is unknown in the plan, as it is in the real one, or, where a
test wants to see the whole plan, a text that says what it is: `<google_service_account goldsmith-vm email>`.

The wire format is Terraform's tfplugin5.proto.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from tests.terraform.message_pack import UNKNOWN, pack, unpack

PROTOCOL = 5
SERVICE = f"tfplugin{PROTOCOL}.Provider"
LIST, MAX_ONE = 2, 1  # NestedBlock.NestingMode.LIST
SINGLE = 1

WRITE_ONLY = "_wo"  # the end of such arguments' names

Schema = Mapping[str, Any]


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _field(number: int, value: bytes | str | int) -> bytes:
    """Encode one field of a protobuf message; a false or zero value is left out, as it is the default."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value) if value else b""
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _attribute(name: str, shape: Schema) -> bytes:
    """Schema.Attribute. What may be left out may also be computed; write-only arguments are known by their names."""
    required, computed = shape.get("required", False), shape.get("computed", False)
    write_only = name.endswith(WRITE_ONLY)
    return b"".join(
        (
            _field(1, name),
            _field(2, json.dumps(shape["type"])),
            _field(4, int(required)),
            _field(5, int(not required and not computed)),
            _field(6, int(not required and not write_only)),
            _field(10, int(write_only)),
        )
    )


def _nested_block(name: str, shape: Schema) -> bytes:
    """Schema.NestedBlock."""
    single = name == "timeouts"
    return b"".join(
        (
            _field(1, name),
            _field(2, _block(shape["block"])),
            _field(3, SINGLE if single else LIST),
            _field(4, int(shape["required"] and not single)),
            _field(5, int(not shape["many"] and not single)),
        )
    )


def _block(shape: Schema) -> bytes:
    """Schema.Block."""
    attributes = (_field(2, _attribute(name, argument)) for name, argument in shape["arguments"].items())
    blocks = (_field(3, _nested_block(name, block)) for name, block in shape["blocks"].items())
    return b"".join((*attributes, *blocks))


def schema_response(provider: str, schema: Schema) -> bytes:
    """GetProviderSchema.Response of one provider: Schema.block is field 2; resources 2, data sources 3, ephemeral 8."""
    found = [_field(1, _field(2, _block(PROVIDER_BLOCK)))]
    for name, shape in schema["types"].items():
        kind = name.removeprefix("data.")
        if kind.split("_")[0] != provider:
            continue
        entry = _field(1, kind) + _field(2, _field(2, _block(shape)))
        places = (3,) if name.startswith("data.") else (2, 8) if kind == "random_password" else (2,)
        found += [_field(place, entry) for place in places]
    return b"".join(found)


PROVIDER_BLOCK: Schema = {
    "arguments": {"project": {"type": "string", "required": False}, "region": {"type": "string", "required": False}},
    "blocks": {},
}
"""What a provider itself is configured with, as far as the examples do."""


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Decode a protobuf message's fields that have a length; others are skipped."""
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        if key & 7 == 0:
            _number, at = _read_varint(message, at)
            continue
        assert key & 7 == 2, f"wire type {key & 7} is in no message that Terraform sends"
        length, at = _read_varint(message, at)
        yield key >> 3, message[at : at + length]
        at += length


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def _value(message: bytes) -> Any:
    """Decode a DynamicValue."""
    return unpack(dict(_fields(message))[1])


def _dynamic(value: Any) -> bytes:
    """Encode a DynamicValue."""
    return _field(1, pack(value))


NAMES = ("account_id", "name", "secret_id", "role_id", "repository_id", "project_id")  # what tells one from another


@dataclass(frozen=True)
class Answers:
    """What a provider says of values that are known after the apply: unknown, or a text when `told`."""

    schema: Schema
    told: bool

    def validate(self, request: bytes) -> bytes:
        """ValidateResourceTypeConfig: field 1 type, 2 configuration; answer: field 1 diagnostics.

        Terraform leaves one check to providers: that no attribute is set that is known only after the apply.
        """
        message = dict(_fields(request))
        kind = message[1].decode()
        written = _unconfigurable(self.schema["types"][kind], _value(message[2]))
        return b"".join(
            _field(1, _field(1, 1) + _field(2, f"{kind}: {name} is known after the apply, and cannot be written"))
            for name in written
        )

    def plan(self, request: bytes) -> bytes:
        """PlanResourceChange: field 1 type, 3 proposed state; answer: field 1 planned state."""
        message = dict(_fields(request))
        return _field(1, _dynamic(self._complete(message[1].decode(), _value(message[3]), self.told)))

    def read(self, request: bytes) -> bytes:
        """ReadDataSource: field 1 type, 2 configuration; answer: field 1 state."""
        message = dict(_fields(request))
        return _field(1, _dynamic(self._complete("data." + message[1].decode(), _value(message[2]), told=True)))

    def open(self, request: bytes) -> bytes:
        """OpenEphemeralResource: field 1 type, 2 configuration; answer: field 3 result."""
        message = dict(_fields(request))
        return _field(3, _dynamic(self._complete(message[1].decode(), _value(message[2]), told=True)))

    def _complete(self, kind: str, value: Any, told: bool) -> Any:
        if value is None:  # to be deleted
            return None
        name = next((str(value[key]) for key in NAMES if value.get(key)), "")
        return self._filled(self.schema["types"][kind], value, f"{kind} {name}", told)

    def _filled(self, shape: Schema, value: dict[str, Any], what: str, told: bool) -> dict[str, Any]:
        """Fill in what is computed, in nested blocks too."""
        filled = dict(value)
        for name, argument in shape["arguments"].items():
            if name.endswith(WRITE_ONLY):
                filled[name] = None
            elif value[name] is None and (argument.get("computed") or name == "id"):
                values = {"string": f"<{what} {name}>", "number": 1}
                filled[name] = values.get(str(argument["type"])) if told else UNKNOWN
        for name, nested in shape["blocks"].items():
            if isinstance(value[name], list):
                filled[name] = [self._filled(nested["block"], one, what, told) for one in value[name]]
        return filled


def _unconfigurable(shape: Schema, value: Mapping[str, Any]) -> Iterator[str]:
    """Return the arguments that are written and only known after the apply."""
    for name, argument in shape["arguments"].items():
        if argument.get("computed") and value[name] is not None:
            yield name
    for name, nested in shape["blocks"].items():
        for one in value[name] if isinstance(value[name], list) else ():
            yield from _unconfigurable(nested["block"], one)


LONGEST = "grpc.max_receive_message_length"  # bytes, as the SDK of real providers sets it: they get the whole source


class _Calls(grpc.GenericRpcHandler):
    """Answers every call of the service; where nothing is to be said, with an empty message."""

    def __init__(self, provider: str, schema: Schema, told: bool) -> None:
        answers = Answers(schema, told)
        response = schema_response(provider, schema)
        self._answers: Mapping[str, Callable[[bytes], bytes]] = {
            "GetSchema": lambda _request: response,
            "PrepareProviderConfig": lambda request: request,  # the same field in both messages
            "ValidateResourceTypeConfig": answers.validate,
            "PlanResourceChange": answers.plan,
            "ReadDataSource": answers.read,
            "OpenEphemeralResource": answers.open,
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a call; what the plugin library itself asks for beside the service is not there."""
        service, _, method = str(handler_call_details.method).removeprefix("/").partition("/")
        if service != SERVICE or method == "GetMetadata":
            return None
        answer = self._answers.get(method, _nothing)

        def handle(request: bytes, _context: grpc.ServicerContext) -> bytes:
            return answer(request)

        return grpc.unary_unary_rpc_method_handler(handle)


def _nothing(_request: bytes) -> bytes:
    return b""


def _stop(server: grpc.Server) -> None:
    server.stop(None).wait()


@contextmanager
def serving(schema: Schema, *, told: bool = False) -> Iterator[dict[str, str]]:
    """Serve each provider of the schema on loopback; return the environment with which Terraform finds them."""
    addresses = {}
    with ExitStack() as stack:
        for provider in schema["providers"]:
            server = grpc.server(stack.enter_context(ThreadPoolExecutor(4)), options=[(LONGEST, 256 << 20)])
            server.add_generic_rpc_handlers((_Calls(provider, schema, told),))
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            stack.callback(_stop, server)
            addresses[f"registry.terraform.io/hashicorp/{provider}"] = {
                "Protocol": "grpc",
                "ProtocolVersion": PROTOCOL,
                "Pid": os.getpid(),
                "Test": True,  # so that Terraform leaves this process alone
                "Addr": {"Network": "tcp", "String": f"127.0.0.1:{port}"},
            }
        yield {"TF_REATTACH_PROVIDERS": json.dumps(addresses)}
