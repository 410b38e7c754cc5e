import base64
import json
from datetime import datetime, timezone
from typing import Any

import pytest

from airgap.errors import ConfigurationError
from airgap.wandb import (
    CredentialSecret,
    CustomResource,
    LicenseInfo,
    LocalChart,
    OciChart,
    RepoChart,
    Spec,
    UserInput,
    effective,
    parse_chart,
    read_user_values,
)

CHANNEL = {"url": "https://charts.wandb.ai", "name": "operator-wandb", "version": "0.43.8"}


def resource(**spec) -> dict[str, Any]:
    return {
        "apiVersion": "apps.wandb.com/v1",
        "kind": "WeightsAndBiases",
        "metadata": {"name": "wandb", "namespace": "default", "labels": {"a": "b"}, "annotations": {"c": "d"}},
        "spec": spec,
    }


def token(claims: object) -> str:
    def part(data):
        return base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")

    return f"{part({'alg': 'RS256'})}.{part(claims)}.c2lnbmF0dXJl"


class TestChartSources:
    @pytest.mark.parametrize(
        ("data", "chart"),
        [
            ({"path": "/charts/operator-wandb"}, LocalChart("/charts/operator-wandb")),
            ({"url": "oci://reg/charts/x", "version": "1"}, OciChart("oci://reg/charts/x", "1")),
            ({"url": "oci://reg:5000/charts/x:1", "plainHTTP": True}, OciChart("oci://reg:5000/charts/x:1", plain_http=True)),
            (CHANNEL, RepoChart("https://charts.wandb.ai", "operator-wandb", "0.43.8")),
            ({"url": "http://h", "name": "x", "repoName": "r"}, RepoChart("http://h", "x", repo_name="r")),
            (
                {"url": "http://h", "name": "x", "username": "u", "password": "p"},
                RepoChart("http://h", "x", username="u", password="p"),
            ),
            (
                {"url": "oci://r/x", "version": "1", "credentialSecret": {"name": "s", "passwordKey": "P"}},
                OciChart("oci://r/x", "1", credential_secret=CredentialSecret("s", "HELM_USERNAME", "P")),
            ),
        ],
    )
    def test_each_form(self, data, chart):
        assert parse_chart(data, "x") == chart
        assert parse_chart(chart.to_json(), "x") == chart

    @pytest.mark.parametrize(
        ("data", "chart"),
        [
            ({"path": "/c", **CHANNEL}, LocalChart("/c")),
            ({"path": "", **CHANNEL}, RepoChart("https://charts.wandb.ai", "operator-wandb", "0.43.8")),
            ({"url": "oci://r/x", "name": "x", "version": "1"}, OciChart("oci://r/x", "1")),
            ({"path": "/c", "url": 3}, LocalChart("/c")),
            ({"path": 3, **CHANNEL}, RepoChart("https://charts.wandb.ai", "operator-wandb", "0.43.8")),
            ({"credentialSecret": {}, **CHANNEL}, RepoChart("https://charts.wandb.ai", "operator-wandb", "0.43.8")),
        ],
    )
    def test_the_operators_order_is_local_then_oci_then_repository(self, data, chart):
        assert parse_chart(data, "x") == chart

    @pytest.mark.parametrize("data", [None, {}])
    def test_no_chart_at_all_is_none(self, data):
        assert parse_chart(data, "x") is None

    @pytest.mark.parametrize(
        "data",
        [
            {"url": "oci://reg/charts/x"},
            {"url": "oci://reg/x", "version": "1", "username": "u"},
            {"url": "https://h"},
            {"url": "h", "name": "x"},
            {"url": "https://", "name": "x"},
            {"url": "https://h", "name": "x", "password": "secret-word"},
            {"url": "https://h", "name": ["x"]},
            {"url": "https://h", "name": "x", "version": 1},
            {"name": "x"},
            [],
            "oci://reg/x",
        ],
    )
    def test_what_the_operator_would_take_for_no_chart_and_say_nothing_is_refused(self, data):
        with pytest.raises(ConfigurationError, match=r"cr\.yaml: the operator takes this for no chart") as caught:
            parse_chart(data, "cr.yaml")
        assert "secret-word" not in str(caught.value)
        assert "oci://" in caught.value.hint

    def test_passwords_do_not_show(self):
        assert "hunter2" not in repr(RepoChart("http://h", "x", username="u", password="hunter2"))
        assert "hunter2" not in repr(OciChart("oci://h/x", "1", username="u", password="hunter2"))


