"""Paths, reading and writing of values; the merges have a file of their own, and so has what the real helm says."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.errors import ConfigurationError
from airgap.values import (
    Json,
    dump_yaml,
    format_path,
    get,
    leaves,
    load_yaml,
    load_yaml_all,
    parse_path,
    plain_scalar,
    with_value,
    without,
)
from airgap.values.reading import ALIAS_LIMIT, DEPTH_LIMIT

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff"), max_size=30)
TRICKY = st.sampled_from(
    ["yes", "NO", "on", "~", "null", "", "0777", "0o7", "1e3", "1_000", "12:30", "2001-01-01", ".inf", ".nan", "=", "<<", "- a",
     "? b", "a: b", "#c", " a", "a ", "a\n", "\na", "a\n\n", " a\nb", "a \nb", "a\n b\n", "\ta\nb", "a\tb\nc", "---", "...",
     "%x", "@", "`", "|", ">", "!x", "&a", "*a", "{", "[", "]", ",", '"', "'", "\\", "\x00", "\x07\n", "\x85", "\u2028\n",
     "é\n😀", "\r\n", "a\r", "x" * 300, "y"]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
    TRICKY,
)
TREES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.one_of(TEXTS, TRICKY), inner, max_size=4))
)
STEPS = st.lists(st.one_of(TEXTS, st.integers(0, 99)), max_size=5).map(tuple)


class TestPaths:
    @given(STEPS)
    def test_what_is_written_reads_back_the_same(self, path):
        assert parse_path(format_path(path)) == path

    @pytest.mark.parametrize(
        ("text", "path"),
        [
            ("", ()),
            ("a.b[0].c", ("a", "b", 0, "c")),
            ('a."b.c".d', ("a", "b.c", "d")),
            ("[0][1]", (0, 1)),
            ('"a b"', ("a b",)),
            ('"q\\"\\\\"', ('q"\\',)),
            ("weave-trace.image", ("weave-trace", "image")),
        ],
    )
    def test_the_written_form(self, text, path):
        assert parse_path(text) == path
        assert format_path(path) == text

    @pytest.mark.parametrize(
        ("text", "rest"),
        [(".a", "'.a'"), ("a..b", "'..b'"), ("a.", "'.'"), ("a[x]", "'[x]'"), ("a b", "' b'"), ('a"b"', "'\"b\"'")],
    )
    def test_what_makes_no_sense_is_shown_from_where_it_stops_making_sense(self, text, rest):
        with pytest.raises(ConfigurationError, match="cannot be read") as caught:
            parse_path(text)
        assert f"from {rest} on" in caught.value.message

    @pytest.mark.parametrize(
        ("path", "found"),
        [
            ((), {"a": [{"b": 1}]}),
            (("a", 0, "b"), 1),
            (("a", 1), "none"),
            (("a", -1), "none"),
            (("x",), "none"),
            (("a", "0"), "none"),
            ((0,), "none"),
            (("a", 0, "b", "c"), "none"),
        ],
    )
    def test_get(self, path, found):
        assert get({"a": [{"b": 1}]}, path, "none") == found

    def test_a_null_that_is_there_is_found(self):
        assert get({"a": None}, ("a",), "none") is None

    @given(TREES, STEPS, SCALARS)
    def test_what_was_set_is_got_and_the_input_is_untouched(self, tree, path, value):
        before = repr(tree)
        try:
            after = with_value(tree, path, value)
        except ConfigurationError:
            after = tree
        else:
            assert get(after, path, "absent") == value
        assert repr(tree) == before
        assert without(after, ("no", "such", "place", "at all")) == after

    def test_maps_and_lists_on_the_way_are_made(self):
        assert with_value(None, ("a", 0, "b"), 1) == {"a": [{"b": 1}]}
        assert with_value({"a": [1, 2]}, ("a", 1), 3) == {"a": [1, 3]}
        assert with_value({"a": [1]}, ("a", 1), 3) == {"a": [1, 3]}
        assert with_value(1, (), 2) == 2

    @pytest.mark.parametrize(
        ("tree", "path", "reason"),
        [
            ({"a": [1]}, ("a", 2), "index 2 of .2. does not fit a list"),
            ({"a": 1}, ("a", "b"), "key 'b' of b does not fit a int"),
            ({"a": {}}, ("a", 0), "index 0 of .0. does not fit a map"),
            ([], ("a",), "does not fit a list"),
        ],
    )
    def test_a_path_goes_only_through_what_it_fits(self, tree, path, reason):
        with pytest.raises(ConfigurationError, match=reason):
            with_value(tree, path, 1)

    @pytest.mark.parametrize(
        ("path", "left"),
        [
            (("a",), {"b": [1, {"c": 2}]}),
            (("b", 0), {"a": 0, "b": [{"c": 2}]}),
            (("b", 1, "c"), {"a": 0, "b": [1, {}]}),
            (("b", 7), {"a": 0, "b": [1, {"c": 2}]}),
            (("a", "x"), {"a": 0, "b": [1, {"c": 2}]}),
            ((), {"a": 0, "b": [1, {"c": 2}]}),
        ],
    )
    def test_without(self, path, left):
        assert without({"a": 0, "b": [1, {"c": 2}]}, path) == left

    def test_leaves_are_scalars_in_document_order(self):
        assert list(leaves({"b": [1, {"c": None}], "a": {}, "d": [], "e": ""})) == [
            (("b", 0), 1),
            (("b", 1, "c"), None),
            (("e",), ""),
        ]


class TestReading:
    def test_nothing_is_none(self):
        assert load_yaml("", "x") is None
        assert load_yaml("# only words\n", "x") is None
        assert load_yaml_all("---\na: 1\n---\n---\n- 2\n", "x") == [{"a": 1}, None, [2]]

    def test_bytes_and_a_byte_order_mark_at_the_start(self):
        assert load_yaml("\ufeffa: é".encode(), "x") == {"a": "é"}
        assert load_yaml("\ufeffa: 1", "x") == {"a": 1}

    def test_a_later_merge_key_wins_as_in_helm(self):
        assert load_yaml("d: {<<: {b: 1}, b: 2}", "x") == {"d": {"b": 2}}
        assert load_yaml("d: {b: 2, <<: [{b: 1, c: 1}, {c: 2}]}", "x") == {"d": {"b": 1, "c": 1}}

    def test_an_alias_is_a_copy(self):
        read: Any = load_yaml("a: &x {b: []}\nc: *x\n", "x")
        assert read == {"a": {"b": []}, "c": {"b": []}}
        assert read["a"] is not read["c"]

    def test_keys_become_words(self):
        assert load_yaml("{1: a, yes: b, no: c, 0x10: d, 2001-01-01: e}", "x") == {
            "1": "a",
            "true": "b",
            "false": "c",
            "16": "d",
            "2001-01-01": "e",
        }

    def test_tags_that_say_what_is_so_anyway_are_taken(self):
        text = "a: !!str 1\nb: !!int '3'\nc: !!float 3\nd: !!bool yes\ne: !!null ~\nf: ! 12\ng: !!map {}\nh: !!seq []\n"
        assert load_yaml(text, "x") == {"a": "1", "b": 3, "c": 3, "d": True, "e": None, "f": "12", "g": {}, "h": []}

    def test_a_key_may_stand_twice_only_where_others_made_the_text(self):
        assert load_yaml("a: 1\na: 2\n", "x", duplicates=True) == {"a": 2}

    def test_the_alias_budget_is_per_text_and_generous(self):
        read: Any = load_yaml("a: &x [1,2,3]\nb: [" + "*x," * 5000 + "]", "x")
        assert len(read["b"]) == 5000

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("a: 1\nb: 2\na: 3\n", "f.yaml, line 3: key 'a' stands twice"),
            ("a:\n  b: 1\n  'b': 2\n", "f.yaml, line 3: key 'b' stands twice"),
            ("a:\n\tb: 1\n", "f.yaml, line 2: .*that cannot start any token"),
            ("a: [1, 2\n", "f.yaml, line 2"),
            ("a: b: c\n", "f.yaml, line 1: mapping values are not allowed"),
            ("a: *x\n", "f.yaml, line 1: .*undefined alias"),
            ("a: &x [*x]\n", "f.yaml, line 1: .*(recursive|holds itself|undefined alias)"),
            ("a: &x {<<: *x}\n", "f.yaml, line 1: .*(recursive|holds itself|undefined alias)"),
            ("a: &x [{<<: *x}]\n", "f.yaml, line 1: .*(recursive|holds itself|undefined alias)"),
            ("a: !!python/object:os.system x\n", "f.yaml, line 1: .*python/object.* is not taken"),
            ("a: !foo {b: 1}\n", "f.yaml, line 1: the tag !foo is not taken"),
            ("a: !!set [b]\n", "f.yaml, line 1: the tag .*set is not taken"),
            ("a: !!binary aGVsbG8=\n", "line 1: 'aGVsbG8=' with the tag .*binary is not taken"),
            ("a: !!int x\n", "line 1: 'x' with the tag .*int is not taken"),
            ("a: .inf\n", "line 1: .inf is a number that JSON"),
            ("~: 1\n", "line 1: key '~' is not a word"),
            ("1.5: 1\n", "line 1: key '1.5' is not a word"),
            ("? [a]\n: 1\n", "line 1: .*(must be a word|unhashable)"),
            ("<<: 3\n", "line 1: a merge key"),
            ("<<: [3]\n", "line 1: a merge key"),
            ("a: 1\n---\nb: 2\n", "f.yaml: 2 documents where one"),
            ("a: \x01\n", "f.yaml: holds a character that YAML does not allow .U.0001"),
            (b"a: \xff\n", "f.yaml: is not UTF-8 text"),
            ("a: \ufeff1\n", "f.yaml: holds a byte order mark"),
            ("[" * 400 + "]" * 400, "nested deeper than 128"),
            ("[" * 4000 + "]" * 4000, "nested deeper|nesting depth"),
            ("a: ! x\nb: " + "[" * 4000, "nested deeper than 128"),
        ],
    )
    def test_refusals_name_file_and_line(self, text, reason):
        with pytest.raises(ConfigurationError, match=reason):
            load_yaml(text, "f.yaml")

    def test_a_tab_gets_a_hint(self):
        with pytest.raises(ConfigurationError) as caught:
            load_yaml("a:\n\tb: 1\n", "f.yaml")
        assert "tab" in caught.value.hint

    def test_an_alias_bomb_is_refused_quickly(self):
        lines = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
        with pytest.raises(ConfigurationError, match=f"more than {ALIAS_LIMIT} nodes"):
            load_yaml("\n".join(lines), "f.yaml")

    def test_an_alias_bomb_of_merge_keys_is_refused_too(self):
        lines = ["a0: &a0 {x: 1}"] + [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 10)]
        with pytest.raises(ConfigurationError, match=f"more than {ALIAS_LIMIT} nodes"):
            load_yaml("\n".join(lines), "f.yaml")

    def test_depth_is_counted_in_levels(self):
        assert load_yaml("[" * DEPTH_LIMIT + "]" * DEPTH_LIMIT, "x")

    def test_the_first_line_of_a_part_can_be_told(self):
        with pytest.raises(ConfigurationError, match="x, line 12: key"):
            load_yaml_all("a: 1\na: 2\n", "x", line=10)


class TestWriting:
    @given(TREES)
    def test_what_is_written_reads_back_the_same(self, tree):
        assert load_yaml(dump_yaml(tree), "x") == tree
        assert repr(load_yaml(dump_yaml(tree), "x")) == repr(tree)

    @given(st.one_of(TEXTS, TRICKY))
    def test_a_text_is_never_folded(self, text):
        lines = dump_yaml({"a": text}).splitlines()
        assert len(lines) <= 2 + text.count("\n")

    def test_the_written_form(self):
        tree: Any = {
            "global": {"host": "https://w.lan", "on": True, "list": [{"a": 1, "b": []}, "x"], "empty": {}},
            "pem": "a\nb\n",
            "none": None,
        }
        assert dump_yaml(tree, header="made by airgap\n\nfor a site") == (
            "# made by airgap\n#\n# for a site\n"
            "global:\n  host: https://w.lan\n  'on': true\n  list:\n  - a: 1\n    b: []\n  - x\n  empty: {}\n"
            "pem: |\n  a\n  b\nnone: null\n"
        )

    def test_a_scalar_has_no_end_marker(self):
        assert dump_yaml("x") == "x\n"

    @pytest.mark.parametrize("value", [float("inf"), float("nan"), "\ud800", {"\udfff": 1}])
    def test_what_json_and_utf_8_do_not_have_is_refused(self, value):
        with pytest.raises(ConfigurationError, match="cannot be written"):
            dump_yaml({"a": [value]})

    def test_two_uses_of_one_list_are_written_twice(self):
        shared: list[Json] = [1]
        assert dump_yaml({"a": shared, "b": shared}) == "a:\n- 1\nb:\n- 1\n"


@given(st.text("0123456789+-._eExXoObBaAfFtTrRuUyYnNlLiI~", max_size=8))
def test_any_plain_word_is_a_json_scalar_or_refused(text):
    try:
        value = plain_scalar(text)
    except ValueError:
        assert text.lower().lstrip("+-") in (".inf", ".nan")
        return
    assert value is None or isinstance(value, (bool, int, float, str))
    if isinstance(value, str):
        assert value == text
