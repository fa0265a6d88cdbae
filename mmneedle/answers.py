"""What a response says: read as the official script does, and as a person would.

`read_paper` is string equality as published (arXiv:2406.11230v2, the released `evaluate.py` and
`evaluate_multi.py`). `read_robust` reads what the model meant and never guesses.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from enum import IntEnum

import msgspec

from mmneedle.reading import ABSENT, UNPARSED, Mention, clean, find, vocabulary
from mmneedle.reading.mentions import found
from mmneedle.reading.tokens import integer
from mmneedle.types import Answer, Setting

# --------------------------------------------------------------------------- as published


class PaperAnswer(msgspec.Struct, frozen=True):
    """A response as the official script takes it apart."""

    text: str
    """The normalised response."""
    parts: tuple[str, ...]
    """One a needle, as many as the model gave."""
    refused: bool
    """Whether it is one of the texts that count as "not there"."""

    @property
    def indices(self) -> tuple[str, ...]:
        """The first field of each part."""
        return tuple(part.split(", ")[0] for part in self.parts)

    def answers(self, setting: Setting) -> tuple[Answer, ...]:
        """What the script's string equality can see, needle by needle."""
        if self.refused:
            return (ABSENT,) * setting.needles
        said = [_published(part) for part in self.parts[: setting.needles]]
        return (*said, *[UNPARSED] * (setting.needles - len(said)))


def read_paper(text: str | None, setting: Setting) -> PaperAnswer | None:
    """A response as the official script reads it; None for a null response, which it drops.

    Newlines are removed (not replaced), white space and then dots are stripped from both ends.
    With several needles the text is split on "; " and its parts are stripped and rejoined.
    """
    if text is None:
        return None
    text = text.replace("\n", "").strip().strip(".").strip()
    if setting.needles == 1:
        return PaperAnswer(text, (text,), text == "-1")
    parts = tuple(part.strip() for part in text.split("; "))
    text = "; ".join(parts)
    return PaperAnswer(text, parts, text in _paper_refusals(setting.needles))


def _paper_refusals(needles: int) -> tuple[str, ...]:
    one = ["-1"] * needles
    return "-1", "; ".join(one), ", ".join(one), "".join(one), "; ".join(["-1, -1, -1"] * needles)


_PUBLISHED = re.compile(r"([0-9]+), ([0-9]+), ([0-9]+)")


def _published(part: str) -> Answer:
    if part in ("-1", "-1, -1, -1"):
        return ABSENT
    match = _PUBLISHED.fullmatch(part)
    return found(*map(integer, match.groups())) if match else UNPARSED


# --------------------------------------------------------------------------- as a person would


def read_robust(text: str | None, setting: Setting) -> tuple[Answer, ...]:
    """What the model meant, one Answer a needle. Never raises, never guesses.

    The text is cleaned first: thinking (`<think>` and its like; nothing is left where it was cut
    off), markup, LaTeX, chat marks, quotes of the prompt's own example and of its "if no match".
    Of a text over 40,000 characters only the two ends are read. Then every place that names a
    cell or says that there is none is a mention:

    - Three numbers, in any brackets: "(1, 2, 3)". Set apart otherwise ("1; 2; 3", "1 2 3",
      "1-2-3") only when they stand alone. Dates, decimals, sizes (2x2) and counted things are not
      cells.
    - Labelled numbers, in any order and in eleven languages: "row 2, column 3 of image 1",
      "second row", "第2行", keys of JSON or XML. Beside an image's label "(2, 3)" is row, column.
    - The image may be left out when there is one, but only beside labelled rows and columns. With
      one cell an image, an image's label is enough, and so is a single number that stands alone.
    - "-1", all three numbers -1 or null, or words such as "none of the subimages match". A -1
      beside other numbers is neither.
    - A cell that the text rules out ("not 1, 2, 3", "I excluded ...", "1, 2, 3 (rejected)") is not
      mentioned, nor one counted from the other end ("second row from the bottom"). One whose
      image, row or column is left open ("image 3 or image 5", "1, 2, 3-4") is unparsed.

    Numbers that lie outside of the haystack are read all the same; those of more than 18 digits as
    10**18.

    One needle. The most explicit mentions decide: those after "final answer" (or in \\boxed, in
    <answer>), else those that are all their line or sentence says, else those after "answer:", "the
    answer is", "therefore", else all. They must agree, and no later mention that is explicit or has
    second thoughts ("wait", "sorry, I meant", "on closer inspection") may disagree; otherwise the
    answer is unparsed. A cell that is offered only as a guess ("closest", "if I had to guess")
    counts for nothing beside a plain answer in figures: "-1, but if I had to guess 1, 2, 3" is
    absent. Beside an absence said only in words it leaves the answer unparsed. A cell that only
    says why counts for nothing either: "-1 because 1, 2, 3 shows a horse" is absent.

    Several needles. After "final answer" if there is one (or in the last boxes, where each needle
    has its own): a line that holds an answer for each; else answers by the number of their caption
    ("Caption_2: -1", "2. -1", "Second: -1", {"2": ...}), a missing one unparsed; else lines that
    hold nothing but answers, in order, missing ones at the end unparsed; else all mentions, if
    there is one for each. One absence for all makes all absent. More answers than needles, or
    captions that were not asked about, and none is read.
    """
    plain = clean(text or "", setting)
    said = _stated(plain, find(plain, setting), setting.needles)
    if setting.needles == 1:
        return (_decide(plain, said),)
    return _decide_several(plain, said, setting.needles)


