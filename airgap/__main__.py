"""``python3 -m airgap`` and ``python3 BUNDLE``: the command line."""

from airgap.cli import main

if __name__ == "__main__":
    main()
