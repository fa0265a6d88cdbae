"""What a run has spent, and whether the next request still fits into the sum it may spend.

Before a request goes out, the most that it can cost is held back; when its answer is there, what
it really cost takes that place. So the sum is never passed, however many requests are out at once:
a request that would not fit waits for others to end, and where none is left the run stops.

The most that a request can cost: its input at the full price (or the price of writing a cache,
where that is more) and as many output tokens as it may have. Its input is the larger of what the
provider's rule says and of what a request of its setting was charged before; a setting's first
request goes out alone, to learn that.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping

from mmneedle.costs import Prices, Spending, cost, counted, dollars, may_be_charged
from mmneedle.errors import UserError
from mmneedle.types import ANSWERED, AnySetting, Needs, Response, Usage

_FRAME = 64
"""Tokens that a request's frame (roles, image markers) may add to its text and images."""


class Ledger:
    """Tokens and money of a run. Not for several threads."""

    def __init__(
        self,
        prices: Prices | None = None,
        limit: float | None = None,
        *,
        needs: Iterable[Needs] = (),
        image_tokens: Mapping[AnySetting, int | None] | None = None,
        output_tokens: int = 300,
        batch: bool = False,
    ) -> None:
        """Begin with nothing spent.

        Args:
            prices: the model's; None: not known.
            limit: US dollars that the run may spend in all.
            needs: what requests are like, setting by setting.
            image_tokens: tokens an image by the provider's rule, None where it is not documented.
            output_tokens: that a request may have at most.
            batch: whether requests go out at the batch price.

        Raises:
            UserError: a limit without prices.
        """
        if limit is not None and prices is None:
            raise UserError("--max-cost needs the model's prices: give them as --prices FILE")
        self.prices, self.limit, self.batch = prices, limit, batch
        self.output_tokens = output_tokens
        known = 0.0 if prices is not None else None
        self.spending = Spending(usd=known, saved_usd=known)
        self.uncertain = 0.0
        """US dollars held for requests that the provider may have charged without saying so."""
        self.held = 0.0
        """US dollars held for requests in flight."""
        self._inside: Counter[AnySetting] = Counter()
        self._texts = {one.setting: len(one.prompt.encode()) + _FRAME for one in needs}
        self._images = {one.setting: one.images for one in needs}
        self._inputs = {setting: (image_tokens or {}).get(setting) for setting in self._texts}
        self._seen: dict[AnySetting, int] = {}
        self._uncounted: set[AnySetting] = set()
        """Settings with an answer whose tokens the provider did not count."""
        self._changed = asyncio.Event()

    def add(self, setting: AnySetting, response: Response) -> None:
        """Count a finished attempt, of this command or an earlier one."""
        self.spending.add(response, self.prices)
        usage = response.usage
        if usage is not None and counted(usage):
            self._seen[setting] = max(self._seen.get(setting, 0), usage.input_tokens or 0)
            return
        if response.status in ANSWERED:
            self._uncounted.add(setting)
        if may_be_charged(response):
            self.uncertain += self.most(setting)

    def most(self, setting: AnySetting) -> float:
        """US dollars that a request of this setting can cost at most; 0 without prices."""
        if self.prices is None:
            return 0.0
        text = self._texts.get(setting, _FRAME)
        ruled = (self._inputs.get(setting) or 0) * self._images.get(setting, 0) + text
        seen = self._seen.get(setting, 0)
        tokens = max(ruled, seen + text if seen else 0)
        return max(
            cost(Usage(tokens, self.output_tokens), self.prices, self.batch),
            cost(
                Usage(tokens, self.output_tokens, cache_write_tokens=tokens),
                self.prices,
                self.batch,
            ),
        )

    @property
    def committed(self) -> float:
        """US dollars spent or held back."""
        return (self.spending.usd or 0.0) + self.uncertain + self.held

    def fitting(self, settings: Iterable[AnySetting]) -> int:
        """How many requests of these settings, from the first, fit in at once."""
        total, count = self.committed, 0
        for setting in settings:
            total += self.most(setting)
            if self.limit is not None and total > self.limit:
                break
            count += 1
        return count

    async def take(self, setting: AnySetting) -> float | None:
        """Hold back the most that a request can cost; wait where others must end first.

        Returns:
            US dollars held, to be given to `settle`; None where nothing fits any more.
        """
        if self.limit is None:
            return 0.0
        while True:
            most = self.most(setting)
            learning = setting not in self._seen and self._inside[setting] > 0
            if not learning and self.committed + most <= self.limit:
                self.held += most
                self._inside[setting] += 1
                return most
            if not self._inside.total():
                return None
            self._changed.clear()
            await self._changed.wait()

    def settle(self, setting: AnySetting, held: float) -> None:
        """A request that `take` let out has ended; its response was added before."""
        if self.limit is None:
            return
        self._inside[setting] -= 1
        self.held = max(0.0, self.held - held) if self._inside.total() else 0.0
        self._changed.set()

    def known(self, setting: AnySetting) -> bool:
        """Whether a rule or an earlier request tells how many tokens a request has."""
        return self.measured(setting) or self._inputs.get(setting) is not None

    def measured(self, setting: AnySetting) -> bool:
        """Whether an earlier request of this setting told what it was charged."""
        return setting in self._seen

    def unmeasurable(self, setting: AnySetting) -> bool:
        """Whether this setting was answered, and nobody said what that took."""
        return setting in self._uncounted and setting not in self._seen

    def hold(self, setting: AnySetting) -> float | None:
        """Hold back the most that a request of a batch can cost; None where it does not fit now."""
        most = self.most(setting) if self.limit is not None else 0.0
        if self.limit is not None and self.committed + most > self.limit:
            return None
        self.held += most
        return most

    def release(self, held: float) -> None:
        """What `hold` held back for a batch that is done with; its responses were added before."""
        self.held = max(0.0, self.held - held)

    def exhausted(self, setting: AnySetting, missing: int) -> str:
        """One line on why nothing fits any more, and how to go on."""
        spent = dollars(self.spending.usd or 0.0)
        if self.uncertain:
            spent += f" and perhaps {dollars(self.uncertain)} for requests that nobody counted"
        return (
            f"stopped before --max-cost {self.limit:g}: {spent} spent, the next request may cost "
            f"up to {dollars(self.most(setting))}; {missing:,} samples remain: the same command "
            "with a higher --max-cost goes on from here"
        )
