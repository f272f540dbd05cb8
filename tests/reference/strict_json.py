"""A decoder of Tempo's JSON as strict as the clients' ones: built from `tempo.proto`, it refuses unknown fields and wrong JSON types.

The dialect is jsonpb: 64-bit integers are texts, 32-bit ones numbers, enums names, doubles numbers or one of three texts.
"""

from __future__ import annotations

import json
import re
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from tempo_proto import tempo_message

_UNSIGNED, _SIGNED = re.compile(r"0|[1-9]\d{0,19}"), re.compile(r"0|-?[1-9]\d{0,18}")
_UNUSUAL_DOUBLES = {"NaN", "Infinity", "-Infinity"}


class NotTempoJson(AssertionError):
    """The document is not what a strict client accepts."""


def decode_strictly(message: str, body: bytes) -> dict[str, Any]:
    """The document, if it is the message of that name; NotTempoJson with the place if it is not."""
    document = json.loads(body, parse_constant=_refuse_constant)
    _check_message(tempo_message(message).DESCRIPTOR, document, message)
    assert isinstance(document, dict)
    return document


def _refuse_constant(name: str) -> None:
    raise NotTempoJson(f"{name} is not JSON")


def _check_message(descriptor: Descriptor, document: Any, place: str) -> None:
    if not isinstance(document, dict):
        raise NotTempoJson(f"{place}: {document!r:.80} is no object")
    fields = {field.json_name: field for field in descriptor.fields}
    for name, value in document.items():
        if name not in fields:
            raise NotTempoJson(f'unknown field "{name}" in {descriptor.full_name} ({place})')
        _check_field(fields[name], value, f"{place}.{name}")


def _check_field(field: FieldDescriptor, value: Any, place: str) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        if not isinstance(value, dict):
            raise NotTempoJson(f"{place}: {value!r:.80} is no map")
        for key, entry in value.items():
            _check_one(field.message_type.fields_by_name["value"], entry, f"{place}[{key!r}]")
    elif field.is_repeated:
        if not isinstance(value, list):
            raise NotTempoJson(f"{place}: {value!r:.80} is no list")
        for index, entry in enumerate(value):
            _check_one(field, entry, f"{place}[{index}]")
    else:
        _check_one(field, value, place)


def _check_one(field: FieldDescriptor, value: Any, place: str) -> None:
    if field.message_type is not None:
        _check_message(field.message_type, value, place)
    elif not _is_of(field, value):
        raise NotTempoJson(f"{place}: {value!r:.80} is no JSON of its type")


def _is_of(field: FieldDescriptor, value: Any) -> bool:
    number = isinstance(value, int) and not isinstance(value, bool)
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return isinstance(value, str)
        case FieldDescriptor.TYPE_BOOL:
            return isinstance(value, bool)
        case FieldDescriptor.TYPE_UINT32:
            return number and 0 <= value < 1 << 32
        case FieldDescriptor.TYPE_UINT64:
            return isinstance(value, str) and bool(_UNSIGNED.fullmatch(value)) and int(value) < 1 << 64
        case FieldDescriptor.TYPE_INT64:
            return isinstance(value, str) and bool(_SIGNED.fullmatch(value)) and -(1 << 63) <= int(value) < 1 << 63
        case FieldDescriptor.TYPE_DOUBLE:
            return number or isinstance(value, float) or value in _UNUSUAL_DOUBLES
        case FieldDescriptor.TYPE_ENUM:
            return field.enum_type is not None and value in field.enum_type.values_by_name
        case _:
            raise AssertionError(f"{field.full_name} has a type that no answer uses")
