"""How fast airgap is, and what it takes, measured beside crane, skopeo, oras and regctl in one run. Start ``./benchmarks/run``.

``estate`` makes the images, ``world`` the registries, ``rivals`` the commands, ``timed`` measures one of them, ``scenes`` says
what is measured, ``report`` writes docs/performance.md from the result.
"""