def is_refusal(text: str | None) -> bool:
    """Whether a text declines to answer, or says that there was nothing to look at."""
    return bool(vocabulary.REFUSED.search(clean(text or "", Setting(1, 1, 1))))


def _stated(plain: str, mentions: Sequence[Mention], needles: int) -> list[Mention]:
    """Mentions that the text stands by: none ruled out, no guess beside a plain answer."""
    words_count = not vocabulary.REFUSED.search(plain)
    said = [one for one in _not_negated(plain, mentions) if words_count or one.figures]
    if needles > 1:
        return said
    said = list(_not_reasons(plain, said))
    guesses = [one.figures and _guessed(plain, one) for one in said]
    plainly = [one for one, guess in zip(said, guesses, strict=True) if not guess]
    if plainly and not any(one.figures for one in plainly) and any(guesses):
        return []
    return plainly or said


def _not_negated(plain: str, mentions: Sequence[Mention]) -> Iterator[Mention]:
    """Mentions that are not ruled out: "I ruled out 1, 2, 3 and 2, 1, 1" mentions neither."""
    ruled_out_to = -1
    for one in mentions:
        near = max(0, one.start - 60)
        again = ruled_out_to >= 0 and vocabulary.AND.fullmatch(plain, ruled_out_to, one.start)
        before = vocabulary.RULED_OUT.search(plain, near, one.start)
        if one.figures and (before or again):
            ruled_out_to = one.end
            continue
        ruled_out_to = -1
        before = vocabulary.NEGATED_BEFORE.search(plain, near, one.start)
        if not (one.figures and (before or vocabulary.NEGATED_AFTER.match(plain, one.end))):
            yield one


def _not_reasons(plain: str, said: Sequence[Mention]) -> Iterator[Mention]:
    """Mentions that are not why: in "-1 because 1, 2, 3 shows a horse" the second one is passed."""
    answer: Mention | None = None
    for one in said:
        if (
            answer
            and one.start - answer.end <= _SENTENCE
            and not _SENTENCE_END.search(plain, answer.end, one.start)
        ):
            between = plain[answer.end : one.start]
            if vocabulary.REASON.search(between) and not vocabulary.TURN.search(between):
                continue
        else:
            answer = one if _leads(plain, one) else None
        yield one


def _leads(plain: str, one: Mention) -> bool:
    """Whether nothing but filler stands before a mention in its sentence."""
    near = max(0, one.start - 200)
    ends = [mark.end() for mark in _SENTENCE_END.finditer(plain, near, one.start)]
    start = ends[-1] if ends else near
    return not vocabulary.left_over(plain[start : one.start])


def _guessed(plain: str, one: Mention) -> bool:
    near = max(0, one.start - 200)
    start = max(plain.rfind(end, near, one.start) + 1 for end in ("\n", ". "))
    return bool(vocabulary.HEDGE.search(plain, max(near, start), one.start))


_SENTENCE = 1000
"""Characters of a sentence that is looked at as a whole; longer ones are lists."""
_SENTENCE_END = re.compile(r"""[\n\0]|[.!](?=[\s"')\]]|$)""")
_LINE_END = re.compile(r"[\n\0]")


