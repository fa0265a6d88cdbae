"""Train the tiny model from scratch on one GPU in under ten minutes.

    python -m mmneedle.tiny.train --out checkpoint --minutes 8

What makes so small a model learn this fast:

- guided attention: at each token of an answer, one head of layer 2 is told to look at the end of
  the caption in question, and one of layer 3 at the matching tile (or at the first token where
  nothing matches);
- many questions a haystack: branches that share the images (`questions.py`);
- auxiliary heads, dropped at the end, that read a tile's attributes and place and a caption's
  attributes off the hidden states;
- small haystacks first, growing with the time spent.

The schedule is by time, not by steps: a slower GPU makes fewer steps. Exact numbers therefore
differ from run to run; weights/README.md has those of the shipped weights.
"""

import argparse
import json
import math
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as fn

from mmneedle.tiny import CELL
from mmneedle.tiny import checkpoint as cp
from mmneedle.tiny.network import TinyModel, patch_places, text_angles, to_checkpoint
from mmneedle.tiny.questions import Batch, Questions
from mmneedle.tiny.scenes import ATTRIBUTES, guises, held_out_mask
from mmneedle.types import Setting

_GROWN = 0.25  # share of the time after which haystacks have full size
_WARM_UP = 100  # steps
_SIDES = {1: 0.12, 2: 0.18, 3: 0.05, 4: 0.24, 5: 0.04, 6: 0.04, 7: 0.04, 8: 0.29}
_NEEDLES = {1: 0.55, 2: 0.15, 3: 0.05, 4: 0.05, 5: 0.2}


class Options(NamedTuple):
    """How to train."""

    minutes: float = 8.0
    """Of training, the making of the first tiles not included."""
    seed: int = 0
    guises: int = 24
    """Looks of each scene: see `scenes.py`."""
    tokens: int = 48_000
    """Of a step."""
    rate: float = 1e-3
    auxiliary: float = 0.2
    """Weight of the auxiliary heads' losses."""
    workers: int = 13
    """Processes that draw tiles."""
    most_images: int = cp.MOST_IMAGES
    most_cells: int = cp.MOST_CELLS
    """A side; both are smaller in tests."""
    scenes: int = 0
    """Use the first so many scenes only, for tests; 0: all."""
    caption_layer: int = 2
    """Whose head 0 is told to look at the caption's end."""
    tile_layer: int = 3
    """Whose head 0 is told to look at the tile."""


# --------------------------------------------------------------------------- tiles


class TileBank:
    """Tiles of some scenes in several guises, in the model's memory; grows in the background."""

    def __init__(self, scenes: np.ndarray, total: int, device: torch.device) -> None:
        self.scenes = scenes
        self.place = torch.full((len(held_out_mask()),), -1, device=device)
        self.place[torch.from_numpy(scenes).to(device)] = torch.arange(len(scenes), device=device)
        shape = (total, len(scenes), CELL, CELL, 3)
        self.tiles = torch.zeros(shape, dtype=torch.uint8, device=device)
        self.ready = 0

    def fill(self, first: int, workers: int) -> None:
        """Draw all guises; returns when the last one is there."""
        for tiles in guises(first, len(self.tiles), self.scenes.tolist(), workers):
            self.tiles[self.ready].copy_(torch.from_numpy(np.array(tiles)))
            self.ready += 1

    def patches(self, setting: Setting, scenes: Tensor) -> Tensor:
        """Pixels of haystacks [B, cells] as patches in -1..1: [B * images, 4 * V, 3 * 28 * 28]."""
        which = torch.randint(self.ready, scenes.shape, device=scenes.device)
        pixels = self.tiles[which, self.place[scenes]]  # [B, cells, 56, 56, 3]
        pixels = pixels.unflatten(2, (2, cp.PATCH)).unflatten(4, (2, cp.PATCH))
        pixels = pixels.permute(0, 1, 2, 4, 6, 3, 5).flatten(4)  # [B, cells, 2, 2, 3 * 28 * 28]
        grid = setting.rows * setting.cols
        pixels = pixels.flatten(1, 3).unflatten(1, (setting.images, 4 * grid)).flatten(0, 1)
        return pixels.to(torch.bfloat16 if pixels.is_cuda else torch.float32) / 127.5 - 1


