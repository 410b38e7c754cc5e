"""The compiled and the pure loader read the same: what was checked with one outside holds with the other inside."""

from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airgap.errors import ConfigurationError
from airgap.values.loading import FastLoader, PureLoader, compose
from airgap.values.reading import ALIAS_LIMIT, _Builder

REPOSITORY = Path(__file__).parents[2]
RENDERED = sorted((REPOSITORY.parent / "shared/data/wandb").glob("*/*.yaml"))
OURS = sorted(path for folder in ("airgap", "manifests", "tests") for path in (REPOSITORY / folder).rglob("*.yaml"))

PIECES = st.sampled_from(
    ["a", "b: ", "- ", "  ", "\n", "\n  ", "\n- ", ": ", "# x", '"', '"x"', "'", "'y z'", "[", "]", "{", "}", ", ", "\t", "|\n",
     "|-\n  x\n", ">\n  f\n  g\n", ">+\n q\n\n", "|2\n    z\n", "&a ", "*a", "!!str ", "? ", "?x", "<<: ", "1", "yes", "~",
     "\n---\n", "\n...\n", "\\", "\\n", '"\\u00e9"', "é", "\x85", "\u2028", "http://x:1/y?z#q", "x#y", "a:b", "::", "-", "--",
     "=", "@", "`", "\r\n"]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=12).map("".join)


def read(text, loader):
    try:
        builder = _Builder("x", len(text) + ALIAS_LIMIT, duplicates=True, line=0)
        return [builder.build(node) for node in compose(text, loader)]
    except (yaml.YAMLError, ConfigurationError):
        return "refused"


compiled = pytest.mark.skipif(not yaml.__with_libyaml__, reason="this PyYAML has no compiled loader")


@compiled
@settings(max_examples=1500)
@given(TEXTS)
@example("a\t: b\t\n")
@example("[http://x?y=1, a?b]")
@example("a: b\n\t c\n")
@example("a: |\n \t x\n")
@example("a: b\tc\td # e\n")
@example("a: b\n\n  c\n\n\n  d\n---\n")
@example("a\n---\nb\n...\n")
@example("{a: b\n\tc}")
def test_any_text_reads_the_same(text):
    assert repr(read(text, PureLoader)) == repr(read(text, FastLoader))


@compiled
@pytest.mark.parametrize("path", [*RENDERED, *OURS], ids=lambda path: path.name)
def test_real_texts_read_the_same(path):
    text = path.read_text()
    fast = read(text, FastLoader)
    assert fast != "refused" or "{{" in text
    assert read(text, PureLoader) == fast


@pytest.mark.skipif(not RENDERED, reason="../shared is not beside this checkout")
def test_there_were_real_texts():
    assert len(RENDERED) > 10


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("! 12", "12"),
        ("! ~", "~"),
        ("a: ! ", ""),
        ("if: ! test", "test"),
    ],
)
def test_a_lone_tag_makes_a_string_as_in_helm(text, value):
    [data] = read(text, None)
    assert value in (data, *(data.values() if isinstance(data, dict) else ()))


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("a: b\tc \t# d\n", [{"a": "b\tc"}]),
        ("a: b\n  c\n\n\n  d\n", [{"a": "b c\n\nd"}]),
        ("a: b\u2028  c\n", [{"a": "b\u2028c"}]),
        ("[http://x?y=1]", [["http://x?y=1"]]),
        ("a: b\n---\nc\n", [{"a": "b"}, "c"]),
        ("a: b\n  \n...\n", [{"a": "b"}]),
        ("a\n\tb", ["a b"]),
        ("d: 1\n\t\n", "refused"),
        ("d: 1\n  \t\n", [{"d": 1}]),
        ("- a\n -\tb\n\n\tc\n", "refused"),
        ("a: |\n\tb\n", "refused"),
        ("{a:}", "refused"),
        ("[a:?b]", "refused"),
        ('{"a":[b]}', [{"a": ["b"]}]),
        ("a:\n\tb: 1\n", "refused"),
        ("# a\n#b\n\n# c", []),
    ],
)
def test_the_pure_loader_where_it_differs_from_pyyamls(text, data):
    assert read(text, PureLoader) == data
    if yaml.__with_libyaml__:
        assert read(text, FastLoader) == data
