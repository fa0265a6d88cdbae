"""Adapters of local engines, asked."""

import asyncio
from collections.abc import Sequence

from mmneedle.types import Adapter, Request, Response


def ask(adapter: Adapter, requests: Sequence[Request]) -> list[Response]:
    """All at once; the adapter is closed."""

    async def main() -> list[Response]:
        try:
            return await asyncio.gather(*map(adapter.generate, requests))
        finally:
            await adapter.aclose()

    return asyncio.run(main())
