"""Acceptance: does the W&B that was installed work for those who use it? The checks of ``wandb verify``, from inside.

::

    report = accept(Server(client, "https://wandb.corp.lan", api_key), progress)
    report.failed          # empty: it works

The checks and what their failures mean are those that W&B documents for ``wandb verify`` (wandb-v1.md section 6): host, HTTPS,
login, signed URL of the bucket, CORS, large payload, version. They speak W&B's GraphQL as its client does, so no ``wandb``
package is needed; what they make on the server they remove.
"""

from airgap.acceptance.checks import FAILED, PASSED, SKIPPED, WARNING, Check, Report, accept
from airgap.acceptance.server import API_USER, Server

__all__ = ["API_USER", "FAILED", "PASSED", "SKIPPED", "WARNING", "Check", "Report", "Server", "accept"]
