"""The hallucination report: what kind of mistakes a model makes, and whether chance explains them.

    needles.py      a run's answers needle by needle
    inference.py    the tests
    suspects.py     habits against their exact chance, one explained after the other
    detection.py    existence as a detector; haystack size; look-alikes (detection_text.py: words)
    pointing.py     where it points when nothing is there
    looking.py      where it looks when it is wrong about something that is there
    recall.py       the needle's place; ambiguous captions
    formats.py      faults of the answers' form
    pixels.py       pixels of a cell
    calibration.py  log-probabilities
    evidence.py     findings, and one correction over all tests of a report
    study.py        all of it about one run; examined.py: about several
    section.py      in the report page (drawings.py: its figures); terminal.py: in a terminal, JSON

docs/hallucination.md explains every finding and its test.
"""

from mmneedle.reports.hallucination.evidence import Finding
from mmneedle.reports.hallucination.study import Study, examine, study, to_json

__all__ = ["Finding", "Study", "examine", "study", "to_json"]
