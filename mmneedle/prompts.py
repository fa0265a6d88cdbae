"""The official prompts, word for word.

Source: arXiv:2406.11230v2, section 3, and the authors' released `needle.py`. The images go first,
in order; this text follows them.
"""

from collections.abc import Sequence

from mmneedle.types import Setting


def prompt(setting: Setting, captions: Sequence[str]) -> str:
    """The text that follows a haystack's images and asks for `captions`, one a needle.

    "images" and "subimages" are plural only where there are several; a grid that is not square,
    which the paper does not have, is written rows*cols. Line breaks inside a caption become
    spaces, so that it stays on its line; all else is the caption's own. Raises ValueError unless
    there are `setting.needles` captions.
    """
    if len(captions) != setting.needles:
        raise ValueError(f"{setting.name} asks for {setting.needles} captions, not {len(captions)}")
    lines = list(map(one_line, captions))
    if setting.needles == 1:
        return f"{_given(setting)} {_ONE}\nCaption: {lines[0]}"
    numbers = range(1, setting.needles + 1)
    form = "; ".join(f"index_{k}, row_{k}, column_{k}" for k in numbers)
    asked = "".join(f"\nCaption_{k}: {line}" for k, line in zip(numbers, lines, strict=True))
    return f"{_given(setting)} {_several(setting.needles, form)}{asked}"


def one_line(caption: str) -> str:
    """A caption on one line: line breaks become spaces, all else stays."""
    return " ".join(map(str.strip, caption.splitlines()))


def _given(setting: Setting) -> str:
    images = "images" if setting.images > 1 else "image"
    subimages = "subimages" if setting.rows * setting.cols > 1 else "subimage"
    return (
        f"Given {setting.images} {images} indexed from 1 to {setting.images}, "
        f"each divided into {setting.rows}*{setting.cols} {subimages},"
    )


_EXAMPLE = (
    "For example, '1, 2, 3' indicates the subimage in the first image, second row, "
    "and third column."
)
_ONE = (
    "identify the subimage that best matches the provided caption. "
    f"Respond with 'index, row, column' and nothing else. {_EXAMPLE} "
    "If no match is found, respond only with '-1'."
)


def _several(needles: int, form: str) -> str:
    return (
        f"identify the subimages that best match the provided {needles} captions. "
        f"Respond in the format: {form}. Only provide this information. {_EXAMPLE} "
        "If no subimage matches a caption, respond with '-1' for that caption."
    )
