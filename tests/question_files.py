"""Small files of questions in the published formats, for tests."""

import gzip
import json
from pathlib import Path
from typing import Any

from mmneedle.texts.corpus import filler

TOWNS = ("Arnby", "Belmor", "Carvey", "Dunlow", "Elstad", "Farrow", "Gorwen", "Holmly")


def _text(number: int, sentences: int = 6) -> str:
    return filler(100 + number, sentences)


def squad(path: Path, *, unanswerable: bool = True) -> Path:
    paragraphs: list[dict[str, Any]] = []
    for number, town in enumerate(TOWNS):
        fact = f"The mill of {town} was built in {1800 + number}."
        context = f"{_text(number, 3)} {fact} {_text(number + 50, 3)}"
        asked = [
            {
                "question": f"When was the mill of {town} built?",
                "id": str(number),
                "answers": [{"text": str(1800 + number), "answer_start": context.index("18")}] * 2,
                "is_impossible": False,
            }
        ]
        if unanswerable:
            asked.append(
                {
                    "question": f"Who built the mill of {town}?",
                    "id": f"{number}x",
                    "answers": [],
                    "is_impossible": True,
                }
            )
        paragraphs.append({"context": context, "qas": asked})
    paragraphs += [{"context": _text(200 + number, 8), "qas": []} for number in range(30)]
    whole = {"version": "v2.0", "data": [{"title": "Mills", "paragraphs": paragraphs}]}
    path.write_text(json.dumps(whole))
    return path


def hotpot(path: Path) -> Path:
    records: list[dict[str, Any]] = []
    for number, town in enumerate(TOWNS):
        context = [
            [f"Mayor {number}", [f"Mayor {number} was born in {town}.", f" {_text(number, 2)}"]],
            [town, [f"{town} lies on the river Vell{number}x.", f" {_text(number + 20, 2)}"]],
            *[[f"Thing {number} {k}", [_text(300 + 10 * number + k, 3)]] for k in range(8)],
        ]
        records.append(
            {
                "_id": str(number),
                "question": f"On which river lies the place where Mayor {number} was born?",
                "answer": f"the Vell{number}x",
                "context": context,
                "supporting_facts": [[f"Mayor {number}", 0], [town, 0]],
                "type": "bridge",
            }
        )
    yes = dict(records[0], question="Is there a river?", answer="yes")
    path.write_text(json.dumps([*records, yes]))
    return path


def natural(path: Path, documents: int = 10) -> Path:
    lines = []
    for number, town in enumerate(TOWNS):
        ctxs = [
            {
                "id": str(k),
                "title": town if k == 0 else f"Thing {number} {k}",
                "text": f"The fair of {town} is held in the month of Mon{number}x."
                if k == 0
                else _text(500 + 40 * number + k, 4),
                "score": 1.0,
                "hasanswer": k == 0,
                "isgold": k == 0,
            }
            for k in range(documents)
        ]
        lines.append(
            json.dumps(
                {
                    "question": f"when is the fair of {town} held",
                    "answers": [f"Mon{number}x", f"the month of Mon{number}x"],
                    "ctxs": ctxs,
                    "nq_annotated_gold": {},
                }
            )
        )
    content = "\n".join(lines).encode() + b"\n"
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path
