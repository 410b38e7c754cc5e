"""The demonstration: an upstream of our own played on loopback, and the whole loop over it.

::

    shipped.py     the files in data/, and Upload: what one repository of a source registry holds
    images.py      tiny images, the same bytes everywhere          site.py       chart repository and channel, as pages
    upstream.py    all of it into any registry, and the manifest   web.py        pages over HTTP on loopback
    steps.py       the commands, as data                           servers.py    ``airgap serve`` as a process
    run.py         demo(): both halves, one command after the other
"""

from airgap.demo.run import demo

__all__ = ["demo"]
