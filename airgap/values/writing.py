"""YAML written so that Helm, Kubernetes and ``load_yaml`` all read the same: stable, readable, without aliases."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import yaml

from airgap.errors import ConfigurationError
from airgap.values.reading import plain_scalar

if TYPE_CHECKING:
    from airgap.values.paths import Json

_STR = "tag:yaml.org,2002:str"
_VALUE = "value"
_MAP = "tag:yaml.org,2002:map"
_SEQ = "tag:yaml.org,2002:seq"
_NO_BLOCK = re.compile(
    r"[^\n\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|[ \t]\n|[ \t]\Z|\A[ \n]|[\u2028\u2029]"
)
"""What keeps a text of several lines from being written as a block: escapes, white space at line ends, and first lines whose
indentation would have to be told. Such texts are written in double quotes."""
_ODD = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_WIDTH = 2**31
"""Columns; no line is ever folded, so one value is one line or one block."""


def dump_yaml(data: Json, *, header: str = "") -> str:
    """Return ``data`` as YAML, keys in their order; ``header`` is written above as a comment.

    Words that Helm would read as something else (``yes``, ``0777``, ``1e3``) are quoted; texts of several lines are blocks.
    Raises ConfigurationError for what JSON and UTF-8 do not have: infinities, not-a-numbers, lone surrogates.
    """
    text: str = yaml.serialize(_node(data), Dumper=_Dumper, width=_WIDTH, allow_unicode=True)
    text = text.removesuffix("...\n")
    comment = "".join(f"# {line}".rstrip() + "\n" for line in header.splitlines())
    return comment + text


def _resolve(_self: object, kind: type, value: str, implicit: tuple[bool, bool]) -> str:
    """Tell PyYAML's serializer what a reader would take an unquoted scalar for."""
    if kind is not yaml.ScalarNode:
        return _MAP if kind is yaml.MappingNode else _SEQ
    return _VALUE if implicit[0] and not _reads_as_text(value) else _STR


_Dumper: Any = type("_Dumper", (yaml.SafeDumper,), {"resolve": _resolve})


def _reads_as_text(value: str) -> bool:
    if value in ("=", "<<"):
        return False
    try:
        return isinstance(plain_scalar(value), str)
    except ValueError:
        return False


def _node(data: Json) -> yaml.Node:
    if isinstance(data, dict):
        return yaml.MappingNode(
            _MAP, [(_text(key, is_key=True), _node(value)) for key, value in data.items()], flow_style=not data
        )
    if isinstance(data, list):
        return yaml.SequenceNode(_SEQ, [_node(item) for item in data], flow_style=not data)
    if isinstance(data, str):
        return _text(data)
    if isinstance(data, float) and not math.isfinite(data):
        raise ConfigurationError(f"{data} cannot be written: Helm and JSON have no such number")
    text = {None: "null", True: "true", False: "false"}[data] if data is None or isinstance(data, bool) else repr(data)
    return yaml.ScalarNode(_VALUE, text)


def _text(value: str, *, is_key: bool = False) -> yaml.ScalarNode:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"{value[:40]!r} cannot be written: it is not Unicode text") from error
    return yaml.ScalarNode(_STR, value, style=_style(value, is_key))


def _style(value: str, is_key: bool) -> str | None:
    """Choose plain (None: PyYAML quotes where it must), a block, or double quotes."""
    if _ODD.search(value):
        return '"'
    if "\n" not in value:
        return None if _reads_as_text(value) else "'"
    return '"' if is_key or _NO_BLOCK.search(value) else "|"
