"""How a local model's image processor changes an image's size: rules read from its JSON alone.

Sources: the image processors of transformers 5 (`smart_resize` of Qwen2-VL, the tiled canvases of
GOT-OCR2 as InternVL uses them, the grid pinpoints of LLaVA-NeXT). All sizes are in pixels.
"""

from collections.abc import Mapping
from math import ceil, floor, inf, sqrt
from typing import Any, Literal

import msgspec

from mmneedle.adapters import options
from mmneedle.adapters.sight import UNKNOWN, Sight
from mmneedle.errors import UserError

Kind = Literal["pixels", "tiles", "pinpoints", "longest", "fixed", "unknown"]

PIXEL_OPTIONS = ("min_pixels", "max_pixels")
"""Engine arguments of ours that set the limits of a processor of kind "pixels"."""

_LEAST_AREA = 50_000  # a longest_edge from here up is an area in pixels: no image is so wide
_QWEN_PIXELS = (56 * 56, 28 * 28 * 1280)  # Qwen2-VL's, where its file names none


class ImageRule(msgspec.Struct, frozen=True):
    """What becomes of an image's size. Fields that a kind does not use are left at zero."""

    processor: str
    """The image processor's class name, as the checkpoint gives it."""
    kind: Kind
    """
    pixels: kept between two areas, sides rounded to a multiple of `factor` (Qwen-VL, GLM-V);
    tiles: stretched over a canvas of at most `max_tiles` tiles (InternVL);
    pinpoints: fitted into one of `canvases` (LLaVA-NeXT);
    longest: the longer side becomes at most `edge` (Pixtral), or exactly (Idefics3, SmolVLM);
    fixed: always `tile` (CLIP, SigLIP: LLaVA, Gemma 3, PaliGemma);
    unknown: cannot be told.
    """
    factor: int = 1
    min_pixels: int = 0
    max_pixels: int = 0
    tile: tuple[int, int] = (0, 0)
    """Width and height."""
    max_tiles: int = 0
    canvases: tuple[tuple[int, int], ...] = ()
    """Widths and heights."""
    edge: int = 0

    @classmethod
    def read(cls, config: Mapping[str, Any], model_config: Mapping[str, Any]) -> "ImageRule":
        """The rule of a preprocessor_config.json (`model_config`: the model's config.json)."""
        name = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
        size = config.get("size")
        size = size if isinstance(size, Mapping) else {"shortest_edge": size} if size else {}
        if _by_area(name, config, size):
            return _pixels(name, config, size)
        if config.get("image_grid_pinpoints") or "LlavaNext" in name:
            return _pinpoints(name, config, model_config)
        if "GotOcr2" in name and _tiled(config, model_config):
            return cls(
                name,
                "tiles",
                tile=_box(size) or (384, 384),
                max_tiles=_number(config.get("max_patches"), 12),
            )
        if "longest_edge" in size and "shortest_edge" not in size:
            return cls(name, "longest", edge=_number(size["longest_edge"], 0))
        box = _box(config.get("crop_size") if config.get("do_center_crop") else None) or _box(size)
        return cls(name, "fixed", tile=box) if box else cls(name, "unknown")

    def fitted(
        self, width: int, height: int, given: Mapping[str, Any] | None = None
    ) -> "ImageRule":
        """The rule under which an image of this size is not shrunk, as far as it has a limit.

        Args:
            width, height: of the largest image.
            given: `PIXEL_OPTIONS` that the user chose; they stand, shrinking or not.

        Raises:
            UserError: an option that is no number, or that this processor does not have.
        """
        chosen = {name: (given or {})[name] for name in PIXEL_OPTIONS if name in (given or {})}
        if self.kind != "pixels":
            if chosen:
                raise UserError(
                    f"{min(chosen)} is for processors that count pixels (Qwen-VL, GLM-V); "
                    f"this model's {self.processor or 'image processor'} has no such limit"
                )
            return self
        limits = options.read("the engine", chosen, dict.fromkeys(PIXEL_OPTIONS, options.whole(1)))
        sides = [ceil(side / self.factor) * self.factor for side in (width, height)]
        most = limits.get("max_pixels", max(self.max_pixels, sides[0] * sides[1]))
        least = limits.get("min_pixels", min(self.min_pixels, most))
        if least > most:
            raise UserError(f"min_pixels is {least}, more than max_pixels, which is {most}")
        return msgspec.structs.replace(self, min_pixels=least, max_pixels=most)

    def kwargs(self) -> dict[str, int]:
        """What to give the processor so that it obeys this rule's areas; {} where it has none."""
        if self.kind != "pixels":
            return {}
        return {"min_pixels": self.min_pixels, "max_pixels": self.max_pixels}

    def seen(self, width: int, height: int) -> tuple[int, int] | None:
        """Width and height after resizing, which may be larger; None where it cannot be told."""
        if self.kind == "pixels":
            return self._seen_by_area(width, height)
        if self.kind == "tiles":
            columns, rows = self._canvas(width, height)
            return columns * self.tile[0], rows * self.tile[1]
        if self.kind == "pinpoints":
            scales = [min(w / width, h / height) for w, h in self.canvases]
            scale = max(scales, key=lambda value: (min(value, 1.0), -value), default=1.0)
            return int(width * scale), int(height * scale)
        if self.kind == "longest":
            scale = self.edge / max(width, height)
            return (width, height) if scale > 1 else (int(width * scale), int(height * scale))
        return self.tile if self.kind == "fixed" else None

    def sight(self, width: int, height: int) -> Sight:
        """What the model gets of an image, for a run's preflight."""
        seen = self.seen(width, height)
        if seen is None:
            return UNKNOWN
        tokens = seen[0] * seen[1] // self.factor**2 if self.kind == "pixels" else None
        return Sight(*seen, tokens)

    def shrinks(self, width: int, height: int) -> bool:
        """Whether an image loses more than the rounding to a multiple of `factor` takes."""
        seen = self.seen(width, height)
        return seen is not None and any(
            now < before - self.factor / 2
            for now, before in zip(seen, (width, height), strict=True)
        )

    def _seen_by_area(self, width: int, height: int) -> tuple[int, int]:
        unit = self.factor
        wide, high = (max(1, round(side / unit)) * unit for side in (width, height))
        if wide * high > self.max_pixels:
            scale = sqrt(width * height / self.max_pixels)
            wide, high = (max(1, floor(side / scale / unit)) * unit for side in (width, height))
        elif wide * high < self.min_pixels:
            scale = sqrt(self.min_pixels / (width * height))
            wide, high = (ceil(side * scale / unit) * unit for side in (width, height))
        return wide, high

    def _canvas(self, width: int, height: int) -> tuple[int, int]:
        """Columns and rows of tiles: nearest in shape, larger while at most half is wasted."""
        numbers = range(1, self.max_tiles + 1)
        grids = sorted(
            ((c, r) for c in numbers for r in numbers if c * r <= self.max_tiles),
            key=lambda grid: grid[0] * grid[1],
        )
        best, least = (1, 1), inf
        for columns, rows in grids:
            off = abs(width / height - columns / rows)
            covered = self.tile[0] * self.tile[1] * columns * rows
            if off < least or (off == least and width * height > 0.5 * covered):
                best, least = (columns, rows), off
        return best


