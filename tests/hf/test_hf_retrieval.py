"""Retrievers with models: sentence embeddings, CLIP and SigLIP, small ones with random weights."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from shell import Shell
from text_sets import write_tokenizer

from mmneedle.data.shapes import ShapesSource
from mmneedle.errors import UserError
from mmneedle.retrieval.asked import Asked
from mmneedle.retrieval.embeddings import Embeddings
from mmneedle.retrieval.opening import open_reader
from mmneedle.retrieval.photos import Photos
from mmneedle.runlog import Run
from mmneedle.stitching.dataset import DataSet, build
from mmneedle.stitching.tiles import TileFormat
from mmneedle.types import Sample, Setting

TEXTS = ["a red circle", "two blue stars beside a green square", "nothing at all", "a red circle"]
LONGEST = 24


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers in the format of sentence-transformers."""
    folder = write_tokenizer(tmp_path_factory.mktemp("models") / "tiny-sentences")
    torch.manual_seed(3)
    config = transformers.BertConfig(
        vocab_size=1024,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.7,
    )
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": LONGEST}))
    return folder


def by_hand(folder: Path, text: str) -> np.ndarray:
    """The mean of a text's states, alone and cut off, of length 1."""
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids[:LONGEST]
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        states = model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
    mean = states.mean(0)
    return mean / np.linalg.norm(mean)


def test_texts_are_ranked_by_their_cosine(sentences: Path) -> None:
    ranker = Embeddings(sentences)
    texts = [*TEXTS, "a very long text " * 40]
    scores = ranker.scores(TEXTS[1], texts)
    wanted = [float(by_hand(sentences, TEXTS[1]) @ by_hand(sentences, text)) for text in texts]
    assert scores == pytest.approx(wanted, abs=2e-4)
    assert scores[1] == pytest.approx(1)
    assert np.array_equal(scores, Embeddings(sentences).scores(TEXTS[1], texts))
    assert np.array_equal(scores, ranker.scores(TEXTS[1], texts))
    assert ranker.engine == f"transformers {transformers.__version__}"
    assert ranker.model == "tiny-sentences"


def test_the_first_token_where_the_folder_says_so(sentences: Path, tmp_path: Path) -> None:
    folder = copied(sentences, tmp_path / "first")
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_cls_token": true}')
    one, other = Embeddings(sentences), Embeddings(folder)
    assert one.weights != other.weights
    assert not np.allclose(one.scores("a", TEXTS), other.scores("a", TEXTS))
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(UserError, match="its pooling is max_tokens"):
        Embeddings(folder)


