"""How reports write numbers: one rule of rounding, whatever the binary form of a fraction."""

from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmneedle.reports.words import percent, points, rounded, signed


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (0.695, 2, "0.70"),  # binary: just below
        (0.8 + 0.895 - 1, 2, "0.70"),
        (-0.695, 2, "-0.70"),
        (2.5, 0, "3"),
        (62.5, 0, "63"),
        (-0.04, 1, "0.0"),
        (-0.05, 1, "-0.1"),
        (1234.5, 0, "1235"),
        (0.0, 2, "0.00"),
    ],
)
def test_halves_go_away_from_zero(value: float, digits: int, shown: str) -> None:
    assert rounded(value, digits) == shown


def test_a_number_is_written_alike_however_it_was_made() -> None:
    assert percent(111 / 400) == percent(1 - 289 / 400) == percent(1 - 0.7225) == "27.8"
    assert signed(139 / 200) == signed(0.8 + 0.895 - 1) == "0.70"
    assert signed(-139 / 200) == "−0.70"
    assert signed(-0.001) == "0.00"
    assert points(0.8 - 0.7475) == "5.3"
    assert percent(0.025, 0) == "3"


@given(st.integers(1, 3_000), st.data())
def test_shares_round_as_their_counts_do(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    share = Fraction(100 * hits, n)
    exact = Decimal(share.numerator) / Decimal(share.denominator)
    shown = str(exact.quantize(Decimal("0.1"), ROUND_HALF_UP))
    assert points(hits / n) == points(1 - (n - hits) / n) == shown
