"""What requests cost: prices, the cost of a response, and what a cache saved.

Prices come from a file of the user's or from the package genai-prices, which carries a dated
snapshot of public price lists. All money is US dollars.
"""

import datetime
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from mmneedle.errors import UserError
from mmneedle.types import ANSWERED, Response, Usage

_MILLION = 1e6


class Tier(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Prices of a request with more input tokens than `start`: for all of its tokens."""

    start: int
    input: float
    output: float
    cached: float | None = None
    cache_write: float | None = None


class Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """US dollars for a million tokens."""

    input: float
    output: float
    cached: float | None = None
    """Input read from a cache; None: as other input."""
    cache_write: float | None = None
    """Input written to a cache; None: as other input."""
    batch: float | None = None
    """Price of a batch, as a share of the ordinary one; None: no discount is known."""
    tiers: tuple[Tier, ...] = ()
    """Of long requests, by rising `start`."""
    source: str = ""
    """Where they stand, and as of when."""

    def of(self, tokens: int) -> "Prices | Tier":
        """The prices that hold for a request with so many input tokens."""
        beyond = [tier for tier in self.tiers if tokens > tier.start]
        return max(beyond, key=lambda tier: tier.start) if beyond else self


def cost(usage: Usage, prices: Prices, batch: bool = False) -> float:
    """US dollars that a response costs.

    Args:
        usage: its tokens; a kind that the provider did not count is taken as none, so see first
            that it counted (`counted`).
        prices: the model's.
        batch: whether a batch brought it.
    """
    tokens = usage.input_tokens or 0
    rate = prices.of(tokens)
    cached, written = cache_parts(usage)
    dollars = (
        (tokens - cached - written) * rate.input
        + cached * (rate.input if rate.cached is None else rate.cached)
        + written * (rate.input if rate.cache_write is None else rate.cache_write)
        + (usage.output_tokens or 0) * rate.output
    )
    return dollars / _MILLION * (prices.batch if batch and prices.batch is not None else 1.0)


def cache_parts(usage: Usage) -> tuple[int, int]:
    """Input tokens read from a cache and written to one: together never more than there were.

    A server that counts more than that counts wrongly, and nothing must come out below zero.
    """
    tokens = usage.input_tokens or 0
    cached = min(usage.cached_tokens or 0, tokens)
    return cached, min(usage.cache_write_tokens or 0, tokens - cached)


def saved(usage: Usage, prices: Prices, batch: bool = False) -> float:
    """US dollars that the cache saved: what was read from it, less what writing it cost more.

    Negative where more was written than reading made up for.
    """
    without = msgspec.structs.replace(usage, cached_tokens=None, cache_write_tokens=None)
    return cost(without, prices, batch) - cost(usage, prices, batch)


def may_be_charged(response: Response) -> bool:
    """Whether an attempt may cost something though nobody counted its tokens.

    Answers do. So may a request that no reply came back of, and one that a server or a gateway on
    the way failed at: the model may have been at work. Requests that were turned away were not
    begun, and cost nothing.
    """
    if counted(response.usage) or response.uncharged:
        return False
    return response.status in ANSWERED or response.status in ("timeout", "server_error")


def counted(usage: Usage | None) -> bool:
    """Whether the provider told what a cost needs."""
    return usage is not None and None not in (usage.input_tokens, usage.output_tokens)


class Spending(msgspec.Struct, omit_defaults=True):
    """Tokens and money of a run so far, failed attempts included."""

    responses: int = 0
    """With counted tokens."""
    uncounted: int = 0
    """Answers whose tokens the provider did not count."""
    unsure: int = 0
    """Attempts without an answer that may have been charged all the same: nobody said."""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    usd: float | None = None
    """None: the price is not known."""
    saved_usd: float | None = None
    """What the cache saved."""

    def add(self, response: Response, prices: Prices | None) -> None:
        """Count a response."""
        usage = response.usage
        if usage is None or not counted(usage):
            answered = response.status == "ok" or response.text is not None
            self.uncounted += answered
            self.unsure += not answered and may_be_charged(response)
            return
        self.responses += 1
        cached, written = cache_parts(usage)
        self.input_tokens += usage.input_tokens or 0
        self.output_tokens += usage.output_tokens or 0
        self.cached_tokens += cached
        self.cache_write_tokens += written
        if prices is not None:
            batch = response.batch is not None
            self.usd = (self.usd or 0.0) + cost(usage, prices, batch)
            self.saved_usd = (self.saved_usd or 0.0) + saved(usage, prices, batch)

    def merge(self, other: "Spending") -> None:
        """Count what another one counted."""
        for name in (
            "responses",
            "uncounted",
            "unsure",
            "input_tokens",
            "output_tokens",
            "cached_tokens",
            "cache_write_tokens",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("usd", "saved_usd"):
            if (more := getattr(other, name)) is not None:
                setattr(self, name, (getattr(self, name) or 0.0) + more)

    @property
    def cached_share(self) -> float | None:
        """Share of the input that was read from a cache, 0..1."""
        return self.cached_tokens / self.input_tokens if self.input_tokens else None

    def __str__(self) -> str:
        """Such as "12,300 input tokens (40 % from cache), 45 output tokens, 0.0310 USD"."""
        share = (
            f" ({100 * (self.cached_share or 0):.0f} % from cache)" if self.cached_tokens else ""
        )
        text = f"{self.input_tokens:,} input tokens{share}, {self.output_tokens:,} output tokens"
        if self.usd is not None:
            text += f", {dollars(self.usd)}"
            if self.cached_tokens or self.cache_write_tokens:
                text += f" (the cache saved {dollars(self.saved_usd or 0.0)})"
        if self.uncounted:
            answers = "answer" if self.uncounted == 1 else "answers"
            text += f"; the tokens of {self.uncounted:,} {answers} were not counted"
        if self.unsure and self.usd is not None:
            attempts = "attempt" if self.unsure == 1 else "attempts"
            text += f"; {self.unsure:,} failed {attempts} may have been charged too"
        return text


def spending(responses: Iterable[Response], prices: Prices | None) -> Spending:
    """Tokens and money of many responses; the money is None without prices."""
    total = Spending(usd=None if prices is None else 0.0, saved_usd=None if prices is None else 0.0)
    for response in responses:
        total.add(response, prices)
    return total


def dollars(usd: float) -> str:
    """A sum as people read it: cents, and more digits where it is less than a dollar."""
    return f"{usd:,.2f} USD" if abs(usd) >= 1 else f"{usd:.4f} USD"


# --------------------------------------------------------------------------- where prices stand


def find_prices(
    key: str, fingerprint: Mapping[str, Any], own: Path | None, batch: float | None
) -> Prices | None:
    """A model's prices: of the user's file if there is one, else of genai-prices.

    Args:
        key: the model as `limits.key_of` has it.
        fingerprint: the adapter's; for a server of another address its prices are looked up.
        own: the user's file.
        batch: price of a batch, as a share, where the file does not say.

    Returns:
        None where no price is known, or genai-prices is not installed.

    Raises:
        UserError: the file cannot be read, or has no price for this model.
    """
    found = read_prices(own, key) if own is not None else _public_prices(key, fingerprint)
    if found is None or found.batch is not None:
        return found
    return msgspec.structs.replace(found, batch=batch)


def is_local(key: str) -> bool:
    """Whether a model runs on this machine, whose time nobody charges by the token."""
    return key.startswith(("hf/", "vllm/", "onnx/", "baseline/"))


def why_no_prices(key: str) -> str:
    """One line on why `find_prices` found none, and the way out."""
    own = "give prices as --prices FILE (docs/costs.md)"
    if is_local(key):
        return f"{key} runs on this machine: no token has a price, unless you {own}"
    try:
        import genai_prices  # noqa: F401
    except ModuleNotFoundError:
        return (
            f"the price of {key} is not known: "
            f'pip install "mmneedle[prices]" for public prices, or {own}'
        )
    return f"the price of {key} is not known: {own}"


def read_prices(path: Path, key: str) -> Prices:
    """Read a price file: prices for any model, or a table a pattern such as ["openai/gpt-4o*"].

    Raises:
        UserError: it cannot be read, has another form, or no price for this model.
    """
    try:
        content: dict[str, Any] = msgspec.toml.decode(path.read_bytes())
        if any(not isinstance(value, dict) for value in content.values()):
            content = {"*": content}
        tables = msgspec.convert(content, dict[str, Prices])
        for pattern, prices in tables.items():
            _check(prices, pattern)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise UserError(f"{path}: is not a file of prices ({error}); see docs/costs.md") from None
    from mmneedle.adapters.limits import matches, specificity

    fitting = [pattern for pattern in tables if matches(pattern, key)]
    if not fitting:
        raise UserError(f"{path}: has no price for {key}; its tables are {', '.join(tables)}")
    best = tables[max(fitting, key=specificity)]
    return best if best.source else msgspec.structs.replace(best, source=path.name)


def _check(prices: Prices, pattern: str) -> None:
    """See that no price is negative and that tiers rise."""
    numbers = [
        getattr(rate, name)
        for rate in (prices, *prices.tiers)
        for name in ("input", "output", "cached", "cache_write")
    ]
    if any(number is not None and not 0 <= number < float("inf") for number in numbers):
        raise ValueError(f"a price below zero for {pattern!r}")
    if prices.batch is not None and not 0 <= prices.batch <= 1:
        raise ValueError(f"batch is a share from 0 to 1, not {prices.batch!r}")


def _public_prices(key: str, fingerprint: Mapping[str, Any]) -> Prices | None:
    """From the snapshot that the installed genai-prices carries; nothing is downloaded."""
    try:
        from importlib.metadata import version

        from genai_prices.data_snapshot import get_snapshot
    except ModuleNotFoundError:
        return None
    provider, _, name = key.partition("/")
    url = fingerprint.get("base_url") if provider == "server" else None
    if provider == "server" and not url:
        return None
    moment = datetime.datetime.now(datetime.UTC)
    try:
        _, model = get_snapshot().find_provider_model(
            name, None, None if url else provider, str(url) if url else None
        )
        rates = model.get_prices(moment)
    except LookupError:
        return None
    return _from_rates(rates, f"genai-prices {version('genai-prices')}, as of {moment:%Y-%m-%d}")


_FIELDS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
}


def _from_rates(rates: Any, source: str) -> Prices | None:
    """Prices from genai-prices' own form, where a price may have tiers."""
    given = {name: getattr(rates, field, None) for name, field in _FIELDS.items()}
    if given["input"] is None or given["output"] is None:  # free, or not priced by tokens
        return None
    starts = sorted(
        {tier.start for price in given.values() for tier in getattr(price, "tiers", ())}
    )
    return Prices(
        **_rates_beyond(given, None),
        tiers=tuple(Tier(start, **_rates_beyond(given, start)) for start in starts),
        source=source,
    )


def _rates_beyond(given: Mapping[str, Any], start: int | None) -> dict[str, Any]:
    """Each price for requests beyond `start` input tokens; None: for short ones."""
    rates = {}
    for name, price in given.items():
        value = getattr(price, "base", price)
        for tier in getattr(price, "tiers", ()):
            if start is not None and tier.start <= start:
                value = tier.price
        rates[name] = None if value is None else float(value)
    return rates
