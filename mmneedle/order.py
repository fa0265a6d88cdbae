"""In which order samples are asked: those that share a haystack together, the first one ahead.

Providers keep what they have read of a prompt's beginning, and read it again for a tenth to a half
of the price. Such an entry exists only once a first response has begun, so questions about one
haystack that are sent at once all pay in full.
"""

import asyncio
from collections import deque
from collections.abc import Iterator

from mmneedle.types import Sample


class Order:
    """Hands a stream's samples to workers, each once; memory holds a haystack a worker.

    Of samples that share a haystack (they are neighbours in the stream) the first is handed out
    alone and the others when it is `done`, before any further haystack is begun: workers are
    never idle while there is something to ask, and a cached haystack is used before it is
    forgotten.
    """

    def __init__(self, samples: Iterator[Sample], *, together: bool = False) -> None:
        """Take a stream.

        Args:
            samples: in the order in which they shall be asked.
            together: hand out all of a haystack's samples at once.
        """
        self._haystacks = _haystacks(samples, together)
        self._ready: deque[Sample] = deque()
        self._held: dict[str, list[Sample]] = {}
        """First sample's id -> the others."""
        self._waiting: list[asyncio.Future[None]] = []

    async def take(self) -> Sample | None:
        """The next sample, once there is one that may be asked; None when all were."""
        while True:
            if self._ready:
                return self._ready.popleft()
            first, *others = next(self._haystacks, None) or (None,)
            if first is not None:
                if others:
                    self._held[first.id] = others
                return first
            if not self._held:
                return None
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn

    def done(self, sample: Sample) -> None:
        """A sample that was taken is done with, whatever came of it."""
        others = self._held.pop(sample.id, None)
        if others:
            self._ready += others
            waiting, self._waiting = self._waiting, []
            for turn in waiting:
                if not turn.done():  # a cancelled one waits no more
                    turn.set_result(None)


def _haystacks(samples: Iterator[Sample], together: bool) -> Iterator[list[Sample]]:
    """Neighbours that share a haystack, in one list; other samples in a list of their own."""
    gathered: list[Sample] = []
    for sample in samples:
        if together or sample.haystack_number is None:
            yield [sample]
            continue
        if gathered and not _same_haystack(gathered[0], sample):
            yield gathered
            gathered = []
        gathered.append(sample)
    if gathered:
        yield gathered


def _same_haystack(one: Sample, other: Sample) -> bool:
    return (one.setting, one.haystack_number) == (other.setting, other.haystack_number)
