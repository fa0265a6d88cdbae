"""The viewer's pages as text. All words of models and data sets are escaped by the templates."""

import hashlib
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar, cast

import jinja2
from markupsafe import Markup

from mmneedle import __version__
from mmneedle.errors import UserError
from mmneedle.following import Following
from mmneedle.reports import page
from mmneedle.reports.panels import KINDS as NAMES
from mmneedle.reports.panels import in_order, named, shaped
from mmneedle.reports.words import folder_name, many, short
from mmneedle.runlog import STATUSES
from mmneedle.scoring import SCORERS
from mmneedle.tasks.grid import GridTask
from mmneedle.types import Setting
from mmneedle.viewer import figures
from mmneedle.viewer.library import Book, Item, Library, Volume, held, parse_sample
from mmneedle.viewer.query import (
    MISSING,
    OUTCOMES,
    PAGE,
    SORTS,
    SPLITS,
    BadQueryError,
    ComparisonError,
    Query,
)
from mmneedle.viewer.rows import Lister
from mmneedle.viewer.sample import LETTERS, plain, whole
from mmneedle.viewer.selection import Selection, Selector

_GLANCE = 0.2
"""Seconds that a page of figures spends on reading a log; the next look goes on from there."""
_Counted = TypeVar("_Counted")