# --------------------------------------------------------------------------- losses


class Trainee(nn.Module):
    """The model with its auxiliary heads."""

    def __init__(self, caption_layer: int, tile_layer: int) -> None:
        super().__init__()
        self.caption_layer, self.tile_layer = caption_layer, tile_layer
        self.model = TinyModel()
        kinds = list(ATTRIBUTES.values())
        places = [cp.MOST_IMAGES, cp.MOST_CELLS, cp.MOST_CELLS]
        self.tile_head = nn.Linear(cp.HIDDEN, sum(kinds))
        self.place_head = nn.Linear(cp.HIDDEN, sum(places))
        self.caption_head = nn.Linear(cp.HIDDEN, sum(kinds))
        self.needle_head = nn.Linear(cp.HIDDEN, 8)
        self.kinds, self.places = kinds, places
        self._initialise()

    def _initialise(self) -> None:
        for name, parameter in self.model.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim > 1:
                nn.init.normal_(parameter, std=min(0.05, parameter.shape[1] ** -0.5))
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.data /= math.sqrt(2 * cp.LAYERS)

    def forward(self, batch: Batch, patches: Tensor) -> "Losses":
        """All losses of a batch."""
        model = self.model
        haystacks, questions, length = batch.tokens.shape
        setting, shared = batch.setting, len(batch.prefix)
        rows, cols = (p.to(patches.device) for p in patch_places(setting.rows, setting.cols))
        visual = model.visual(patches, rows, cols).reshape(haystacks, setting.cells, -1)
        embed = model.language_model.embed_tokens
        prefix = embed(batch.prefix).expand(haystacks, -1, -1).clone()
        prefix[:, batch.visual] = visual.to(prefix.dtype)
        x = torch.cat((prefix, embed(batch.tokens).flatten(1, 2)), 1)

        split = batch.positions.split((shared, length), 1)
        positions = torch.cat((split[0], split[1].repeat(1, questions)), 1)
        cos, sin = text_angles(positions)
        mask = tree_mask(shared, questions, length, x.device)
        asked = answer_places(batch.needle, setting.needles)
        layers = model.language_model.layers
        losses: dict[str, Tensor] = {"tile": self._attributes(self.tile_head(visual), batch.tiles)}
        for number, layer in enumerate(layers):
            if number == self.caption_layer:
                losses |= self._caption_losses(batch, x[:, shared:], asked)
            if number == self.tile_layer:
                losses["place"] = self._place_loss(batch, x[:, :shared][:, batch.visual])
            q, k, v = layer.project(x, cos, sin)
            if number == self.caption_layer:
                losses["look_caption"] = look_loss(
                    q, k, mask, shared, asked, caption_targets(batch, asked, shared)
                )
            if number == self.tile_layer:
                losses["look_tile"] = look_loss(
                    q, k, mask, shared, asked, tile_targets(batch, asked)
                )
            x = layer.finish(x, q, k, v, mask)
        hidden = model.language_model.norm(x[:, shared:])
        logits = model.logits(hidden).float().unflatten(1, (questions, length))
        losses["answer"] = fn.cross_entropy(logits.flatten(0, 2), batch.targets.flatten())
        return Losses(losses, logits)

    def _attributes(self, logits: Tensor, scenes: Tensor) -> Tensor:
        """Mean cross-entropy over a scene's attributes."""
        values = self.attributes[scenes]
        return sum_of_parts(logits, values, self.kinds)

    def _place_loss(self, batch: Batch, hidden: Tensor) -> Tensor:
        setting = batch.setting
        grid = setting.rows * setting.cols
        cell = torch.arange(setting.cells, device=hidden.device)
        values = torch.stack(
            (cell // grid, cell % grid // setting.cols, cell % setting.cols), -1
        ).expand(len(hidden), -1, -1)
        return sum_of_parts(self.place_head(hidden), values, self.places)

    def _caption_losses(self, batch: Batch, hidden: Tensor, asked: "Asked") -> dict[str, Tensor]:
        """At captions' ends: their attributes and number; at answers: the needle's number."""
        branches = hidden.unflatten(1, batch.tokens.shape[1:])
        ends = branches.gather(2, batch.caption_end[..., None].expand(-1, -1, -1, cp.HIDDEN))
        losses = {"caption": self._attributes(self.caption_head(ends), batch.captions)}
        if batch.setting.needles > 1:
            numbers = torch.arange(batch.setting.needles, device=hidden.device)
            at_ends = self.needle_head(ends).float().flatten(0, 2)
            index = asked.place[..., None].expand(-1, -1, -1, cp.HIDDEN)
            at_answers = self.needle_head(branches.gather(2, index)).float().flatten(0, 2)
            losses["needle"] = fn.cross_entropy(
                at_ends, numbers.expand(batch.captions.shape).flatten()
            ) + fn.cross_entropy(at_answers, asked.needle.flatten(), ignore_index=-1)
        return losses

    @property
    def attributes(self) -> Tensor:
        """Each scene's attributes: [18048, 6]."""
        return self._attributes_table

    def to_device(self, questions: Questions) -> "Trainee":
        """Move to where the questions are."""
        self._attributes_table = questions.attributes
        return self.to(questions.device)


class Losses(NamedTuple):
    """What a batch gives."""

    parts: dict[str, Tensor]
    logits: Tensor
    """[B, Q, L, vocabulary]."""

    def total(self, auxiliary: float) -> Tensor:
        """The loss to minimise."""
        main = ("answer", "look_tile", "look_caption")
        weights = {name: 1.0 if name in main else auxiliary for name in self.parts}
        return torch.stack([weights[name] * loss for name, loss in self.parts.items()]).sum()


class Asked(NamedTuple):
    """Where answers are made: up to A places a branch, [B, Q, A] each."""

    place: Tensor
    """In the branch; 0 where there is none."""
    needle: Tensor
    """Which needle the next token speaks about; -1 where there is none."""


def answer_places(needle: Tensor, needles: int) -> Asked:
    """Gather the places of `Batch.needle` [B, Q, L] that are not -1."""
    most = min(needle.shape[-1], 10 * needles)
    place = (needle < 0).to(torch.int8).argsort(dim=-1, stable=True)[..., :most]
    found = needle.gather(-1, place)
    return Asked(torch.where(found >= 0, place, 0), found)


def caption_targets(batch: Batch, asked: Asked, shared: int) -> Tensor:
    """The end of the caption in question, as an index into all tokens: [B, Q, A]; -100 for none."""
    questions, length = batch.tokens.shape[1:]
    end = batch.caption_end.gather(-1, asked.needle.clamp(min=0))
    start = shared + torch.arange(questions, device=end.device)[:, None] * length
    return torch.where(asked.needle >= 0, start + end, -100)


def tile_targets(batch: Batch, asked: Asked) -> Tensor:
    """The matching tile, or the first token where there is none: [B, Q, A]; -100 for none."""
    cell = batch.cell.gather(-1, asked.needle.clamp(min=0))
    target = torch.where(cell >= 0, batch.visual[cell.clamp(min=0)], 0)
    return torch.where(asked.needle >= 0, target, -100)


def look_loss(
    q: Tensor, k: Tensor, mask: Tensor, shared: int, asked: Asked, targets: Tensor
) -> Tensor:
    """Cross-entropy of head 0's attention at the places asked against where it should look."""
    questions = targets.shape[1]
    length = (mask.shape[-1] - shared) // questions
    place = shared + torch.arange(questions, device=q.device)[:, None] * length + asked.place
    place = place.flatten(1)  # [B, Q * A]
    wide = q.shape[-1]
    queries = q[:, 0].gather(1, place[..., None].expand(-1, -1, wide))
    scores = (queries @ k[:, 0].transpose(1, 2)).float() / math.sqrt(wide)
    scores = scores.masked_fill(~mask[place], -1e9)
    return fn.cross_entropy(scores.flatten(0, 1), targets.flatten())


def sum_of_parts(logits: Tensor, values: Tensor, sizes: list[int]) -> Tensor:
    """Mean cross-entropy of several classifications side by side in the last dimension."""
    parts = logits.float().flatten(0, -2).split(sizes, -1)
    flat = values.flatten(0, -2)
    return torch.stack([fn.cross_entropy(p, flat[:, i]) for i, p in enumerate(parts)]).mean()


def tree_mask(shared: int, questions: int, length: int, device: torch.device) -> Tensor:
    """Who may look at whom: all earlier tokens of the prefix and the own branch. [T, T]."""
    total = shared + questions * length
    place = torch.arange(total, device=device)
    branch = torch.where(place < shared, -1, (place - shared) // length)
    causal = place[:, None] >= place
    return causal & ((branch == -1) | (branch[:, None] == branch))


# --------------------------------------------------------------------------- the loop


def choose(chance: random.Random, done: float, options: Options) -> Setting:
    """A setting for a step, small ones first."""
    grown = min(1.0, done / _GROWN)
    most_images = 1 + round((options.most_images - 1) * grown)
    most_side = min(options.most_cells, 2 + round((options.most_cells - 2) * grown))
    images = chance.choice((1, most_images, most_images, chance.randint(1, most_images)))
    sides = [side for side in _SIDES if side <= most_side]
    rows = cols = chance.choices(sides, [_SIDES[side] for side in sides])[0]
    if chance.random() < 0.08:
        cols = chance.choice(sides)
    counts = [k for k in _NEEDLES if k <= min(images * rows * cols, 1 if done < 0.08 else 5)]
    needles = chance.choices(counts, [_NEEDLES[k] for k in counts])[0]
    return Setting(images, rows, cols, needles)


def sizes(questions: Questions, setting: Setting, tokens: int) -> tuple[int, int]:
    """Haystacks and questions of a batch of about so many tokens."""
    branch = 12 + 27 * setting.needles
    count = max(4, 16 // setting.needles)
    shared = 110 + setting.images * (6 + setting.rows * setting.cols)
    return max(1, min(256, tokens // (shared + count * branch))), count


def schedule(step: int, done: float) -> float:
    """The learning rate's factor: warm-up, flat for half the time, then a cosine to zero."""
    warm = min(1.0, (step + 1) / _WARM_UP)
    late = max(0.0, (done - 0.5) / 0.5)
    return warm * (0.5 + 0.5 * math.cos(math.pi * min(1.0, late)) + 0.002)


def train(out: Path, device: str, options: Options, tell: Callable[[dict[str, Any]], None]) -> None:
    """Train, write the checkpoint to `out`, tell how it goes."""
    where = torch.device(device)
    # It plans anew for each shape, and here almost every step has another.
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.manual_seed(options.seed)
    chance = random.Random(options.seed)
    questions = Questions(where)
    if options.scenes:
        questions.scenes = questions.scenes[: options.scenes]
        questions.wanted[questions.scenes[-1] + 1 :] = False
    bank = TileBank(questions.scenes.cpu().numpy(), options.guises, where)
    filler = threading.Thread(target=bank.fill, args=(0, options.workers), daemon=True)
    filler.start()
    trainee = Trainee(options.caption_layer, options.tile_layer).to_device(questions)
    decay = [p for p in trainee.parameters() if p.ndim > 1]
    rest = [p for p in trainee.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}],
        lr=options.rate,
        betas=(0.9, 0.98),
        fused=where.type == "cuda",
    )
    while not bank.ready:
        if not filler.is_alive():
            raise RuntimeError("no tiles were drawn")
        time.sleep(0.05)
    began = told = time.monotonic()
    asked = step = 0
    while (done := (time.monotonic() - began) / (60 * options.minutes)) < 1:
        setting = choose(chance, done, options)
        batch = questions.batch(setting, *sizes(questions, setting, options.tokens))
        for group in optimizer.param_groups:
            group["lr"] = options.rate * schedule(step, done)
        with torch.autocast(where.type, torch.bfloat16, enabled=where.type == "cuda"):
            losses = trainee(batch, bank.patches(setting, batch.tiles))
        optimizer.zero_grad(set_to_none=True)
        losses.total(options.auxiliary).backward()
        nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
        optimizer.step()
        asked += batch.tokens.shape[0] * batch.tokens.shape[1]
        step += 1
        if time.monotonic() - told > 15 or step == 1:
            told = time.monotonic()
            tell(
                {
                    "seconds": round(told - began, 1),
                    "step": step,
                    "questions": asked,
                    "guises": bank.ready,
                    "setting": setting.name,
                    **{name: round(loss.item(), 4) for name, loss in losses.parts.items()},
                }
            )
    cp.write(out)
    save_file(to_checkpoint(trainee.model), out / "model.safetensors", metadata={"format": "pt"})
    tell({"seconds": round(time.monotonic() - began, 1), "step": step, "questions": asked})
    for line in check(trainee, options, where):
        tell(line)


@torch.no_grad()
def check(trainee: Trainee, options: Options, where: torch.device) -> Iterator[dict[str, Any]]:
    """Shares of held-out questions answered rightly, by setting: a first look.

    The answers are taken token by token given the right beginning: an answer is right if each of
    its tokens is the likeliest, which is when greedy decoding gives it too. The suite's own run
    is what counts.
    """
    questions = Questions(where, held_out=True)
    bank = TileBank(questions.scenes.cpu().numpy(), 2, where)
    bank.fill(1000, options.workers)
    sides = [side for side in (1, 2, 4, 8) if side <= options.most_cells]
    for images in sorted({1, 3, options.most_images} & set(range(1, options.most_images + 1))):
        for side in sides:
            for needles in (1, 2, 5):
                if needles <= images * side * side:
                    setting = Setting(images, side, side, needles)
                    yield _check(trainee, questions, bank, setting, options)


def _check(
    trainee: Trainee, questions: Questions, bank: TileBank, setting: Setting, options: Options
) -> dict[str, Any]:
    right, count = [0, 0], [0, 0]
    for _ in range(8):
        batch = questions.batch(setting, *sizes(questions, setting, options.tokens))
        on = questions.device.type
        with torch.autocast(on, torch.bfloat16, enabled=on == "cuda"):
            logits = trainee(batch, bank.patches(setting, batch.tiles)).logits
        wrong = (logits.argmax(-1) != batch.targets) & (batch.targets >= 0)
        good = ~wrong.any(-1)
        for split, chosen in enumerate(((batch.cell >= 0).all(-1), (batch.cell < 0).all(-1))):
            right[split] += int((good & chosen).sum())
            count[split] += int(chosen.sum())
    shares = [round(100 * r / max(1, n), 2) for r, n in zip(right, count, strict=True)]
    return {"held out": setting.name, "positive": shares[0], "negative": shares[1], "n": count}


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m mmneedle.tiny.train")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name, default in Options()._asdict().items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    given = vars(parser.parse_args(arguments))
    out, device = given.pop("out"), given.pop("device")
    torch.set_float32_matmul_precision("high")
    train(out, device, Options(**given), lambda line: print(json.dumps(line), flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
