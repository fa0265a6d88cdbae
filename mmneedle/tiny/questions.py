"""Haystacks and questions for training, made where the model is, a whole batch at a time.

A batch holds B haystacks of one setting. Each has Q questions of K needles: branches that go on
from the shared prefix (images and instruction) and do not see each other, so the images are
looked at once for all of them. Tokens are those that the chat template and the official prompt
make; tests compare them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmneedle.data.shapes import all_scenes
from mmneedle.prompts import prompt
from mmneedle.tiny import checkpoint as cp
from mmneedle.tiny.scenes import ATTRIBUTES, attributes, held_out_mask
from mmneedle.types import Setting

PAD = -1
_ANSWER = 10  # slots of one needle's answer: "; ", then "10, 8, 8" or "-1"


class Batch(NamedTuple):
    """B haystacks of one setting with Q questions of K needles each; V visual tokens an image."""

    setting: Setting
    tiles: Tensor
    """Scene of each cell: [B, cells]."""
    prefix: Tensor
    """Token ids that all share, image by image, then the instruction: [P]."""
    visual: Tensor
    """Where the visual tokens stand in the prefix: [cells]."""
    positions: Tensor
    """Rotary positions of prefix and branches: [3, P + L]."""
    tokens: Tensor
    """Token ids of the branches, padded at the end with 0: [B, Q, L]."""
    targets: Tensor
    """The token that follows where it belongs to an answer, else -100: [B, Q, L]."""
    needle: Tensor
    """Which needle the token that follows speaks about, else -1: [B, Q, L]."""
    caption_end: Tensor
    """Where each caption's last token stands in its branch: [B, Q, K]."""
    captions: Tensor
    """Scene of each caption: [B, Q, K]."""
    cell: Tensor
    """The cell that holds it, -1 where none does: [B, Q, K]."""


