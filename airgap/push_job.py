"""The Kubernetes Job that makes one push with several pods, each a shard (ADR 17). Pure: text out of what push was told.

Invariants: nothing secret is in it; the pods need no right in the cluster, no root, and write nowhere but in their own /tmp.
``manifests/push-job.yaml`` is this text for the example's names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "airgap-push"
"""Of the Job (with the bundle's digest behind it), and of the Secret with the registry's credentials."""
CLAIM = "airgap-bundle"
IMAGE = "docker.io/library/python:3.12-slim"
"""Any image with python3, 3.10 or newer, will do: the bundle brings all else."""


@dataclass(frozen=True)
class PushJob:
    """What the Job's text says.

    ``file``: the bundle in the claim, or its first volume, which runs; ``bundle``: what push is told; ``hosts``: name:port of
    the registries; ``arguments``: what push is told besides; ``ca_text``: PEM, or empty.
    """

    name: str
    count: int
    image: str
    claim: str
    file: str
    bundle: str
    hosts: Sequence[str]
    arguments: Sequence[str]
    ca_text: str = ""

    def text(self) -> str:
        """Return the YAML, with comments for who applies it."""
        command = ["python3", "-I", "-S", f"/bundle/{self.file}"]
        words = ["push", f"/bundle/{self.bundle}", *self.arguments, "--shard", f"auto/{self.count}", "--no-progress"]
        job = _JOB.format(
            name=self.name,
            count=self.count,
            bundle=self.bundle,
            host=self.hosts[0],
            secret=NAME,
            claim=json.dumps(self.claim),
            image=json.dumps(self.image),
            command=_items([*command, *words], 12),
            authorities=_items([_Raw(_authority(host)) for host in dict.fromkeys(self.hosts)], 14),
        )
        return job + (_CA.format(secret=NAME, text=_indented(self.ca_text)) if self.ca_text else "")


def _authority(host: str) -> str:
    """Return where the CA lies for ``host``, below certs.d; the pod's own name for it has no colon that a mount refuses."""
    return f"{{key: ca.crt, path: {json.dumps(f'{host}/ca.crt')}}}"


class _Raw(str):
    """Text that is YAML already."""

    __slots__ = ()


def _items(words: Sequence[str], indent: int) -> str:
    return "\n".join(f"{' ' * indent}- {word if isinstance(word, _Raw) else json.dumps(word)}" for word in words)


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.strip().splitlines())


_JOB = """\
# {count} pods push {bundle} together, each its share of the blobs; whichever is last puts the rest (docs/adr/0017).
# `airgap push BUNDLE --registry REGISTRY --job COUNT` writes this filled in. What may need a change is marked with <-
# Kubernetes 1.29 or newer. Before:
#   kubectl create secret docker-registry {secret} --docker-server={host} --docker-username=... --docker-password=...
#     (several registries: generic --type=kubernetes.io/dockerconfigjson --from-file=.dockerconfigjson=auth.json)
#   kubectl create configmap {secret}-ca --from-file=ca.crt=ca.pem      only where the registry has a CA of its own
#   the bundle, or all its volumes, in the claim: ReadOnlyMany or ReadWriteMany, else all pods must go to one node
# After: kubectl wait --for=condition=Complete --timeout=-1s job/{name}
# Then an undivided `push` (the first step of `install`) finds nothing left to send.
apiVersion: batch/v1
kind: Job
metadata:
  name: {name}
  labels: {{app.kubernetes.io/name: {secret}}}
spec:
  completionMode: Indexed
  completions: {count} # <- the same number three times: here, below, and behind auto/
  parallelism: {count}
  backoffLimitPerIndex: 10 # a pod that is started again sends only what is missing
  podFailurePolicy:
    rules:
      - action: FailIndex # wrong usage, damaged bundle: trying again cannot help
        onExitCodes: {{containerName: push, operator: In, values: [2, 4]}}
      - action: Ignore # a drained node
        onPodConditions: [{{type: DisruptionTarget, status: "True"}}]
  template:
    metadata:
      labels: {{app.kubernetes.io/name: {secret}}}
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 40 # a pod that is stopped ends the pieces under way, in 20 seconds at most
      automountServiceAccountToken: false
      enableServiceLinks: false
      imagePullSecrets: [{{name: {secret}}}]
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532 # <- OpenShift: leave this line and the next out
        runAsGroup: 65532
        seccompProfile: {{type: RuntimeDefault}}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector: {{matchLabels: {{app.kubernetes.io/name: {secret}}}}}
      containers:
        - name: push
          image: {image} # <- any image with python3, 3.10 or newer, that nodes can pull
          command:
{command}
          env:
            - {{name: REGISTRY_AUTH_FILE, value: /auth/.dockerconfigjson}}
            - {{name: HOME, value: /tmp}}
            - {{name: XDG_CACHE_HOME, value: /tmp/cache}}
          resources:
            requests: {{cpu: 500m, memory: 256Mi}}
            limits: {{memory: 1Gi}}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {{drop: [ALL]}}
          volumeMounts:
            - {{name: bundle, mountPath: /bundle, readOnly: true}}
            - {{name: auth, mountPath: /auth, readOnly: true}}
            - {{name: ca, mountPath: /etc/containers/certs.d, readOnly: true}}
            - {{name: tmp, mountPath: /tmp}}
      volumes:
        - name: bundle
          persistentVolumeClaim: {{claimName: {claim}, readOnly: true}} # <-
        - name: auth
          secret: {{secretName: {secret}}}
        - name: ca
          configMap:
            name: {secret}-ca
            optional: true
            items:
{authorities}
        - name: tmp
          emptyDir: {{sizeLimit: 64Mi}}
"""

_CA = """\
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {secret}-ca
data:
  ca.crt: |
{text}"""
