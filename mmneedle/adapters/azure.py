"""OpenAI's models on Azure: the same protocols at an address of one's own.

    AZURE_OPENAI_ENDPOINT=https://NAME.openai.azure.com AZURE_OPENAI_API_KEY=… azure/DEPLOYMENT

Today's endpoint, `/openai/v1`, needs no API version. With one (`?api_version=2024-10-21`, or
OPENAI_API_VERSION), the older address of the deployment is used.
"""

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import openai

from mmneedle.adapters import options
from mmneedle.adapters.batches import BatchAPI
from mmneedle.adapters.openai import OPTIONS, REASONS, Api, OpenAIAdapter
from mmneedle.adapters.server import BaseUrl
from mmneedle.errors import UserError


def create(name: str, given: Mapping[str, Any]) -> "AzureAdapter":
    """Make an adapter from options as text. Raises UserError for a wrong one or a missing key."""
    known = OPTIONS | {"api_version": str}
    return AzureAdapter(name, **options.read(f"azure/{name}", given, known, REASONS))


class AzureAdapter(OpenAIAdapter):
    """A deployment, by its own name."""

    provider = "azure"
    key_variables = ("AZURE_OPENAI_API_KEY",)
    more_headers = MappingProxyType({"Authorization": openai.Omit()})  # that would be a token

    def __init__(self, name: str, *, api_version: str | None = None, **more: Any) -> None:
        """Make an adapter; the key comes from AZURE_OPENAI_API_KEY.

        Args:
            name: the deployment.
            api_version: of the dated API, such as 2024-10-21; OPENAI_API_VERSION by default.
                None: today's endpoint, which has no versions.
            more: see OpenAIAdapter; base_url is AZURE_OPENAI_ENDPOINT by default.

        Raises:
            UserError: no key, no endpoint, options that exclude each other.
        """
        self._deployment = name
        self._version = api_version or os.environ.get("OPENAI_API_VERSION") or None
        if self._version and more.get("api") == "responses":
            raise UserError(f"azure/{name}: the Responses API has no api_version; leave it out")
        super().__init__(name, **more)
        self._settings["api_version"] = self._version

    def _address(self, base_url: str | None) -> BaseUrl:
        given = base_url or os.environ.get("AZURE_OPENAI_ENDPOINT")
        if not given:
            raise UserError(
                f"{self.model} needs an address: set AZURE_OPENAI_ENDPOINT, such as "
                "https://NAME.openai.azure.com"
            )
        url = BaseUrl.read(given).without("/openai/v1", "/openai", "/v1")
        where = f"deployments/{self._deployment}" if self._version else "v1"
        return url._replace(shown=f"{url.shown}/openai/{where}")

    def batches(self) -> BatchAPI:
        """Batches on Azure want deployments of their own kind, and are not spoken here."""
        raise UserError(f"{self.model}: batches on Azure are not supported; leave out --batch")

    def _needs_key(self, url: BaseUrl) -> bool:
        return True

    def _default_api(self, url: BaseUrl) -> Api:
        return "chat"  # every deployment has it, whoever made its model

    def _is_openais(self, url: BaseUrl) -> bool:
        return True

    def _client_options(self, key: str) -> dict[str, Any]:
        version = {"api-version": self._version} if self._version else None
        return {
            "api_key": key,
            "default_headers": {"api-key": key},
            "default_query": version,
        }