class Questions:
    """Makes batches on a device."""

    def __init__(self, device: torch.device | str, *, held_out: bool = False) -> None:
        """Prepare tables; `held_out` asks for and shows the held-out scenes only."""
        self.device = torch.device(device)
        self.words = cp.tokenizer()
        wanted = held_out_mask() == held_out
        table = torch.from_numpy(attributes()).to(self.device)
        self.attributes = table
        self.scenes = torch.from_numpy(np.flatnonzero(wanted)).to(self.device)
        self.wanted = torch.from_numpy(wanted).to(self.device)
        self.lookup = torch.full(tuple(ATTRIBUTES.values()), -1, device=self.device)
        self.lookup[tuple(table.T)] = torch.arange(len(table), device=self.device)
        captions = self.words.encode_batch([" " + scene.caption for scene in all_scenes()])
        self.captions = self._table([c.ids for c in captions])
        self.numbers = self._table([self.ids(str(n)) for n in range(cp.MOST_IMAGES + 1)])
        self._prefixes: dict[Setting, tuple[Tensor, Tensor, Tensor]] = {}
        self._constants: dict[tuple[int, ...], Tensor] = {}

    def ids(self, text: str) -> list[int]:
        """The tokens of a text."""
        return list(self.words.encode(text).ids)

    def _constant(self, ids: Sequence[int]) -> Tensor:
        """These ids on the device; sent there once."""
        key = tuple(ids)
        if key not in self._constants:
            self._constants[key] = torch.tensor(key, device=self.device)
        return self._constants[key]

    def _table(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Rows of token ids, padded: [rows, longest]."""
        result = torch.full((len(rows), max(map(len, rows))), PAD)
        for number, row in enumerate(rows):
            result[number, : len(row)] = torch.tensor(row)
        return result.to(self.device)

    # ---------------------------------------------------------------- what is asked

    def batch(self, setting: Setting, haystacks: int, questions: int) -> Batch:
        """Draw a batch: half of the questions' needles are there, half are not."""
        tiles = self._haystacks(setting, haystacks)
        cell = self._cells(setting, haystacks, questions)
        absent = self._absent(tiles, cell)
        there = tiles[:, None].expand(-1, questions, -1).gather(2, cell.clamp(min=0))
        captions = torch.where(cell >= 0, there, absent)
        if setting not in self._prefixes:
            self._prefixes[setting] = self.prefix(setting)
        prefix, visual, before = self._prefixes[setting]
        tokens, needle, ends = self.branches(setting, captions, cell)
        length = tokens.shape[-1]
        targets = torch.full_like(tokens, -100)
        follow = tokens[..., 1:]
        targets[..., :-1] = torch.where((needle[..., 1:] != PAD), follow, -100)
        speaks = torch.full_like(needle, -1)
        speaks[..., :-1] = needle[..., 1:]
        speaks[speaks == setting.needles] = -1  # "; " and the end: no needle's own
        branch = before[:, -1:] + 1 + torch.arange(length, device=self.device)
        positions = torch.cat((before, branch), 1)
        return Batch(
            setting,
            tiles,
            prefix,
            visual,
            positions,
            tokens.clamp(min=0),
            targets,
            speaks,
            ends,
            captions,
            cell,
        )

    def _haystacks(self, setting: Setting, count: int) -> Tensor:
        """Distinct scenes for the cells of each haystack: [B, cells]."""
        keys = torch.rand(count, len(self.scenes), device=self.device)
        return self.scenes[keys.topk(setting.cells, dim=1).indices]

    def _cells(self, setting: Setting, haystacks: int, questions: int) -> Tensor:
        """The cell of each needle, -1 for one that is not there: [B, Q, K].

        Mostly all needles of a question are there or none is, as in data sets; in a quarter each
        one falls by itself.
        """
        shape = (haystacks, questions, setting.needles)
        keys = torch.rand(haystacks, questions, setting.cells, device=self.device)
        cell = keys.topk(setting.needles, dim=2).indices
        together = torch.rand(*shape[:2], 1, device=self.device) < 0.5
        alone = torch.rand(shape, device=self.device) < 0.5
        mixed = torch.rand(*shape[:2], 1, device=self.device) < 0.25
        return torch.where(torch.where(mixed, alone, together), cell, -1)

    def _absent(self, tiles: Tensor, cell: Tensor, tries: int = 20) -> Tensor:
        """Scenes that are not in the haystack, half of them much like one that is: [B, Q, K]."""
        shape = (*cell.shape, tries)
        haystacks = len(tiles)
        pick = torch.randint(tiles.shape[1], shape, device=self.device).flatten(1)
        near = self._change(tiles.gather(1, pick).unflatten(1, shape[1:]))
        far = self.scenes[torch.randint(len(self.scenes), shape, device=self.device)]
        hard = torch.rand(*cell.shape, 1, device=self.device) < 0.5
        few = torch.arange(tries, device=self.device) < 4  # then any scene: one of them will do
        choice = torch.where(hard & few, near, far)
        present = torch.zeros(haystacks, len(self.wanted), dtype=torch.bool, device=self.device)
        present.scatter_(1, tiles, True)
        flat = choice.flatten(1)
        good = (flat >= 0) & self.wanted[flat.clamp(min=0)]
        good &= ~present.gather(1, flat.clamp(min=0))
        good = good.unflatten(1, shape[1:])
        first = good.int().argmax(-1, keepdim=True)
        return choice.gather(-1, first).squeeze(-1)

    def _change(self, scene: Tensor) -> Tensor:
        """Change one attribute, or swap the two things; -1 where that is no scene."""
        values = self.attributes[scene].clone()  # [..., 6]
        which = torch.randint(len(ATTRIBUTES) + 1, scene.shape, device=self.device)
        sizes = self._constant(list(ATTRIBUTES.values()))
        step = 1 + (torch.rand(values.shape, device=self.device) * (sizes - 1)).long()
        one = torch.arange(len(ATTRIBUTES), device=self.device) == which[..., None]
        changed = torch.where(one, (values + step) % sizes, values)
        swapped = values[..., [2, 3, 0, 1, 4, 5]]
        values = torch.where((which == len(ATTRIBUTES))[..., None], swapped, changed)
        return self.lookup[tuple(values.unbind(-1))]

    # ---------------------------------------------------------------- in tokens

    def prefix(self, setting: Setting) -> tuple[Tensor, Tensor, Tensor]:
        """Token ids up to the captions [P], where visual tokens stand, positions [3, P]."""
        pad = cp.special(self.words, "<|image_pad|>")
        grid = setting.rows * setting.cols
        ids = self.ids("<|im_start|>user\n")
        for number in range(1, setting.images + 1):
            ids += self.ids(f"Picture {number}: <|vision_start|>")
            ids += [pad] * grid + self.ids("<|vision_end|>")
        text = prompt(setting, ["x"] * setting.needles)
        ids += self.ids(text[: text.index("\nCaption")])
        tokens = torch.tensor(ids, device=self.device)
        visual = (tokens == pad).nonzero().flatten()
        grids = [(setting.rows, setting.cols)] * setting.images
        places = torch.tensor(cp.rotary_positions(ids, pad, grids), device=self.device)
        return tokens, visual, places.T

    def branches(
        self, setting: Setting, captions: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens [B, Q, L], the needle each speaks about [B, Q, L], ends of captions [B, Q, K].

        In an answer a token's needle is its number, K for "; " and the end; it is -1 elsewhere.
        """
        shape = captions.shape[:2]
        parts: list[Tensor] = []
        about: list[int] = []
        several = setting.needles > 1
        for k in range(setting.needles):
            label = f"\nCaption_{k + 1}:" if several else "\nCaption:"
            caption = self.captions[captions[..., k]]
            parts += [self._fixed(label, shape), caption]
            about += [-1] * (parts[-2].shape[-1] + caption.shape[-1])
        parts.append(self._fixed("<|im_end|>\n<|im_start|>assistant\n", shape))
        about += [-1] * parts[-1].shape[-1]
        for k in range(setting.needles):
            parts.append(self._answer(setting, cell[..., k], first=k == 0))
            about += [setting.needles] + [k] * (_ANSWER - 1)
        parts.append(self._fixed("<|im_end|>", shape))
        about.append(setting.needles)
        tokens = torch.cat(parts, -1)
        needle = self._constant(about).expand_as(tokens)
        order = (tokens == PAD).to(torch.int8).argsort(dim=-1, stable=True)
        ends = self._caption_ends(setting, parts, order)
        tokens, needle = tokens.gather(-1, order), needle.gather(-1, order)
        return tokens, torch.where(tokens == PAD, PAD, needle), ends

    def _caption_ends(self, setting: Setting, parts: list[Tensor], order: Tensor) -> Tensor:
        place = order.argsort(dim=-1)  # where each slot went
        ends, start = [], 0
        for k in range(setting.needles):
            start += parts[2 * k].shape[-1]
            caption = parts[2 * k + 1]
            last = start + (caption != PAD).sum(-1, keepdim=True) - 1
            ends.append(place.gather(-1, last))
            start += caption.shape[-1]
        return torch.cat(ends, -1)

    def _fixed(self, text: str, shape: Sequence[int]) -> Tensor:
        return self._constant(self.ids(text)).expand(*shape, -1)

    def _answer(self, setting: Setting, cell: Tensor, *, first: bool) -> Tensor:
        """The answer about one needle: [B, Q, 10] with padding between."""
        grid = setting.rows * setting.cols
        image = cell.clamp(min=0) // grid
        row = cell.clamp(min=0) % grid // setting.cols
        column = cell.clamp(min=0) % setting.cols
        comma, space = self.ids(", ")
        lead = [] if first else self.ids("; 1")[:-1]
        no = self.ids("-1") if first else self.ids("; -1")
        blank = torch.full((*cell.shape, 1), PAD, device=self.device)

        def fixed(*ids: int) -> Tensor:
            return self._constant(ids).expand(*cell.shape, -1)

        def number(value: Tensor) -> Tensor:
            ids = self.numbers[value + 1]
            return ids if ids.shape[-1] == 2 else torch.cat((ids, blank), -1)

        between = fixed(comma, space)
        yes = torch.cat(
            (
                fixed(*(lead or (PAD, PAD))),
                number(image),
                between,
                number(row)[..., :1],
                between,
                number(column)[..., :1],
            ),
            -1,
        )
        negative = ((PAD,) if first else ()) + tuple(no)
        absent = fixed(*negative, *[PAD] * (_ANSWER - len(negative)))
        return torch.where((cell >= 0)[..., None], yes, absent)
