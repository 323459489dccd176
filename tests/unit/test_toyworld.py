"""The drawn world: every concept, captions that say what is shown, and randomness that comes from the seed alone."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toyworld.captions import FULL_NAMES, draw_example, evaluation_prompts
from toyworld.concepts import FIGURES, IMAGE_SIZE, OBJECTS, PEOPLE, STRANGER, STYLES, SUBJECTS, Label
from toyworld.training.data import STYLE_CLASSES, SUBJECT_CLASSES, prepare, render_chunk
from toyworld.world import render


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SUBJECTS), st.sampled_from((None, *STYLES)), st.integers(0, 2**31))
def test_a_picture_depends_on_its_arguments_and_seed_alone(subject, style, seed):
    first, second = (render(subject, style, np.random.default_rng(seed)) for _ in range(2))
    assert first.shape == (IMAGE_SIZE, IMAGE_SIZE, 3) and first.dtype == np.uint8
    assert np.array_equal(first, second)
    assert first.std() > 5  # something is drawn
    assert not np.array_equal(first, render(subject, style, np.random.default_rng(seed + 1)))


@pytest.mark.parametrize("style", STYLES)
def test_a_painter_changes_the_picture(style):
    plain, painted = (render("church", s, np.random.default_rng(3)).astype(float) for s in (None, style))
    assert np.abs(plain - painted).mean() > 10


def test_unknown_names_are_refused():
    for subject, style in (("vermeer", None), ("church", "vermeer")):
        with pytest.raises(KeyError):
            render(subject, style, np.random.default_rng(0))
    with pytest.raises(KeyError):
        Label.of("vermeer")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31))
def test_captions_say_what_is_shown(seed):
    _, caption, label = draw_example(np.random.default_rng(seed))
    named = [s for s in STYLES if s in caption or FULL_NAMES.get(s, s) in caption]
    assert named in ([], [label.style])
    named = [p for p in (*OBJECTS, *PEOPLE) if p in caption]
    assert named in ([], [label.object], [label.person])


def test_evaluation_prompts_cover_every_concept_evenly():
    prompts = evaluation_prompts(7)
    count = Counter((p.kind, p.concept) for p in prompts)
    assert set(count.values()) == {7}
    expected = {"object": OBJECTS, "style": STYLES, "person": PEOPLE, "figure": FIGURES}
    assert {kind: tuple(c for k, c in count if k == kind) for kind in expected} == expected
    assert prompts == evaluation_prompts(7)
    assert STRANGER not in {concept for _, concept in count}


def test_training_pictures_are_rendered_once_and_are_a_function_of_seed_and_chunk(tmp_path):
    pictures = prepare(tmp_path, 30, seed=5, workers=1)
    images, rows = render_chunk(5, 0, 30)
    assert np.array_equal(pictures.images, images) and pictures.captions == [row["caption"] for row in rows]
    assert [STYLE_CLASSES[i] for i in pictures.style] == [row["style"] or "photo" for row in rows]
    assert [SUBJECT_CLASSES[i] for i in pictures.subject] == [row["subject"] for row in rows]
    written = (tmp_path / "images.npy").stat().st_mtime_ns
    prepare(tmp_path, 30, seed=5, workers=1)
    assert (tmp_path / "images.npy").stat().st_mtime_ns == written
    batch = pictures.batch(pictures.style[:4] * 0)
    assert batch.shape == (4, 3, IMAGE_SIZE, IMAGE_SIZE) and batch.min() >= -1 and batch.max() <= 1
