"""Adapters of hf/, made ready and asked."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmneedle.adapters.hf import HFAdapter
from mmneedle.adapters.hf_engine import Encoded, Engine
from mmneedle.tiny import WEIGHTS
from mmneedle.types import Needs, Request

MINUS = "-1"


def ready(needs: Sequence[Needs], name: str = str(WEIGHTS), **options: Any) -> HFAdapter:
    adapter = HFAdapter(name, **options)
    adapter.prepare(needs)
    return adapter


def engine_of(adapter: HFAdapter) -> Engine:
    assert adapter.engine is not None
    return adapter.engine


def encoded(adapter: HFAdapter, request: Request) -> Encoded:
    result = engine_of(adapter).encode(request)
    assert isinstance(result, Encoded), result
    return result


def copied(folder: Path) -> Path:
    return Path(shutil.copytree(WEIGHTS, folder, ignore=shutil.ignore_patterns("*.onnx")))
