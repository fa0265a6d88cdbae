"""What holds for samples of every text task, whatever they ask."""

from mmneedle.texts.making import Maker
from mmneedle.texts.tokens import Tokens
from mmneedle.types import TextSample, TextSetting


def samples(maker: Maker, setting: TextSetting, count: int) -> list[TextSample]:
    """The first samples of a setting, which can be made, are well-formed and differ."""
    maker.check(setting)
    made = [maker.sample(setting, index) for index in range(count)]
    assert [sample.id for sample in made] == [f"{setting.name}-{i:06d}" for i in range(count)]
    assert all(sample.setting == setting for sample in made)
    assert len({sample.prompt for sample in made}) == count
    for sample in made:
        assert sample.expected and all(sample.expected)
        assert all(word for words in sample.expected for word in words)
    return made


def length_lands(maker: Maker, counting: Tokens, sample: TextSample) -> None:
    """Within one per cent of the target, and the record within one of the count."""
    counted = counting.count(sample.prompt)
    assert abs(counted - sample.tokens) <= 0.01 * counted, (counted, sample.tokens)
    if maker.lengths == "tokens":
        target = sample.setting.length
        assert abs(counted - target) <= 0.01 * target, (counted, target)