class _Stretches:
    """The sentences, or lines, that mentions stand in; a mention may join several."""

    def __init__(self, plain: str, said: Sequence[Mention], end: re.Pattern[str]) -> None:
        ends = [match.span() for match in end.finditer(plain)]
        starts, stops = [0, *(b for _, b in ends)], [*(a for a, _ in ends), len(plain)]
        self.of: list[tuple[int, int]] = [
            (
                starts[bisect_right(starts, one.start) - 1],
                stops[min(bisect_left(stops, one.end), len(stops) - 1)],
            )
            for one in said
        ]
        """Of each mention: from, to."""
        rest: dict[tuple[int, int], list[str]] = {}
        at = dict.fromkeys(self.of, 0)
        for stretch, one in zip(self.of, said, strict=True):
            begin = at[stretch] or stretch[0]
            rest.setdefault(stretch, []).append(plain[begin : one.start])
            at[stretch] = one.end
        self.bare = {
            stretch: not vocabulary.left_over(" ".join([*parts, plain[at[stretch] : stretch[1]]]))
            for stretch, parts in rest.items()
        }
        """Whether a stretch says nothing but its mentions."""


class _Weight(IntEnum):
    """How explicit a mention is."""

    PASSING = 0
    SECOND_THOUGHT = 1
    MARKED = 2
    ALONE = 3
    FINAL = 4


def _weigh(plain: str, said: Sequence[Mention]) -> list[_Weight]:
    sentences = _Stretches(plain, said, _SENTENCE_END)
    weights = [_Weight.ALONE if sentences.bare[s] else _Weight.PASSING for s in sentences.of]
    starts = [one.start for one in said]
    for pattern, weight in (
        (vocabulary.SECOND_THOUGHT, _Weight.SECOND_THOUGHT),
        (vocabulary.WEAK, _Weight.MARKED),
        (vocabulary.STRONG, _Weight.FINAL),
    ):
        raised: tuple[int, int] | None = None
        for mark in pattern.finditer(plain):
            first = bisect_left(starts, mark.end())
            if first == len(said) or not _reaches(plain, mark.end(), starts[first]):
                continue
            if sentences.of[first] == raised:
                continue  # from an earlier mention on
            raised = sentences.of[first]
            for i in range(first, len(said)):
                if sentences.of[i] != sentences.of[first]:
                    break
                weights[i] = max(weights[i], weight)
    return weights


def _reaches(plain: str, mark: int, mention: int) -> bool:
    """Whether a mark such as "answer:" speaks of a mention: in its sentence, or right after it."""
    if mention - mark > 300:
        return False
    between = plain[mark:mention]
    return not _SENTENCE_END.search(between) or not vocabulary.left_over(between)


def _decide(plain: str, said: Sequence[Mention]) -> Answer:
    """The one answer that the most explicit mentions agree on."""
    if not said:
        return UNPARSED
    weights = _weigh(plain, said)
    top = max(weights)
    last = max(i for i, weight in enumerate(weights) if weight == top)
    decisive = {
        one.values
        for i, (one, weight) in enumerate(zip(said, weights, strict=True))
        if weight == top or (i > last and weight >= _Weight.SECOND_THOUGHT)
    }
    if len(decisive) != 1:
        return UNPARSED
    values = decisive.pop()
    return values[0] if len(values) == 1 else UNPARSED


# --------------------------------------------------------------------------- several needles


def _decide_several(plain: str, said: list[Mention], needles: int) -> tuple[Answer, ...]:
    start, said = _finally(plain, said, needles)
    plain = " " * start + plain[start:]
    said = _once_a_part(plain, said)
    if not said:
        return (UNPARSED,) * needles
    lines = _Stretches(plain, said, _LINE_END)
    return (
        _whole_lines(lines, said, needles)
        or _by_caption(plain, said, needles)
        or _in_order(lines, said, needles)
        or (UNPARSED,) * needles
    )


