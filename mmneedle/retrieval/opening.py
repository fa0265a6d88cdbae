"""A task with a reader in front of it."""

from mmneedle.errors import UserError
from mmneedle.retrieval.asked import CHUNK, Asked, Captions
from mmneedle.retrieval.grids import CellRanker, ReadGrid, by_captions
from mmneedle.retrieval.passages import WHOLE, ReadText
from mmneedle.retrieval.ranking import Ranker, TextRanker
from mmneedle.retrieval.twins import ReadTwin
from mmneedle.stitching.dataset import DataSet
from mmneedle.tasks import open_task
from mmneedle.tasks.grid import GridTask
from mmneedle.tasks.twins import TwinTask
from mmneedle.texts.dataset import TextDataSet
from mmneedle.types import Reader, Reading, Request, Sample, TextSample

ReadTask = ReadGrid | ReadTwin | ReadText


def open_reader(
    asked: Asked,
    task: str,
    dataset: DataSet | TextDataSet,
    resize: tuple[int, int] | None = None,
) -> ReadTask:
    """A task of a data set that asks what a retriever chose.

    Args:
        asked: how it shall be read.
        task: the task's name, where the data set is one of images.
        dataset: whose samples are asked.
        resize: as `tasks.open_task` has it.

    Raises:
        UserError: an option that is about other haystacks; a retriever whose package is missing
            or whose folder holds no model; K cells that fill no grid.
    """
    if isinstance(dataset, TextDataSet):
        return _texts(asked, dataset)
    if asked.chunk is not None:
        raise UserError("--chunk cuts running text; the units of this task are cells: leave it out")
    plain = open_task(task, dataset, resize)
    if isinstance(plain, TwinTask):
        if asked.captions is not None:
            raise UserError(f"--captions is about images; {task} has the captions of its cells")
        ranker = _text_ranker(asked, f"the cells of {task}")
        return ReadTwin(dataset, plain.grade, _reader(asked, ranker), ranker)
    if asked.retriever == "clip":
        from mmneedle.retrieval.photos import Photos

        assert asked.folder is not None
        photos = Photos(asked.folder, dataset)
        return ReadGrid(dataset, _reader(asked, photos), photos.scores, resize)
    grade = asked.captions or "paraphrase"
    ranker = _text_ranker(asked, "captions")
    cells: CellRanker = _by_captions(dataset, grade, ranker)
    return ReadGrid(dataset, _reader(asked, ranker, captions=grade), cells, resize)


def _by_captions(dataset: DataSet, grade: Captions, ranker: TextRanker) -> CellRanker:
    try:
        return by_captions(dataset, grade, ranker)
    except UserError as error:
        text = str(error).replace("ask --task twin-literal", "take --captions literal")
        raise UserError(text) from None


def _texts(asked: Asked, dataset: TextDataSet) -> ReadText:
    if asked.captions is not None:
        raise UserError(f"--captions is about images; {dataset.name} is text: leave it out")
    kind = WHOLE.get(dataset.name)
    if kind and asked.chunk is not None:
        raise UserError(
            f"--chunk cuts running text; the units of {dataset.name} are {kind}: leave it out"
        )
    ranker = _text_ranker(asked, "text")
    reader = _reader(asked, ranker, chunk=None if kind else asked.chunk or CHUNK)
    return ReadText(dataset, reader, ranker)


def _text_ranker(asked: Asked, what: str) -> TextRanker:
    if asked.retriever == "bm25":
        from mmneedle.retrieval.bm25 import Bm25

        return Bm25()
    if asked.retriever == "clip":
        raise UserError(f"--retriever clip looks at photos, not at {what}: take bm25 or embed")
    from mmneedle.retrieval.embeddings import Embeddings

    assert asked.folder is not None
    return Embeddings(asked.folder)


def _reader(
    asked: Asked,
    ranker: Ranker,
    captions: str | None = None,
    chunk: tuple[int, int] | None = None,
) -> Reader:
    return Reader(
        k=asked.k,
        retriever=asked.retriever,
        captions=captions,
        chunk=chunk,
        model=ranker.model,
        weights=ranker.weights,
        engine=ranker.engine,
    )


def open_again(
    reader: Reader,
    task: str,
    dataset: DataSet | TextDataSet,
    resize: tuple[int, int] | None = None,
) -> ReadTask:
    """The same task for requests that were made before; no retriever is needed.

    Raises UserError as `open_reader` does.
    """
    if isinstance(dataset, TextDataSet):
        return ReadText(dataset, reader, None)
    if task == GridTask.name:
        return ReadGrid(dataset, reader, None, resize)
    plain = open_task(task, dataset, resize)
    assert isinstance(plain, TwinTask)
    return ReadTwin(dataset, plain.grade, reader, None)


def again(task: ReadTask, sample: Sample | TextSample, reading: Reading) -> Request:
    """A request that was made before, by what it read. Raises UserError where that cannot be."""
    if isinstance(task, ReadText):
        assert isinstance(sample, TextSample)
        return task.reread(sample, reading.units)
    assert isinstance(sample, Sample)
    return task.reread(sample, reading.units)
