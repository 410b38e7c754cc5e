"""The whole relocation: what is written, what stands where, and what is refused before anything is."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airgap.errors import ConfigurationError, DiskError
from airgap.ref import Location
from airgap.relocate import CONFIGMAP, OCI, Options, Relocation, outputs, relocate
from airgap.values import get, load_yaml, load_yaml_all
from airgap.wandb import CustomResource, LocalChart, OciChart, Spec, read_user_values
from tests.relocate.shapes import UMBRELLA_VALUES, at, helm, lock, operator, references, umbrella

if TYPE_CHECKING:
    from pathlib import Path

    from airgap.chart import Chart
    from airgap.lock import Lock

pytestmark = pytest.mark.helm

INSIDE = Location.parse("reg.lan:5000/team")
LICENSE = "eyJhbGciOiJub25lIn0.eyJleHAiOjF9.c2ln"
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
SITE: dict[str, Any] = {
    "global": {"host": "https://wandb.corp.lan", "license": LICENSE, "email": {"smtp": {"host": "mail.corp.lan"}}}
}
SPEC = Spec.parse(
    b'{"chart": {"path": "/x"}, "values": {"api": {"image": {"tag": "1.5.0"}}, "global": {"host": "https://x"}}}', "spec"
)
OPTIONS = Options(username="ann", password="s3cret", ca_certificates=(f"{PEM}\n{PEM}\n",), plain_http=True)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Lock:
    folder = tmp_path_factory.mktemp("held")
    found = (
        references(operator(), {}, folder) | references(umbrella(), SPEC.values, folder) | references(umbrella(), {}, folder)
    )
    return lock(found)


def relocated(held: Lock, values: Any = None, options: Options = OPTIONS, server: Chart | None = None) -> Relocation:
    return relocate(
        held,
        operator_chart=operator(),
        server_chart=server or umbrella(),
        spec=SPEC,
        user=read_user_values([("values.yaml", values or SITE)]),
        location=INSIDE,
        options=options,
        helm=helm(),
    )


@pytest.fixture(scope="module")
def whole(held: Lock) -> Relocation:
    return relocated(held)


def test_the_operator_is_told_that_it_is_alone_and_whom_to_trust(whole: Relocation) -> None:
    values = whole.operator_values
    assert values["airgapped"] is True
    assert at(values, "image.pullSecrets") == ["airgap-registry"]
    assert values["customCACerts"] == [PEM + "\n", PEM + "\n"], "one certificate per entry"
    assert at(values, "image.repository") == "reg.lan:5000/team/docker.io/wandb/controller"


def test_the_custom_resource_has_channel_values_under_the_users(whole: Relocation) -> None:
    values = whole.resource.values
    assert at(values, "global.host") == "https://wandb.corp.lan"
    assert at(values, "api.image.tag") == "1.5.0", "the channel's tag is the one that was pinned"
    assert at(values, "global.imagePullSecrets") == [{"name": "airgap-registry"}]
    assert at(values, "global.customCACerts") == [PEM + "\n", PEM + "\n"]
    assert at(values, "global.operator") is None, "the operator adds that itself"


def test_a_subchart_that_the_global_pull_secret_does_not_reach_gets_it_by_its_own_value(whole: Relocation) -> None:
    assert at(whole.resource.values, "exporter.imagePullSecrets") == [{"name": "airgap-registry"}]
    assert any(
        "Pod/wandb-whole names no pull secret" in note and "kubectl patch serviceaccount" in note for note in whole.notes
    )
    assert not any("exporter names no pull secret" in note for note in whole.notes)


def test_the_chart_rides_in_the_configmap_that_the_operator_mounts_under_a_versioned_name(whole: Relocation) -> None:
    key = f"server-1.2.3-{umbrella().digest.short}.tgz"
    assert whole.resource.chart == LocalChart(f"/charts/{key}")
    configmap = whole.chart_configmap or {}
    assert (at(configmap, "metadata.name"), at(configmap, "metadata.namespace")) == ("wandb-charts", "wandb")
    assert base64.b64decode(at(configmap, f'binaryData."{key}"')) == umbrella().archive


def test_the_license_stands_in_a_secret_and_nowhere_else(whole: Relocation) -> None:
    assert at(whole.resource.values, "global.license") is None
    assert at(whole.resource.values, "global.licenseSecret") == {"name": "wandb-site-license", "key": "license"}
    secret = next(it for it in whole.secrets if at(it, "metadata.name") == "wandb-site-license")
    assert base64.b64decode(at(secret, "data.license")).decode() == LICENSE
    assert any(it.path == "global.license" and it.new == "Secret wandb-site-license" for it in whole.changes)


def test_no_credential_is_in_any_file_but_the_secrets(whole: Relocation) -> None:
    for name, text in whole.files().items():
        if name != outputs.SECRETS:
            for word in (
                LICENSE,
                "s3cret",
                base64.b64encode(b"ann:s3cret").decode(),
                base64.b64encode(LICENSE.encode()).decode(),
            ):
                assert word not in text, name


def test_the_pull_secret_is_one_for_each_namespace(held: Lock) -> None:
    found = relocated(held, options=replace(OPTIONS, resource_namespace="wandb-cr", ca_certificates=()))
    pulls = [it for it in found.secrets if it["type"] == "kubernetes.io/dockerconfigjson"]
    assert [at(it, "metadata.namespace") for it in pulls] == ["wandb", "wandb-cr"]
    data: Any = get(pulls[0], ("data", ".dockerconfigjson"))
    config = json.loads(base64.b64decode(data))
    assert config["auths"]["reg.lan:5000"]["auth"] == base64.b64encode(b"ann:s3cret").decode()


def test_the_same_input_gives_the_same_bytes(held: Lock, whole: Relocation) -> None:
    assert relocated(held).files() == whole.files()


def test_the_files_are_what_the_api_server_and_helm_read(whole: Relocation, tmp_path: Path) -> None:
    assert set(whole.write(tmp_path)) == set(whole.files())
    assert whole.write(tmp_path) == [], "a second time nothing changes"
    resource = load_yaml((tmp_path / outputs.RESOURCE).read_text(), outputs.RESOURCE)
    assert CustomResource.from_document(resource, "x") == whole.resource
    assert load_yaml((tmp_path / outputs.OPERATOR_VALUES).read_text(), "x") == whole.operator_values
    assert tuple(load_yaml_all((tmp_path / outputs.SECRETS).read_text(), "x")) == whole.secrets
    assert (tmp_path / outputs.SECRETS).stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.rglob("*.partial"))


def test_a_folder_that_cannot_be_written_is_an_error_of_the_disk(whole: Relocation, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DiskError, match="cannot be written"):
        whole.write(tmp_path / "file" / "below")


def test_the_chart_can_come_from_the_registry_with_credentials_of_its_own(held: Lock) -> None:
    found = relocated(held, options=replace(OPTIONS, chart_delivery=OCI))
    assert isinstance(found.resource.chart, OciChart)
    assert found.resource.chart.url == "oci://reg.lan:5000/team/charts/server"
    assert (found.resource.chart.version, found.resource.chart.plain_http) == ("1.2.3", True)
    credentials = found.resource.chart.credential_secret
    assert credentials is not None
    secret = next(it for it in found.secrets if at(it, "metadata.name") == credentials.name)
    assert set(at(secret, "data")) == {"HELM_USERNAME", "HELM_PASSWORD"}
    assert found.chart_configmap is None
    assert any("1.22.0" in note for note in found.notes)


def test_a_chart_that_no_configmap_holds_goes_to_the_registry(held: Lock) -> None:
    large = replace(umbrella(), archive=umbrella().archive)
    stuffed = type(large).from_bytes(_stuffed(), "stuffed")
    assert isinstance(relocated(held, server=stuffed).resource.chart, OciChart)
    with pytest.raises(ConfigurationError, match="more than the 1048576 of a ConfigMap") as caught:
        relocated(held, options=replace(OPTIONS, chart_delivery=CONFIGMAP), server=stuffed)
    assert "--chart-delivery oci" in caught.value.hint


def _stuffed() -> bytes:
    """The umbrella with a file that does not compress."""
    import random  # noqa: PLC0415

    from airgap.chart.archive import pack  # noqa: PLC0415

    noise = random.Random(1).randbytes(1_200_000)  # noqa: S311  # it only has to be large
    return pack("server", {**umbrella().files, "files/noise": noise})


def test_the_users_own_resource_keeps_its_name_and_place(held: Lock) -> None:
    resource: Any = {
        "apiVersion": "apps.wandb.com/v1",
        "kind": "WeightsAndBiases",
        "metadata": {"name": "prod", "namespace": "ml", "labels": {"team": "x"}},
        "spec": {"values": SITE},
    }
    resource["spec"]["chart"] = {"url": "https://charts.wandb.ai", "name": "operator-wandb"}
    found = relocated(held, resource)
    assert any("charts.wandb.ai" in note and "gives way" in note for note in found.notes)
    assert (found.resource.name, found.resource.namespace, found.resource.labels) == ("prod", "ml", {"team": "x"})
    assert at(found.resource.values, "global.licenseSecret.name") == "prod-site-license"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"worker": "oops"}, "worker is a text or number, but chart server-1.2.3 has a map there"),
        ({"global": {"customCACerts": {"a": PEM}}}, "global.customCACerts is a map, but chart server-1.2.3 has a list there"),
        ({"api": {"image": {"tag": ["1"]}}}, "api.image.tag is a list in the user input but a string in the release channel"),
    ],
)
def test_values_that_the_operator_would_choke_on_are_refused_by_path(held: Lock, values: Any, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        relocated(held, values)
    assert told in caught.value.message


def test_a_null_never_reaches_the_cluster_and_is_said(held: Lock) -> None:
    found = relocated(held, {"api": {"image": {"tag": None}}, **SITE})
    assert at(found.resource.values, "api.image.tag") is None
    assert "null" not in found.files()[outputs.RESOURCE]
    assert any("api.image.tag: null" in note for note in found.notes)


def test_another_chart_as_operator_is_refused(held: Lock) -> None:
    with pytest.raises(ConfigurationError, match=r"chart server-1\.2\.3 has no value airgapped"):
        relocate(
            held,
            operator_chart=umbrella(values={**UMBRELLA_VALUES}),
            server_chart=umbrella(),
            spec=None,
            user=read_user_values([]),
            location=INSIDE,
            options=OPTIONS,
            helm=helm(),
        )


def test_a_ca_file_without_a_certificate_is_refused(held: Lock) -> None:
    with pytest.raises(ConfigurationError, match="no certificate in PEM form"):
        relocated(held, options=replace(OPTIONS, ca_certificates=("hello",)))


def test_pull_secrets_that_the_user_named_stay_and_bare_names_become_maps(held: Lock) -> None:
    values: Any = {"global": {**SITE["global"], "imagePullSecrets": ["mine", {"name": "other"}]}}
    found = relocated(held, values)
    assert at(found.resource.values, "global.imagePullSecrets") == [
        {"name": "mine"},
        {"name": "other"},
        {"name": "airgap-registry"},
    ]


def test_an_unknown_delivery_is_refused(held: Lock) -> None:
    with pytest.raises(ConfigurationError, match=r"'pigeon' is none of auto, configmap, oci"):
        relocated(held, options=replace(OPTIONS, chart_delivery="pigeon"))