def _finally(plain: str, said: list[Mention], needles: int) -> tuple[int, list[Mention]]:
    """Where the final answer begins, and its mentions."""
    boxes = list(vocabulary.BOXED.finditer(plain))
    edges = [*(mark.start() for mark in boxes), len(plain)][1:]
    inside: list[Mention] = []
    for mark, edge in zip(reversed(boxes), reversed(edges), strict=True):
        end = plain.find("\n", mark.end(), edge)
        end = edge if end < 0 else end
        inside = [one for one in said if mark.end() <= one.start < end] + inside
        if (count := sum(len(one.values) for one in inside)) >= needles:
            if count == needles and mark != boxes[-1]:  # a box for each
                # What stands before the first box on its line may say which caption it is about.
                return plain.rfind("\n", 0, mark.start()) + 1, inside
            break
    for mark in reversed(list(vocabulary.STRONG.finditer(plain))):
        if said and said[-1].start >= mark.end():
            return mark.end(), [one for one in said if one.start >= mark.end()]
    return 0, said


def _once_a_part(plain: str, said: Sequence[Mention]) -> list[Mention]:
    """Without the words of "-1 (no match found)", which would count twice."""
    kept: list[Mention] = []
    for one in said:
        if (
            kept
            and {*kept[-1].values, *one.values} == {ABSENT}
            and kept[-1].figures != one.figures
            and not re.search(r"[;\n\0]", plain[kept[-1].end : one.start])
        ):
            kept[-1] = one if one.figures else kept[-1]
        else:
            kept.append(one)
    return kept


def _whole_lines(lines: _Stretches, said: list[Mention], needles: int) -> tuple[Answer, ...]:
    """Lines that hold nothing but an answer for each needle; they must agree."""
    by_line: dict[tuple[int, int], list[Answer]] = {}
    for line, one in zip(lines.of, said, strict=True):
        if lines.bare[line]:
            by_line.setdefault(line, []).extend(one.values)
    whole = {tuple(values) for values in by_line.values() if len(values) == needles}
    if len(whole) > 1:
        return (UNPARSED,) * needles
    return whole.pop() if whole else ()


def _by_caption(plain: str, said: Sequence[Mention], needles: int) -> tuple[Answer, ...]:
    """Answers by the number of their caption, which stands before each of them, or after each."""
    starts = [one.start for one in said]

    def inside(at: int) -> bool:  # a mention: the "1" of {"1": ...} may be part of one
        return at >= starts[0] and at < said[bisect_right(starts, at) - 1].end

    marks = [m for m in vocabulary.CAPTION_MARK.finditer(plain) if not inside(m.start())]
    named = [mark for mark in marks if not mark["nth"]]
    marks = named if named or len(set(map(_number, marks))) < 2 else marks
    if not marks:
        return ()
    if starts[0] > marks[0].start():
        edges = [*(mark.start() for mark in marks[1:]), len(plain)]
        pieces = [(mark.end(), edge) for mark, edge in zip(marks, edges, strict=True)]
    else:
        edges = [0, *(mark.end() for mark in marks[:-1])]
        pieces = [(edge, mark.start()) for mark, edge in zip(marks, edges, strict=True)]
        if starts[-1] > marks[-1].end():
            return (UNPARSED,) * needles
    answers: dict[int, set[Answer]] = {}
    for mark, (start, end) in zip(marks, pieces, strict=True):
        about = said[bisect_left(starts, start) : bisect_left(starts, end)]
        if about:
            moved = [one._replace(start=one.start - start, end=one.end - start) for one in about]
            answers.setdefault(_number(mark), set()).add(_decide(plain[start:end], moved))
    if not answers.keys() <= set(range(1, needles + 1)):
        return (UNPARSED,) * needles
    agreed = {k: values.pop() for k, values in answers.items() if len(values) == 1}
    return tuple(agreed.get(k, UNPARSED) for k in range(1, needles + 1)) if answers else ()


def _number(mark: re.Match[str]) -> int:
    text = next(group for group in mark.groups() if group)
    return vocabulary.ORDINALS.get(text) or int(text.rstrip("stndrh"))


def _in_order(lines: _Stretches, said: Sequence[Mention], needles: int) -> tuple[Answer, ...]:
    """Answers in the order of the captions."""
    alone = [one for line, one in zip(lines.of, said, strict=True) if lines.bare[line]]
    values = [value for one in alone or said for value in one.values]
    if len(values) == needles:
        return tuple(values)
    if set(values) == {ABSENT} and (len(said) == 1 or not any(one.figures for one in said)):
        return (ABSENT,) * needles
    if len(values) > needles and values == values[:needles] * (len(values) // needles):
        return tuple(values[:needles])
    if len(values) < needles and len(alone) == len(said):
        return (*values, *[UNPARSED] * (needles - len(values)))
    return ()
