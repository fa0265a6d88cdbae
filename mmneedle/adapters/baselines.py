"""Models that need no key and no picture: yardsticks, and stand-ins for tests.

They look at the sample's truth, so they see no images. What looks random depends on the sample's
id alone: the same answers in any order, process and Python version. Answers are in the format
that the official prompt asks for: "2, 1, 3", or "2, 1, 3; -1" for several needles.

    baseline/oracle         always right
    baseline/never          always "-1"
    baseline/first          always "1, 1, 1"
    baseline/always         always names a cell, any with the same probability
    baseline/random         each needle: "-1" with probability 1/2, else any cell alike
    baseline/noisy?p=0.8    each needle: right with probability p, else one of the wrong answers
                            (a wrong cell, or "-1" for a needle that is there), any alike
    baseline/scripted?file=answers.jsonl
                            plays lines such as {"sample": "n1-g2x2-k1-000000", "text": "1, 2, 1"};
                            other fields as in a Response; a sample's lines in order, then its
                            last one again

Of a text, oracle gives what is expected, never "-1", noisy each answer with probability p, else
"-1"; those that know cells alone refuse texts.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mmneedle.adapters import options
from mmneedle.errors import UserError
from mmneedle.types import Adapter, Location, Request, Response, Sample, Setting, TextSample

Rule = Callable[[Sample, int], Location | None]
"""(sample, which needle from 0) -> the cell to name, None for "-1"."""


def create(name: str, given: Mapping[str, Any]) -> Adapter:
    """Make a baseline. Raises UserError for an unknown one or a wrong option."""
    model = f"baseline/{name}"
    if name == "scripted":
        values = options.read(model, given, {"file": Path})
        if "file" not in values:
            raise UserError("baseline/scripted needs its answers: baseline/scripted?file=FILE")
        return Scripted(read_script(values["file"]))
    if name == "noisy":
        p = options.read(model, given, {"p": options.number(0, 1)}).get("p", 0.8)
        return Baseline(f"{model}?p={p:g}", _noisy(p), p)
    if name not in _RULES:
        known = ", ".join((*_RULES, "noisy?p=0.8", "scripted?file=FILE"))
        raise UserError(f"no baseline {name!r}; known are {known}")
    options.read(model, given, {})
    return Baseline(model, _RULES[name], {"oracle": 1.0, "never": 0.0}.get(name))


class Baseline:
    """Answers by a rule from the truth."""

    wants_images = False

    knows: float | None = None
    """The probability to give what is expected of a text; None: only cells can be named."""

    def __init__(self, model: str, rule: Rule, knows: float | None) -> None:
        self.model = model
        self.rule = rule
        self.knows = knows

    def refuse_texts(self) -> None:
        """See that texts can be answered. Raises UserError."""
        if self.knows is None:
            raise UserError(
                f"{self.model} names cells, and a text has none: take baseline/oracle, "
                "baseline/never or baseline/noisy?p=0.8"
            )

    async def generate(self, request: Request) -> Response:
        """Answer at once."""
        sample = request.sample
        if isinstance(sample, TextSample):
            return self._say(sample)
        named = (self.rule(sample, k) for k in range(len(sample.needles)))
        return Response("ok", "; ".join("-1" if at is None else str(at) for at in named))

    def _say(self, sample: TextSample) -> Response:
        """About a text: what is expected, needle by needle, or "-1" in its place."""
        assert self.knows is not None  # refuse_texts was asked first
        said = (
            wordings[0] if _hash(sample, k, "right") < self.knows * 2**64 else "-1"
            for k, wordings in enumerate(sample.expected)
        )
        return Response("ok", "; ".join(said))

    def fingerprint(self) -> dict[str, Any]:
        """The model string says it all."""
        return {"adapter": "baseline", "model": self.model}

    async def aclose(self) -> None:
        """There is nothing to close."""


class Scripted(Baseline):
    """Plays given responses: for tests, and to replay what was answered elsewhere."""

    knows = 0.0  # whatever the script says

    def __init__(self, script: Mapping[str, Sequence[Response]]) -> None:
        self.model = "baseline/scripted"
        self.script = script
        self._played: dict[str, int] = {}

    async def generate(self, request: Request) -> Response:
        """The sample's next response; its last one again when all are played."""
        name = request.sample.id
        if name not in self.script:
            raise UserError(f"{self.model}: the script has no answer for sample {name}")
        turn = self._played[name] = self._played.get(name, -1) + 1
        responses = self.script[name]
        return responses[min(turn, len(responses) - 1)]

    def fingerprint(self) -> dict[str, Any]:
        """The model and a hash over the script."""
        script = msgspec.json.encode(self.script, order="deterministic")
        return super().fingerprint() | {"script": hashlib.sha256(script).hexdigest()}


def read_script(path: Path) -> dict[str, list[Response]]:
    """Read a script: a file of JSON lines. Raises UserError naming a wrong one."""
    script: dict[str, list[Response]] = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    for number, line in enumerate(lines, 1):
        try:
            fields = msgspec.json.decode(line, type=dict[str, Any])
            sample = msgspec.convert(fields.pop("sample"), str)
            response = msgspec.convert({"status": "ok", **fields}, Response)
        except (msgspec.MsgspecError, ValueError, KeyError) as error:
            raise UserError(f"{path}: line {number} is no scripted answer ({error})") from None
        script.setdefault(sample, []).append(response)
    return script


# --------------------------------------------------------------------------- rules


def _hash(sample: Sample | TextSample, k: int, what: str) -> int:
    """64 bits that depend on the sample's id, the needle and the purpose alone."""
    text = f"{what}:{sample.id}:{k}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def _cell(setting: Setting, number: int) -> Location:
    """Cell `number` (from 0) of a haystack, image by image, row by row."""
    image, cell = divmod(number, setting.rows * setting.cols)
    row, column = divmod(cell, setting.cols)
    return Location(image + 1, row + 1, column + 1)


def _any_cell(sample: Sample, k: int) -> Location:
    return _cell(sample.setting, _hash(sample, k, "cell") % sample.setting.cells)


def _random(sample: Sample, k: int) -> Location | None:
    return _any_cell(sample, k) if _hash(sample, k, "present") % 2 else None


def _noisy(p: float) -> Rule:
    def rule(sample: Sample, k: int) -> Location | None:
        truth = sample.truth[k]
        if _hash(sample, k, "right") < p * 2**64:
            return truth
        if truth is None:
            return _any_cell(sample, k)
        # Wrong answers: every cell but the right one, and "-1".
        choice = _hash(sample, k, "wrong") % sample.setting.cells
        cell = _cell(sample.setting, choice)
        return None if cell == truth else cell

    return rule


_RULES: dict[str, Rule] = {
    "oracle": lambda sample, k: sample.truth[k],
    "never": lambda sample, k: None,
    "first": lambda sample, k: Location(1, 1, 1),
    "always": _any_cell,
    "random": _random,
}
