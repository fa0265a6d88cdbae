"""Reading an adapter's options, which come as text from a model string or typed from a script."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from mmneedle.errors import UserError


def read(
    model: str,
    options: Mapping[str, Any],
    known: Mapping[str, Callable[[Any], Any]],
    reasons: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    """Convert options by name.

    Args:
        model: whose options they are, for error messages.
        options: name -> value; None stands for the default and is left out.
        known: name -> converter, which raises ValueError saying what it expects.
        reasons: name -> why there is no such option, where there is more to say.

    Raises:
        UserError: an option that is not known, or a value that its converter refuses.
    """
    result = {}
    for name, value in options.items():
        if name not in known:
            if name in reasons:
                raise UserError(f"{model}: {reasons[name]}")
            takes = ", ".join(known) if known else "none"
            raise UserError(f"{model} has no option {name!r}; it takes {takes}")
        try:
            result[name] = known[name](value)
        except (ValueError, TypeError) as error:
            raise UserError(f"{model}: {name} is {value!r}, {error}") from None
    return result


def number(low: float, high: float = float("inf")) -> Callable[[Any], float]:
    """A converter to a number from low to high."""

    def convert(value: Any) -> float:
        expected = f"not a number from {low:g}" + (
            f" to {high:g}" if high < float("inf") else " up"
        )
        try:
            result = float(value)
        except (ValueError, TypeError):
            raise ValueError(expected) from None
        if not low <= result <= high:
            raise ValueError(expected)
        return result

    return convert


def whole(low: int, high: int | None = None) -> Callable[[Any], int]:
    """A converter to a whole number from low up, or to high."""

    def convert(value: Any) -> int:
        try:
            result = int(str(value))
        except ValueError:
            result = low - 1
        if result < low or (high is not None and result > high):
            reach = "up" if high is None else f"to {high}"
            raise ValueError(f"not a whole number from {low} {reach}")
        return result

    return convert


def yes(value: Any) -> bool:
    """A converter of a switch: true, or the words of one."""
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    try:
        return words[str(value).lower()]
    except KeyError:
        raise ValueError("not one of true, false") from None


def one_of(values: Iterable[str]) -> Callable[[Any], str]:
    """A converter that accepts these words only."""
    words = tuple(values)

    def convert(value: Any) -> str:
        if value not in words:
            raise ValueError(f"not one of {', '.join(words)}")
        return str(value)

    return convert
