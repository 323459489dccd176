"""Which epochs are kept and chosen, what a command's texts come to, and settings that are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasure.errors import UserError
from methods.rece.names import resolve_texts, run_folder, run_tag
from methods.rece.selection import rule_for
from methods.rece.settings import ReceSettings

shares = st.integers(0, 10).map(lambda n: n / 10)


def fed(rule, before, epochs):
    """What a rule keeps of measured epochs, until it stops."""
    for stage, measured in before.items():
        rule.before(stage, measured)
    kept = []
    for number, measured in enumerate(epochs):
        verdict = rule.after(number, measured)
        kept += [verdict.published_name] if verdict.published_name else []
        if verdict.stop:
            break
    return kept


@given(shares, shares, st.lists(shares, min_size=1, max_size=6))
def test_lowest_rate(sd, uce, rates):
    rule = rule_for("rate")
    kept = fed(rule, {"sd": sd, "uce": uce}, rates)
    running, wanted = min(sd, uce), []
    for epoch, rate in enumerate(rates):
        if rate < running:
            wanted.append(f"{rate:.4f}-{epoch}")
            running = rate
    assert kept == wanted
    chosen = rule.selected()
    assert rates[chosen.epoch] == min(rates) and chosen.improves == bool(wanted)
    if not wanted:  # of equals the last: it withstood most
        assert chosen.epoch == max(i for i, rate in enumerate(rates) if rate == min(rates))
    assert rule.files() == {"detect_rate.json": {"sd": sd, "uce": uce} | {str(i): r for i, r in enumerate(rates)}}


@given(st.tuples(shares, shares), st.lists(st.tuples(shares, shares), min_size=1, max_size=6))
def test_target_accuracy(uce, accuracies):
    rule = rule_for("accuracy")
    kept = fed(rule, {"sd": (1.0, 1.0), "uce": uce}, accuracies)
    wanted = []
    for epoch, (target, other) in enumerate(accuracies):
        if target == 0 or (target < uce[0] and other >= uce[1] - 0.1):
            wanted.append(f"ep_{epoch}_tar_{target}_oth_{other}")
        if target == 0:
            break
    assert kept == wanted
    chosen = rule.selected()
    assert chosen.improves == bool(wanted)
    if wanted:
        assert accuracies[chosen.epoch][0] == min(float(name.split("_")[3]) for name in wanted)
    assert set(rule.files()) == {"target_acc.json", "other_acc.json"}


@pytest.mark.parametrize("measure", ["rate", "accuracy", "pictures"])
def test_without_validation_the_last_epoch_is_the_result(measure):
    rule = rule_for(measure, validated=False)
    assert fed(rule, {}, [None, None]) == ["epoch_0", "epoch_1"]
    assert rule.selected().epoch == 1 and rule.files() == {}


# ---- texts and names -----------------------------------------------------------------------------------------------

ARTISTS = ("Ansel Adams", "Banksy", "Claude Monet")


def test_presets_stand_for_lists_and_names_say_what_was_typed():
    texts = resolve_texts("i2p", "unsafe")
    assert len(texts.concepts) == len(texts.guides) == len(texts.targets) > 1
    assert run_tag(texts, "1.4", "replace", 1, 0.1, 0.1).startswith("i2p_-towards_uncond-preserve_false-sd_1_4-")
    drawn = resolve_texts("2artists", "art", artists=ARTISTS, keep_artists=True)
    assert set(drawn.concepts) | set(drawn.preserved) == set(ARTISTS) and len(drawn.concepts) == 2
    assert drawn == resolve_texts("2artists", "art", artists=ARTISTS, keep_artists=True)


def test_artists_are_preserved_by_default():
    texts = resolve_texts("banksy", "art", "art", artists=ARTISTS, keep_artists=True)
    assert texts.preserved == ("Ansel Adams", "Claude Monet") and texts.keeping == "-preserve_true"
    assert not resolve_texts("banksy", "celebrity", artists=ARTISTS, keep_artists=True).preserved
    assert not resolve_texts("banksy", "art", artists=ARTISTS).preserved
    one = resolve_texts("banksy", "art", preserve_number=1, artists=ARTISTS, keep_artists=True)
    assert len(one.preserved) == 1 and one.keeping == "-preserving_1artists-preserve_true"
    named = resolve_texts("banksy", "art", preserve_concepts="A, B", artists=ARTISTS, keep_artists=True)
    assert named.preserved == ("A", "B")


def test_guides_and_targets():
    texts = resolve_texts("cat, dog", "x", "tiger, wolf", "none, ")
    assert texts.guides == ("tiger", "wolf") and texts.targets == (None, " ")
    assert texts.towards == "-towards-tiger-wolf"
    assert resolve_texts("wolf, dog", "x", "tiger, wolf").towards == "-towards-tiger"  # as published
    assert resolve_texts("a, b", "x", "c").guides == ("c", "c")
    assert resolve_texts("a", "x", " ").guides == (" ",)


def test_names_are_names_of_one_folder():
    texts = resolve_texts("../AC\\DC: a?b", "x", "who/what")
    tag = run_tag(texts, "toy", "replace", 1, 0.1, 0.1)
    assert "/" not in tag and tag == tag.lower()
    long = run_tag(resolve_texts(", ".join(f"concept {i}" for i in range(90)), "x"), "1.4", "replace", 1, 0.1, 0.1)
    assert len(long.encode()) < 255 and long.endswith("-method_replace-erase_1-preserve_0.1-lamb_0.1")
    folder = run_folder("out", "../up", "close_surrogatereg", "2nd", tag, 0.001, 7)
    assert len(folder.parts) == 6 and folder.parts[2] == "close_surrogatereg_regitem_2nd" and ".." not in folder.parts


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"concepts": "a,,b"}, "a concept is empty"),
        ({"concepts": "a, b", "guided_concepts": "c, d, e"}, "3 guides for 2 concepts"),
        ({"concepts": "a, b", "old_target_concept": "c"}, "1 texts for 2 concepts"),
        ({"concepts": "a", "preserve_number": 2}, "there are 0 texts"),
        ({"concepts": "9artists", "artists": ARTISTS}, "9 cannot be drawn of 3"),
    ],
)
def test_texts_that_do_not_go_together(flags, message):
    with pytest.raises(UserError, match=message):
        resolve_texts(**{"concept_type": "art"} | flags)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"regular_scale": -1.0}, "--regular_scale"),
        ({"lamb": float("nan")}, "--lamb"),
        ({"erase_scale": 0}, "erase nothing"),
        ({"epochs": 0}, "--epochs"),
        ({"technique": "swap"}, "technique"),
        ({"emb_computing": "open"}, "emb_computing"),
        ({"targets": ("a", "b")}, "2 targets for 1 concepts"),
    ],
)
def test_settings_that_no_run_could_use(given, message):
    with pytest.raises(UserError, match=message):
        ReceSettings(("a",), ("b",), ("",), **given)
