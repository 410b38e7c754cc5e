"""Scan: Kubernetes objects to every image reference and every outside host in them, with the place of each.

Invariants: pure and structure-blind. Every string of every object is looked at: containers of all kinds anywhere, arguments,
environment, ConfigMaps, annotations, fields of custom resources; strings that are themselves YAML or JSON are opened again, the
data of Secrets is decoded. Nothing that stands where a container's image stands is dropped: what is no reference comes with
its ``problem``. Discovery and audit both stand on this, so what it misses is missed for good, and what it calls an image in
vain is fetched in vain; the rules that weigh the two are a table in ``airgap.scan.texts``.

>>> document = Document("t.yaml", {"kind": "Pod", "spec": {"containers": [{"image": "nginx:1"}]}})
>>> [(hit.path, str(hit.reference)) for hit in scan([document]).containers]
[('spec.containers[0].image', 'docker.io/library/nginx:1')]
"""

from airgap.scan.clouds import CLOUDS, S3, cloud_addresses
from airgap.scan.documents import Document, parse_rendering
from airgap.scan.texts import is_inside
from airgap.scan.walk import Hit, Scan, scan, scan_values

__all__ = [
    "CLOUDS",
    "S3",
    "Document",
    "Hit",
    "Scan",
    "cloud_addresses",
    "is_inside",
    "parse_rendering",
    "scan",
    "scan_values",
]
