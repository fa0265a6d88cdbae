"""An answer's text -> plain lower-case text without thinking, markup and echoes of the prompt.

Time is linear in the text: searches for fixed strings over all of it, patterns over at most
`HEAD` + `TAIL` characters of it. A pattern starts at a fixed word, its quantifiers are bounded or
stop at a line's end, and none is nested in another.
"""

import re
import unicodedata

from mmneedle.types import Setting

HEAD, TAIL = 20_000, 20_000
"""Characters kept of a longer text's two ends, after its thinking."""

_THINKING = ("think", "thinking", "thought", "thoughts", "reasoning", "reflection", "analysis")
_OPENED = (*(f"<{word}>" for word in _THINKING), "◁think▷", "[think]", "<|channel|>analysis")
_CLOSED = (
    *(f"</{word}>" for word in _THINKING),
    "◁/think▷",
    "[/think]",
    "<|channel|>final<|message|>",
)

_SAME = {
    **dict.fromkeys("‐‑‒–−﹣－", "-"),
    **dict.fromkeys("—―", " - "),
    **dict.fromkeys("‘’‚‛′`´＇", "'"),
    **dict.fromkeys("“”„‟″«»「」『』＂", '"'),
    **dict.fromkeys("，、،﹐", ","),
    **dict.fromkeys("；؛﹔", ";"),
    **dict.fromkeys("：﹕", ":"),
    **dict.fromkeys("。．｡", ". "),
    **dict.fromkeys("（﹙【［〔", "("),
    **dict.fromkeys("）﹚】］〕", ")"),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u200e\u200f", ""),
    **dict.fromkeys("\r\v\f\x85\u2028\u2029", "\n"),
    "ё": "е",
    "＝": "=",
    "？": "?",
    "！": "!",
    "｜": "|",
    "→": ":",
}


class _Plain(dict[int, str]):
    """str.translate's table: any script's decimal digits and look-alikes to plain ones."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if code < 128:
            raise KeyError(code)  # stays as it is
        if char.isspace():
            return " "
        digit = unicodedata.decimal(char, None)
        return char if digit is None else str(digit)


_PLAIN = _Plain({ord(char): plain for char, plain in _SAME.items()})

_FIRST_STEPS = [
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"<\|[^|>\n]{0,40}\|>|</?s>|\[/?inst\]", "\n"),  # chat templates' own marks
        (r"<answer>|<final_answer>|\\boxed ?\{", "\nfinal answer (boxed): "),
        (r"</(?:final_)?answer>", "\n"),
        (r"\\n(?![a-z])", "\n"),
        (r"\\(?:[a-z]+|[^a-z])", " "),  # LaTeX commands
        (r"([0-9]) ?[*x×] ?(?=[0-9])", r"\1×"),  # 2*2 is a size, ** is markup
        (r"[*~$#]|__", " "),
        (r"\bsub[-_ ]?(?=ima|pic|photo|fig|grid|bild)|\bsous-|\bsotto", "sub"),
        (  # keys in camel case: {"imageIndex": 3, "rowNumber": 2}
            r"\b(image|img|picture|row|column|col)(?=(?:index|idx|number|num|no|nr|id|position)\b)",
            r"\1 ",
        ),
        (r"子图[像片]?|小图|サブ画像|サブイメージ", "subimage"),
        (r"[^\S\n]+", " "),
    )
]
_ECHOES = [
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"given [0-9]{1,9} images? indexed from[^.\n]{0,200}\.", " "),
        (
            r"""(?:for (?:example|instance),? ?['"(]*1, ?2, ?3['")]*|['"]1, ?2, ?3['"]) """
            r"(?:indicate|mean|refer|represent|correspond|denote)[^.\n]*",
            " ",
        ),
        (
            r"""(?:\be\.?g\.?|\bfor (?:example|instance)|\bsuch as|\blike|\bformat)[ ,:]*"""
            r"""(?:of )?['"(]+1, ?2, ?3['")]*""",
            " ",
        ),
        (r"\bif (?:no|none|there (?:is|are|was|were) no)\b[^.\n]*", " "),
        (r"index_([0-9]+), ?row_\1, ?column_\1(?= ?[:=])", r"caption_\1"),
        (r"index_([0-9]+), ?row_\1, ?column_\1(?:; ?)?", " "),
        (
            r"""['"(\[]{0,3}\b(?:image )?(?:index|image)['"]? ?[,|] ?['"]?row['"]? ?[,|] ?"""
            r"""(?:and )?['"]?col(?:umn)?s?\b['")\]]*""",
            " ",
        ),
    )
]
_LAST_STEPS = [
    (re.compile(pattern, re.MULTILINE), plain)
    for pattern, plain in (
        (r"^[ |:-]*$", ""),  # a table's rule
        (r"\br([0-9]+)[ ,_-]?c([0-9]+)\b", r"row \1 column \2"),
        (
            r"\bi ?[=:] ?([0-9]+)[ ,;]*r ?[=:] ?([0-9]+)[ ,;]*c ?[=:] ?([0-9]+)",
            r"image \1 row \2 column \3",
        ),
    )
]
_THREE = (
    r"""([ "'(\[{<|]*)(?:([0-9]+)-([0-9]+)-([0-9]+)|(-?[0-9]+)( ?[%s] ?| )(-?[0-9]+)\6(-?[0-9]+))"""
    r"""[ "')\]}>|.]*"""
)
_THREE_ALONE = re.compile(rf"^{_THREE % ';/|.'}$", re.MULTILINE)
_THREE_APART = re.compile(rf"(?:^|(?<=;)){_THREE % '/|.'}(?=;|$)", re.MULTILINE)
"""Three numbers alone on a line, or between semicolons, however they are set apart."""
_WITH_COMMAS = r"\1\2\5, \3\7, \4\8"
_CAPTION_LINE = re.compile(r"^ ?caption ?:(?![^\n]*(?:[0-9] ?, ?[0-9]|-1))[^\n]*", re.MULTILINE)
_LISTED = re.compile(
    r"""^ ?(?:[-•] )?\(?([0-9]{1,2})[.):] ?(?=[("'\[{ ]*(?:-1\b|[0-9]+ ?,|ima|img|index|row|no |"""
    r"""none|not |bild|fila|zeile|第|the |in |first|second))""",
    re.MULTILINE,
)
_LISTED_ON = re.compile(
    r"""([;,)\]}"'] ?|(?<=[0-9]) )\(?([0-9]{1,2})(?:[.:](?: |(?=[(\[{]))|\) ?)"""
    r"""(?=[("'\[{ ]*(?:-1\b|[0-9]+ ?,|ima|index|row|no |none|the ))"""
)
"""A further number of a list that goes on in its line."""
_LISTED_ALONE = re.compile(r"""^ ?\(?[0-9]{1,2}[.)] ?(?=[("'\[]*(?:-1\b|[0-9]+ ?, ?[0-9]))""")


