"""`mmneedle estimate`: what a run would take, by documented rules, with no key and no request."""

import json
from pathlib import Path
from typing import Any

import pytest
from shell import Shell, build

from mmneedle import adapters
from mmneedle.adapters.limits import Book
from mmneedle.costs import Prices

PRICES = "input = 2\noutput = 10\ncached = 0.5\ncache_write = 4\nbatch = 0.5\n"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def estimate(shell: Shell, *words: object) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(shell.ok("estimate", "set", "--json", *words))
    return result


def test_figures_by_hand(mmneedle: Shell, tmp_path: Path) -> None:
    build(mmneedle, "set", "--cell", 256, "--samples", 10)
    (tmp_path / "p.toml").write_text(PRICES)
    found = estimate(mmneedle, "--model", "openai/gpt-4o", "--prices", "p.toml", "--rpm", 10,
                     "--tpm", 1000, "--max-connections", 4)  # fmt: skip
    small, large = found["settings"]
    # (1,2): 512 px, one tile; (2,2x3): 768 x 512 px, two tiles each.
    assert (small["image_tokens"], large["image_tokens"]) == (255, 2 * 425)
    assert (small["effective_cell"], large["effective_cell"]) == ("256", "256")
    assert 80 < small["text_tokens"] < 130
    tokens = 10 * (255 + small["text_tokens"]) + 10 * (850 + large["text_tokens"])
    assert (found["requests"], found["input_tokens"]) == (20, tokens)
    assert (found["output_tokens"], found["max_output_tokens"]) == (160, 6000)
    assert found["usd"] == pytest.approx((tokens * 2 + 160 * 10) / 1e6)
    assert found["usd_at_most"] == pytest.approx((tokens * 2 + 6000 * 10) / 1e6)
    assert found["usd_batch"] == pytest.approx(found["usd"] / 2)
    assert found["usd_cached"] is None  # no samples share a haystack
    assert found["minutes"] == pytest.approx((tokens + 160) / 1000)
    assert (found["seconds_each"], found["max_connections"]) == (5, 4)
    assert "OpenAI API docs" in found["images_by"]


def test_shared_haystacks_are_cheaper(mmneedle: Shell, tmp_path: Path) -> None:
    build(mmneedle, "set", "--cell", 256, "--samples", 8, "--questions-per-haystack", 4)
    (tmp_path / "p.toml").write_text(PRICES)
    found = estimate(mmneedle, "--model", "openai/gpt-4o", "--prices", "p.toml")
    expected = 0.0
    for setting in found["settings"]:
        images, text = setting["image_tokens"], setting["text_tokens"]
        # Two haystacks: each is written once and read three times.
        expected += (8 * text * 2 + 2 * images * 4 + 6 * images * 0.5 + 8 * 8 * 10) / 1e6
    assert found["usd_cached"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("limit", "haystacks"), [("4-8", 1), ("3-5", 2), ("2-7", 2), ("5-6", 1), ("3-12", 3)]
)
def test_ranges_that_cut_haystacks_pay_for_each_of_them(
    mmneedle: Shell, tmp_path: Path, limit: str, haystacks: int
) -> None:
    build(mmneedle, "set", "--cell", 256, "--samples", 16, "--questions-per-haystack", 4)
    (tmp_path / "p.toml").write_text("input = 10\noutput = 0\ncached = 0\n")
    found = estimate(mmneedle, "--model", "openai/gpt-4o", "--prices", "p.toml", "--limit", limit,
                     "--settings", "1x2")  # fmt: skip
    (one,) = found["settings"]
    expected = one["requests"] * one["text_tokens"] + haystacks * one["image_tokens"]
    assert found["usd_cached"] == pytest.approx(expected * 10 / 1e6)


def test_models_on_this_machine(mmneedle: Shell) -> None:
    build(mmneedle, "set")
    for model, connections in (("hf/tiny", 24), ("vllm/tiny", 256), ("onnx/tiny", 2)):
        found = estimate(mmneedle, "--model", model)
        assert found["max_connections"] == connections
        assert [one["image_tokens"] for one in found["settings"]] == [4, 12]
        notes = " ".join(found["notes"])
        assert f"{model} runs on this machine: no token has a price" in notes
        assert "text tokens are unknown: its tokenizer is not asked" in notes
        assert "genai" not in notes and "mmneedle[prices]" not in notes
    (note, *_) = estimate(mmneedle, "--model", "hf/nowhere")["notes"]
    assert note.startswith("nowhere is no folder here") and "hf/FOLDER" in note
    notes = estimate(mmneedle, "--model", "openai/eye", "--base-url", "http://127.0.0.1:9")["notes"]
    assert "how many tokens an image takes is not documented of server/eye" in " ".join(notes)


def test_connections_are_those_of_the_adapters() -> None:
    """Said beside the modules, so that an estimate loads no package."""
    from mmneedle.adapters import PROVIDERS, connections
    from mmneedle.adapters.onnx import OnnxAdapter

    assert connections("onnx/tiny") == OnnxAdapter.max_connections
    for provider, line in (("vllm", "    max_connections = {}\n"), ("hf", "3 * {}.batch_size")):
        module = Path(adapters.__file__).with_name(f"{provider}.py").read_text()
        number = PROVIDERS[provider].connections
        assert line.format("self.arguments" if provider == "hf" else number) in module
    assert connections("openai/m") == connections("plugin/m") == 16


