"""`python -m mmneedle`."""

from mmneedle.cli import main

if __name__ == "__main__":
    main()