def clean(text: str, setting: Setting) -> str:
    """Plain lower-case text of an answer, without thinking, markup and echoes of the prompt."""
    text = _windows(_after_thinking(text.lower()))
    text = text.translate(_PLAIN)
    for pattern, plain in _FIRST_STEPS + _ECHOES + _LAST_STEPS:
        text = pattern.sub(plain, text)
    if setting.needles == 1:
        text = _THREE_ALONE.sub(_WITH_COMMAS, text)
        text = _LISTED_ALONE.sub("", _CAPTION_LINE.sub("", text))
    else:
        text = _THREE_APART.sub(_WITH_COMMAS, text)
        text = "\n".join(map(_numbered, text.split("\n")))
    return text


def _numbered(line: str) -> str:
    """ "1. 1, 2, 3; 2. -1" with its numbers as those of captions."""
    line, found = _LISTED.subn(r"caption_\1: ", line)
    return _LISTED_ON.sub(r"\1caption_\2: ", line) if found else line


def _after_thinking(text: str) -> str:
    """What was said aloud; nothing where thinking was cut off before anything was said."""
    end = max(((text.rfind(mark), len(mark)) for mark in _CLOSED), default=(-1, 0))
    said = text[sum(end) :] if end[0] >= 0 else text
    said = _before_thinking(said)
    if end[0] >= 0 and not said.strip():
        said = _before_thinking(text)
    return said


def _before_thinking(text: str) -> str:
    starts = [at for at in (text.find(mark) for mark in _OPENED) if at >= 0]
    return text[: min(starts)] if starts else text


def _windows(text: str) -> str:
    """Both ends of a long text, cut at white space so that no number is cut in two."""
    if len(text) <= HEAD + TAIL:
        return text
    head, tail = text[:HEAD], text[-TAIL:]
    head = head[: max(head.rfind(" "), head.rfind("\n")) + 1]
    tail = tail[min((at for at in (tail.find(" "), tail.find("\n")) if at >= 0), default=TAIL) :]
    return f"{head}\n\0\n{tail}"
