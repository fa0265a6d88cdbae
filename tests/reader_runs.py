"""Runs that read everything and runs that retrieved, made by real retrieval, for tests of pages."""

from pathlib import Path
from typing import Any
from zlib import crc32

from chat_server import Ask, ChatServer, Reply

from mmneedle.evaluate import evaluate
from mmneedle.retrieval.asked import read_reader
from mmneedle.retrieval.chunks import GAP
from mmneedle.runlog import Run
from mmneedle.texts.corpus import filler, identity
from mmneedle.texts.dataset import Ingredients, build_texts
from mmneedle.types import TextSetting

MODEL = "openai/m"
TOP = read_reader("retrieve:2", None, "200:40")


def finder(ask: Ask) -> Reply:
    """Finds a stated number in a short text; what stands between gaps confuses it now and then."""
    thing = ask.prompt.rpartition("number of the ")[2].partition("?")[0]
    said = ask.prompt.partition(f"The secret number of the {thing} is ")[2].partition(".")[0]
    lost = len(ask.prompt) > 12_000 or (GAP in ask.prompt and crc32(thing.encode()) % 4 == 0)
    return ask.answer("I do not know" if lost else said or "nowhere")


def texts(folder: Path, task: str, lengths: tuple[int, ...], samples: int) -> Path:
    """A data set of texts of about so many tokens, at three depths."""
    text = filler(5, 2000)
    settings = {TextSetting(task, n, d): samples for n in lengths for d in (0, 500, 1000)}
    given = Ingredients(task=task.partition(".")[0], corpus=(identity("filler", text), text))
    return build_texts(folder, given, settings).folder


def run(data: Path, model: str, log: Path, **more: Any) -> Run:
    evaluate(data, model, log, quiet=True, **more)
    return Run.open(log)


def read_two_ways(folder: Path) -> list[Run]:
    """niah for a model that is lost in long texts; latent for one that knows all it was sent."""
    facts = texts(folder / "facts", "niah", (2048, 4096), 12)
    hints = texts(folder / "hints", "latent.onehop", (2048,), 12)
    made = []
    with ChatServer(finder) as server:
        where = {"adapter_options": {"base_url": server.url}}
        made.append(run(facts, MODEL, folder / "long", **where))
        made.append(run(facts, MODEL, folder / "top", reader=TOP, **where))
    made.append(run(hints, "baseline/oracle", folder / "all"))
    made.append(run(hints, "baseline/oracle", folder / "best", reader=TOP))
    return made
