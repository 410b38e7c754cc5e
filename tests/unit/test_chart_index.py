"""An index.yaml that Python wrote: dependencies of one version may be aliases of another's, which no slice of it can hold."""

from __future__ import annotations

from airgap.sources.helmrepo import find_entry

INDEX = b"""\
apiVersion: v1
entries:
  box:
  - dependencies: &id001
    - {name: base, version: 1.0.0}
    name: box
    urls: [box-1.0.0.tgz]
    version: 1.0.0
  - dependencies: *id001
    name: box
    urls: [box-2.0.0.tgz]
    version: 2.0.0
"""


def test_an_entry_with_an_alias_into_another_entry_is_read_with_the_whole_index() -> None:
    entry = find_entry(INDEX, "box", "", "index.yaml")
    assert (entry.version, entry.urls) == ("2.0.0", ("box-2.0.0.tgz",))
