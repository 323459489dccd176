"""Texts are encoded once each, in batches, and come back in the order they were asked for."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from erasure import text_states
from erasure.text_states import TextStates
from tests.tiny import tiny_model


class Recorder:
    """An encoder that answers with the text's length and keeps what it was asked."""

    def __init__(self):
        self.batches = []

    def __call__(self, texts):
        self.batches.append(list(texts))
        return torch.stack([torch.full((3, 2), float(len(text))) for text in texts]), [len(text) for text in texts]

    @property
    def asked(self):
        return [text for batch in self.batches for text in batch]


words = st.lists(st.text("abc", max_size=3), max_size=30)


@given(words, words, words)
def test_every_text_is_encoded_once_and_answered_in_order(prepared, streamed, single):
    encode = Recorder()
    texts = TextStates(encode).prepare(prepared)
    assert [int(s[0, 0]) for s in texts.stream(streamed)] == [len(text) for text in streamed]
    assert [texts[text].last for text in prepared] == [len(text) for text in prepared]
    assert sorted(encode.asked) == sorted({*prepared} | {*streamed})
    for text in single:
        assert texts[text].states.dtype == torch.float64 and texts[text].states[0, 0] == len(text)


def test_batches_are_bounded(monkeypatch):
    monkeypatch.setattr(text_states, "BATCH", 4)
    encode = Recorder()
    TextStates(encode).prepare("a" * i for i in range(10))
    assert [len(batch) for batch in encode.batches] == [4, 4, 2]


def test_states_of_a_model_and_the_row_of_the_last_token():
    model = tiny_model()
    texts = TextStates.of(model)
    wanted = model.get_learned_conditioning(["van gogh"])[0]
    torch.testing.assert_close(texts["van gogh"].states.float(), wanted)
    assert [texts[text].last for text in ("", " ", "art", "van gogh", "very " * 100)] == [0, 0, 1, 2, 75]