class TestSpec:
    def test_as_the_channel_answers_it(self):
        raw = json.dumps({"metadata": None, "chart": CHANNEL, "values": {"app": {"image": {"tag": "1"}}}}).encode()
        spec = Spec.parse(raw, "channel")
        assert spec.chart == RepoChart("https://charts.wandb.ai", "operator-wandb", "0.43.8")
        assert spec.values == {"app": {"image": {"tag": "1"}}}
        assert (spec.metadata, spec.raw) == ({}, raw)

    def test_saved_as_yaml_and_without_a_chart(self):
        spec = Spec.parse(b"values:\n  a: yes\nmetadata: {channel: stable}\n", "spec.yaml")
        assert (spec.chart, spec.values, spec.metadata) == (None, {"a": True}, {"channel": "stable"})

    @pytest.mark.parametrize(
        ("raw", "reason"),
        [
            (b"[]", "not a release channel spec"),
            (b'{"wandb": {"a": 1}}', "not a release channel spec"),
            (b"<html>", "not a release channel spec"),
            (b'{"values": []}', "values must be a map, not a list"),
            (b'{"chart": {"url": 1}}', "takes this for no chart"),
            (b"\xff", "is not UTF-8"),
            (b"[" * 100_000, "nest"),
        ],
    )
    def test_what_is_none_is_refused(self, raw, reason):
        with pytest.raises(ConfigurationError, match=rf"spec\.json.*{reason}"):
            Spec.parse(raw, "spec.json")


class TestCustomResource:
    def test_reads_and_writes_the_same(self):
        document = resource(chart=CHANNEL, values={"global": {"host": "https://w.lan"}})
        read = CustomResource.from_document(document, "cr.yaml")
        assert (read.name, read.namespace) == ("wandb", "default")
        assert read.to_document() == document

    def test_empty_parts_are_left_out(self):
        document: Any = {"apiVersion": "apps.wandb.com/v1", "kind": "WeightsAndBiases", "metadata": {"name": "wandb"}}
        assert CustomResource.from_document(document, "x").to_document() == {**document, "spec": {"values": {}}}

    def test_with_other_values(self):
        read = CustomResource.from_document(resource(values={"a": 1}), "x")
        assert read.with_values({"b": 2}).values == {"b": 2}
        assert read.values == {"a": 1}

    @pytest.mark.parametrize(
        ("document", "reason"),
        [
            (None, "is not a WeightsAndBiases"),
            ([], "is not a WeightsAndBiases"),
            ({"apiVersion": "v1", "kind": "Secret"}, "v1 Secret is not a WeightsAndBiases of apps.wandb.com/v1"),
            (
                resource() | {"apiVersion": "apps.wandb.com/v2"},
                "apps.wandb.com/v2 WeightsAndBiases belongs to another generation",
            ),
            (resource() | {"apiVersion": "wandb.ai/v1"}, "is not a WeightsAndBiases"),
            (resource() | {"metadata": {}}, "needs metadata.name"),
            (resource() | {"metadata": {"name": 3}}, "needs metadata.name"),
            (resource() | {"metadata": {"name": "x", "namespace": ["y"]}}, "needs metadata.name"),
            (resource() | {"metadata": [1]}, "metadata must be a map"),
            (resource() | {"spec": "x"}, "spec must be a map, not a str"),
            (resource(values=[1]), "values must be a map, not a list"),
            (resource(chart={"url": "https://h"}), "cr.yaml: spec.chart: the operator takes this for no chart"),
        ],
    )
    def test_other_objects_are_refused(self, document, reason):
        with pytest.raises(ConfigurationError, match=reason):
            CustomResource.from_document(document, "cr.yaml")


