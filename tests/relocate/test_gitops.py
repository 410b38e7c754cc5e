"""The rendered folder as kustomize, Argo CD and Flux take it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airgap.errors import ConfigurationError
from airgap.relocate import Style, outputs
from airgap.relocate.gitops import Git
from airgap.values import load_yaml, load_yaml_all
from tests.relocate.shapes import at
from tests.relocate.test_stage import LICENSE, OPTIONS, held, relocated, whole

if TYPE_CHECKING:
    from pathlib import Path

    from airgap.lock import Lock
    from airgap.relocate import Relocation

__all__ = ["held", "whole"]  # fixtures

pytestmark = pytest.mark.helm


def _listed(files: dict[str, str | bytes], folder: str = "") -> list[str]:
    found: Any = load_yaml(files[f"{folder}kustomization.yaml"], "kustomization.yaml")
    return list(found["resources"])


def _documents(files: dict[str, str | bytes], name: str) -> list[Any]:
    return list(load_yaml_all(files[name], name))


def test_whatever_a_kustomization_lists_is_written_and_secrets_are_not_listed(whole: Relocation) -> None:
    files = whole.files()
    assert _listed(files) == ["accounts.yaml", "chart.yaml", "wandb.yaml"]
    assert _listed(files, "operator/")[0] == "namespaces"
    assert set(_listed(files)) <= set(files)
    assert {f"operator/{it}" for it in _listed(files, "operator/")[1:]} <= set(files)
    assert files[".gitignore"] == "# holds credentials\n/secrets.yaml\n"
    assert not any("flux" in name or "argocd" in name for name in files), "nobody said where it will lie"


def test_the_operator_stands_there_with_its_namespace_and_without_tests(whole: Relocation) -> None:
    objects = _documents(whole.files(), "operator/operator.yaml")
    deployment = next(it for it in objects if it["kind"] == "Deployment")
    assert deployment["metadata"]["namespace"] == "wandb"
    assert at(deployment, "spec.template.spec.containers[0].image").startswith("reg.lan:5000/team/docker.io/wandb/controller")
    assert all("test" not in str(at(it, "metadata.annotations")) for it in objects)


def test_namespaces_are_those_of_all_objects_but_for_what_is_there_or_brought(held: Lock) -> None:
    options = replace(OPTIONS, operator_namespace="default", resource_namespace="wandb-cr", ca_certificates=())
    made = relocated(held, options=options)
    more: Any = (
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "other"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "namespace": "own"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "own"}},
    )
    files = replace(made, others=more).files()
    names = [it["metadata"]["name"] for it in _documents(files, "operator/namespaces/namespaces.yaml")]
    assert names == ["wandb-cr", "other"]
    assert [it["metadata"].get("namespace") for it in _documents(files, "others.yaml")] == ["other", "own", "wandb-cr", None]
    assert "others.yaml" in _listed(files)


@pytest.mark.parametrize(
    ("style", "file"),
    [("plain", "secrets.yaml"), ("sealed", "sealed-secrets.yaml"), ("external:vault", "external-secrets.yaml")],
)
def test_secrets_that_git_may_hold_come_with_the_first_step_as_what_is_pulled_needs_them(
    whole: Relocation, style: str, file: str
) -> None:
    files = whole.files(Style.parse(style, "https://git.lan/site.git"))
    assert _listed(files, "secrets/") == [file]
    assert "../secrets" in _listed(files, "operator/")
    assert _listed(files, "flux/operator/") == ["../../operator/namespaces", "../../secrets", "helm.yaml"]
    assert not any("secrets" in it for it in _listed(files)), "in the first step, not in both"
    first = _documents(files, "argocd/applications.yaml")[0]
    assert (first["spec"]["source"]["path"], first["metadata"]["name"]) == ("secrets", "wandb-secrets")


def test_plain_secrets_stand_in_one_file_that_only_its_owner_reads(whole: Relocation, tmp_path: Path) -> None:
    whole.write(tmp_path, Style.parse("plain", ""))
    assert [str(it.relative_to(tmp_path)) for it in tmp_path.rglob("secrets.yaml")] == ["secrets/secrets.yaml"]
    assert (tmp_path / "secrets" / "secrets.yaml").stat().st_mode & 0o777 == 0o600


def test_how_to_seal_is_told(whole: Relocation) -> None:
    assert any("kubeseal" in note for note in whole.remarks(Style.parse("sealed", "")))


def test_external_secrets_name_every_key_and_hold_no_value(whole: Relocation) -> None:
    style = Style.parse("external:SecretStore/vault", "")
    files = whole.files(style)
    found = {
        (it["metadata"]["namespace"], it["metadata"]["name"]): it for it in _documents(files, "secrets/external-secrets.yaml")
    }
    assert set(found) == {(at(it, "metadata.namespace"), at(it, "metadata.name")) for it in whole.secrets}
    pull = found["wandb", "airgap-registry"]["spec"]
    assert pull["secretStoreRef"] == {"kind": "SecretStore", "name": "vault"}
    assert pull["target"]["template"]["type"] == "kubernetes.io/dockerconfigjson"
    reference = {"key": "wandb/airgap-registry", "property": ".dockerconfigjson"}
    assert pull["data"] == [{"secretKey": ".dockerconfigjson", "remoteRef": reference}]
    for name, text in files.items():
        assert name == outputs.SECRETS or (LICENSE not in str(text) and "s3cret" not in str(text)), name
    assert any("NAMESPACE/NAME" in note for note in whole.remarks(style))
    cluster_wide = _documents(whole.files(Style.parse("external:vault", "")), "secrets/external-secrets.yaml")[0]
    assert cluster_wide["spec"]["secretStoreRef"]["kind"] == "ClusterSecretStore"


def test_argo_cd_takes_the_operator_from_the_private_registry_and_the_rest_from_git(whole: Relocation) -> None:
    style = Style.parse("apart", "https://git.lan/site.git//clusters/a?ref=live")
    operator, site = _documents(whole.files(style), "argocd/applications.yaml")
    source = operator["spec"]["source"]
    assert (source["repoURL"], source["chart"]) == ("reg.lan:5000/team/charts", "operator")
    assert source["helm"]["valuesObject"] == whole.operator_values
    assert site["spec"]["source"] == {"repoURL": "https://git.lan/site.git", "path": "clusters/a", "targetRevision": "live"}
    assert "ServerSideApply=true" in site["spec"]["syncPolicy"]["syncOptions"]


def test_flux_brings_the_operator_before_what_needs_it(whole: Relocation) -> None:
    files = whole.files(Style.parse("apart", "ssh://git@git.lan/site.git//wandb"))
    repository, first, second = _documents(files, "flux/sync.yaml")
    assert repository["spec"] == {"interval": "10m", "url": "ssh://git@git.lan/site.git", "ref": {"branch": "main"}}
    assert (first["spec"]["path"], second["spec"]["path"]) == ("./wandb/flux/operator", "./wandb")
    assert second["spec"]["dependsOn"] == [{"name": first["metadata"]["name"]}]
    charts, release = _documents(files, "flux/operator/helm.yaml")
    assert charts["spec"]["url"] == "oci://reg.lan:5000/team/charts"
    assert charts["spec"]["secretRef"] == {"name": "airgap-registry"}
    assert charts["spec"]["insecure"] is True
    assert release["spec"]["values"] == whole.operator_values
    root = whole.files(Style.parse("apart", "https://git.lan/site.git"))
    assert [it["spec"].get("path") for it in _documents(root, "flux/sync.yaml")[1:]] == ["./flux/operator", "./"]


@pytest.mark.parametrize(
    ("text", "git"),
    [
        ("https://git.lan/a.git", Git("https://git.lan/a.git", ".", "main")),
        ("git@git.lan:team/a.git//b/?ref=x", Git("git@git.lan:team/a.git", "b", "x")),
        ("ssh://git@git.lan:2222/a.git", Git("ssh://git@git.lan:2222/a.git", ".", "main")),
    ],
)
def test_the_place_in_git_is_read_as_kustomize_reads_it(text: str, git: Git) -> None:
    assert Git.parse(text) == git


@pytest.mark.parametrize("text", ["//path", "https://git.lan/a.git?depth=1", "https://git.lan/a.git?ref="])
def test_what_is_no_place_in_git_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is no URL"):
        Git.parse(text)


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Git.parse("https://ann:hush@git.lan/a.git")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "open", "external", "external:", "plain:x"])
def test_a_way_with_secrets_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is none of"):
        Style.parse(text, "")
