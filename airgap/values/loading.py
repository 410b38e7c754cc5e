"""YAML text to YAML nodes, by PyYAML's compiled loader where there is one and by its pure one elsewhere, to the same result.

The compiled loader stands on libyaml, of which Helm's reader is a translation, and is some ten times as fast. PyYAML's pure
loader differs from it in a few places; ``PureLoader`` closes them (``tests/unit/test_values_loaders.py`` compares the two).
"""

# PyYAML's scanner has no types of its own.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

STR = "tag:yaml.org,2002:str"
MAP = "tag:yaml.org,2002:map"
SEQ = "tag:yaml.org,2002:seq"
PLAIN = "plain"
"""The tag of an unquoted scalar, left to ``plain_scalar``."""

_LONE_TAG = re.compile(r"(?:^|[\s,\[{])!(?=\s|\Z)", re.MULTILINE)
"""The tag ``!`` (a string, whatever it looks like), which the compiled loader misreads; also ``if ! test`` in scripts."""
_BREAKS = "\r\n\x85\u2028\u2029"


def compose(source: str, loader: Any = None) -> Iterator[yaml.Node]:
    """Yield the root node of each document; raises yaml.YAMLError. ``loader``: one of the two, for comparison."""
    return yaml.compose_all(source, Loader=loader or (PureLoader if _LONE_TAG.search(source) else FastLoader))


def _resolve(_self: object, kind: type, _value: str, implicit: tuple[bool, bool]) -> str:
    """Leave plain scalars to ``plain_scalar``: takes the place of PyYAML's own table of YAML 1.1 patterns."""
    if kind is yaml.ScalarNode:
        return PLAIN if implicit[0] else STR
    return MAP if kind is yaml.MappingNode else SEQ


class PureLoader(yaml.SafeLoader):
    """PyYAML's own loader, made to read as libyaml does (and with it PyYAML's compiled loader, and Helm's Go port).

    Of those two the pure one alone refuses a tab between words or at the end of a line, and forgets ``!`` before nothing.
    """

    resolve = _resolve

    def scan_to_next_token(self) -> None:
        """Skip spaces, comments and line ends; tabs too, except where they would be indentation."""
        while True:
            while self.peek() == " " or (self.peek() == "\t" and (self.flow_level or not self.allow_simple_key)):
                self.forward()
            if self.peek() == "#":
                while self.peek() not in "\0" + _BREAKS:
                    self.forward()
            if not self.scan_line_break():
                return
            if not self.flow_level:
                self.allow_simple_key = True

    def scan_plain(self) -> yaml.ScalarToken:
        """Scan a plain scalar: as YAML 1.2 has it, a question mark may stand in one in a flow collection (``[http://a?b]``)."""
        start = end = self.get_mark()
        indent = self.indent + 1
        chunks: list[str] = []
        spaces: list[str] = []
        while self.peek() != "#" and (length := self.plain_length()):
            self.allow_simple_key = False
            chunks += [*spaces, self.prefix(length)]
            self.forward(length)
            end = self.get_mark()
            spaces = self.scan_plain_spaces(indent, start)
            if not spaces or (not self.flow_level and self.column < indent):
                break
        return yaml.ScalarToken("".join(chunks), plain=True, start_mark=start, end_mark=end)

    def plain_length(self) -> int:
        """Return how many characters from here belong to a plain scalar without a gap."""
        brackets = ",[]{}" if self.flow_level else ""
        length = 0
        while (here := self.peek(length)) not in "\0 \t" + _BREAKS + brackets:
            if here == ":" and brackets and self.peek(length + 1) in "?" + brackets:
                raise yaml.scanner.ScannerError(None, None, "found an unexpected ':'", self.get_mark())
            if here == ":" and self.peek(length + 1) in "\0 \t" + _BREAKS:
                break
            length += 1
        return length

    def scan_plain_spaces(self, indent: int, start_mark: yaml.Mark) -> list[str]:
        """Return the white space inside a plain scalar, lines folded; nothing where the scalar ends with its document."""
        blanks = ""
        while self.peek() in " \t":
            blanks += self.peek()
            self.forward()
        if self.peek() not in _BREAKS:
            return [blanks] if blanks else []
        breaks = [self.scan_line_break()]
        self.allow_simple_key = True
        while not (self.prefix(3) in ("---", "...") and self.column == 0 and self.peek(3) in "\0 \t" + _BREAKS):
            if self.peek() == "\t" and self.column < indent:
                raise yaml.scanner.ScannerError(
                    "while scanning a plain scalar", start_mark, "found a tab as indentation", self.get_mark()
                )
            if self.peek() in " \t":
                self.forward()
            elif self.peek() in _BREAKS:
                breaks.append(self.scan_line_break())
            else:
                return breaks if breaks[0] != "\n" else (breaks[1:] or [" "])
        return []

    def scan_block_scalar_indentation(self) -> tuple[list[str], int, yaml.Mark]:
        """Find the indentation of a block; a tab where it would be is refused."""
        found: tuple[list[str], int, yaml.Mark] = super().scan_block_scalar_indentation()
        if self.peek() == "\t":
            raise yaml.scanner.ScannerError("while scanning a block scalar", found[2], "found a tab as indentation", found[2])
        return found

    def compose_scalar_node(self, anchor: dict[Any, yaml.Node]) -> yaml.ScalarNode:
        """Compose a scalar; with the tag ``!`` it is a string, even an empty one."""
        event = self.peek_event()
        if event.tag == "!":
            event.implicit = (False, True)
        return super().compose_scalar_node(anchor)


FastLoader: Any = type("FastLoader", (yaml.CSafeLoader,), {"resolve": _resolve}) if yaml.__with_libyaml__ else PureLoader
