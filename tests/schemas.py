"""Whether JSON conforms to a schema as a provider's SDK publishes it: its TypedDicts.

Those are generated from the provider's API description. As the providers do, no field is passed
over that the schema does not know.
"""

import collections.abc
import typing
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, is_typeddict

import typing_extensions


def faults(value: Any, kind: Any, where: str = "body") -> list[str]:
    """What is wrong with a value, the most telling first; empty if nothing is."""
    origin, arguments = get_origin(kind), get_args(kind)
    if is_typeddict(kind) or typing_extensions.is_typeddict(kind):
        return _object(value, kind, where)
    if origin in (typing_extensions.Required, typing_extensions.NotRequired, typing.Annotated):
        return faults(value, arguments[0], where)
    if origin in (Union, UnionType):
        return _one_of(value, arguments, where)
    if origin is Literal:
        return [] if value in arguments else [f"{where}: {value!r} is none of {arguments}"]
    if origin in (list, collections.abc.Iterable, collections.abc.Sequence) or _is_list(origin):
        if not isinstance(value, list):
            return [f"{where}: not a list"]
        parts = (faults(item, arguments[0], f"{where}.{i}") for i, item in enumerate(value))
        return [fault for part in parts for fault in part]
    if origin is dict:
        return [] if isinstance(value, dict) else [f"{where}: not an object"]
    return [] if _plain(value, kind) else [f"{where}: {value!r} is no {kind}"]


def _is_list(origin: Any) -> bool:
    return getattr(origin, "__name__", "") == "SequenceNotStr"


def _plain(value: Any, kind: Any) -> bool:
    if kind is object or kind is Any:
        return True
    if kind in (None, NoneType):
        return value is None
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return kind in (str, bool) and isinstance(value, kind)


def _one_of(value: Any, kinds: tuple[Any, ...], where: str) -> list[str]:
    """The faults by the alternative that comes closest: with the same "type", then the fewest."""
    found = [faults(value, kind, where) for kind in kinds]
    return min(found, key=lambda each: (_off(each, where), len(each)))


def _off(found: list[str], where: str) -> int:
    """How far an alternative is from being meant: not even an object, another type, or meant."""
    if any(each.startswith(f"{where}: ") for each in found):
        return 2
    return int(any(each.startswith((f"{where}.type:", f"{where}.role:")) for each in found))


def _object(value: Any, kind: Any, where: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{where}: not an object"]
    fields = _fields(kind)
    found = [f"{where}.{name}: not permitted" for name in value if name not in fields]
    missing = _required(kind) - value.keys()
    found += [f"{where}.{name}: required" for name in sorted(missing)]
    for name, item in value.items():
        if name in fields:
            found += faults(item, fields[name], f"{where}.{name}")
    return found


@cache
def _required(kind: Any) -> set[str]:
    """Read from the annotations: as strings, which the SDKs' are, they say too little to Python."""
    marks = {name: get_origin(annotation) for name, annotation in _fields(kind).items()}
    said = {name for name, mark in marks.items() if mark is typing_extensions.Required}
    free = {name for name, mark in marks.items() if mark is typing_extensions.NotRequired}
    return said | (kind.__required_keys__ - free)


@cache
def _fields(kind: Any) -> dict[str, Any]:
    return typing_extensions.get_type_hints(kind, include_extras=True)