def test_an_onnx_graph_gives_the_same_ranks(sentences: Path, tmp_path: Path) -> None:
    folder = copied(sentences, tmp_path / "graph")
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask)[0]

    texts, tokens = torch.export.Dim("texts", min=2), torch.export.Dim("tokens", min=2, max=64)
    ids = torch.ones((2, 8), dtype=torch.int64)
    mask = ids.clone()
    mask[1, 5:] = 0  # a mask of ones alone is left out of the graph
    (folder / "onnx").mkdir()
    torch.onnx.export(
        States(),
        (ids, mask),
        str(folder / "onnx/model.onnx"),
        input_names=["input_ids", "attention_mask"],
        dynamic_shapes={name: {0: texts, 1: tokens} for name in ("input_ids", "attention_mask")},
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    one, other = Embeddings(sentences), Embeddings(folder)
    assert other.engine.startswith("onnxruntime ")
    assert other.scores(TEXTS[0], TEXTS) == pytest.approx(one.scores(TEXTS[0], TEXTS), abs=2e-4)


def copied(folder: Path, to: Path) -> Path:
    import shutil

    shutil.copytree(folder, to)
    return to


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    settings = {Setting(2, 3, 3): 16, Setting(1, 3, 4, 2): 8}
    folder = tmp_path_factory.mktemp("set") / "set"
    return build(folder, ShapesSource(200), settings, None, TileFormat(48, 48), workers=1)


def test_a_literal_needle_is_retrieved_by_embeddings(dataset: DataSet, sentences: Path) -> None:
    for task in ("twin-literal", "grid"):
        captions = "literal" if task == "grid" else None
        reader = open_reader(Asked(4, "embed", sentences, None, captions), task, dataset)
        assert reader.reader is not None
        assert reader.reader.label.startswith("retrieve:4 embed:tiny-sentences")
        assert reader.reader.weights and len(reader.reader.weights) == 64
        for setting in dataset.settings:
            for sample in dataset.samples(setting):
                request = reader.request(sample)  # type: ignore[arg-type]
                assert request.reading is not None
                assert request.reading.found == (sample.positive,) * setting.needles
                assert request == reader.request(sample)  # type: ignore[arg-type]


# --------------------------------------------------------------------------- photos


@pytest.fixture(scope="module", params=["clip", "siglip"])
def looking(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP or SigLIP of two layers."""
    folder = write_tokenizer(tmp_path_factory.mktemp("models") / f"tiny-{request.param}")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<|pad|>",
        "eos_token": "<|end|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    small = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    text = small | {"vocab_size": 1024, "max_position_embeddings": 24, "eos_token_id": 1001}
    vision = small | {"image_size": 32, "patch_size": 8}
    torch.manual_seed(4)
    if request.param == "clip":
        config = transformers.CLIPConfig(
            text_config=text, vision_config=vision, projection_dim=16, initializer_factor=8.0
        )
        net: Any = transformers.CLIPModel(config)
        look: Any = transformers.CLIPImageProcessorPil(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        )
    else:
        text |= {"projection_size": 32}
        net = transformers.SiglipModel(
            transformers.SiglipConfig(text_config=text, vision_config=vision)
        )
        look = transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32})
    with torch.no_grad():  # as they begin, all photos look alike
        for value in net.parameters():
            value.add_(torch.randn_like(value) * 0.3)
    net.save_pretrained(folder)
    look.save_pretrained(folder)
    return folder


def test_photos_are_ranked_by_their_cosine(looking: Path, dataset: DataSet) -> None:
    photos = Photos(looking, dataset)
    sample = next(dataset.samples(Setting(2, 3, 3)))
    scores = photos.scores(sample, sample.needles[0].caption)
    assert scores.shape == (18,)
    assert len(set(scores.tolist())) > 9  # it does look
    net = transformers.AutoModel.from_pretrained(looking).eval()
    look = transformers.AutoImageProcessor.from_pretrained(looking, backend="pil")
    words = transformers.AutoTokenizer.from_pretrained(looking)
    filled = "max_length" if "siglip" in looking.name else False
    with torch.inference_mode():
        given = words(
            sample.needles[0].caption,
            return_tensors="pt",
            padding=filled,
            truncation=True,
            max_length=24,
        )
        said = net.get_text_features(**given).pooler_output[0]
        for cell in (0, 7, 17):
            file = dataset.store.join((sample.haystack[cell],), 1, 1)
            pixels = look(images=Image.open(io.BytesIO(file)), return_tensors="pt")
            seen = net.get_image_features(**pixels).pooler_output[0]
            wanted = torch.nn.functional.cosine_similarity(said, seen, dim=0)
            assert scores[cell] == pytest.approx(float(wanted), abs=2e-4)
    again = Photos(looking, dataset)
    list(map(again.scores, dataset.samples(Setting(1, 3, 4, 2)), ["first"] * 4))
    assert np.array_equal(again.scores(sample, sample.needles[0].caption), scores)


def test_a_run_that_looks_before_it_asks(mmneedle: Shell, looking: Path) -> None:
    dataset = build(
        "set", ShapesSource(100), {Setting(2, 3, 3): 20}, None, TileFormat(48, 48), workers=1
    )
    done = mmneedle(
        "run", "set", "--model", "baseline/oracle", "--log", "run",
        "--reader", "retrieve:4", "--retriever", f"clip:{looking}",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "never sees" not in done.err  # it looks at what the model sees
    run = Run.open("run")
    assert run.header.called == f"baseline/oracle, retrieve:4 clip:{looking.name}"
    right = 0
    for record in run.outcomes():
        assert record.reading
        sample = dataset.sample(record.sample)
        assert isinstance(sample, Sample)
        cells = [sample.haystack[unit] for unit in record.reading.units]
        assert len(set(cells)) == 4
        if sample.positive:
            assert record.reading.found == (sample.needles[0].photo in cells,)
            right += record.reading.found[0]
        said = record.response.text
        assert (said == "-1") == (not record.reading.found[0])
    rows = json.loads(mmneedle.ok("score", "run", "--json"))
    assert [row["exact"] for row in rows if row["split"] == "positive"] == [right / 10] * 2
    other = mmneedle.refused(
        "run",
        "set",
        "--model",
        "baseline/oracle",
        "--log",
        "run",
        "--reader",
        "retrieve:3",
        "--retriever",
        f"clip:{looking}",
    )
    assert "holds another run: --reader retrieve:4 clip:" in other


def test_folders_that_hold_no_model(dataset: DataSet, sentences: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    damaged = copied(sentences, tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"no weights")
    wordless = copied(sentences, tmp_path / "wordless")
    (wordless / "tokenizer.json").unlink()
    garbled = copied(sentences, tmp_path / "garbled")
    (garbled / "tokenizer.json").write_text("{}")
    for open_it, told in (
        (lambda: Embeddings(empty), "holds no model"),
        (lambda: Embeddings(damaged), "holds no model"),
        (lambda: Embeddings(wordless), "holds no tokenizer.json"),
        (lambda: Embeddings(garbled), "is no tokenizer"),
        (lambda: Photos(empty, dataset), "holds no model"),
        (lambda: Photos(sentences, dataset), "holds no CLIP or SigLIP model .* bert"),
    ):
        with pytest.raises(UserError, match=told) as caught:
            open_it()
        assert "\n" not in str(caught.value)
