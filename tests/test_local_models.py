"""What can be told of local models without their engines."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmneedle.adapters import create
from mmneedle.adapters.thinking import TAGS, split
from mmneedle.errors import UserError


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in list(sys.modules):
        if name.startswith("mmneedle.adapters.hf"):
            monkeypatch.delitem(sys.modules, name)
    for name in ("torch", "transformers"):  # lint and light tests have neither
        if name != package:
            monkeypatch.setitem(sys.modules, name, type(sys)(name))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError) as caught:
        create("hf/tiny")
    assert str(caught.value) == f'hf/tiny needs the package {package}: pip install "mmneedle[hf]"'


@pytest.mark.parametrize(
    ("text", "prompt", "reasoning", "answer", "complete"),
    [
        ("1, 2, 3", "", None, "1, 2, 3", True),
        (" -1\n", "", None, " -1\n", True),
        ("<think>so</think>\n\n1, 2, 3", "", "so", "1, 2, 3", True),
        ("\n<think>\n\n</think>\n\n-1", "", None, "-1", True),
        ("so</think>-1", "<|assistant|><think>\n", "so", "-1", True),
        ("so</think>-1", "", "so", "-1", True),
        ("<think>I wonder: 1, 2, 3", "", "I wonder: 1, 2, 3", "", False),
        ("I wonder: 1, 2, 3", "<think>", "I wonder: 1, 2, 3", "", False),
        ("<think>so</think>", "", "so", "", True),
        ("[THINK]so[/THINK]1, 1, 1", "", "so", "1, 1, 1", True),
        ("-1", "user: what is <think>?", None, "-1", True),
    ],
)
def test_thoughts_and_answers_are_told_apart(
    text: str, prompt: str, reasoning: str | None, answer: str, complete: bool
) -> None:
    told = split(text, prompt)
    assert told == (reasoning, answer, complete, len(text) - len(answer))


@given(st.text(), st.text(), st.sampled_from(TAGS))
def test_what_follows_the_closing_tag_is_the_answer(
    thought: str, answer: str, tags: tuple[str, str]
) -> None:
    opening, closing = tags
    if not any(tag in thought + answer for pair in TAGS for tag in pair):
        told = split(f"{opening}{thought}{closing}{answer}")
        assert (told.answer, told.complete) == (answer.lstrip(), True)
        assert told.reasoning == (thought.strip() or None)
