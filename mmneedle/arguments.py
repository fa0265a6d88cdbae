"""What people type on the command line, read strictly: each error says what was expected."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from mmneedle.errors import UserError
from mmneedle.types import Setting

PAPER_SETTINGS = ((1, 2), (1, 4), (1, 8), (10, 1), (10, 2), (10, 4), (10, 8))
"""(images, grid) of the paper, arXiv:2406.11230, section 4."""
PAPER_NEEDLES = (1, 2, 5)
PAPER_SAMPLES = 10_000
"""5,000 positives and 5,000 negatives a setting."""

_MOST = 10**7


def whole_numbers(text: str, option: str) -> tuple[int, ...]:
    """Read "1,10" as (1, 10): one or more whole numbers from 1 up."""
    return tuple(
        _number(part, option, f"numbers such as 1,10, not {text!r}") for part in _split(text)
    )


def grids(text: str, option: str) -> tuple[tuple[int, int], ...]:
    """Read "8,3x5" as ((8, 8), (3, 5)): rows and columns."""
    expected = f"grids such as 1,8 or 3x5 (rows x columns), not {text!r}"
    return tuple(_pair(part, option, expected) for part in _split(text))


def cell(text: str) -> tuple[int, int]:
    """Read "256" or "320x192": width and height of a cell in pixels."""
    return _pair(text, "--cell", f"a size such as 256 or 320x192 (width x height), not {text!r}")


def resize(text: str | None) -> tuple[int, int] | None:
    """Read "96" or "160x96": width and height in pixels that cells are shrunk to."""
    if text is None:
        return None
    expected = f"a cell's size such as 96 or 160x96 (width x height), not {text!r}"
    return _pair(text, "--resize", expected)


def settings(
    images: str, grid: str, needles: str, chosen: str | None = None
) -> tuple[Setting, ...]:
    """All settings asked for, each once, in order.

    Args:
        images, grid, needles: lists whose every combination is meant.
        chosen: instead of images and grid, what `shapes` reads.
    """
    if chosen is None:
        every = tuple(
            (n, *g) for n in whole_numbers(images, "--images") for g in grids(grid, "--grid")
        )
    else:
        every = shapes(chosen)
    counts = whole_numbers(needles, "--needles")
    return tuple(dict.fromkeys(Setting(*shape, k) for k in counts for shape in every))


def shapes(text: str) -> tuple[tuple[int, int, int], ...]:
    """Read "1x2,10x3x5" as ((1, 2, 2), (10, 3, 5)): images, rows and columns."""
    return tuple(_shape(part, text) for part in _split(text))


def paper_settings(needles: str | None = None) -> tuple[Setting, ...]:
    """The published settings; five needles do not fit into the four cells of (1, 2)."""
    counts = whole_numbers(needles, "--needles") if needles else PAPER_NEEDLES
    every = (Setting(n, s, s, k) for k in counts for n, s in PAPER_SETTINGS)
    return tuple(setting for setting in every if setting.needles <= setting.cells)


def limit(text: str | None) -> tuple[int, int | None]:
    """Read "100" as the first hundred samples of each setting, "10-20" as numbers 10 to 19."""
    if text is None:
        return 0, None
    match = re.fullmatch(r"(?:(\d{1,8})-)?(\d{1,8})", text, re.ASCII)
    start, stop = (int(match[1] or 0), int(match[2])) if match else (0, 0)
    if start >= stop:
        raise UserError(
            f"--limit takes a number of samples such as 100, or a range such as 10-20, not {text!r}"
        )
    return start, stop


def shard(text: str | None) -> tuple[int, int]:
    """Read "2/8" as the second of eight parts."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text or "1/1", re.ASCII)
    part, parts = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= part <= parts:
        raise UserError(f"--shard takes a part such as 1/8 (the first of eight), not {text!r}")
    return part, parts


def lengths(text: str, option: str = "--lengths") -> tuple[int, ...]:
    """Read "512,1.5k,1m" as (512, 1536, 1048576): a k is 1,024 and an m 1,048,576."""
    found = []
    for part in _split(text):
        match = re.fullmatch(r"(\d{1,8}|\d{1,5}\.\d{1,3}(?=[km]))([km]?)", part.lower(), re.ASCII)
        number = round(float(match[1]) * (1 << _BITS[match[2]])) if match else 0
        if not 1 <= number <= 1 << 30:
            raise UserError(f"{option} takes numbers such as 512,4k,128k, not {text!r}")
        found.append(number)
    return tuple(dict.fromkeys(found))


_BITS = {"": 0, "k": 10, "m": 20}


def share(percent: float) -> float:
    """Read 85 and 0.85 as 0.85: nobody means less than one per cent."""
    return percent / 100 if percent > 1 else percent


def depths(text: str) -> tuple[int, ...]:
    """Read "0,12.5,100" (per cent), "linear:11" or "sigmoid:11" as tenths of a per cent, ascending.

    A sigmoid schedule has more depths near both ends, where models change most.
    """
    expected = f"per cent such as 0,50,100, or linear:11 or sigmoid:11, not {text!r}"
    kind, colon, count = text.partition(":")
    if colon:
        n = _number(count, "--depths", expected)
        if kind not in ("linear", "sigmoid") or not 2 <= n <= 1001:
            raise UserError(f"--depths takes {expected}")
        even = [at / (n - 1) for at in range(n)]
        shares = even if kind == "linear" else [_sigmoid(at) for at in even]
        return tuple(dict.fromkeys(round(1000 * share) for share in shares))
    found = []
    for part in _split(text):
        if not re.fullmatch(r"\d{1,3}(\.\d)?", part, re.ASCII) or float(part) > 100:
            raise UserError(f"--depths takes {expected}")
        found.append(round(10 * float(part)))
    return tuple(sorted(set(found)))


def _sigmoid(share: float) -> float:
    """From 0..1 to 0..1, flat at both ends."""
    return (1 / (1 + math.exp(-10 * (share - 0.5))) - _LOW) / (1 - 2 * _LOW)


_LOW = 1 / (1 + math.exp(5))


def pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    """Read ["dtype=float32", "seed=1"] as {"dtype": "float32", "seed": "1"}."""
    result: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key.strip() and equals):
            raise UserError(f"{option} takes NAME=VALUE such as dtype=float32, not {text!r}")
        if key.strip() in result:
            raise UserError(f"{option}: {key.strip()} is given twice")
        result[key.strip()] = value.strip()
    return result


def refuse(options: Mapping[str, Any], why: str) -> None:
    """See that none of these options is given. Raises UserError naming one that is."""
    for name, value in options.items():
        if value is not None:
            raise UserError(f"{why}: leave out --{name.replace('_', '-')}")


def _split(text: str) -> Iterable[str]:
    return (part.strip() for part in text.split(","))


def _number(text: str, option: str, expected: str) -> int:
    if re.fullmatch(r"\d{1,8}", text, re.ASCII) and 1 <= int(text) <= _MOST:
        return int(text)
    raise UserError(f"{option} takes {expected}")


def _pair(text: str, option: str, expected: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) > 2:
        raise UserError(f"{option} takes {expected}")
    numbers = [_number(part, option, expected) for part in parts]
    return numbers[0], numbers[-1]


def _shape(text: str, whole: str) -> tuple[int, int, int]:
    expected = f"settings such as 1x2,10x8 (images x grid) or 10x3x5, not {whole!r}"
    images, _, grid = text.lower().partition("x")
    return (_number(images, "--settings", expected), *_pair(grid, "--settings", expected))