def _by_area(name: str, config: Mapping[str, Any], size: Mapping[str, Any]) -> bool:
    return (
        name.startswith(("Qwen2VL", "Qwen3VL"))
        or any(config.get(option) for option in PIXEL_OPTIONS)
        or _number(size.get("longest_edge"), 0) >= _LEAST_AREA
    )


def _pixels(name: str, config: Mapping[str, Any], size: Mapping[str, Any]) -> ImageRule:
    # The two options win over `size`, as they do in the processors.
    low = config.get("min_pixels") or size.get("min_pixels") or size.get("shortest_edge")
    high = config.get("max_pixels") or size.get("max_pixels") or size.get("longest_edge")
    return ImageRule(
        name,
        "pixels",
        factor=_number(config.get("patch_size"), 14) * _number(config.get("merge_size"), 2),
        min_pixels=_number(low, _QWEN_PIXELS[0]),
        max_pixels=_number(high, _QWEN_PIXELS[1]),
    )


def _pinpoints(name: str, config: Mapping[str, Any], model_config: Mapping[str, Any]) -> ImageRule:
    points = config.get("image_grid_pinpoints") or model_config.get("image_grid_pinpoints") or ()
    pairs = (point for point in points if isinstance(point, list | tuple) and len(point) == 2)
    # Files give height first.
    return ImageRule(name, "pinpoints", canvases=tuple((int(w), int(h)) for h, w in pairs))


def _tiled(config: Mapping[str, Any], model_config: Mapping[str, Any]) -> bool:
    """InternVL's processor cuts into tiles whatever the file says of it."""
    return bool(config.get("crop_to_patches")) or model_config.get("model_type") == "internvl"


def _box(size: object) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    if isinstance(size, Mapping):
        short = size.get("shortest_edge")
        width, height = size.get("width", short), size.get("height", short)
        if isinstance(width, int) and isinstance(height, int):
            return width, height
    return None


def _number(value: object, default: int) -> int:
    return int(value) if isinstance(value, int | float) and value > 0 else default
