"""Stopping a run when it knows enough: `run --until-halfwidth`.

A setting is asked no further once two confidence sequences (statistics/sequential.py) are narrow
enough: Exact on its positives and Existence on its negatives, both as the robust scorer sees
them. They hold at whatever moment a run stops, so that the rule may look after every answer.

What the rule sees is a function of the log alone: the samples in their order, up to the first one
that is not done with. Else fast answers, which may be the easy ones, would be seen first. A
sample that was given up without an answer counts as wrong for the lower end and as right for the
upper one: a failing server makes intervals wide and can stop nothing.
"""

from collections.abc import Iterator

from mmneedle.runlog import FINAL, Record, Run, RunHeader, RunLog, Stop, now
from mmneedle.scoring import score
from mmneedle.statistics.sequential import RULE, ConfidenceSequence
from mmneedle.types import ANSWERED, AnySetting, parse_sample_id

LEVEL = 0.95
_UNKNOWN, _WRONG, _RIGHT, _NO_ANSWER = range(4)
_NEXT = 1.02
"""A look takes a millisecond: the next one is due at so many times the units."""


class Watch:
    """Looks at a run's answers as they come in, and stops settings."""

    def __init__(self, log: RunLog, halfwidth: float, *, retry_failed: bool = False) -> None:
        """Take in what the log holds.

        A setting that a rule with this half-width, or a smaller one, has stopped stays as it is;
        one that stopped at a larger one goes on. A setting that the log is enough for is stopped
        at once.

        Args:
            log: the run, open for writing.
            halfwidth: of the intervals, between 0 and 0.5.
            retry_failed: whether rejected requests are asked again.

        Raises:
            UserError: run.json cannot be written.
        """
        self.log, self.halfwidth = log, halfwidth
        goes_on(log, halfwidth)
        names = [name for name in log.plan if name not in log.header.stopped]
        self._prefixes = {name: _Prefix(log.header, name, halfwidth) for name in names}
        for record in Run(log.header, [log.folder]).outcomes():
            self.note(record)
            rejected = record.response.status in FINAL - ANSWERED
            setting, index = parse_sample_id(record.sample)
            if setting.name in self._prefixes:
                self._prefixes[setting.name].tried(index)
                if rejected and not retry_failed:
                    self._prefixes[setting.name].give_up(index)
        for name, prefix in self._prefixes.items():
            if prefix.enough():
                self._stop(name)

    def begin(self, setting: AnySetting, index: int) -> None:
        """A sample is about to be asked: it will be part of the run, whatever comes."""
        if setting.name in self._prefixes:
            self._prefixes[setting.name].tried(index)

    def note(self, record: Record) -> None:
        """Take in an answer that is on disk; other attempts say nothing yet."""
        setting, index = parse_sample_id(record.sample)
        prefix = self._prefixes.get(setting.name)
        found = score(setting, record.truth, record.response, "robust", record.reading or None)
        if prefix is not None and found is not None:
            right = found.existence if record.truth[0] is None else found.exact
            prefix.set(index, _RIGHT if right else _WRONG)

    def done(self, setting: AnySetting, index: int) -> bool:
        """A sample is done with, whatever came of it. Returns whether its setting is stopped now.

        Raises UserError if that cannot be written down.
        """
        prefix = self._prefixes.get(setting.name)
        if prefix is None or setting.name in self.log.header.stopped:
            return False
        if self.log.status(setting, index) is not None:  # else it was not asked after all
            prefix.give_up(index)
        return prefix.enough() and self._stop(setting.name)

    def asked(self, setting: AnySetting) -> int:
        """How many samples this command is asked for at a setting, stops considered."""
        name = setting.name
        start, stop = self.log.plan[name]
        return max(0, min(stop, self.log.header.span(name)[1]) - start)

    def _stop(self, name: str) -> bool:
        """Write down that a setting is stopped. Returns False where all of it was begun."""
        end = self._prefixes[name].end()
        if end >= self._prefixes[name].stop:
            return False
        stop = Stop(end=end, halfwidth=self.halfwidth, level=LEVEL, rule=RULE, at=now())
        self.log.set_stops(self.log.header.stopped | {name: stop})
        return True

    def sentences(self) -> Iterator[str]:
        """What became of each setting that this command asked for."""
        yield from sentences(self.log.header, self.log.plan)
        for name, prefix in self._prefixes.items():
            if name not in self.log.header.stopped:
                widths = " and ".join(f"{100 * one:.1f}" for one in prefix.halfwidths())
                rest = "" if prefix.last < prefix.stop else "; all were asked"
                yield (
                    f"{name}: not stopped, half-widths are {widths} points after "
                    f"{prefix.reached - prefix.start} samples{rest}"
                )


