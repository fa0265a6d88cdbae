"""A source over COCO captions: a folder of photos and a caption file, read with pycocotools.

Official layout (2014 and 2017 alike), which `find_coco` knows:

    ROOT/annotations/captions_val2014.json
    ROOT/val2014/COCO_val2014_000000000042.jpg ...

The format is https://cocodataset.org/#format-data; any data set in it will do.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mmneedle.data import digest, stays_inside
from mmneedle.errors import UserError
from mmneedle.types import Photo

MAX_PIXELS = 89_478_485
"""A larger photo is refused before it is decoded (Pillow's own warning level, 2^28 / 3)."""
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # none that starts a program
_MISSING_SHOWN = 80  # longest file name in a message


class CocoSource:
    """The photos in folder `photos` that have captions in the COCO file `captions`.

    A photo's captions are those of the file, in the file's order, stripped; empty ones are
    dropped. A photo without captions is left out and counted in `without_captions`; a caption of
    a photo that the file does not list is ignored, so that a file can be cut by its image list.

    Raises UserError when folder or file is missing, the file is not in COCO's caption format, or
    a photo that it lists is not in the folder.
    """

    def __init__(self, photos: Path, captions: Path) -> None:
        self.folder = Path(photos).resolve()
        self.file = Path(captions).resolve()
        if not self.folder.is_dir():
            raise UserError(f"no photo folder {self.folder}")
        images, texts = _read(self.file)
        self._files = {i: images[i] for i in sorted(images) if texts[i]}
        self._photos = tuple(Photo(i, texts[i]) for i in self._files)
        self.without_captions = len(images) - len(self._photos)
        if not self._photos:
            raise UserError(f"{self.file}: no photo has a caption")
        self._check_files()

    def _check_files(self) -> None:
        """UserError unless every photo is there; lists each folder once, not file by file."""
        listed: dict[str, set[str]] = {}
        missing = []
        for name in self._files.values():
            parent, _, base = name.rpartition("/")
            if parent not in listed:
                inner = self.folder / parent
                listed[parent] = {f.name for f in inner.iterdir()} if inner.is_dir() else set()
            if base not in listed[parent]:
                missing.append(name)
        if missing:
            raise UserError(
                f"{self.folder}: {len(missing)} of {len(self._files)} photos that "
                f"{self.file.name} lists are not there, first {missing[0][:_MISSING_SHOWN]}"
            )

    def photos(self) -> Sequence[Photo]:
        """All photos with captions, ordered by id."""
        return self._photos

    def recipe(self) -> dict[str, Any]:
        """What `open_source` opens again: absolute paths."""
        return {"source": "coco", "photos": str(self.folder), "captions": str(self.file)}

    def identity(self) -> dict[str, Any]:
        """What the photos are, for fingerprints: the same wherever the files lie."""
        return {"source": "coco", "photos": len(self._photos), "sha256": digest(self._photos)}

    def path(self, photo: int) -> Path:
        """The photo's file. Raises UserError when there is no such photo."""
        if photo not in self._files:
            raise UserError(f"no photo {photo} with captions in {self.file}")
        return self.folder / self._files[photo]

    def tile(self, photo: int, width: int, height: int) -> Image.Image:
        """The photo in mode RGB, resized (bicubic) to exactly width x height, aspect not kept.

        The same pixels as the paper's code gives: no draft decoding, no reducing gap. Raises
        UserError naming the file when it is gone, damaged, no photo, or too large.
        """
        if min(width, height) < 1:
            raise UserError(f"a cell of {width}x{height} pixels is no cell")
        image = load_rgb(self.path(photo))
        return image.resize((width, height), Image.Resampling.BICUBIC)


# --------------------------------------------------------------------------- pixels


def load_rgb(path: Path) -> Image.Image:
    """Decode a photo as 8-bit RGB, upright by its EXIF orientation, transparency on white.

    Raises UserError naming the file when it cannot be read or has more than MAX_PIXELS.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged EXIF is no reason to refuse a photo
            with Image.open(path, formats=_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                image.load()
                with contextlib.suppress(Exception):  # EXIF that cannot be read counts as none
                    ImageOps.exif_transpose(image, in_place=True)
                return _to_rgb(image)
    except FileNotFoundError:
        raise UserError(f"photo {path} is gone") from None
    except UnidentifiedImageError:
        raise UserError(f"photo {path} is damaged, or no photo") from None
    except Image.DecompressionBombError:
        raise UserError(f"photo {path} is refused: it has more than {MAX_PIXELS} pixels") from None
    except MemoryError:
        raise
    except Exception as error:  # on hostile bytes Pillow's decoders raise nearly anything
        raise UserError(f"photo {path} cannot be read: {str(error) or repr(error)}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to 8-bit RGB."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    if image.mode == "I" or image.mode.startswith("I;16"):
        # 16-bit grey: Pillow would clip at 255. 65535 / 257 is 255. (Old Pillow reads it as "I".)
        values = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(paper, layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


# --------------------------------------------------------------------------- caption file


def _read(file: Path) -> tuple[dict[int, str], dict[int, tuple[str, ...]]]:
    """File names and captions by image id. Raises UserError on anything but COCO captions."""
    dataset = _parse(file)
    images = _check_images(file, dataset["images"])
    _check_annotations(file, dataset["annotations"])
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {"images": dataset["images"], "annotations": dataset["annotations"]}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        coco.createIndex()
    texts = {}
    for i in images:
        stripped = (annotation["caption"].strip() for annotation in coco.imgToAnns.get(i, ()))
        texts[i] = tuple(text for text in stripped if text)
    return images, texts


def _parse(file: Path) -> dict[str, Any]:
    """The JSON object with its lists "images" and "annotations"."""
    try:
        data = msgspec.json.decode(file.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except OSError as error:
        raise UserError(f"cannot read caption file {file}: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"caption file {file} is not JSON: {error}") from error
    for key in ("images", "annotations"):
        if not isinstance(data, dict) or not isinstance(data.get(key), list):
            raise UserError(f'{file} is not in COCO\'s caption format: no list "{key}"')
    assert isinstance(data, dict)
    return data


def _check_images(file: Path, entries: list[Any]) -> dict[int, str]:
    """File names by image id."""
    names: dict[int, str] = {}
    used: dict[str, int] = {}
    for entry in entries:
        i = _id(file, "images", entry, "id")
        name = entry.get("file_name")
        if not isinstance(name, str) or not stays_inside(name):
            raise UserError(f"{file}: image {i}: not a file name inside the folder: {name!r}")
        if i in names:
            raise UserError(f"{file}: two images have the id {i}")
        if name in used:
            raise UserError(f"{file}: images {used[name]} and {i} are the same file {name}")
        names[i] = name
        used[name] = i
    return names


def _check_annotations(file: Path, entries: list[Any]) -> None:
    """UserError unless every annotation is a caption with ids, each id once."""
    seen: set[int] = set()
    for entry in entries:
        i = _id(file, "annotations", entry, "id")
        _id(file, "annotations", entry, "image_id")
        if not isinstance(entry.get("caption"), str):
            raise UserError(
                f"{file}: annotation {i} has no caption: is this an instances file? "
                "The caption files are named captions_*.json"
            )
        if i in seen:
            raise UserError(f"{file}: two annotations have the id {i}")
        seen.add(i)


def _id(file: Path, where: str, entry: Any, key: str) -> int:
    value = entry.get(key) if isinstance(entry, dict) else None
    if type(value) is not int:  # True is no id
        raise UserError(f'{file}: an entry of "{where}" has no whole number "{key}": {value!r}')
    return value


# --------------------------------------------------------------------------- finding


def find_coco(photos: Path | None, captions: Path | None) -> CocoSource:
    """Open COCO from what a person names: its root, its photo folder, or its caption file.

    `photos` may be the root (holding annotations/ and val2014/), or the photo folder itself;
    `captions` may be left out where exactly one caption file fits. Raises UserError that says
    what is missing or which files to choose between.
    """
    for given in (photos, captions):
        if given is not None and not given.exists():
            raise UserError(f"{given} does not exist")
    if photos is not None and not photos.is_dir():
        raise UserError(f"{photos} is not a folder of photos")
    if captions is not None and captions.is_dir():
        captions = _only(_caption_files(captions), f"{captions} and its annotations/")
    if captions is None:
        if photos is None:
            raise UserError("COCO needs its folder: --photos DIR (mmneedle fetch downloads it)")
        captions = _captions_for(_absolute(photos))
    return CocoSource(_photos_for(photos, _absolute(captions)), captions)


def _absolute(path: Path) -> Path:
    """The absolute path with the names as given: a linked val2014 is still called val2014."""
    return Path(os.path.abspath(path))  # noqa: PTH100 (resolve() would follow links)


def _split(captions: Path) -> str:
    """The name of the photo folder that belongs to a caption file: captions_val2014 -> val2014."""
    return captions.stem.removeprefix("captions_")


def _caption_files(folder: Path) -> list[Path]:
    """The caption files in a folder and in its annotations/."""
    return sorted(folder.glob("captions_*.json")) + sorted(
        (folder / "annotations").glob("captions_*.json")
    )


def _only(files: list[Path], where: str) -> Path:
    """The one file of the list; UserError when there is none, or a choice to make."""
    if not files:
        raise UserError(
            f"no captions_*.json in {where}: name the file with --captions, or get COCO's with "
            "mmneedle fetch"
        )
    if len(files) > 1:
        raise UserError(
            f"several caption files in {where}, choose one with --captions: "
            + ", ".join(map(str, files))
        )
    return files[0]


def _captions_for(folder: Path) -> Path:
    """The caption file of a root or a photo folder."""
    own = _caption_files(folder)
    if own:  # a root: of its caption files, those whose photos are there
        with_photos = [file for file in own if (folder / _split(file)).is_dir()]
        return _only(with_photos or own, f"{folder} and its annotations/")
    beside = _caption_files(folder.parent)
    fitting = [file for file in beside if _split(file) == folder.name]
    if not fitting and beside:
        raise UserError(
            f"no captions_{folder.name}.json beside {folder}: name one with --captions, such as "
            f"{beside[0]}"
        )
    return _only(fitting, f"{folder}, beside it, and in annotations/")


def _photos_for(photos: Path | None, captions: Path) -> Path:
    """The photo folder: DIR/val2014 where DIR is a root, else DIR itself."""
    if photos is not None:
        inner = photos / _split(captions)
        return inner if inner.is_dir() else photos
    root = captions.parent.parent if captions.parent.name == "annotations" else captions.parent
    folder = root / _split(captions)
    if not folder.is_dir():
        raise UserError(f"no photo folder {folder}: name it with --photos")
    return folder
