"""Texts of CPE's training: templates filled in as published and cleanly, anchors chosen and encoded once each."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure.errors import UserError
from methods.cpe import anchors, prompts
from methods.cpe.anchors import StateCache, encode_once, most_similar, word_texts
from methods.cpe.preparing import Preparation, concepts_of
from methods.cpe.prompts import MISSPELLED, candidates_without, cleaned_candidates, fill, read_templates, read_words
from methods.cpe.settings import CpeSettings
from methods.cpe.yaml_files import read_yaml
from tests.tiny import model_of_short_prompts

# ---- filling in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "word", "concept", "published", "clean"),
    [
        ("actor rides a car", "actor", "chris evans", "chris evans rides a car", "chris evans rides a car"),
        ("mentors young actors", "actor", "chris evans", "mentors young chris evanss", "mentors young actors"),
        ("artistry of art", "artist", "monet", "monetry of art", "artistry of art"),
        ("A famous artist by artist.\n", "artist", "monet", "A famous monet by monet.\n", "A famous monet by monet.\n"),
        ("artist", "artist", "Master artist", "Master Master artist", "Master artist"),
        ("actor", "actor", "Leading actors", "Leading Leading actorss", "Leading actors"),
        ("Actor and actor", "Actor", "x", "x and x", "x and x"),  # the second pass is that of the lower-case word
        ("ACTOR", "actor", "x", "ACTOR", "x"),
        ("no word here", "actor", "x", "no word here", "no word here"),
        (r"actor \1", "actor", r"\g<0> \n", r"\g<0> \n \1", r"\g<0> \n \1"),
        ("a.c", "a.c", "x", "x", "x"),
        ("abc", "a.c", "x", "abc", "abc"),
    ],
)
def test_templates_filled_in(template, word, concept, published, clean):
    assert fill(template, word, concept) == published
    assert fill(template, word, concept, clean=True) == clean


texts = st.text("abt ", max_size=8)


@given(texts, st.text("abt", min_size=1, max_size=2), texts)
def test_published_filling_is_two_replacements(template, word, concept):
    once = concept.join(template.split(word))
    assert fill(template, word, concept) == concept.join(once.split(word))
    if word not in once:
        assert fill(template, word, concept) == once


def test_templates_of_a_file(tmp_path):
    path = tmp_path / "templates.csv"
    path.write_text(',type,prompt\r\n0,erased,"actor, again\n"\r\n1,erased,an actor\r\n', newline="")
    assert read_templates(path, "actor") == ["actor, again\n", "an actor", "actor"]
    for text in ("text\nan actor\n", "prompt\n"):
        path.write_text(text)
        with pytest.raises(UserError, match="no column prompt, or no rows in it"):
            read_templates(path, "actor")
    path.write_text("prompt\nan actor\n")
    with pytest.raises(UserError, match="replace_word 'artist', for which concepts are filled in, is in none"):
        read_templates(path, "artist")
    with pytest.raises(UserError, match="nowhere.csv: no such file"):
        read_templates(tmp_path / "nowhere.csv", "actor")


def test_words_of_lists_and_files(tmp_path):
    assert read_words(["b", "a", "b", 3]) == ["b", "a", "b", "3"]
    assert word_texts(["a", "b"], ["artist x", "artist"], "artist") == ["a x", "a", "b x", "b"]
    for name, content, wanted in (
        ("words.txt", "b\n\n a\nb\n", ["b", " a", "b"]),
        ("key.csv", ",key,sims\n0,b,0\n1,a,0\n2,b,0\n", ["b", "a", "b"]),
        ("artists.csv", "case_number,prompt,artist\n0,by b,b\n1,of b,b\n2,by a,a\n", ["b", "a"]),
        ("sentences.csv", 'id,name,value\n0,"a, b\n",0.5\n1,c,0.5\n', ["a, b\n", "c"]),
    ):
        (tmp_path / name).write_text(content)
        assert read_words(tmp_path / name) == wanted, name
    for name, content, words in (
        ("empty.txt", b"\n\n", "no words in it"),
        ("latin.txt", "chaïm".encode("latin-1"), "not a text in UTF-8"),
        ("columns.csv", b"a,b\n1,2\n", "none of the columns key, artist, name, prompt; it has a, b"),
        ("rows.csv", b"key\n", "no words in it"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name}.*{words}"):
            read_words(tmp_path / name)
    with pytest.raises(UserError, match="has no words"):
        read_words([])


# ---- candidates ----------------------------------------------------------------------------------------------------


def test_published_candidates_lack_those_with_the_target_in_them():
    names = ["Chris Evans", "chris evans jr", "Chris Pine", "evans", "Chris Pine"]
    for target in ("chris evans", "Chris Evans"):
        assert candidates_without(names, target) == ["Chris Pine", "evans", "Chris Pine"]


def test_clean_candidates_lack_every_target_however_it_is_spelled():
    name = "".join(["Chaim", " ", "Soutine"])
    names = ["Carl Larsson", name, "carl larsson", "Catrin Welz-Stein", "Charles-François Daubigny", "Clarence Holbrook Carter",
             "Canaletto", "Canaletto"]  # fmt: skip
    assert cleaned_candidates(names, []) == [n for i, n in enumerate(names) if i not in (2, 7)]
    assert cleaned_candidates(names, ["chaïm soutine"]) == [n for i, n in enumerate(names) if i not in (1, 2, 7)]
    assert cleaned_candidates(names, list(MISSPELLED)) == ["Carl Larsson", name, "Canaletto"]
    assert cleaned_candidates([name, name], ["picasso"]) == [name], "the same object twice is one name, too"
    assert cleaned_candidates(["A-b", "ab"], ["AB"]) == []


@given(st.lists(st.text("aAbé-", min_size=1, max_size=3), max_size=12), st.lists(st.text("ab", max_size=2), max_size=2))
def test_clean_candidates_are_some_of_the_names_in_their_order(names, targets):
    found = cleaned_candidates(names, targets)
    assert [name for name in dict.fromkeys(names) if name in found] == found
    assert not {name.casefold() for name in found} & {target.casefold() for target in targets}
    assert cleaned_candidates(found, targets) == found


@given(st.integers(0, 999), st.integers(1, 9), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_most_similar_is_the_cosine_of_all_tokens_together(seed, count, wanted):
    generator = torch.Generator().manual_seed(seed)
    target, names = torch.randn(3, 4, generator=generator), torch.randn(count, 3, 4, generator=generator)
    names[-1] = 7 * target + 1e-3 * names[-1]  # its length does not matter
    cosines = torch.nn.functional.cosine_similarity(names.flatten(1), target.flatten()[None], dim=1)
    found = most_similar(target, names, wanted)
    assert found == cosines.argsort(stable=True).tolist()[-wanted:] and found[-1] == count - 1


# ---- states --------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(1, 4), st.lists(st.integers(0, 99), max_size=5)), min_size=1, max_size=4),
    st.lists(st.integers(0, 999), max_size=8),
)
@settings(deadline=None)
def test_states_are_taken_by_the_place_of_their_text(shape, drawn):
    blocks, flat = [], []
    for n, (distinct, rows) in enumerate(shape):
        states = torch.full((distinct, 2, 3), 10.0 * n) + torch.arange(distinct)[:, None, None]
        rows = [row % distinct for row in rows]
        blocks.append((states, torch.tensor(rows, dtype=torch.int64)))
        flat += [states[row] for row in rows]
    cache = StateCache(blocks)
    assert len(cache) == len(flat)
    indices = [i % len(flat) for i in drawn] if flat else []
    if indices:
        assert torch.equal(cache.take(indices), torch.stack([flat[i] for i in indices]))


class Recorder:
    """An encoder that answers with the text's length, in half precision, and keeps what it was asked."""

    def __init__(self):
        self.batches = []

    def __call__(self, batch):
        self.batches.append(list(batch))
        return torch.stack([torch.full((2, 3), float(len(text))) for text in batch]).half()


