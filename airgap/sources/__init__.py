"""Sources: where the pieces of a bundle come from on the connected side.

::

    places.py     where a host is really reached (registries:, hosts: of the manifest)
    channel.py    the release channel, or a spec saved elsewhere
    helmrepo.py   Helm repositories and charts in OCI registries; semver.py their version ranges
    images.py     images of registries and of the local Docker engine (engine.py), as the Source that fetch copies from
    wheels.py     Python packages with all that they need, by pip (pip.py)
    gather.py     all of it for one manifest, or again from a lock
    artifacts.py  charts, specs, tools and files as OCI artifacts
"""

from airgap.sources.artifacts import Artifact, chart_artifact, file_artifact, installer_artifact, spec_artifact, tool_artifact
from airgap.sources.channel import ChannelRelease, find_license, read_channel
from airgap.sources.gather import Gathered, GatheredChart, Means, charts_at_hand, gather, gather_files, restore
from airgap.sources.helmrepo import FetchedChart, fetch_chart
from airgap.sources.images import ImageSources
from airgap.sources.places import Places
from airgap.sources.wheels import gather_wheels, wheels_again

__all__ = [
    "Artifact",
    "ChannelRelease",
    "FetchedChart",
    "Gathered",
    "GatheredChart",
    "ImageSources",
    "Means",
    "Places",
    "chart_artifact",
    "charts_at_hand",
    "fetch_chart",
    "file_artifact",
    "find_license",
    "gather",
    "gather_files",
    "gather_wheels",
    "installer_artifact",
    "read_channel",
    "restore",
    "spec_artifact",
    "tool_artifact",
    "wheels_again",
]
