"""A run beside its own submission, or a copy of its folder: one run, not two that share ranks."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import combinations

import msgspec

from mmneedle.runlog import Run
from mmneedle.submissions.scrub import public_model


class Once(msgspec.Struct, frozen=True):
    """Runs, each once."""

    runs: list[Run]
    notes: list[str]
    """A sentence on each that was left out."""


def once(runs: Sequence[Run]) -> Once:
    """Leave out submissions that hold the very answers of a run, or of another submission.

    These are the same answers to the same samples at the same moments. As two models they would
    share ranks, and each would be corrected for.
    """
    kept: list[Run] = []
    notes = []
    digests: dict[int, bytes] = {}

    def digest(run: Run) -> bytes:
        if id(run) not in digests:
            digests[id(run)] = _digest(run)
        return digests[id(run)]

    for run in sorted(runs, key=lambda run: run.origin == "submitted"):
        if run.origin == "submitted":
            alike = (one for one in kept if _about(one) == _about(run))
            twin = next((one for one in alike if digest(one) == digest(run)), None)
            if twin is not None:
                notes.append(
                    f"{run.path.name} holds the answers of {twin.path.name}: they are the same "
                    "run, which is shown once."
                )
                continue
        kept.append(run)
    return Once([run for run in runs if run in kept], notes)


def same_answers(runs: Sequence[Run], names: Sequence[str]) -> Iterator[str]:
    """A sentence on every two runs that are one: begun at one moment, with the same answers.

    Logs are read only of runs whose headers are alike.
    """
    digests: dict[int, bytes] = {}
    for one, other in combinations(range(len(runs)), 2):
        a, b = runs[one], runs[other]
        if a.header.created != b.header.created or _about(a) != _about(b):
            continue
        for place in (one, other):
            if place not in digests:
                digests[place] = _digest(runs[place])
        if digests[one] == digests[other]:
            yield (
                f"{names[one]} and {names[other]} are the same answers: one run, of which "
                f"{b.path} is a copy. Leave one of them out: they are no two models, and other "
                "comparisons are corrected for this one."
            )


def _about(run: Run) -> tuple[str, str, str, list[tuple[str, tuple[int, int]]]]:
    header = run.header
    plan = [(name, header.span(name)) for name in sorted(header.plan)]
    return public_model(header.model), header.task, header.dataset_fingerprint, plan


def _digest(run: Run) -> bytes:
    """A hash of all answers, in whatever order they stand."""
    whole = hashlib.sha256()
    for part in sorted(_parts(run)):
        whole.update(part)
    return whole.digest()


def _parts(run: Run) -> Iterator[bytes]:
    for record in run.outcomes():
        said = (record.sample, record.at, record.response.status, record.response.text)
        yield hashlib.sha256(msgspec.json.encode(said)).digest()
