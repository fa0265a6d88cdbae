"""Prices and costs: by hand, against genai-prices' own arithmetic, and files with faults."""

from decimal import Decimal
from pathlib import Path

import genai_prices
import pytest
from genai_prices import calc_price
from hypothesis import given
from hypothesis import strategies as st

from mmneedle.costs import (
    Prices,
    Spending,
    Tier,
    cost,
    counted,
    find_prices,
    read_prices,
    saved,
    spending,
)
from mmneedle.errors import UserError
from mmneedle.types import Response, Usage

PRICES = Prices(input=2.0, output=10.0, cached=0.5, cache_write=2.5, batch=0.5)


def test_cost_by_hand() -> None:
    usage = Usage(1_000_000, 100_000, cached_tokens=600_000, cache_write_tokens=200_000)
    assert cost(usage, PRICES) == pytest.approx(0.4 + 0.3 + 0.5 + 1.0)
    assert cost(usage, PRICES, batch=True) == pytest.approx(1.1)
    assert saved(usage, PRICES) == pytest.approx(0.6 * 1.5 - 0.2 * 0.5)
    assert saved(Usage(1000, 1, cache_write_tokens=1000), PRICES) == pytest.approx(-0.0005)
    # A price that is not given is that of other input; no batch discount is made up.
    assert cost(usage, Prices(2.0, 10.0), batch=True) == pytest.approx(3.0)


@given(*[st.one_of(st.none(), st.integers(0, 1000))] * 3)
def test_a_cache_never_holds_more_than_was_sent(
    tokens: int | None, cached: int | None, written: int | None
) -> None:
    usage = Usage(tokens, 10, cached_tokens=cached, cache_write_tokens=written)
    least, most = (min if low else max for low in (True, False))
    rates = (PRICES.input, PRICES.cached or 0.0, PRICES.cache_write or 0.0)
    paid = cost(usage, PRICES) - 100 / 1e6
    assert least(rates) * (tokens or 0) / 1e6 - 1e-12 <= paid
    assert paid <= most(rates) * (tokens or 0) / 1e6 + 1e-12
    total = spending([Response("ok", "-1", usage=usage)], PRICES)
    assert total.cached_tokens + total.cache_write_tokens <= total.input_tokens
    assert (total.cached_share or 0.0) <= 1


def test_a_long_request_pays_its_tier_for_all_tokens() -> None:
    prices = Prices(1.0, 4.0, tiers=(Tier(200_000, 2.0, 6.0), Tier(500_000, 3.0, 9.0)))
    assert cost(Usage(200_000, 0), prices) == pytest.approx(0.2)
    assert cost(Usage(200_001, 1_000_000), prices) == pytest.approx(0.400002 + 6)
    assert cost(Usage(600_000, 0), prices) == pytest.approx(1.8)


MODELS = [
    ("openai", "gpt-4o"),
    ("openai", "gpt-5.4"),
    ("anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-opus-4-8"),
    ("anthropic", "claude-haiku-5-5"),
    ("google", "gemini-2.5-pro"),
    ("google", "gemini-2.5-flash"),
]


@given(st.sampled_from(MODELS), st.integers(0, 900_000), st.integers(0, 9000), st.floats(0, 1))
def test_public_prices_cost_what_genai_prices_says(
    model: tuple[str, str], tokens: int, output: int, share: float
) -> None:
    provider, name = model
    prices = find_prices(f"{provider}/{name}", {}, None, 0.5)
    assert prices is not None
    assert prices.batch == 0.5
    assert genai_prices.__version__ in prices.source
    cached = int(tokens * share)
    theirs = calc_price(
        genai_prices.Usage(input_tokens=tokens, output_tokens=output, cache_read_tokens=cached),
        name,
        provider_id=provider,
    ).total_price
    ours = cost(Usage(tokens, output, cached_tokens=cached), prices)
    assert Decimal(ours) == pytest.approx(theirs, rel=Decimal("1e-9"), abs=Decimal("1e-12"))


@pytest.mark.parametrize(
    ("key", "fingerprint"),
    [
        ("acme/eye", {}),
        ("openai/gpt-99", {}),
        ("server/gpt-4o", {"base_url": "http://127.0.0.1:8000/v1"}),
        ("server/gpt-4o", {}),
        ("hf/org/model", {}),
        ("baseline/oracle", {}),
    ],
)
def test_what_has_no_public_price(key: str, fingerprint: dict[str, str]) -> None:
    assert find_prices(key, fingerprint, None, None) is None


def test_a_gateway_is_priced_by_its_address() -> None:
    url = {"base_url": "https://openrouter.ai/api/v1"}
    assert find_prices("server/openai/gpt-4o", url, None, None)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text("input = 1\noutput = 2.5\ncached = 0.1\n")
    assert read_prices(path, "acme/eye") == Prices(1, 2.5, cached=0.1, source="prices.toml")
    path.write_text(
        '["openai/*"]\ninput = 1\noutput = 2\n["openai/gpt-4o*"]\ninput = 3\noutput = 4\n'
        'source = "our contract"\n'
    )
    assert read_prices(path, "openai/gpt-4o-2024-11-20") == Prices(3, 4, source="our contract")
    assert read_prices(path, "openai/o3").input == 1
    with pytest.raises(UserError, match="no price for acme/eye"):
        read_prices(path, "acme/eye")
    found = find_prices("openai/o3", {}, path, 0.5)
    assert found is not None and found.batch == 0.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("input = 1", "output"),
        ("input = 1\noutput = 2\ncache = 1", "cache"),
        ('input = "cheap"\noutput = 2', "input"),
        ("input = -1\noutput = 2", "below zero"),
        ("input = nan\noutput = 2", "below zero"),
        ("input = 1\noutput = 2\nbatch = 50", "share from 0 to 1"),
        ("input = ", "prices.toml"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"docs/costs\.md") as error:
        read_prices(path, "openai/o3")
    assert said in str(error.value)
    with pytest.raises(UserError, match="cannot be read"):
        read_prices(tmp_path / "none.toml", "openai/o3")


def test_spending_adds_up() -> None:
    responses = [
        Response("ok", "-1", usage=Usage(1000, 10, cached_tokens=500)),
        Response("ok", "-1", usage=Usage(1000, 10, cache_write_tokens=100), batch="b1"),
        Response("truncated", "Let me", usage=Usage(1000, 300)),
        Response("ok", "-1"),  # its tokens were not counted
        Response("rate_limited", error="429"),
    ]
    total = spending(responses, PRICES)
    assert (total.responses, total.uncounted) == (3, 1)
    assert (total.input_tokens, total.output_tokens) == (3000, 320)
    assert total.cached_share == pytest.approx(1 / 6)
    each = [0.00135, (900 * 2 + 100 * 2.5 + 100) / 2e6, 0.005]
    assert total.usd == pytest.approx(sum(each))
    assert total.saved_usd == pytest.approx(0.00075 - 0.000025)
    assert "3,000 input tokens (17 % from cache), 320 output tokens, 0.0074 USD" in str(total)
    assert "1 answer were not counted" in str(total)
    assert spending(responses, None).usd is None
    assert "USD" not in str(spending(responses, None))
    assert str(Spending()) == "0 input tokens, 0 output tokens"


def test_counted() -> None:
    assert counted(Usage(1, 1))
    assert not counted(Usage(1, None))
    assert not counted(None)
