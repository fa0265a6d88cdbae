"""Text data sets for tests, with a real tokenizer that was trained on the spot."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from mmneedle.tasks.text import maker_of
from mmneedle.texts.corpus import filler
from mmneedle.texts.making import Maker, Materials
from mmneedle.texts.tokens import Approximate, Fast, Tokens


@cache
def _trained() -> str:
    """A byte-level BPE of 1,000 tokens, as JSON."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([filler(1, 2000)], trainer)
    return str(tokenizer.to_str())


def write_tokenizer(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(_trained())
    return folder


def tokens(folder: Path | None) -> Tokens:
    return Approximate() if folder is None else Fast(write_tokenizer(folder) / "tokenizer.json")


@cache
def prefixing() -> Tokens:
    """As Llama's: a space of its own before any text, a token a digit, bytes for what is rare."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("▁", "merged_with_next"), pre_tokenizers.Digits(True)]
    )
    tokenizer.train_from_iterator(
        [filler(1, 2000)],
        trainers.BpeTrainer(
            vocab_size=1500,
            special_tokens=["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))],
            initial_alphabet=list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"),
            show_progress=False,
        ),
    )
    with TemporaryDirectory() as folder:
        tokenizer.save(f"{folder}/tokenizer.json")
        return Fast(Path(folder) / "tokenizer.json")


def maker(task: str, counting: Tokens, text: str | None = None, **more: Any) -> Maker:
    text = filler(7, 4000) if text is None else text
    return maker_of(task, Materials(seed=3, tokens=counting, text=text, **more))
