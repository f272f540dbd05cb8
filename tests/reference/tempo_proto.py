"""The messages of `tempo.proto` as classes of the official protobuf library, without a compiler: that file's few forms are read here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.trace.v1 import trace_pb2

SOURCE = Path(__file__).with_name("tempo.proto").read_text()
SCALARS = {name: getattr(FieldDescriptorProto, f"TYPE_{name.upper()}") for name in ("string", "uint32", "uint64", "int64", "double")}
ENUMS = set(re.findall(r"^enum (\w+)", SOURCE, re.MULTILINE))
_MESSAGE = re.compile(r"^message (\w+) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^  (?:(repeated) )?(?:map<string, ([\w.]+)>|([\w.]+)) (\w+) = (\d+);$", re.MULTILINE)


def tempo_message(name: str) -> Any:
    """The class of a message of package tempopb."""
    return GetMessageClass(_POOL.FindMessageTypeByName(f"tempopb.{name}"))


def _fill(message: DescriptorProto, name: str, body: str) -> None:
    message.name = name
    lines = [line for line in body.splitlines() if line]
    found = _FIELD.findall(body)
    assert len(found) == len(lines), (name, lines)
    for repeated, map_value, kind, field_name, number in found:
        if not map_value:
            _add(message, field_name, int(number), kind, repeated=bool(repeated))
            continue
        entry = message.nested_type.add(name=f"{field_name[0].upper()}{field_name[1:]}Entry")
        entry.options.map_entry = True
        _add(entry, "key", 1, "string")
        _add(entry, "value", 2, map_value)
        _add(message, field_name, int(number), f"{name}.{entry.name}", repeated=True)


def _add(message: DescriptorProto, name: str, number: int, kind: str, *, repeated: bool = False) -> None:
    label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    if kind in SCALARS:
        field.type = SCALARS[kind]
        return
    field.type = FieldDescriptorProto.TYPE_ENUM if kind in ENUMS else FieldDescriptorProto.TYPE_MESSAGE
    field.type_name = f".{kind}" if kind.startswith("opentelemetry.") else f".tempopb.{kind}"


def _file() -> FileDescriptorProto:
    common = "opentelemetry/proto/common/v1/common.proto"
    file = FileDescriptorProto(name="tempo.proto", package="tempopb", syntax="proto3", dependency=[common, trace_pb2.DESCRIPTOR.name])
    status = file.enum_type.add(name="PartialStatus")
    for number, name in enumerate(("COMPLETE", "PARTIAL")):
        status.value.add(name=name, number=number)
    for name, body in _MESSAGE.findall(SOURCE):
        _fill(file.message_type.add(), name, body)
    return file


_POOL = Default()
_POOL.Add(_file())
