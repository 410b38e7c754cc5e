"""YAML read as Helm reads it, and no more of YAML than configuration needs.

Helm reads through sigs.k8s.io/yaml (YAML 1.1 words, YAML 1.2 octals, then JSON); every rule of ``plain_scalar`` was looked up
by giving the text to helm 4.3.1 (``tests/unit/test_values_helm.py`` does it again). Stricter than Helm on purpose: a key that
stands twice, tags, and aliases that blow up are refused, because what two readers read differently must not cross the gap.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import yaml

from airgap.errors import ConfigurationError
from airgap.values.loading import MAP, PLAIN, SEQ, STR, compose

if TYPE_CHECKING:
    from airgap.values.paths import Json

DEPTH_LIMIT = 128
"""Levels of nesting; the deepest public CRDs have about 60. Keeps every walk of a tree far from Python's recursion limit."""

ALIAS_LIMIT = 100_000
"""Nodes that aliases may add to a text (alias bombs: faults-habits-libraries.md F53). Every other node needs a character."""

_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_BOOL = "tag:yaml.org,2002:bool"
_NULL = "tag:yaml.org,2002:null"

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"), False),
}
_NOT_JSON = frozenset(sign + word for word in (".inf", ".Inf", ".INF") for sign in ("", "+", "-")) | {".nan", ".NaN", ".NAN"}
_INTEGER = re.compile(r"[-+]?(?:0[xX](?P<hex>[0-9a-fA-F]+)|0[bB](?P<bin>[01]+)|0[oO]?(?P<oct>[0-7]+)|(?P<dec>0|[1-9][0-9]*))")
_REAL = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_POINT_FIRST = re.compile(r"\.[0-9]+(?:_[0-9]+)*(?:[eE][-+]?[0-9]+(?:_[0-9]+)*)?")
_BASES = {"hex": 16, "bin": 2, "oct": 8, "dec": 10}
_INT64, _UINT64 = -(2**63), 2**64


def plain_scalar(text: str) -> bool | int | float | str | None:
    """Return what an unquoted scalar means to Helm: ``yes`` is true, ``0777`` is 511, ``12e3`` is 12000.0, a date a string.

    Raises ValueError for ``.inf`` and ``.nan``, which Helm refuses because JSON has no such numbers.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text in _NOT_JSON:
        raise ValueError(text)
    if text[0] not in "+-.0123456789":
        return text
    if text[0] == ".":
        number = _real(text.replace("_", "")) if _POINT_FIRST.fullmatch(text) else None
        return text if number is None else number
    bare = text.replace("_", "")
    number = _integer(bare)
    if number is None and _REAL.fullmatch(bare):
        number = _real(bare)
    return text if number is None else number


def _integer(bare: str) -> int | None:
    """Return what Go's ParseInt (base 0) or ParseUint makes of it, or None: beyond 64 bits it is no integer there."""
    match = _INTEGER.fullmatch(bare)
    if not match:
        return None
    group = str(match.lastgroup)
    number = int(match[group], _BASES[group]) * (-1 if bare[0] == "-" else 1)
    return number if _INT64 <= number < _UINT64 else None


def _real(bare: str) -> float | None:
    number = float(bare)
    return None if number in (float("inf"), float("-inf")) else number


def load_yaml(text: str | bytes, where: str, *, duplicates: bool = False) -> Json:
    """Read the one document of ``text``; nothing at all reads as None. ``where`` (a file) opens every error sentence.

    Raises ConfigurationError. ``duplicates`` lets a key stand twice, the later one winning as in Helm: for what others made.
    """
    documents = load_yaml_all(text, where, duplicates=duplicates)
    if len(documents) > 1:
        raise ConfigurationError(f"{where}: {len(documents)} documents where one is expected", hint="split it at the --- lines")
    return documents[0] if documents else None


def load_yaml_all(text: str | bytes, where: str, *, duplicates: bool = False, line: int = 0) -> list[Json]:
    """Read every document of ``text``; empty ones come as None. ``line`` is added to line numbers in errors.

    Raises ConfigurationError, which names ``where`` and the line.
    """
    source = _text(text, where)
    builder = _Builder(where, len(source) + ALIAS_LIMIT, duplicates, line)
    try:
        return [builder.build(node) for node in compose(source)]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1 + line}" if mark else ""
        raise ConfigurationError(f"{where}{place}: {_sentence(error)}", hint=_hint(source, mark)) from error
    except yaml.reader.ReaderError as error:
        raise ConfigurationError(f"{where}: holds a character that YAML does not allow ({_code(error)})") from error
    except RecursionError as error:
        raise ConfigurationError(f"{where}: nested deeper than {DEPTH_LIMIT} levels") from error


