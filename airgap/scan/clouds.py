"""Cloud addresses: URLs that name no host, because their scheme says which provider's service is asked.

The schemes are those of gocloud.dev ("URLs for opening resources") and of the providers' own tools; each with the host that a
client asks when no other endpoint is configured.

>>> list(cloud_addresses("to gs://bucket/a?x=y and pubsub:/project/topic"))
[('gs://bucket/a', 'storage.googleapis.com'), ('pubsub:/project/topic', 'pubsub.googleapis.com')]
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

S3 = "s3.amazonaws.com"
"""Amazon's own; the scheme is used for every store that speaks S3, inside ones too."""
_STORAGE, _BLOB = "storage.googleapis.com", "blob.core.windows.net"
CLOUDS = {
    "s3": S3, "s3a": S3, "s3n": S3,
    "gs": _STORAGE, "gcs": _STORAGE,
    "az": _BLOB, "azblob": _BLOB, "azure": _BLOB, "abfs": _BLOB, "abfss": _BLOB, "wasb": _BLOB, "wasbs": _BLOB,
    "pubsub": "pubsub.googleapis.com", "gcppubsub": "pubsub.googleapis.com",
    "sqs": "sqs.amazonaws.com", "awssqs": "sqs.amazonaws.com",
    "sns": "sns.amazonaws.com", "awssns": "sns.amazonaws.com",
    "azuresb": "servicebus.windows.net",
    "awskms": "kms.amazonaws.com", "gcpkms": "cloudkms.googleapis.com", "azurekeyvault": "vault.azure.net",
    "bigquery": "bigquery.googleapis.com", "dynamodb": "dynamodb.amazonaws.com", "firestore": "firestore.googleapis.com",
}  # fmt: skip
"""Scheme to the host that answers for it."""

_ADDRESS = re.compile(
    rf"(?<![A-Za-z0-9_+.-])(?P<scheme>{'|'.join(sorted(CLOUDS, key=len, reverse=True))}):(?P<slashes>/{{1,3}})"
    r"(?P<user>[^\s@/?#\"'<>`\\]*@)?(?P<place>[A-Za-z0-9][^\s\"'<>`\\|,;)}\]?#]*)",
    re.IGNORECASE,
)
"""What begins with a placeholder (``s3://$(BUCKET_NAME)``) is no address yet: what is put there is looked at by itself."""


def cloud_addresses(text: str) -> Iterator[tuple[str, str]]:
    """Yield each address, without credentials and query, and the host that is asked; those that name a host are left out."""
    for match in _ADDRESS.finditer(text):
        scheme, place = match["scheme"].lower(), match["place"].rstrip(".:")
        authority = place.partition("/")[0]
        if len(match["slashes"]) > 1 and ("." in authority or ":" in authority):
            continue  # s3://minio.corp:9000/bucket: a URL like any other
        yield f"{scheme}:{match['slashes']}{'***@' if match['user'] else ''}{place}", CLOUDS[scheme]
