"""``python -m distclust``: the command line."""

from distclust.cli import main

if __name__ == "__main__":
    main()
