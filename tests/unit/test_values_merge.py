"""Helm's merge, and the operator's (wandb-v1.md sections 1 and 11)."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.errors import ConfigurationError
from airgap.values import Layer, coalesce, leaves, operator_merge

NUMBERS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), max_size=3)
TYPED = st.recursive(
    NUMBERS,
    lambda inner: st.builds(
        lambda numbers, maps: {**numbers, **maps}, NUMBERS, st.dictionaries(st.sampled_from("xyz"), inner, max_size=3)
    ),
    max_leaves=8,
)
"""Maps in which a key always has the same kind of value, so that any two merge."""


def merged(*layers):
    return operator_merge([Layer(name, values) for name, values in zip(("cr", "user", "channel"), layers, strict=False)])


class TestCoalesce:
    @pytest.mark.parametrize(
        ("layers", "result"),
        [
            ([], {}),
            ([{"a": 1}, {"a": 2}], {"a": 2}),
            ([{"a": {"x": 1, "y": 1}}, {"a": {"y": 2}}], {"a": {"x": 1, "y": 2}}),
            ([{"a": [1, 2]}, {"a": [3]}], {"a": [3]}),
            ([{"a": {"x": 1}}, {"a": 2}], {"a": 2}),
            ([{"a": 2}, {"a": {"x": 1}}], {"a": {"x": 1}}),
            ([{"a": {"x": 1}}, {"a": None}], {"a": None}),
            ([{"a": {"x": 1}}, {"a": None}, {"a": {"y": 2}}], {"a": {"y": 2}}),
        ],
    )
    def test_as_helm(self, layers, result):
        before = copy.deepcopy(layers)
        assert coalesce(layers) == result
        assert layers == before


class TestOperatorMerge:
    def test_maps_merge_and_the_higher_scalar_wins(self):
        result = merged({"a": {"x": 1}}, {"a": {"x": 2, "y": 2}}, {"a": {"z": 3}, "b": "c"})
        assert result.values == {"a": {"x": 1, "y": 2, "z": 3}, "b": "c"}
        assert result.origins == {("a", "x"): "cr", ("a", "y"): "user", ("a", "z"): "channel", ("b",): "channel"}
        assert (result.warnings, result.nulls) == ((), ())

    def test_lists_are_concatenated_higher_first(self):
        tolerations = [{"tolerations": [name]} for name in ("cr", "u", "chan")]
        result = merged(*({"console": layer} for layer in tolerations))
        assert result.values == {"console": {"tolerations": ["cr", "u", "chan"]}}
        assert [result.origin(("console", "tolerations", index)) for index in range(4)] == ["cr", "user", "channel", ""]

    def test_an_item_of_a_list_has_one_origin_with_all_below_it(self):
        result = merged({"l": []}, {"l": [{"name": "x"}]})
        assert result.origin(("l", 0, "name")) == "user"
        assert result.origin(("nowhere",)) == ""

    def test_empty_containers_have_an_origin_too(self):
        result = merged({"m": {}, "l": []}, {"m": {}, "l": []})
        assert result.values == {"m": {}, "l": []}
        assert result.origins == {("m",): "cr", ("l",): "cr"}

    @pytest.mark.parametrize(
        ("high", "low", "kinds"),
        [
            ("oops", {"x": 1}, "a string in cr but a map in user"),
            ([1], {"x": 1}, "a list in cr but a map in user"),
            (1, "1", "a number in cr but a string in user"),
            (True, 1, "a boolean in cr but a number in user"),
        ],
    )
    def test_kinds_that_differ_are_refused_with_both_layers_and_the_path(self, high, low, kinds):
        with pytest.raises(ConfigurationError) as caught:
            merged({"app": {"v": high}}, {"app": {"v": low}})
        assert f"app.v is {kinds}" in caught.value.message
        assert caught.value.hint == "give app.v the same kind in both"

    def test_layers_two_apart_are_compared_too(self):
        with pytest.raises(ConfigurationError, match="a is a string in cr but a list in channel"):
            merged({"a": "x"}, {}, {"a": []})

    def test_whole_and_broken_numbers_are_alike(self):
        assert merged({"a": 1}, {"a": 1.5}).values == {"a": 1}

    def test_a_null_over_a_value_deletes_both_and_says_what_the_operator_would_have_done(self):
        result = merged({"bucket": {"kmsKey": None, "name": "b"}}, {}, {"bucket": {"kmsKey": "arn"}})
        assert result.values == {"bucket": {"name": "b"}}
        assert result.nulls == (("bucket", "kmsKey"),)
        told = "bucket.kmsKey: null in cr is left out, and so is the key in channel; "
        told += "the operator would panic on it at every reconcile"
        assert result.warnings == (told,)

    def test_a_null_under_a_value_is_left_out(self):
        result = merged({"a": 1}, {"a": None}, {"a": 2})
        assert (result.values, result.nulls) == ({"a": 1}, ())
        assert result.warnings == ("a: null in user is left out; the operator would panic on it, because cr has the key too",)

    def test_a_null_alone_never_reaches_the_cluster_either(self):
        result = merged({"a": {"b": None}}, {})
        assert result.values == {"a": {}}
        assert result.nulls == (("a", "b"),)
        assert "the chart's own default stands" in result.warnings[0]

    def test_nulls_in_items_of_lists_are_nobodys_business(self):
        assert merged({"l": [None, {"a": None}]}, {"l": [1]}).values == {"l": [None, {"a": None}, 1]}

    def test_nothing_is_nothing(self):
        assert operator_merge([]).values == {}
        assert merged({}, {}).values == {}

    @given(TYPED, TYPED, TYPED)
    def test_merging_in_two_steps_is_merging_at_once_and_leaves_the_layers_alone(self, high, middle, low):
        before = copy.deepcopy((high, middle, low))
        at_once = merged(high, middle, low)
        assert merged(merged(high, middle).values, low).values == at_once.values
        assert (high, middle, low) == before

    @given(TYPED, TYPED)
    def test_every_leaf_has_the_origin_that_it_came_from(self, high, low):
        result = merged(high, low)
        for path, value in leaves(result.values):
            layer = {"cr": high, "user": low}[result.origin(path)]
            assert (path, value) in list(leaves(layer))