def _text(text: str | bytes, where: str) -> str:
    try:
        source = (text if isinstance(text, str) else text.decode()).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{where}: is not UTF-8 text ({error.reason} at byte {error.start})") from error
    if "\ufeff" in source:
        raise ConfigurationError(f"{where}: holds a byte order mark (U+FEFF) that does not stand at its start")
    return source


def _sentence(error: yaml.MarkedYAMLError) -> str:
    return " ".join(part for part in (error.context, error.problem) if part)


def _hint(source: str, mark: yaml.Mark | None) -> str:
    lines = source.split("\n")
    begins = re.match(r"\s*", lines[mark.line]) if mark and mark.line < len(lines) else None
    return "indent with spaces, YAML allows no tabs there" if begins and "\t" in begins[0] else ""


def _code(error: yaml.reader.ReaderError) -> str:
    character = error.character
    return f"U+{ord(character) if isinstance(character, str) else int(character):04X}"


class _Builder:
    """Makes plain data of YAML nodes; each document has its own budget of nodes."""

    def __init__(self, where: str, budget: int, duplicates: bool, line: int) -> None:
        self.where = where
        self.budget = budget
        self.duplicates = duplicates
        self.line = line

    def build(self, node: yaml.Node, depth: int = 0) -> Json:
        """Return the data of ``node``; raises ConfigurationError."""
        self.budget -= 1
        if depth > DEPTH_LIMIT:
            raise self.refuse(node, f"nested deeper than {DEPTH_LIMIT} levels (or an alias holds itself)")
        if self.budget < 0:
            raise self.refuse(node, f"aliases add more than {ALIAS_LIMIT} nodes")
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        if isinstance(node, yaml.SequenceNode):
            self.expect_tag(node, SEQ)
            return [self.build(item, depth + 1) for item in node.value]
        self.expect_tag(node, MAP)
        return self.mapping(node, depth)

    def mapping(self, node: yaml.Node, depth: int) -> dict[str, Json]:
        out: dict[str, Json] = {}
        written: set[str] = set()
        for key_node, value_node in node.value:
            if key_node.tag == PLAIN and key_node.value == "<<":
                self.merge(out, value_node, depth)
                continue
            key = self.key(key_node)
            if key in written and not self.duplicates:
                raise self.refuse(key_node, f"key {key!r} stands twice in the same map")
            written.add(key)
            out[key] = self.build(value_node, depth + 1)
        return out

    def merge(self, out: dict[str, Json], node: yaml.Node, depth: int) -> None:
        """Merge ``<<: map`` or ``<<: [maps]`` into ``out``: what stands later wins, as in Helm; in a list the first."""
        listed = list(reversed(node.value)) if isinstance(node, yaml.SequenceNode) else [node]
        for part in listed:
            merged = self.build(part, depth + 1)
            if not isinstance(merged, dict):
                raise self.refuse(node, "a merge key (<<) needs a map or a list of maps")
            out.update(merged)

    def key(self, node: yaml.Node) -> str:
        """Return a key as Helm writes it in JSON: numbers in decimal, booleans as true and false."""
        if not isinstance(node, yaml.ScalarNode):
            raise self.refuse(node, "a key must be a word, not a list or a map")
        value = self.scalar(node)
        if isinstance(value, bool):
            return "true" if value else "false"
        if value is None or isinstance(value, float):
            raise self.refuse(node, f"key {node.value!r} is not a word; put it in quotes")
        return str(value)

    def scalar(self, node: yaml.ScalarNode) -> bool | int | float | str | None:
        text = str(node.value)
        if node.tag == STR:
            return text
        try:
            value = plain_scalar(text)
        except ValueError as error:
            raise self.refuse(node, f"{text} is a number that JSON (and so Helm) does not have") from error
        kinds: dict[str, type | tuple[type, ...]] = {_INT: int, _FLOAT: (int, float), _BOOL: bool, _NULL: type(None)}
        if node.tag == PLAIN or isinstance(value, kinds.get(node.tag, ())):
            return value
        raise self.refuse(node, f"{text[:40]!r} with the tag {node.tag} is not taken; write plain YAML")

    def expect_tag(self, node: yaml.Node, tag: str) -> None:
        if node.tag != tag:
            raise self.refuse(node, f"the tag {node.tag} is not taken; write plain YAML")

    def refuse(self, node: yaml.Node, reason: str) -> ConfigurationError:
        return ConfigurationError(f"{self.where}, line {node.start_mark.line + 1 + self.line}: {reason}")
