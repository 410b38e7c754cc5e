from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.errors import ConfigurationError
from airgap.values import Layer, operator_merge
from airgap.wandb import parse_chart
from tests.cluster.spec import MergeError, NilPanicError, Spec, chart_of, equal, merge, used

SCALARS = st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "a", "yes", "1"])
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
VALUES = st.dictionaries(st.sampled_from("abc"), TREES, max_size=3)


def test_the_higher_layer_wins_and_lists_are_joined():
    high = {"a": 1, "list": ["h"], "map": {"x": "h"}}
    low = {"a": 2, "b": 3, "list": ["l"], "map": {"x": "l", "y": "l"}}
    assert merge(high, low) == {"a": 1, "b": 3, "list": ["h", "l"], "map": {"x": "h", "y": "l"}}
    assert high["list"] == ["h"]


def test_different_kinds_are_an_error_and_a_null_a_panic():
    with pytest.raises(MergeError):
        merge({"app": "oops"}, {"app": {"replicas": 1}})
    for high, low in (({"a": None}, {"a": 1}), ({"a": 1}, {"a": None})):
        with pytest.raises(NilPanicError):
            merge(high, low)
    assert merge({"a": None}, {"b": 1}) == {"a": None, "b": 1}


@given(VALUES, VALUES, VALUES)
@settings(max_examples=200, deadline=None)
def test_airgap_merges_as_this_operator_does(custom: dict[str, Any], user: dict[str, Any], channel: dict[str, Any]):
    layers = [Layer("custom resource", custom), Layer("user input", user), Layer("channel", channel)]
    try:
        expected = Spec(values=custom).merge(Spec(values=user)).merge(Spec(values=channel)).values
    except MergeError:
        with pytest.raises(ConfigurationError):
            operator_merge(layers)
        return
    assert operator_merge(layers).values == expected


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"path": "/charts/x"}, "local"),
        ({"path": "/charts/x", "url": "https://c", "name": "n"}, "local"),
        ({"url": "oci://reg.lan/charts/x", "version": "1.0.0", "plainHTTP": True}, "oci"),
        ({"url": "oci://reg.lan/charts/x:1.0.0"}, "oci"),
        ({"url": "oci://reg.lan/charts/x"}, None),
        ({"url": "https://charts.lan", "name": "x", "credentialSecret": {"name": "s"}}, "repo"),
        ({"url": "https://charts.lan"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_airgap_takes_the_same_chart_source(data: Any, kind: str | None):
    theirs = chart_of(data)
    assert (theirs.kind if theirs else None) == kind
    if data and kind is None:
        with pytest.raises(ConfigurationError, match="no chart at all"):
            parse_chart(data, "a test")
        return
    ours = parse_chart(data, "a test")
    names = {"LocalChart": "local", "OciChart": "oci", "RepoChart": "repo", "NoneType": None}
    assert names[type(ours).__name__] == kind


def test_credentials_without_key_names_never_look_unchanged():
    named = {"url": "https://charts.lan", "name": "x", "credentialSecret": {"name": "s"}}
    spelled = {**named, "credentialSecret": {"name": "s", "usernameKey": "HELM_USERNAME", "passwordKey": "HELM_PASSWORD"}}
    for data, same in ((named, False), (spelled, True)):
        chart = chart_of(data)
        assert chart
        desired = Spec(chart, {}, None)
        assert equal(Spec(used(chart), {}, None), desired) is same


def test_a_secret_without_values_is_no_spec():
    with pytest.raises(KeyError):
        Spec.from_data({"chart": "null"})
    assert Spec.from_data({"chart": "null", "values": "{}"}) == Spec(None, {}, None)


def test_the_operator_looks_again_in_an_hour_or_when_told():
    assert Spec(values={}).delay == 3600
    assert Spec(values={"reconcileFrequency": "1m30s"}).delay == 90
    assert Spec(values={"reconcileFrequency": "soon"}).delay == 3600
