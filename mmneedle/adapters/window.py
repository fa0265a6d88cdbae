"""A model whose window does not hold some settings: these are not sent."""

from collections.abc import Mapping
from typing import Any

from mmneedle.types import Adapter, Request, Response


class Windowed:
    """Another adapter, but for settings that are known to be too long for its model."""

    def __init__(self, adapter: Adapter, past: Mapping[str, str]) -> None:
        """Take an adapter.

        Args:
            adapter: who answers all else.
            past: names of settings -> why the model cannot take them.
        """
        self._adapter, self._past = adapter, past
        self.model, self.wants_images = adapter.model, adapter.wants_images

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    async def generate(self, request: Request) -> Response:
        """`too_long`, at no cost, or what the other says."""
        why = self._past.get(request.sample.setting.name)
        if why is not None:
            return Response("too_long", error=why, uncharged=True)
        return await self._adapter.generate(request)

    def fingerprint(self) -> dict[str, Any]:
        """The other's: what it answers is the same."""
        return self._adapter.fingerprint()

    async def aclose(self) -> None:
        """Close the other."""
        await self._adapter.aclose()
