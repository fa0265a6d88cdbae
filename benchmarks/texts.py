"""Text samples cut by offsets, against tokenising the haystack anew for every sample.

    python benchmarks/texts.py [--length 131072] [--samples 20] [--block 7] [--tokenizer FILE]
        [--json FILE]

The plain approach, which published generators take, builds each sample's prompt and tokenises it
to know its length, once at best; so the plain time here is one tokenisation of the finished
prompt, with nothing else counted. Ours is the whole sample. Both in one process, by turns of
--block samples: the first allocation after a tokenisation clears up after it, which is no work of
ours, and falls to every sample with --block 1. Times are the process's own (CPU), so that others
at work on the machine do not count.
Without --tokenizer a byte-level BPE is trained on the spot. Peak memory is that of a fresh
process that makes so many samples and forgets them.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from mmneedle.tasks.text import MAKERS, maker_of
from mmneedle.texts.corpus import filler
from mmneedle.texts.making import Maker, Materials
from mmneedle.texts.tokens import Fast
from mmneedle.types import TextSetting

TASKS = [
    ("niah", 1),
    ("niah.keys8", 4),
    *((f"ruler.{name}", 1) for name in ("niah_single_1", "niah_multikey_2", "niah_multikey_3")),
    *((f"ruler.{name}", 1) for name in ("niah_multivalue", "vt", "cwe", "fwe")),
    ("latent.onehop", 1),
    ("passkey", 1),
]


def trained(path: Path) -> Path:
    """A byte-level BPE of 8,000 tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=8000, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([filler(1, 20_000)], trainer)
    tokenizer.save(str(path))
    return path


def setting_of(maker: Maker, task: str, length: int, needles: int) -> TextSetting:
    return TextSetting(task, length, 500 if maker.has_depth else -1, needles)


def measured(maker: Maker, setting: TextSetting, samples: int, block: int) -> dict[str, float]:
    """Milliseconds a sample, ours and plain, and how far lengths land; `block` samples a turn."""
    first = time.process_time()
    maker.sample(setting, 0)
    first = time.process_time() - first
    tokens = maker.materials.tokens
    ours, plain, off = [], [], []
    for begin in range(1, samples + 1, block):
        prompts = []
        for index in range(begin, min(begin + block, samples + 1)):
            start = time.process_time()
            prompts.append(maker.sample(setting, index).prompt)
            ours.append(time.process_time() - start)
        for prompt in prompts:
            start = time.process_time()
            count = tokens.count(prompt)
            plain.append(time.process_time() - start)
            off.append(abs(count / setting.length - 1))
    return {
        "ours_ms": 1e3 * median(ours),
        "plain_ms": 1e3 * median(plain),
        "ratio": median(p / o for p, o in zip(plain, ours, strict=True)),
        "first_ms": 1e3 * first,
        "off_per_cent": 100 * max(off),
    }


def peak(tokenizer: Path, task: str, length: int, samples: int) -> float:
    """Peak memory (MiB) of a fresh process that makes so many samples."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path; import re, texts\n"
        f"texts.make(Path(sys.argv[2]), {task!r}, {length}, {samples})\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tokenizer)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1024


def opened(tokenizer: Path, task: str) -> Maker:
    materials = Materials(seed=0, tokens=Fast(tokenizer), text=filler(0, 20_000))
    return maker_of(re.split(r"\.", task)[0], materials)


def make(tokenizer: Path, task: str, length: int, samples: int) -> None:
    maker = opened(tokenizer, task)
    for index in range(samples):
        maker.sample(setting_of(maker, task, length, 1), index)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=131_072, help="tokens")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--block", type=int, default=7, help="samples a turn")
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        tokenizer = options.tokenizer or trained(Path(temporary) / "tokenizer.json")
        makers: dict[str, Maker] = {}
        for task, needles in TASKS:
            name = task.partition(".")[0]
            assert name in MAKERS
            maker = makers.setdefault(name, opened(tokenizer, task))
            setting = setting_of(maker, task, options.length, needles)
            found = figures[task] = measured(maker, setting, options.samples, options.block)
            print(
                f"{task:24}{found['ours_ms']:9.2f} ms, plain {found['plain_ms']:8.1f} ms: "
                f"{found['ratio']:8.1f} x   (first {found['first_ms']:.0f} ms, lengths off by at "
                f"most {found['off_per_cent']:.2f} %)"
            )
        for task in ("niah", "ruler.cwe", "ruler.fwe"):
            for samples in (5, 50):
                mib = peak(tokenizer, task, options.length, samples)
                figures[f"peak_{task}_{samples}"] = {"mib": mib}
                print(f"peak of {samples} {task} samples in a fresh process: {mib:.1f} MiB")
    print(json.dumps(figures))
    if options.json:
        options.json.write_text(json.dumps(figures) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