class TestUserValues:
    SECRET: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}  # noqa: RUF012 - never changed

    def test_helm_values_later_wins(self):
        read = read_user_values([("a.yaml", {"a": 1, "l": [1]}), ("b.yaml", None), ("c.yaml", {"a": 2, "l": [2]})])
        assert read == UserInput({"a": 2, "l": [2]})

    def test_a_whole_resource_with_other_objects_beside_it(self):
        config: Any = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
        read = read_user_values([("a.yaml", resource(values={"a": 1, "b": 1})), ("a.yaml", self.SECRET), ("a.yaml", config)])
        assert read.values == {"a": 1, "b": 1}
        assert read.resource is not None
        assert read.resource.name == "wandb"
        assert read.others == (self.SECRET, config)
        assert read.secrets == (self.SECRET,)

    def test_a_values_file_after_a_resource_lies_over_it(self):
        read = read_user_values([("cr.yaml", resource(values={"a": 1, "b": 1})), ("more.yaml", {"b": 2})])
        assert read.values == {"a": 1, "b": 2}
        assert read.resource is not None
        assert read.resource.values == {"a": 1, "b": 1}

    def test_values_may_have_a_key_that_is_called_kind(self):
        assert read_user_values([("a.yaml", {"kind": "x", "apiVersion": 1})]).values == {"kind": "x", "apiVersion": 1}

    @pytest.mark.parametrize(
        ("documents", "reason"),
        [
            ([("a.yaml", [1])], "a.yaml: values must be a map, not a list"),
            ([("a.yaml", "x")], "a.yaml: values must be a map, not a str"),
            ([("a.yaml", resource()), ("b.yaml", resource())], "b.yaml: a second WeightsAndBiases"),
            ([("a.yaml", resource() | {"apiVersion": "apps.wandb.com/v2"})], "another generation"),
        ],
    )
    def test_refusals_name_the_file(self, documents, reason):
        with pytest.raises(ConfigurationError, match=reason):
            read_user_values(documents)


class TestEffective:
    def test_the_hierarchy(self):
        layers: list[Any] = [
            {"a": "cr", "l": ["cr"]},
            {"a": "user", "b": "user", "l": ["user"]},
            {"a": "channel", "b": "channel", "c": "channel", "l": ["channel"]},
        ]
        merged = effective(*layers)
        assert merged.values == {
            "a": "cr",
            "b": "user",
            "c": "channel",
            "l": ["cr", "user", "channel"],
            "global": {"operator": {"apiVersion": "apps.wandb.com/v1", "namespace": "wandb"}},
        }
        assert merged.origin(("a",)) == "the custom resource"
        assert merged.origin(("b",)) == "the user input"
        assert merged.origin(("c",)) == "the release channel"
        assert merged.origin(("global", "operator", "namespace")) == "the operator's defaults"

    def test_the_operators_namespace(self):
        assert effective({}, {}, {}, "ops").values == {
            "global": {"operator": {"apiVersion": "apps.wandb.com/v1", "namespace": "ops"}}
        }

    def test_a_conflict_names_the_layers(self):
        with pytest.raises(ConfigurationError, match="app is a string in the custom resource but a map in the release channel"):
            effective({"app": "oops"}, {}, {"app": {"x": 1}})


class TestLicense:
    def test_the_expiry_is_read_in_utc_without_a_key(self):
        assert LicenseInfo.parse(f" {token({'exp': 1800000000})}\n").expires == datetime(2027, 1, 15, 8, 0, tzinfo=timezone.utc)

    @pytest.mark.parametrize(
        "claims", [{}, {"exp": None}, {"exp": "soon"}, {"exp": True}, {"exp": 1e300}, {"exp": float("nan")}, [1]]
    )
    def test_a_licence_may_say_nothing_of_its_end(self, claims):
        assert LicenseInfo.parse(token(claims)).expires is None

    @pytest.mark.parametrize(
        "text", ["", "secret-word", "a.b", "a.b.c.d", "secret-word.!!!.c", f"secret-word.{base64.b64encode(b'x').decode()}.c"]
    )
    def test_what_is_none_is_refused_without_being_shown(self, text):
        with pytest.raises(ConfigurationError, match="no JSON web token") as caught:
            LicenseInfo.parse(text)
        assert "secret-word" not in caught.value.message + caught.value.hint
