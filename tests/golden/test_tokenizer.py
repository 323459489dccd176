"""Token ids against those of the original tokenizer."""

import pytest

from ldm.modules.encoders.tokenizer import shared_tokenizer
from tests.golden.golden_data import load_json


@pytest.fixture(scope="module")
def golden():
    return load_json("ldm/tokenizer")


def test_special_ids_and_sizes(golden):
    tokenizer = shared_tokenizer()
    found = (tokenizer.vocab_size, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert found == (golden["vocab_size"], golden["bos"], golden["eos"], golden["pad"])
    assert tokenizer.model_max_length == golden["max_length"]


def test_ids_of_every_prompt(golden):
    tokenizer, length = shared_tokenizer(), golden["max_length"]
    prompts = [case["prompt"] for case in golden["cases"]]
    batch = tokenizer(prompts, truncation=True, max_length=length, padding="max_length", return_tensors="pt")
    for case, ids in zip(golden["cases"], batch.input_ids.tolist(), strict=True):
        expected = case["ids"] + [golden["pad"]] * (length - len(case["ids"]))
        assert ids == expected, case["prompt"]


def test_number_of_tokens_before_truncation(golden):
    for case in golden["cases"]:
        assert len(shared_tokenizer().codes(case["prompt"])) == case["n_tokens_without_specials"], case["prompt"]
