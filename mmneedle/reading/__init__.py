"""Reading what a model wrote: `clean` its text, `find` what it says; see `mmneedle.answers`."""

from mmneedle.reading.cleaning import clean
from mmneedle.reading.mentions import ABSENT, UNPARSED, Mention, find

__all__ = ["ABSENT", "UNPARSED", "Mention", "clean", "find"]