class _Prefix:
    """A setting's answers in order, up to the first one that is not there yet."""

    def __init__(self, header: RunHeader, name: str, halfwidth: float) -> None:
        self.start, self.stop = header.span(name)
        self.questions, self.halfwidth = header.questions, halfwidth
        self.marks = bytearray(self.stop - self.start)
        self.reached = self.start
        """All samples before it are done with."""
        self.last = self.start
        """One more than the last sample that was ever begun."""
        self.sequences = {
            positive: ConfidenceSequence(halfwidth, LEVEL)
            for positive in (True, False)
            if any(index % 2 != positive for index in range(self.start, self.stop)[:2])
        }
        self.gathered: dict[bool, list[int]] = {True: [], False: []}
        """Marks of the haystack that is not whole yet."""
        self.next_look = dict.fromkeys(self.sequences, 1.0)

    def set(self, index: int, mark: int) -> None:
        self.tried(index)
        self.marks[index - self.start] = mark

    def give_up(self, index: int) -> None:
        """Mark as without an answer what has none."""
        if self.marks[index - self.start] == _UNKNOWN:
            self.set(index, _NO_ANSWER)

    def tried(self, index: int) -> None:
        self.last = max(self.last, index + 1)

    def end(self) -> int:
        """Where to stop: behind all that was begun, haystacks whole."""
        return min(self.stop, -(-self.last // self.questions) * self.questions)

    def enough(self) -> bool:
        """Go on to the first sample that is not done with; whether the rule is met on the way."""
        while self.reached < self.stop and self.marks[self.reached - self.start] != _UNKNOWN:
            positive = self.reached % 2 == 0
            self.gathered[positive].append(self.marks[self.reached - self.start])
            self.reached += 1
            if self.reached % self.questions == 0 or self.reached == self.stop:
                self._add_unit()
                if self._met():
                    return True
        return False

    def _add_unit(self) -> None:
        """A haystack, or a sample that has its own, is whole."""
        for positive, marks in self.gathered.items():
            if marks:
                right, open_ = marks.count(_RIGHT), marks.count(_NO_ANSWER)
                self.sequences[positive].add(right / len(marks), (right + open_) / len(marks))
                marks.clear()

    def _met(self) -> bool:
        """Whether all intervals are narrow enough; looks only where that is due."""
        for positive, sequence in self.sequences.items():
            if sequence.n < self.next_look[positive]:
                return False
            if sequence.halfwidth() > self.halfwidth:
                self.next_look[positive] = max(sequence.n + 1, sequence.n * _NEXT)
                return False
        return True

    def halfwidths(self) -> list[float]:
        return [sequence.halfwidth() for sequence in self.sequences.values()]


def goes_on(log: RunLog, halfwidth: float | None = None) -> None:
    """Take back what an earlier rule stopped, where this command asks for more.

    That is so where it has no rule, or a smaller half-width, and its plan reaches further.

    Raises:
        UserError: run.json cannot be written.
    """
    kept = {
        name: stop
        for name, stop in log.header.stopped.items()
        if log.plan.get(name, (0, 0))[1] <= stop.end
        or (halfwidth is not None and halfwidth >= stop.halfwidth)
    }
    log.set_stops(kept)


def sentences(header: RunHeader, names: dict[str, tuple[int, int]] | None = None) -> Iterator[str]:
    """What a rule has stopped of a run, a plain sentence each.

    Args:
        header: the run's.
        names: only these settings.
    """
    for name, stop in header.stopped.items():
        if names is None or name in names:
            start, end = header.span(name)
            yield (
                f"{name}: stopped by rule after {end - start} of "
                f"{header.plan[name][1] - start} samples (half-widths were within "
                f"{100 * stop.halfwidth:g} points; with the answers then under way they may be a "
                "little wider)"
            )
