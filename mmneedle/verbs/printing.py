"""What verbs print for other programs."""

from typing import Any


def print_json(value: Any) -> None:
    """Print a value as indented JSON; the output that --json promises."""
    import msgspec  # not for `--help`

    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
