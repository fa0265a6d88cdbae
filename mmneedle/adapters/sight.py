"""What a provider makes of an image before the model sees it: size and tokens by documented rules.

One class a kind of rule; the numbers stand in limits.toml. All are pure integer arithmetic on
pixels, so that a size that just fits is never lost to rounding.
"""

import math
from typing import NamedTuple

import msgspec


class Sight(NamedTuple):
    """An image as a model gets it."""

    width: int | None
    """Pixels after shrinking; None: not documented."""
    height: int | None
    tokens: int | None
    """Input tokens that it counts for; None: not documented."""


UNKNOWN = Sight(None, None, None)


class _Rule(msgspec.Struct, frozen=True, tag_field="rule", forbid_unknown_fields=True):
    """What the rules share."""


class Tiles(_Rule, frozen=True, tag="tiles"):
    """OpenAI's older rule: fit into a square, shrink the short side, count 512 px tiles."""

    fit: int
    """Pixels a side that the image must fit into first."""
    tile: int
    base: int
    """Tokens an image."""
    each: int
    """Tokens a tile."""
    short: int | None = None
    """Pixels that the short side may then have."""

    def see(self, width: int, height: int) -> Sight:
        """An image of width x height pixels as the model gets it."""
        width, height = _within(width, height, self.fit)
        least = min(width, height)
        if self.short is not None and least > self.short:
            width, height = (_times(side, self.short, least) for side in (width, height))
        tiles = _cover(width, self.tile) * _cover(height, self.tile)
        return Sight(width, height, self.base + self.each * tiles)