@cache
def environment() -> jinja2.Environment:
    """The reports' filters and macros, over our own templates."""
    base = page.environment()
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("mmneedle.viewer"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {name: base.filters[name] for name in ("percent", "signed", "show", "name")} | {
        "short": short,
        "many": many,
        "duration": figures.duration,
    }
    made.globals |= {
        "version": __version__,
        "names": NAMES | {"untried": "not asked yet", figures.UNREAD: "not read yet"},
        "assets": {name: f"/assets/{key}" for key, (name, _, _) in assets().items()},
    }
    return made


@cache
def assets() -> dict[str, tuple[str, str, bytes]]:
    """Our style, script and icon: address (it holds a hash) -> name, media type, content."""
    base, own = page.environment().loader, jinja2.PackageLoader("mmneedle.viewer")
    assert base is not None
    empty = jinja2.Environment()
    theme = base.get_source(empty, "theme.css")[0]
    style = f"{theme}\n{own.get_source(empty, 'view.css')[0]}".encode()
    script = own.get_source(empty, "view.js")[0].encode()
    found = {}
    for name, kind, content in (
        ("icon.svg", "image/svg+xml", own.get_source(empty, "icon.svg")[0].encode()),
        ("view.css", "text/css", style),
        ("view.js", "text/javascript", script),
    ):
        key = f"{hashlib.sha256(content).hexdigest()[:16]}-{name}"
        found[key] = (name, kind, content)
    return found


def digest(text: str) -> str:
    """SHA-256 (hex) of a page: its ETag."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


class Pages:
    """Makes pages of a library. Threads may share one."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.selector = Selector(library)
        self._figures: dict[tuple[str, str], tuple[str, Any]] = {}

    # ----------------------------------------------------------------------- start

    def start(self) -> str:
        """All data sets and runs."""
        deadline = time.monotonic() + _GLANCE
        runs = [
            self._run_line(volume, max(0.0, deadline - time.monotonic()))
            for volume in self.library.volumes.values()
        ]
        states = {run.get("state") for run in runs}
        return self._render(
            "start.html.j2",
            runs=runs,
            books=[_book_card(book) for book in self.library.books.values()],
            state_of_all=next((one for one in ("reading", "running") if one in states), "done"),
        )

    def _run_line(self, volume: Volume, glance: float) -> dict[str, Any]:
        try:
            with volume.following.read(glance):
                header = volume.run.header
                book = volume.book
                return {
                    "key": volume.key,
                    "name": volume.name,
                    "model": header.called,
                    "task": None if header.task == GridTask.name else header.task,
                    "book": book and {"key": book.key, "name": book.name},
                    "dataset": header.dataset_fingerprint,
                    "damage": len(volume.following.damage),
                    **self._counted(volume, figures.summary),
                    **figures.progress(volume.following),
                }
        except (UserError, OSError) as error:
            return {"key": volume.key, "name": volume.name, "trouble": str(error)}

    # ----------------------------------------------------------------------- a run

    def run(self, query: Query) -> str:
        """One run: how far it is, its figures, what went wrong."""
        volume = self.library.volume(query.items[0])
        with volume.following.read(_GLANCE):
            header = volume.run.header
            live = self._live(volume, query)
            return self._render(
                "run.html.j2",
                query=query,
                title=header.called,
                header=header,
                volume=volume,
                facts=_run_facts(volume),
                adapter=plain(header.adapter),
                missing=volume.missing,
                others=self._comparable(volume),
                live=Markup(live),  # a page of ours, escaped when it was made
                live_mark=digest(live),
            )

    def live(self, query: Query) -> str:
        """What changes of a run's page."""
        volume = self.library.volume(query.items[0])
        with volume.following.read(_GLANCE):
            return self._live(volume, query)

    def _live(self, volume: Volume, query: Query) -> str:
        following = volume.following
        return self._render(
            "live.html.j2",
            query=query,
            progress=figures.progress(following),
            summary=self._counted(volume, figures.summary),
            settings=self._counted(volume, figures.by_setting),
            failures=list(following.failures)[::-1][:12],
            failed=following.failed,
            damage=following.damage[:12],
            damaged=len(following.damage),
            first_at=following.first_at,
            last_at=following.last_at,
            spent=following.spent,
            shared=volume.run.header.questions > 1,
        )

    def _counted(self, volume: Volume, count: Callable[[Following], _Counted]) -> _Counted:
        """A run's figures, counted again only when there is something new."""
        following = volume.following
        key, mark = (volume.key, count.__name__), f"{following.mark}-{following.known}"
        known = self._figures.get(key)
        if known is None or known[0] != mark:
            known = self._figures[key] = mark, count(following)
        return cast(_Counted, known[1])

    def _comparable(self, volume: Volume) -> list[tuple[str, str]]:
        """The other runs on the same data set: ids and labels."""
        mark = volume.run.header.dataset_fingerprint
        alike = [
            other
            for other in self.library.volumes.values()
            if other.run.header.dataset_fingerprint == mark
        ]
        labels = zip(alike, _labels(alike), strict=True)
        return [(other.key, label) for other, label in labels if other is not volume]

    # ----------------------------------------------------------------------- a list

    def samples(self, query: Query) -> str:
        """A page of the samples that a query means."""
        items = self.selector.items(query)
        with held(items):
            _check_same(items)
            selection = self.selector.select(query)
            pages = max(1, -(-len(selection) // PAGE))
            if query.page > pages:
                raise BadQueryError(f"there are {many(pages, 'page')} only")
            lister = Lister(query, items)
            first = (query.page - 1) * PAGE
            rows = [
                lister.row(*selection.at(place))
                for place in range(first, min(first + PAGE, len(selection)))
            ]
            return self._render(
                "samples.html.j2",
                query=query,
                rows=rows,
                found=len(selection),
                first=first,
                pages=pages,
                total=selection.total,
                patterns=sorted(selection.patterns.items(), key=lambda one: -one[1]),
                choices=_choices(items),
                damage=[one for item in _volumes(items) for one in item.following.damage][:5],
                **_heading(items),
            )

    # ----------------------------------------------------------------------- a sample

    def sample(self, name: str, query: Query) -> str:
        """One sample with all that belongs to it."""
        setting, number = parse_sample(name)
        items = self.selector.items(query)
        with held(items):
            _check_same(items)
            sample = whole(query, items, setting, number)
            selection = self.selector.select(query)
            place = selection.place(setting, number)
            return self._render(
                "sample.html.j2",
                query=query,
                sample=sample,
                place=place,
                found=len(selection),
                up=_page_of(query, place),
                **_neighbours(query, selection, place),
                **_heading(items),
            )

    def answer(self, key: str, name: str) -> str:
        """A run's whole answer to a sample, as it is."""
        setting, number = parse_sample(name)
        volume = self.library.volume(key)
        with volume.following.read():
            table = volume.following.tables.get(setting)
            row = None if table is None else table.row(number)
            record = None if table is None or row is None else table.record(volume.run, row)
        return (record.response.text or "") if record else ""

    # ----------------------------------------------------------------------- what went wrong

    def trouble(self, title: str, text: str) -> str:
        """A page that says why there is no other."""
        return self._render("trouble.html.j2", title=title, text=text)

    def _render(self, template: str, **values: Any) -> str:
        return environment().get_template(template).render(**values)


def _book_card(book: Book) -> dict[str, Any]:
    manifest = book.dataset.manifest
    tiles, rules = manifest.tiles, manifest.rules
    return {
        "key": book.key,
        "name": book.name,
        "folder": str(book.dataset.folder),
        "fingerprint": manifest.fingerprint,
        "count": len(book.dataset),
        "settings": [
            {
                "name": setting.name,
                "label": named(setting),
                "shape": shaped(setting),
                "count": book.dataset.count(setting),
            }
            for setting in sorted(book.dataset.settings, key=in_order)
        ],
        "recipe": [
            ("Photos", f"{manifest.photos:,} of {manifest.identity.get('source', 'unknown')}"),
            (
                "Cells",
                f"{tiles.width} × {tiles.height} px, JPEG quality {tiles.quality}, "
                f"{tiles.subsampling}",
            ),
            ("Seed", str(rules.seed)),
            (
                "Caption",
                f"the photo’s {rules.captions} one"
                if rules.captions == "last"
                else "one at random",
            ),
            ("Hard negatives", f"{100 * rules.hard_negatives:g} % of negatives"),
            ("Questions a haystack", str(rules.questions)),
            ("Built by", f"mmneedle {manifest.version}"),
        ],
    }


def _run_facts(volume: Volume) -> list[tuple[str, str]]:
    header = volume.run.header
    facts = [("Folder", ", ".join(map(str, volume.run.folders)))]
    facts.append(("Task", header.task))
    facts.append(("Data set", folder_name(header.dataset_path)))
    facts.append(("Fingerprint", header.dataset_fingerprint))
    if header.created:
        facts.append(("Begun", header.created))
    if header.cell is not None:
        facts.append(("Cells as sent", f"{header.cell[0]} × {header.cell[1]} px"))
    if header.questions > 1:
        facts.append(("Questions a haystack", str(header.questions)))
    facts += [(name, value) for name, value in header.environment.items()]
    return facts


def _check_same(items: list[Item]) -> None:
    """See that runs side by side are about the same samples. Raises ComparisonError."""
    marks = {item.run.header.dataset_fingerprint for item in _volumes(items)}
    if len(marks) > 1:
        raise ComparisonError(
            "these runs are about different data sets (fingerprints "
            f"{', '.join(map(short, sorted(marks)))}): their samples are not the same"
        )


def _volumes(items: list[Item]) -> list[Volume]:
    return [item for item in items if isinstance(item, Volume)]


def _labels(volumes: Sequence[Volume]) -> list[str]:
    """Each run's model, and its folder where two have the same."""
    models = [volume.run.header.called for volume in volumes]
    return [
        model if models.count(model) == 1 else f"{model} ({volume.name})"
        for model, volume in zip(models, volumes, strict=True)
    ]


def _heading(items: list[Item]) -> dict[str, Any]:
    """What list and sample say of where they come from."""
    volumes = _volumes(items)
    return {
        "columns": [
            {"letter": letter, "key": volume.key, "model": label}
            for letter, volume, label in zip(LETTERS, volumes, _labels(volumes), strict=False)
        ],
        "runs": volumes,
        "book": items[0] if isinstance(items[0], Book) else None,
        "missing": items[0].missing if isinstance(items[0], Volume) else None,
    }


def _choices(items: list[Item]) -> dict[str, Any]:
    """What the filters offer."""
    volumes = _volumes(items)
    if volumes:
        settings: set[Setting] = set.intersection(*(set(one.following.tables) for one in volumes))
    else:
        book = items[0]
        assert isinstance(book, Book)
        settings = set(book.dataset.settings)
    return {
        "settings": {one.name: named(one) for one in sorted(settings, key=in_order)},
        "splits": SPLITS,
        "outcomes": OUTCOMES,
        "statuses": {name: name.replace("_", " ") for name in STATUSES} | {MISSING: "never tried"},
        "scorers": {name: name for name in SCORERS},
        "sorts": SORTS if volumes else {"ambiguity": SORTS["ambiguity"]},
    }


def _page_of(query: Query, place: int | None) -> str:
    """The list's page on which a sample stands."""
    page_number = query.page if place is None else place // PAGE + 1
    return f"/samples?{query.string(page=page_number)}"


def _neighbours(query: Query, selection: Selection, place: int | None) -> dict[str, str | None]:
    def address(at: int) -> str | None:
        if not 0 <= at < len(selection):
            return None
        return f"/sample/{selection.name(at)}?{query.string(page=1)}"

    if place is None:
        return {"before": None, "after": address(0)}
    return {"before": address(place - 1), "after": address(place + 1)}