def test_smaller_cells_and_fewer_samples(mmneedle: Shell) -> None:
    build(mmneedle, "set", "--cell", 256)
    found = estimate(mmneedle, "--model", "anthropic/claude-opus-4-8", "--resize", 28, "--limit",
                     4, "--settings", "1x2", "--max-tokens", 50)  # fmt: skip
    (setting,) = found["settings"]
    assert (setting["cell"], setting["effective_cell"]) == ([28, 28], "28")
    assert (setting["image_tokens"], setting["requests"]) == (4, 4)
    assert found["max_output_tokens"] == 200
    assert "genai-prices" in found["prices"]["source"]


def test_what_is_unknown_is_said(mmneedle: Shell) -> None:
    build(mmneedle, "set", "--cell", 256)
    found = estimate(mmneedle, "--model", "openai/gpt-99")
    assert (found["input_tokens"], found["usd"], found["prices"]) == (None, None, None)
    text = mmneedle.ok("estimate", "set", "--model", "openai/gpt-99", "--tpm", 1000)
    assert text.count("unknown") >= 7
    assert "cost: unknown" in text
    assert "the price of openai/gpt-99 is not known" in text
    text = mmneedle.ok("estimate", "set", "--model", "openai/eye", "--base-url",
                       "http://127.0.0.1:9/v1")  # fmt: skip
    assert "the price of server/eye is not known" in text


def test_a_level_of_detail_that_nobody_documents(mmneedle: Shell) -> None:
    build(mmneedle, "set", "--cell", 1024)
    words = ("estimate", "set", "--model", "openai/gpt-5.4", "--settings", "1x2")
    assert "ask for --detail high or original" in mmneedle.ok(*words)
    text = mmneedle.ok(*words, "--detail", "high")
    assert "ask for" not in text
    assert " 800 " in text  # 2048 px hold 2,500 patches at 1600 px


def test_what_would_be_refused_and_notes(mmneedle: Shell, tmp_path: Path) -> None:
    build(mmneedle)
    (tmp_path / "own.toml").write_text('[[models]]\nmatch = ["openai/*"]\nimages = 1\n')
    text = mmneedle.ok("estimate", "set", "--model", "openai/gpt-4.1-mini", "--limits", "own.toml")
    assert "refused: n2-g2x3-k1 has 2 images a request, and it takes at most 1" in text
    assert "note: an older page of OpenAI's" in text


def test_the_model_that_comes_along(mmneedle: Shell) -> None:
    build(mmneedle)
    found = estimate(mmneedle, "--model", "onnx/tiny")
    assert {one["effective_cell"] for one in found["settings"]} == {"56"}
    assert [one["image_tokens"] for one in found["settings"]] == [4, 12]


def test_options_in_the_models_name_count(mmneedle: Shell) -> None:
    build(mmneedle, "set", "--cell", 256)
    found = estimate(mmneedle, "--model", "openai/gpt-4o?detail=low&max_tokens=10")
    assert [one["image_tokens"] for one in found["settings"]] == [85, 170]
    assert found["max_output_tokens"] == 160


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "baseline/oracle"], "nothing to estimate"),
        (["--model", "gpt-4o"], "no model 'gpt-4o' (did you mean openai/gpt-4o?); known are"),
        (["--model", "openai/gpt-4o?max_tokens=many"], "max_tokens"),
        (["--model", "openai/gpt-4o", "--reasoning", "hard"], "reasoning"),
        (["--model", "openai/gpt-4o", "--prices", "none.toml"], "cannot be read"),
        (["--model", "openai/gpt-4o", "--limits", "none.toml"], "cannot be read"),
        (["--model", "openai/gpt-4o", "--settings", "5x5"], "no setting of 5 image(s)"),
        (["--model", "openai/gpt-4o", "--rpm", "0"], "--rpm"),
    ],
)
def test_wrong_use_is_one_line(mmneedle: Shell, words: list[str], said: str) -> None:
    build(mmneedle)
    assert said in mmneedle.refused("estimate", "set", *words)
    assert "no data set here" in mmneedle.refused("estimate", "no", "--model", "openai/gpt-4o")


def test_a_gap_in_public_prices_is_no_price(
    mmneedle: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without genai-prices the way to it is said, and nothing else fails."""
    import builtins

    real = builtins.__import__

    def importing(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("genai_prices"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest, **more)

    build(mmneedle)
    monkeypatch.setattr(builtins, "__import__", importing)
    text = mmneedle.ok("estimate", "set", "--model", "openai/gpt-4o")
    assert 'pip install "mmneedle[prices]"' in text
    assert "cost: unknown" in text


def test_every_rule_names_its_source() -> None:
    (packaged,) = Book.open().parts
    for entry in packaged.models:
        assert entry.source in packaged.sources, entry.match
    assert Prices(1, 2).source == ""
