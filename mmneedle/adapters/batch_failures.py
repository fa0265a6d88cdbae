"""What the SDKs of batch APIs raise, as `Failure`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from mmneedle.adapters.batches import Failure
from mmneedle.adapters.statuses import no_reply
from mmneedle.types import Response

_NO_API = (404, 405, 501)
"""HTTP statuses of a server that does not know a path."""
_MISREAD = (AttributeError, TypeError, KeyError, ValueError)
"""What SDKs raise at a reply that is none of their API: a page of a proxy, an upload's reply."""


class Errors(NamedTuple):
    """How a provider's SDK says that something went wrong."""

    answered: type[Exception]
    """The server has answered, with an HTTP status of an error."""
    late: tuple[type[Exception], ...]
    """No answer in time. Looked for before `lost`."""
    lost: tuple[type[Exception], ...]
    """No answer."""
    read: Callable[[Any], Response]
    """What an `answered` says."""
    code: Callable[[Any], object]
    """Its HTTP status."""


@contextmanager
def failures(
    errors: Errors, url: str, hide: Callable[[Response], Response], *, known: bool = True
) -> Iterator[None]:
    """What an SDK raises, as Failure.

    Args:
        errors: the SDK's.
        url: the server's.
        hide: takes secrets out of a response.
        known: it is about a thing that was there once.
    """
    gone = False
    try:
        yield
    except errors.answered as error:
        response, code = errors.read(error), errors.code(error)
        gone = known and code == 404
        if not known:
            response = _without_api(response, code, url)
    except errors.late as error:
        response = no_reply("timeout", error, url)
    except errors.lost as error:
        response = no_reply("server_error", error, url)
    except _MISREAD as error:
        response = _strange_reply(error)
    else:
        return
    raise Failure(hide(response), gone=gone) from None


def _strange_reply(error: Exception) -> Response:
    """The response for a reply that an SDK could not read."""
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return Response("server_error", error=f"the reply is none of a batch API ({said[:200]})")


def _without_api(response: Response, code: object, url: str) -> Response:
    """A failure to make a batch or to list them, with what it means that the path is not known."""
    if code not in _NO_API:
        return response
    hint = "has no batch API (then leave out --batch), or no such model"
    return Response("auth", error=f"{url} {hint}: {response.error}")
