"""The bundle: one uncompressed tar that is an OCI image layout, written in one pass and read where it lies."""

from airgap.bundle.arrange import Arrangement, Member, arrange
from airgap.bundle.reader import BundleReader
from airgap.bundle.verification import Fault, Verification
from airgap.bundle.writer import BundleWriter, Sink, interrupted

__all__ = ["Arrangement", "BundleReader", "BundleWriter", "Fault", "Member", "Sink", "Verification", "arrange", "interrupted"]