class Patches(_Rule, frozen=True, tag="patches"):
    """OpenAI's newer rule: a longest side and a budget of patches.

    Over the budget, the image is shrunk so that both sides hold whole patches on the way down
    (the guide's adjusted shrink factor).
    """

    patch: int
    """Pixels a side."""
    side: int | None = None
    """Pixels that the long side may have."""
    most: int | None = None
    """Patches at most."""
    multiplier: float | None = None
    """Tokens a patch; None: not documented."""

    def see(self, width: int, height: int) -> Sight:
        """An image of width x height pixels as the model gets it."""
        if self.side is not None:
            width, height = _within(width, height, self.side)
        patches = _cover(width, self.patch) * _cover(height, self.patch)
        if self.most is not None and patches > self.most:
            width, height = self._shrunk(width, height, self.most)
            patches = min(self.most, _cover(width, self.patch) * _cover(height, self.patch))
        if self.multiplier is None:
            return Sight(width, height, None)
        return Sight(width, height, math.ceil(round(patches * self.multiplier, 6)))

    def _shrunk(self, width: int, height: int, most: int) -> tuple[int, int]:
        across = max(1, math.isqrt(most * width // height))  # whole patches within the budget
        down = max(1, math.isqrt(most * height // width))
        if across * height <= down * width:
            size = self.patch * across, _times(height, self.patch * across, width)
        else:
            size = _times(width, self.patch * down, height), self.patch * down
        return min(width, size[0]), min(height, size[1])


class Cover(_Rule, frozen=True, tag="cover"):
    """Anthropic's rule: the largest size with a longest side and a number of patches at most."""

    patch: int
    """Pixels a side."""
    side: int
    """Pixels that the long side may have."""
    most: int
    """Patches at most; each is a token."""

    def see(self, width: int, height: int) -> Sight:
        """An image of width x height pixels as the model gets it."""
        longest = max(width, height)
        low, high = 1, min(longest, self.side)
        while low < high:  # the largest that fits: patches never fall as the image grows
            middle = (low + high + 1) // 2
            if self._patches(_times(width, middle, longest), _times(height, middle, longest)) <= (
                self.most
            ):
                low = middle
            else:
                high = middle - 1
        width, height = _times(width, low, longest), _times(height, low, longest)
        return Sight(width, height, self._patches(width, height))

    def _patches(self, width: int, height: int) -> int:
        return _cover(width, self.patch) * _cover(height, self.patch)


class Crops(_Rule, frozen=True, tag="crops"):
    """Gemini's rule until 2.x: crops of a share of the short side, each shown as one tile."""

    whole: int
    """Pixels: an image with no longer side is one tile."""
    tile: int
    """Pixels a side that a crop is shown with."""
    each: int
    """Tokens a tile."""
    least: int | None = None
    """Pixels a side that a crop has at least."""
    most: int | None = None
    """Pixels a side that a crop has at most."""

    def see(self, width: int, height: int) -> Sight:
        """An image of width x height pixels as the model gets it; a crop is never enlarged."""
        if max(width, height) <= self.whole:
            return Sight(width, height, self.each)
        crop = max(1, min(width, height) * 2 // 3, self.least or 0)  # the short side / 1.5
        crop = min(crop, self.most or crop)
        tokens = self.each * _cover(width, crop) * _cover(height, crop)
        if crop > self.tile:
            width, height = (_times(side, self.tile, crop) for side in (width, height))
        return Sight(width, height, tokens)


class Fixed(_Rule, frozen=True, tag="fixed"):
    """A fixed number of tokens an image; what becomes of its pixels is not documented."""

    tokens: int

    def see(self, width: int, height: int) -> Sight:
        """Tokens alone."""
        return Sight(None, None, self.tokens)


class Rounded(_Rule, frozen=True, tag="rounded"):
    """Qwen-VL's rule: both sides rounded to a multiple, within a range of pixels."""

    factor: int
    """Both sides become multiples of so many pixels; a square of them is a token."""
    most: int
    """Pixels of the whole image at most."""
    least: int = 0
    """Pixels of the whole image at least: smaller ones are enlarged."""

    def see(self, width: int, height: int) -> Sight:
        """An image of width x height pixels as the model gets it."""
        factor, area = self.factor, width * height
        sides = [max(factor, round(side / factor) * factor) for side in (width, height)]
        if sides[0] * sides[1] > self.most:
            scale = math.sqrt(area / self.most)
            sides = [max(factor, int(side / scale // factor) * factor) for side in (width, height)]
        elif sides[0] * sides[1] < self.least:
            scale = math.sqrt(self.least / area)
            sides = [math.ceil(side * scale / factor) * factor for side in (width, height)]
        return Sight(sides[0], sides[1], sides[0] * sides[1] // factor**2)


class Grid(_Rule, frozen=True, tag="grid"):
    """InternVL's rule: stretched to the grid of tiles that comes nearest to its shape."""

    tile: int
    """Pixels a side."""
    most: int
    """Tiles at most; with more than one, a thumbnail of the whole comes as well."""
    each: int
    """Tokens a tile."""

    def see(self, width: int, height: int) -> Sight:
        """An image of width x height pixels as the model gets it: small ones are enlarged."""
        across, down = self._grid(width, height)
        tiles = across * down
        return Sight(across * self.tile, down * self.tile, self.each * (tiles + (tiles > 1)))

    def _grid(self, width: int, height: int) -> tuple[int, int]:
        """Columns and rows: nearest shape; of equal ones the largest that it fills by half."""
        grids = sorted(
            ((i, j) for i in range(1, self.most + 1) for j in range(1, self.most // i + 1)),
            key=lambda grid: grid[0] * grid[1],
        )
        best, nearest = (1, 1), math.inf
        for across, down in grids:
            distance = abs(width / height - across / down)
            half_filled = 2 * width * height > self.tile**2 * across * down
            if distance < nearest or (distance == nearest and half_filled):
                best, nearest = (across, down), distance
        return best


Rule = Tiles | Patches | Cover | Crops | Fixed | Rounded | Grid


def _cover(side: int, unit: int) -> int:
    """Units that cover a side."""
    return -(-side // unit)


def _times(side: int, numerator: int, denominator: int) -> int:
    """A side scaled down, at least one pixel."""
    return max(1, side * numerator // denominator)


def _within(width: int, height: int, side: int) -> tuple[int, int]:
    """Shrunk until no side is longer than so many pixels."""
    longest = max(width, height)
    if longest <= side:
        return width, height
    return _times(width, side, longest), _times(height, side, longest)
