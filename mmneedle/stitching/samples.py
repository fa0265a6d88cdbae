"""From drawn haystacks to samples: which needle is asked for, in which words, and how clearly."""

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmneedle.data.similarity import CaptionIndex, normalise
from mmneedle.errors import UserError
from mmneedle.stitching import haystacks
from mmneedle.types import Location, Needle, Photo, Sample, Setting, sample_id

CaptionRule = Literal["last", "random"]

_NEAREST = 256  # neighbours kept for a photo; the rest is looked up where these do not do


class Rules(msgspec.Struct, frozen=True):
    """What, beside the source and the setting, decides a sample."""

    seed: int = 0
    captions: CaptionRule = "last"
    """Which caption of a photo is asked for: the last listed (as in the paper) or a random one."""
    hard_negatives: float = 0.0
    """Share of the negatives whose caption resembles a photo that is there, 0..1."""
    questions: int = 1
    """Questions a haystack, Q: 1, or an even number, half of them negatives."""

    def check(self) -> None:
        """Raise UserError on a rule that does not exist."""
        if self.captions not in get_args(CaptionRule):
            raise UserError(f"captions must be last or random, not {self.captions!r}")
        if not 0 <= self.hard_negatives <= 1:
            raise UserError(f"hard negatives are a share from 0 to 1, not {self.hard_negatives}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"the seed must be a whole number from 0 to 2**63-1, not {self.seed}")
        if self.questions != 1 and (self.questions < 1 or self.questions % 2):
            raise UserError(
                "questions per haystack must be 1 or an even number, half of them without a "
                f"match, not {self.questions}"
            )


class SampleMaker:
    """Makes the samples of any setting from one source's photos.

    Photos are handled by position 0 … P-1 in the source's list and become ids in the samples.
    """

    def __init__(self, photos: Sequence[Photo], rules: Rules) -> None:
        rules.check()
        self.photos, self.rules = photos, rules
        self._ids = np.array([photo.id for photo in photos], np.int64)
        self._nearest = lru_cache(maxsize=4096)(self._rank_by_likeness)

    def samples(self, setting: Setting, start: int, stop: int) -> Iterator[Sample]:
        """Samples start … stop-1 of a setting. Raises UserError if the source is too small."""
        seed, each = self.rules.seed, self.rules.questions
        first = start - start % each  # samples of one haystack are made together
        drawn = haystacks.draw(
            seed, setting, len(self.photos), first // each, -(-stop // each), each
        )
        # Positives are the even samples: number j is sample 2j.
        cells = haystacks.positions(seed, setting, (first + 1) // 2, (stop + 1) // 2, each)
        for block in drawn:
            for row, spares, words in zip(*block, strict=True):
                numbers = range(first, min(first + each, stop))
                made = self._of_haystack(setting, numbers, row, spares, words, cells)
                yield from made[max(0, start - first) :]
                first += each

    def _of_haystack(
        self,
        setting: Setting,
        numbers: range,
        row: NDArray[np.uint32],
        spares: NDArray[np.uint32],
        words: NDArray[np.uint32],
        cells: Iterator[tuple[int, ...]],
    ) -> list[Sample]:
        """The samples with these numbers, which ask about one haystack."""
        haystack = tuple(self._ids[row].tolist())
        taken: set[int] = set()  # what its negatives asked for: each asks for something else
        made = []
        for question, index in enumerate(numbers):
            free = words[question * setting.needles :][: setting.needles]
            if index % 2 == 0:
                places = next(cells)
                asked = [
                    (p := int(row[cell]), self._choose(p, free[k])) for k, cell in enumerate(places)
                ]
            else:
                places = None
                own = spares[question // 2 * setting.needles :][: setting.needles]
                asked = self._absent(setting, index, row, own, free, taken)
            made.append(self._sample(setting, index, haystack, row, asked, places))
        return made

    def _sample(
        self,
        setting: Setting,
        index: int,
        haystack: tuple[int, ...],
        row: NDArray[np.uint32],
        asked: Sequence[tuple[int, int]],
        places: tuple[int, ...] | None,
    ) -> Sample:
        needles = tuple(
            Needle(
                caption=self.photos[photo].captions[caption],
                photo=int(self._ids[photo]),
                location=None if places is None else locate(setting, places[k]),
            )
            for k, (photo, caption) in enumerate(asked)
        )
        each = self.rules.questions
        return Sample(
            id=sample_id(setting, index),
            setting=setting,
            haystack=haystack,
            needles=needles,
            ambiguity=max(self._ambiguity(row, *one) for one in asked),
            hard=places is None and self._is_hard(index // 2),
            haystack_number=index // each if each > 1 else None,
        )

    def _choose(self, photo: int, word: int) -> int:
        """Which of a photo's captions is asked for."""
        count = len(self.photos[photo].captions)
        return count - 1 if self.rules.captions == "last" else (int(word) * count) >> 32

    def _is_hard(self, negative: int) -> bool:
        """Spread the hard ones evenly over the negatives, the same way in every prefix."""
        share = self.rules.hard_negatives
        return int((negative + 1) * share) > int(negative * share)

    def _absent(
        self,
        setting: Setting,
        index: int,
        row: NDArray[np.uint32],
        spares: NDArray[np.uint32],
        words: NDArray[np.uint32],
        taken: set[int],
    ) -> list[tuple[int, int]]:
        """Needles that are not there: neither their photo nor any photo with the same caption.

        Nor are they among those `taken` by other questions about the haystack, to which they are
        added.
        """
        hard = self._is_hard(index // 2)
        there = taken.union(row.tolist())
        asked: list[tuple[int, int]] = []
        for k, word in enumerate(words.tolist()):
            if hard:
                candidates = self._alike(int(row[(word * len(row)) >> 32]))
            else:
                candidates = self._others(index, setting, int(spares[k]), k)
            for photo in candidates:
                caption = self._choose(photo, word)
                if photo not in there and not self._same(photo, caption) & there:
                    break
            else:
                raise UserError(
                    f"sample {sample_id(setting, index)}: no photo is left whose caption is not "
                    "in the haystack; use a larger source or a smaller haystack"
                )
            there.add(photo)
            taken.add(photo)
            asked.append((photo, caption))
        return asked

    def _others(self, index: int, setting: Setting, first: int, needle: int) -> Iterator[int]:
        """The drawn spare and, should it not do, all photos from a random place on."""
        yield first
        rules, purpose = self.rules, f"spare {index} {needle}"
        start = haystacks.word(rules.seed, setting, purpose, rules.questions)
        yield from ((start + step) % len(self.photos) for step in range(len(self.photos)))

    def _alike(self, anchor: int) -> Iterator[int]:
        """Photos by falling likeness of their caption to the anchor's."""
        yield from self._nearest(anchor, _NEAREST).tolist()
        yield from self._rank_by_likeness(anchor, len(self.photos)).tolist()

    def _rank_by_likeness(self, anchor: int, most: int) -> NDArray[np.uint32]:
        last = len(self.photos[anchor].captions) - 1
        only = -1 if self.rules.captions == "last" else None
        likeness = self._index.to_photos((anchor, last), np.arange(len(self.photos)), only=only)
        return np.argsort(-likeness, kind="stable")[:most].astype(np.uint32)

    def _ambiguity(self, row: NDArray[np.uint32], photo: int, caption: int) -> float:
        others = row[row != photo]
        if not len(others):
            return 0.0
        return round(float(self._index.to_photos((photo, caption), others).max()), 4)

    def _same(self, photo: int, caption: int) -> frozenset[int]:
        """Photos that have this caption too."""
        return self._shared.get(normalise(self.photos[photo].captions[caption]), frozenset())

    @cached_property
    def _shared(self) -> dict[str, frozenset[int]]:
        """Captions that stand at more than one photo, and those photos."""
        owners: dict[str, set[int]] = {}
        for position, photo in enumerate(self.photos):
            for caption in photo.captions:
                owners.setdefault(normalise(caption), set()).add(position)
        return {text: frozenset(them) for text, them in owners.items() if len(them) > 1}

    @cached_property
    def _index(self) -> CaptionIndex:
        return CaptionIndex([photo.captions for photo in self.photos])


def locate(setting: Setting, cell: int) -> Location:
    """The one-based location of cell 0 … cells-1, counted image by image, row by row."""
    image, rest = divmod(cell, setting.rows * setting.cols)
    row, column = divmod(rest, setting.cols)
    return Location(image + 1, row + 1, column + 1)


def cell_of(setting: Setting, location: Location) -> int:
    """The inverse of `locate`."""
    return (
        ((location.image - 1) * setting.rows + location.row - 1) * setting.cols
        + location.column
        - 1
    )
