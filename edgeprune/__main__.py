"""`python -m edgeprune`: the same as the `edgeprune` command."""

from edgeprune.cli import main

if __name__ == "__main__":
    main()