@given(st.lists(st.text("abc", max_size=3), min_size=1, max_size=40), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_every_text_is_encoded_once(asked, at_once):
    encode = Recorder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anchors, "ENCODED_AT_ONCE", at_once)
        states, rows = encode_once(encode, asked, progress=False)
    once = [text for batch in encode.batches for text in batch]
    assert once == list(dict.fromkeys(asked)) and max(map(len, encode.batches)) <= at_once
    assert states.dtype == torch.float32 and len(states) == len(once)
    assert states[rows][:, 0, 0].tolist() == [len(text) for text in asked]


# ---- a problem -----------------------------------------------------------------------------------------------------

TEMPLATES = ["actor x", "an actor"]  # and the word alone
GENERAL, NAMES = ["a dog", "Leading actors", "a dog"], ["Emma Stone", "elon musk", "drake", "Drake", "emma stone jr"]


@pytest.fixture(scope="module")
def model():
    return model_of_short_prompts(levels=1)


@pytest.fixture
def prepared(model, tmp_path, monkeypatch):
    """prepared(targets) -> (Preparation, texts that it has encoded); with a file of templates in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "templates.csv").write_text("prompt\n" + "\n".join(TEMPLATES))
    asked, real = [], Preparation.encode

    def encode(self, texts):
        asked.extend(texts)
        return real(self, texts)

    monkeypatch.setattr(Preparation, "encode", encode)
    return lambda *targets: (Preparation(model, targets, progress=False), asked)


def settings_of(target="emma stone", **chosen):
    given = {"general": GENERAL, "candidates": NAMES}
    return CpeSettings(**{"target": target, "neutral": "a person", "word": "actor", "scripts_file": "templates.csv",
                          "anchors": given} | chosen)  # fmt: skip


def in_all(word, clean=False):
    return [fill(t, "actor", word, clean) for t in (*TEMPLATES, "actor")]


def texts_of(cache, model, candidates):
    """The texts whose states are in a cache, of some candidates."""
    known = {text: model.get_learned_conditioning([text])[0] for text in candidates}
    found = []
    for state in cache.take(range(len(cache))):
        found.append(min(known, key=lambda text: (known[text] - state).abs().max().item()))
        assert (known[found[-1]] - state).abs().max() < 1e-4
    return found


@torch.no_grad()
def test_what_a_training_reads(model, prepared):
    preparation, _ = prepared("emma stone", "drake")
    problem = preparation.problem(settings_of())
    for states, word in ((problem.target, "emma stone"), (problem.neutral, "a person")):
        torch.testing.assert_close(states, model.get_learned_conditioning(in_all(word)))
    torch.testing.assert_close(problem.empty, model.get_learned_conditioning([""]))
    assert problem.projections.dim == 32 and len(problem.projections.names) == 8
    own = model.get_learned_conditioning(["emma stone"])[0].flatten()
    left = ["elon musk", "drake", "Drake"]

    def likeness(name):
        return torch.nn.functional.cosine_similarity(model.get_learned_conditioning([name])[0].flatten(), own, dim=0)

    wanted = [text for word in (*GENERAL, *sorted(left, key=likeness)) for text in in_all(word)]
    texts = texts_of(problem.protected, model, dict.fromkeys(wanted))
    assert len(problem.protected) == len(wanted) == 18
    # texts that the tokenizer takes for the same have the same states
    assert [t.lower().split() for t in texts] == [t.lower().split() for t in wanted]


def test_what_concepts_share_is_encoded_once(prepared):
    preparation, asked = prepared("emma stone", "drake")
    preparation.problem(settings_of())
    shared = {text for word in GENERAL for text in in_all(word)}
    assert sum(text in shared for text in asked) == len(shared) == 6
    asked.clear()
    problem = preparation.problem(settings_of("drake"))
    assert asked and not shared & set(asked)
    assert problem.projections is preparation.projections
    asked.clear()
    assert len(preparation.problem(settings_of(anchors={"prompts": ["a", "b", "a"]})).protected) == 3


@torch.no_grad()
def test_clean_anchors(model, prepared):
    preparation, _ = prepared("Emma  Stone", "drake", "a dog")
    problem = preparation.problem(settings_of(clean_anchors=True))
    wanted = [text for word in ("Leading actors", "elon musk", "emma stone jr") for text in in_all(word, clean=True)]
    assert len(problem.protected) == len(wanted)
    assert sorted(texts_of(problem.protected, model, wanted)) == sorted(wanted)
    sentences = preparation.problem(settings_of(clean_anchors=True, anchors={"prompts": ["a", "drake", "a"]})).protected
    assert len(sentences) == 1


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (dict(scripts_file="nowhere.csv"), "nowhere.csv: no such file"),
        (dict(anchors={"prompts": "nowhere.txt"}), "nowhere.txt: no such file"),
        (dict(anchors={"prompts": []}), "has no words"),
        (dict(anchors={"general": ["a"], "candidates": ["Emma Stone"]}), "no anchor is left for 'emma stone'"),
        (
            dict(anchors={"general": ["drake"], "candidates": ["a"]}, clean_anchors=True),
            "anchors.general holds targets of the run only",
        ),
    ],
)
def test_texts_that_are_not_there(prepared, chosen, words):
    preparation, _ = prepared("emma stone", "drake")
    with pytest.raises(UserError, match=words):
        preparation.problem(settings_of(**chosen))


def test_lists_of_concepts():
    assert concepts_of([{"target": "a"}], "list.yaml") == [{"target": "a"}]
    for wrong in ([], {}, None, "a", ["a"], [{"target": ""}], [{"neutral": "a"}]):
        with pytest.raises(UserError, match="list.yaml: it is no list of concepts"):
            concepts_of(wrong, "list.yaml")


def test_misspelled_names_are_those_of_the_published_list():
    targets = {entry["target"] for entry in read_yaml("configs/train_artist/prompt.yaml")}
    there = {name.lower() for name in prompts.read_words("data/names/artists1734_seeds.csv")}
    assert set(MISSPELLED) <= targets and not set(MISSPELLED) & there
    cleaned = cleaned_candidates(sorted(there), targets)
    assert not set(MISSPELLED.values()) & set(cleaned)
