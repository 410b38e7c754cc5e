"""Small charts in the shapes that real ones have, each written here and packed by our own packer.

``umbrella`` holds them all: components after the manner of wandb-base (one chart under several aliases, a container's image
before the alias', a global prefix in front, a digest key, a version label made of tag or digest), Bitnami's (registry,
repository, tag, digest, a global registry in their place, a guard), the community's (repository and tag), and what is
hard-coded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from airgap.chart import Chart
from airgap.chart.archive import pack
from airgap.lock import Lock, LockedImage, LockedTree
from airgap.oci import OCI_MANIFEST, Descriptor, Digest, Platform
from airgap.relocate.probe import spots
from airgap.relocate.rendering import Renderer
from airgap.tools import Helm
from airgap.values import dump_yaml, get, parse_path
from tests.world.registries import find_binary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airgap.ref import Reference

BASE = """
{{- define "base.image" -}}
{{- $image := (((.Values.containers).main).image) | default .Values.image -}}
{{- $repository := $image.repository -}}
{{- with .Values.global.repositoryPrefix }}{{ $repository = printf "%s/%s" . $repository }}{{ end -}}
{{- $repository }}{{ if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default "latest" }}{{ end -}}
{{- end -}}
{{- define "base.version" -}}
{{- if .Values.image.digest }}{{ .Values.image.digest | trimPrefix "sha256:" | trunc 12 }}
{{- else }}{{ .Values.image.tag }}{{ end -}}
{{- end -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}-{{ .Chart.Name }}
  labels: {app.kubernetes.io/version: {{ include "base.version" . | quote }}}
spec:
  template:
    metadata:
      labels: {app.kubernetes.io/version: {{ include "base.version" . | quote }}}
    spec:
      {{- with .Values.global.imagePullSecrets }}
      imagePullSecrets: {{ toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: main
          image: {{ include "base.image" . | quote }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ .Release.Name }}-{{ .Chart.Name }}
  labels: {app.kubernetes.io/version: {{ include "base.version" . | quote }}}
spec: {ports: [{port: 80}]}
"""

BITNAMI = """
{{- $registry := .Values.global.imageRegistry | default .Values.image.registry -}}
{{- $name := printf "%s/%s" $registry .Values.image.repository -}}
{{- if and (ne $name "docker.io/bitnamilegacy/etcd") (not (((.Values.global).security).allowInsecureImages)) -}}
{{- fail "Original containers have been substituted for unrecognized ones; set global.security.allowInsecureImages" -}}
{{- end -}}
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: {{ .Release.Name }}-etcd}
spec:
  template:
    spec:
      {{- with .Values.global.imagePullSecrets }}
      imagePullSecrets: {{ toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: etcd
          image: {{ $name }}{{ with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag }}{{ end }}
"""

COMMUNITY = """
apiVersion: batch/v1
kind: CronJob
metadata: {name: {{ .Release.Name }}-exporter}
spec:
  jobTemplate:
    spec:
      template:
        spec:
          {{- with .Values.imagePullSecrets }}
          imagePullSecrets: {{ toYaml . | nindent 12 }}
          {{- end }}
          containers:
            - name: exporter
              image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
              args: ["--reloader-image={{ .Values.reloader }}"]
"""

WHOLE = """
apiVersion: v1
kind: Pod
metadata: {name: {{ .Release.Name }}-whole}
spec:
  containers:
    - {name: whole, image: {{ .Values.image | quote }}}
"""

LITERAL = """
apiVersion: batch/v1
kind: Job
metadata: {name: {{ .Release.Name }}-literal}
spec:
  template:
    spec:
      containers:
        - {name: literal, image: "quay.io/acme/literal:1"}
"""

TEST = """
apiVersion: v1
kind: Pod
metadata:
  name: {{ .Release.Name }}-test
  annotations: {"helm.sh/hook": test}
spec:
  containers:
    - {name: test, image: busybox}
"""

SITE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-site}
data:
  HOST: {{ .Values.global.host | quote }}
  MAIL: {{ with .Values.global.email.smtp.host }}smtp://{{ . }}{{ else }}https://api.wandb.ai/email/dispatch{{ end }}
  redis.conf: |
    # See https://redis.io/topics/persistence for more.
    appendonly yes
---
{{- if not .Values.global.licenseSecret.name }}
apiVersion: v1
kind: Secret
metadata: {name: {{ .Release.Name }}-license}
data:
  license: {{ .Values.global.license | b64enc | quote }}
{{- end }}
---
apiVersion: v1
kind: Secret
metadata: {name: {{ .Release.Name }}-random}
data: {password: {{ randAlphaNum 20 | b64enc }}}
---
apiVersion: v1
kind: Pod
metadata: {name: {{ .Release.Name }}-reader}
spec:
  {{- with .Values.global.imagePullSecrets }}
  imagePullSecrets: {{ toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: reader
      image: "{{ .Values.reader.image.repository }}:{{ .Values.reader.image.tag }}"
      env:
        - name: LICENSE
          valueFrom:
            secretKeyRef:
              name: {{ .Values.global.licenseSecret.name | default (printf "%s-license" .Release.Name) }}
              key: {{ .Values.global.licenseSecret.key | default "license" }}
"""

OPERATOR = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: controller}
spec:
  template:
    spec:
      imagePullSecrets:
        {{- range .Values.image.pullSecrets }}
        - name: {{ . }}
        {{- end }}
      containers:
        - name: manager
          {{- $pin := empty .Values.image.digest | ternary (print ":" .Values.image.tag) (print "@" .Values.image.digest) }}
          image: {{ .Values.image.repository }}{{ $pin }}
          env:
            {{- with .Values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
            - {name: AIRGAPPED, value: {{ .Values.airgapped | quote }}}
          volumeMounts: [{name: charts, mountPath: /charts}]
      volumes:
        - {name: charts, configMap: {name: wandb-charts, optional: true}}
"""

OPERATOR_VALUES: dict[str, Any] = {
    "image": {"repository": "wandb/controller", "tag": "1.22.0", "pullSecrets": []},
    "airgapped": False,
    "customCACerts": [],
    "extraEnv": [],
}

PARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "base": (BASE, {"image": {"repository": "wandb/megabinary", "tag": "1.0.0"}, "global": {"repositoryPrefix": ""}}),
    "etcd": (BITNAMI, {"image": {"registry": "docker.io", "repository": "bitnamilegacy/etcd", "tag": "3.5.17", "digest": ""}}),
    "exporter": (
        COMMUNITY,
        {
            "image": {"repository": "quay.io/prom/exporter", "tag": ""},
            "reloader": "quay.io/acme/reloader:2",
            "imagePullSecrets": [],
        },
    ),
    "whole": (WHOLE, {"image": "ghcr.io/acme/whole:3"}),
    "literal": (LITERAL, {}),
}

UMBRELLA_VALUES: dict[str, Any] = {
    "global": {
        "repositoryPrefix": "",
        "imageRegistry": "",
        "imagePullSecrets": [],
        "customCACerts": [],
        "host": "http://localhost:8080",
        "license": "",
        "licenseSecret": {"name": "", "key": ""},
        "email": {"smtp": {"host": ""}},
    },
    "api": {"image": {"repository": "wandb/api"}},
    "worker": {"containers": {"main": {"image": {"repository": "wandb/worker", "tag": "2.0.0"}}}},
    "reader": {"image": {"repository": "mysql", "tag": 8.4}},
    "literal": {"install": False},
}


def at(values: Any, path: str) -> Any:
    """What lies at a dotted path, for assertions."""
    return get(values, parse_path(path))


def helm() -> Helm:
    """The real helm."""
    return Helm.at(Path(find_binary("helm")))


def chart(
    name: str, template: str, values: Mapping[str, Any], *, more: Mapping[str, bytes] | None = None, **about: Any
) -> Chart:
    """A chart of one template."""
    files = {
        "Chart.yaml": dump_yaml({"apiVersion": "v2", "name": name, "version": "1.2.3", "appVersion": "9.9", **about}).encode(),
        "values.yaml": dump_yaml(dict(values)).encode(),
        "templates/all.yaml": template.encode(),
        **(more or {}),
    }
    return Chart.from_bytes(pack(name, files), name)


def umbrella(*, values: Mapping[str, Any] | None = None) -> Chart:
    """The server chart with every shape in it; ``literal`` is off unless a test turns it on."""
    more: dict[str, bytes] = {"templates/test.yaml": TEST.encode()}
    for name, (template, own) in PARTS.items():
        inner = chart(name, template, own)
        more.update({f"charts/{name}/{path}": data for path, data in inner.files.items()})
    dependencies = [
        {"name": "base", "version": "1.2.3", "alias": "api"},
        {"name": "base", "version": "1.2.3", "alias": "worker"},
        *({"name": name, "version": "1.2.3"} for name in ("etcd", "exporter", "whole")),
        {"name": "literal", "version": "1.2.3", "condition": "literal.install"},
    ]
    return chart("server", SITE, values or UMBRELLA_VALUES, more=more, dependencies=dependencies)


def operator() -> Chart:
    """The operator chart."""
    return chart("operator", OPERATOR, OPERATOR_VALUES)


def renderer(subject: Chart, tmp_path: Path) -> Renderer:
    return Renderer.of(helm(), subject, tmp_path, "wandb", "wandb")


def references(subject: Chart, values: Mapping[str, Any], tmp_path: Path) -> set[Reference]:
    """Every reference that the chart renders, tests' own left out."""
    found = spots(renderer(subject, tmp_path).render(dict(values)))
    return {spot.reference for spot in found if spot.reference and not spot.document.is_test}


def lock(found: Iterable[Reference]) -> Lock:
    """A lock that holds the references with digests made of their names."""
    images = []
    for reference in sorted(found):
        manifest = Descriptor(OCI_MANIFEST, reference.digest or Digest.of(str(reference).encode()), 100)
        images.append(LockedImage(reference, LockedTree(manifest, (manifest,), ())))
    return Lock("shapes", (Platform.parse("linux/amd64"),), tuple(images), ())
