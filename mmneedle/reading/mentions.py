"""Plain text -> mentions: every place where it names a cell or says that there is none.

`find` reads what `cleaning.clean` leaves, token by token. Deciding what the model meant by several
mentions is `answers.read_robust`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from mmneedle.reading import vocabulary as words
from mmneedle.reading.tokens import tokens
from mmneedle.types import Answer, Location, Setting

ABSENT = Answer("absent")
UNPARSED = Answer("unparsed")


class Mention(NamedTuple):
    """A stretch of cleaned text that says where a needle is, or that it is not there."""

    start: int
    end: int
    values: tuple[Answer, ...]
    """One a needle, several for a flat list of numbers; unparsed where it cannot be made out."""
    figures: bool
    """Said in numbers; False for an absence said in words."""


def found(image: int, row: int, column: int) -> Answer:
    """The answer that names this cell."""
    return Answer("found", Location(image, row, column))


def find(text: str, setting: Setting) -> list[Mention]:
    """The mentions in a cleaned text, in order; none overlaps another."""
    reading = _Reading(text, setting)
    said = [*reading.labelled(), *reading.bare()]
    said += [
        Mention(max(match.span("nothing")[0], match.start()), match.end(), (ABSENT,), False)
        for match in words.ABSENT.finditer(text)
        if not words.CONDITION.search(text, max(0, match.start() - 40), match.start())
        and not words.PARTLY.match(text, match.end())
    ]
    return list(_apart(sorted(said, key=lambda one: (one.start, not one.figures))))


def _apart(said: Sequence[Mention]) -> Iterator[Mention]:
    end = 0
    for one in said:
        if one.start >= end:
            end = one.end
            yield one


class _Value(NamedTuple):
    """A labelled number: "row 2" or "second row"."""

    axis: words.Axis
    value: int | None
    """None where a number is there but cannot be relied on ("row 2 or 3")."""
    first: int
    last: int
    """Tokens."""
    loose: bool = False
    """A colon and then a counted thing: "picture: 2 dogs"."""


_GAP = 20
"""Words between two labels of one cell, at most."""


class _Reading:
    """One text being read: its tokens, its lists of numbers, and which of these are taken."""

    def __init__(self, text: str, setting: Setting) -> None:
        self.text = text
        self.setting = setting
        self.tokens = tokens(text)
        self.lists = dict(self._lists())
        """First token -> tokens of a comma-separated list of numbers."""
        self.listed = {i for run in self.lists.values() if len(run) > 1 for i in run}
        """Tokens of the lists that hold several."""
        self.reordered = bool(words.HEADER.search(text))
        """Whether the text announces another order than "index, row, column"."""
        self.taken: set[int] = set()
        """Tokens that a label has used."""

    def _lists(self) -> Iterator[tuple[int, list[int]]]:
        i = 0
        while i < len(self.tokens):
            run = [i]
            while self._plain(run[-1]) and (following := self._after_comma(run[-1])):
                run.append(following)
            if self.tokens[i].kind == "number":
                yield i, run
            i = run[-1] + 1

    def _plain(self, i: int) -> bool:
        """A number that no script without spaces ties to its label ("2行")."""
        return self._kind(i) == "number" and not self._cjk_label(i + 1)

    def _after_comma(self, i: int) -> int | None:
        """The number after token i and a comma, if that is what follows."""
        if self._text(i + 1) != ",":
            return None
        following = i + 3 if self._text(i + 2) == "\n" else i + 2
        return following if self._plain(following) else None

    def _kind(self, i: int) -> str:
        return self.tokens[i].kind if 0 <= i < len(self.tokens) else ""

    def _text(self, i: int) -> str:
        return self.tokens[i].text if 0 <= i < len(self.tokens) else ""

    def _cjk_label(self, i: int) -> bool:
        return self._text(i) in words.CJK_LABELS

    # ------------------------------------------------------------------- labelled numbers

    def labelled(self) -> list[Mention]:
        """Cells said by label, whatever their order: "row 2, column 3 of image 1"."""
        said: list[Mention] = []
        group = _Group(self)
        for i, token in enumerate(self.tokens):
            if token.text == "\0":
                said += group.close()
            pair = self._pair(i)
            if pair:
                said += group.add_pair(*pair)
            if token.kind == "label" and (value := self._before(i) or self._after(i)):
                said += group.add(value)
        return said + group.close()

    def _before(self, i: int) -> _Value | None:
        """ "second row", "2nd row", "第2行", "2. Zeile": the number stands before its label."""
        j = i - 1
        for _ in range(2):
            j -= self._text(j) in words.BEFORE_LABEL
        if j in self.taken or j < 0:
            return None
        kind, axis = self._kind(j), self.tokens[i].axis
        german = (
            self._text(j) == "."
            and self._text(i) in words.GERMAN_LABELS
            and self._kind(j - 1) == "number"
            and not self._after(i, take=False)
        )
        j -= german
        tied = kind == "number" and self._cjk_label(i)
        if axis is None or j in self.taken or not (kind == "ordinal" or tied or german):
            return None
        self.taken.add(j)
        return self._value(axis, self.tokens[j].value, j, i)

    def _after(self, i: int, take: bool = True) -> _Value | None:
        """ "row 2", "row: 2", "<row>2", "row_2: 2" (the last one's suffix counts needles)."""
        axis = self.tokens[i].axis
        j = i + 1
        if self._text(j) == "_" and self._kind(j + 1) == "number":
            after = j + 2 + (self._text(j + 2) in "'\"")
            if self._text(after) in (":", "=") and take:
                self.taken.add(j + 1)
                j += 2
        for _ in range(6):
            dot = self._text(j) == "." and self._text(j - 1) in words.ABBREVIATED
            if dot or self._text(j) in words.NEXT_TO_LABEL or self._axis(j) == axis:
                j += 1
        if axis is None or j in self.taken:
            return None
        token = self.tokens[j] if j < len(self.tokens) else self.tokens[i]
        value: int | None
        if token.kind == "number":
            run = self.lists.get(j, [j])
            if len(run) == 3 and axis == "image":
                return None  # "index: 1, 2, 3" is the whole answer
            value = token.value if len(run) == 1 else None
        elif token.kind == "ordinal" and self._kind(j + 1) != "label":
            value = token.value
        elif token.text in words.CARDINALS:
            value = words.CARDINALS[token.text]
        elif token.text in words.NULLS and ":" in self.text[self.tokens[i].end : token.start]:
            value = -1
        else:
            return None
        if take:
            self.taken.update(self.lists.get(j, [j]))
        between = self.text[self.tokens[i].end : token.start]
        loose = ":" in between and self._kind(j + 1) == "word"
        return self._value(axis, value, i, j, loose)

    def _axis(self, i: int) -> words.Axis | None:
        return self.tokens[i].axis if i < len(self.tokens) else None

    def _value(
        self, axis: words.Axis, value: int | None, first: int, last: int, loose: bool = False
    ) -> _Value:
        several = self._text(last + 1) in words.OR and self._kind(last + 2) == "number"
        if several and not self._cjk_label(last + 3):
            value = None
        before = first - 2  # "the third or fifth image"
        if (
            self._text(first - 1) in words.OR
            and self._kind(before) in ("number", "ordinal")
            and before not in self.taken
        ):
            value = None
        if words.BACKWARDS.match(self.text, self.tokens[last].end):
            value = None
        return _Value(axis, value, first, last, loose)

    def _pair(self, i: int) -> tuple[int, int] | None:
        """ "(2, 3)" beside an image's label: row and column, as in the prompt's order."""
        run = self.lists.get(i, [])
        if len(run) != 2 or i in self.taken:
            return None
        if self._text(i - 1) not in ("(", "[") or self._text(run[1] + 1) not in (")", "]"):
            return None
        return run[0], run[1]

    # ------------------------------------------------------------------- bare numbers

    def bare(self) -> Iterator[Mention]:
        """ "1, 2, 3", "-1" and flat lists of these."""
        for i, token in enumerate(self.tokens):
            if token.kind == "nones":
                yield self._nones(i, i, token.text.count("-1"))
        for i, run in self.lists.items():
            if self.taken.isdisjoint(run) and self._text(i - 1) not in words.MANY:
                values = [self.tokens[j].value for j in run]
                if self._left_open(run):
                    yield Mention(self.tokens[i].start, self.tokens[run[-1]].end, (UNPARSED,), True)
                elif all(value == -1 for value in values):
                    yield self._nones(i, run[-1], len(values))
                elif said := self._cells(values, run):
                    yield Mention(self.tokens[i].start, self.tokens[run[-1]].end, said, True)

    def _left_open(self, run: Sequence[int]) -> bool:
        """Whether a cell's first or last number is one of two: "3, 2, 3-4", "3 or 4, 2, 1"."""
        if len(run) != 3:
            return False
        before, after = run[0] - 2, run[-1] + 2
        return (
            self._kind(after) == "number"
            and len(self.lists.get(after, [after])) == 1
            and self._or(run[-1] + 1)
        ) or (self._kind(before) == "number" and before not in self.listed and self._or(run[0] - 1))

    def _or(self, i: int) -> bool:
        """Whether a token says "or" between two numbers; a dash or a stroke that touches both."""
        text = self._text(i)
        touches = (
            self.tokens[i - 1].end == self.tokens[i].start
            and self.tokens[i].end == self.tokens[i + 1].start
        )
        return text == "or" or (text in ("-", "/") and touches)

    def _nones(self, first: int, last: int, count: int) -> Mention:
        needles = self.setting.needles
        if count in (1, 3) or needles == 1:
            values: tuple[Answer, ...] = (ABSENT,)
        elif count in (needles, 3 * needles):
            values = (ABSENT,) * needles
        else:
            values = (ABSENT,) * count if count < needles else (UNPARSED,)
        return Mention(self.tokens[first].start, self.tokens[last].end, values, True)

    def _cells(self, values: list[int], run: list[int]) -> tuple[Answer, ...]:
        if len(values) == 3:
            return (UNPARSED,) if -1 in values or self.reordered else (found(*values),)
        if self.setting.needles > 1 and len(values) > 3:
            return split_flat(values, self.setting.needles) or (UNPARSED,)
        if len(values) == 1 and self.setting.rows * self.setting.cols == 1 and self._alone(run[0]):
            return (found(values[0], 1, 1),)
        return ()

    def _alone(self, i: int) -> bool:
        """Whether a number is all that stands between two semicolons or line ends."""
        first, last = self.tokens[i].start, self.tokens[i].end
        start = max(self.text.rfind("\n", 0, first), self.text.rfind(";", 0, first)) + 1
        if first - start > 60 or not _PART_END.match(self.text, last):
            return False
        return not words.left_over(words.CAPTION_MARK.sub(" ", self.text[start:first]))


_PART_END = re.compile(r"""[ "')\].}]{0,20}(?=[;\n]|$)""")


class _Group:
    """Labelled numbers on their way to being one cell."""

    def __init__(self, reading: _Reading) -> None:
        self.reading = reading
        self.values: dict[words.Axis, int | None] = {}
        self.first = self.last = 0
        """Tokens."""
        self.bare_pair = self.loose = False
        self.newest: words.Axis | None = None

    def _other(self, value: _Value) -> bool:
        """Whether it is another way to say what was said last: "image 3 or image 5"."""
        between = [token.text for token in self.reading.tokens[self.last + 1 : value.first]]
        return (
            bool(self.values)
            and value.axis == self.newest
            and self.values[value.axis] != value.value
            and any(text in words.OR for text in between)
            and all(text in words.OR or text in words.OF or text in ("(", ",") for text in between)
        )

    def add(self, value: _Value) -> list[Mention]:
        """Take a labelled number in; what it closes comes back."""
        closed: list[Mention] = []
        if self._other(value):
            self.values[value.axis], self.last = None, value.last
            return closed
        if self.values:
            between = self.reading.tokens[self.last + 1 : value.first]
            again = value.axis in self.values and (
                {"row", "column"} <= self.values.keys() or self.values[value.axis] != value.value
            )
            # In "row 2, column 3 of image 1" the image belongs to what stands before it.
            bound = value.axis == "image" and all(token.text in words.OF for token in between)
            far = sum(token.kind == "word" for token in between) > (4 if self.bare_pair else _GAP)
            if far or (again and not (bound and len(self.values) == 3)):
                closed = self.close()
        if not self.values:
            self.first = value.first
        self.values[value.axis] = value.value
        self.newest, self.last = value.axis, value.last
        self.loose = self.loose or value.loose
        return closed

    def add_pair(self, first: int, last: int) -> list[Mention]:
        """Take "(2, 3)" in as row and column."""
        closed: list[Mention] = []
        between = self.reading.tokens[self.last + 1 : first]
        if set(self.values) != {"image"} or sum(token.kind == "word" for token in between) > 4:
            closed = self.close()
            self.first, self.bare_pair = first, True
        row, column = (self.reading.tokens[i].value for i in (first, last))
        self.values |= {"row": row, "column": column}
        self.newest, self.last = None, last
        return closed

    def close(self) -> list[Mention]:
        """The cell that was said, if any; begin anew."""
        if not self.values:
            return []
        said = self._answer()
        start, end = self.reading.tokens[self.first].start, self.reading.tokens[self.last].end
        self.values = {}
        self.bare_pair = self.loose = False
        return [Mention(start, end, (said,), True)] if said else []

    def _answer(self) -> Answer | None:
        setting = self.reading.setting
        values = [value for value in self.values.values() if value is not None]
        axes = set(self.values)
        whole_images = axes == {"image"} and setting.rows * setting.cols == 1
        if len(values) < len(axes):
            return UNPARSED if len(axes) > 1 or whole_images else None
        if all(value == -1 for value in values):
            return ABSENT
        if -1 in values:
            return UNPARSED
        if len(axes) == 3:
            return _cell(self.values)
        if axes == {"row", "column"} and not self.bare_pair:
            return _cell({"image": 1, **self.values}) if setting.images == 1 else UNPARSED
        return found(values[0], 1, 1) if whole_images and not self.loose else None


def _cell(values: Mapping[words.Axis, int | None]) -> Answer:
    return found(values["image"] or 0, values["row"] or 0, values["column"] or 0)


def split_flat(values: Sequence[int], needles: int) -> tuple[Answer, ...]:
    """ "1, 2, 3, -1" for two needles: a cell and an absence; empty where it does not come out.

    An absence may take one number or three ("-1, -1, -1"), the same throughout.
    """
    for width in (1, 3):
        said: list[Answer] = []
        i = 0
        while i < len(values):
            step = width if values[i] == -1 else 3
            part = values[i : i + step]
            if len(part) < step or (-1 in part and set(part) != {-1}):
                break
            said.append(ABSENT if part[0] == -1 else found(*part))
            i += step
        else:
            if len(said) == needles:
                return tuple(said)
    return ()
