"""The image generator: what an image depends on, what is kept, and what a stopped run leaves behind."""

import json
import os
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from erasure import samplers
from erasure.errors import UserError
from erasure.generation import engine, generate
from erasure.generation.drawing import Painter, resolved, row_noise, size_multiple
from erasure.generation.plan import batches, images_of, stamp_in
from erasure.generation.presets import NAMINGS, PRESETS, SAMPLERS, GenerationSettings, image_folder
from erasure.generation.presets import settings as preset
from erasure.prompts import Row
from tests.tiny import tiny_model

IDENTITY = {"base": {"name": "tiny", "sha256": "0" * 64, "path": "here"}}
ROWS = [Row(case, f"a photo number {case % 3}", 100 + 7 * case) for case in (4, 0, 9, 2, 11)]
QUICK = preset("toy", steps=2, num_samples=2, batch_size=4)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def bytes_in(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory):
    """A folder in which QUICK was run on ROWS without a disturbance."""
    folder = tmp_path_factory.mktemp("finished")
    generate(model, ROWS, folder, QUICK, IDENTITY, progress=False)
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    for name, content in bytes_in(finished).items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


# ---- what an image depends on --------------------------------------------------------------------------------------


def drawn(model, rows, s):
    """file -> latents, of a run over `rows`."""
    s = resolved(s, model)
    painter, found = Painter(model, s), {}
    for batch in batches(images_of(rows, s, size_multiple(model)), s.batch_size):
        found |= {image.file: latents for image, latents in zip(batch, painter.latents(batch), strict=True)}
    return found


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_latents_depend_on_the_row_alone(model, sampler):
    s = preset("toy", steps=4, sampler=sampler, num_samples=2)
    alone = drawn(model, ROWS, replace(s, batch_size=1))
    scale = max(latent.abs().max().item() for latent in alone.values())
    shuffled = random.Random(0).sample(ROWS, len(ROWS))
    for batch_size, rows in ((4, ROWS), (8, shuffled), (3, shuffled[2:])):
        for file, latents in drawn(model, rows, replace(s, batch_size=batch_size)).items():
            assert (latents - alone[file]).abs().max() <= 1e-4 * max(scale, 1)


def test_pixels_depend_on_the_row_alone(model, finished, tmp_path):
    shuffled = random.Random(1).sample(ROWS, len(ROWS))
    for batch_size, rows in ((1, shuffled), (8, ROWS)):
        folder = tmp_path / str(batch_size)
        generate(model, rows, folder, replace(QUICK, batch_size=batch_size), IDENTITY, progress=False)
        for path in finished.glob("*.png"):
            ours, theirs = (np.asarray(Picture.open(p), dtype=int) for p in (folder / path.name, path))
            assert np.abs(ours - theirs).max() <= 1


def test_order_of_rows_does_not_show_in_the_bytes(model, finished, tmp_path):
    generate(model, ROWS[::-1], tmp_path, QUICK, IDENTITY, progress=False)
    assert bytes_in(tmp_path) == bytes_in(finished)


@pytest.mark.parametrize("num_samples", [1, 3])
def test_noise_is_that_of_the_published_script(num_samples):
    s, shape = GenerationSettings(num_samples=num_samples, image_size=64), (4, 8, 8)
    images = images_of(ROWS, s, 8)
    drawn_noise = row_noise(images, s, shape, torch.device("cpu"))()
    with torch.random.fork_rng(devices=[]):
        for image, noise in zip(images, drawn_noise, strict=True):
            torch.manual_seed(image.row.evaluation_seed)
            assert torch.equal(noise, torch.randn(num_samples, *shape)[image.k])


def test_seeds_count_beyond_31_bits():
    s, shape = GenerationSettings(image_size=64), (4, 8, 8)
    rows = [Row(case, "", seed) for case, seed in enumerate((1, 2**31 + 1, 4290749014, 2**32 - 1))]
    noise = row_noise(images_of(rows, s, 8), s, shape, torch.device("cpu"))()
    assert all(not torch.equal(a, b) for i, a in enumerate(noise) for b in noise[:i])


def test_first_images_do_not_depend_on_how_many_follow(model, finished, tmp_path):
    generate(model, ROWS, tmp_path, replace(QUICK, num_samples=1), IDENTITY, progress=False)
    summary = generate(model, ROWS, tmp_path, QUICK, IDENTITY, progress=False)
    assert (summary.made, summary.kept) == (len(ROWS), len(ROWS))


def test_noise_of_ddim_depends_on_the_row_alone(model):
    s = preset("toy", steps=4, eta=1.0, num_samples=2)
    alone, together = (drawn(model, ROWS, replace(s, batch_size=n)) for n in (1, 8))
    still = drawn(model, ROWS, replace(s, eta=0.0))
    for file, latents in alone.items():
        assert (latents - together[file]).abs().max() <= 1e-4 * max(1, latents.abs().max().item())
        assert not torch.allclose(latents, still[file], atol=1e-2)


def test_the_global_random_stream_is_left_alone(model, tmp_path):
    before = torch.get_rng_state()
    generate(model, ROWS[:1], tmp_path, QUICK, IDENTITY, progress=False)
    assert torch.equal(before, torch.get_rng_state())


def test_text_is_encoded_once_per_prompt(model, tmp_path, monkeypatch):
    encoded = []
    original = model.get_learned_conditioning
    monkeypatch.setattr(model, "get_learned_conditioning", lambda texts: encoded.extend(texts) or original(texts))
    generate(model, ROWS, tmp_path, replace(QUICK, num_samples=1, batch_size=2), IDENTITY, progress=False)
    assert sorted(encoded) == sorted({"", *(row.prompt for row in ROWS)})


# ---- an encoder in place of the model's ----------------------------------------------------------------------------


def latents_with(model, s, encode):
    s = resolved(s, model)
    painter = Painter(model, s, encode)
    return painter.latents(images_of(ROWS, s, size_multiple(model)))


def test_an_encoder_stands_in_for_prompts_only(model):
    """Prompts encoded as another text draw as that text would; the unconditional prompt is the model's still."""

    def other(text):
        return model.get_learned_conditioning(["a cat"])[0]

    cats = [replace(row, prompt="a cat") for row in ROWS]
    s = resolved(replace(QUICK, guidance=3.0, num_samples=1), model)
    expected = Painter(model, s).latents(images_of(cats, s, size_multiple(model)))
    assert torch.equal(latents_with(model, s, other), expected)
    own = latents_with(model, s, lambda text: model.get_learned_conditioning([text])[0])
    assert torch.equal(own, latents_with(model, s, None))
    assert not torch.allclose(own, expected, atol=1e-3)


def test_an_encoder_is_told_apart_by_the_identity(model, finished, copied):
    def shifted(text):
        return model.get_learned_conditioning([text])[0].double() + 0.5  # of any dtype

    identity = IDENTITY | {"attack": {"eta": 0.5}}
    summary = generate(model, ROWS, copied, QUICK, identity, progress=False, encode=shifted)
    assert summary.remade == len(ROWS) * QUICK.num_samples
    assert generate(model, ROWS, copied, QUICK, identity, progress=False, encode=shifted).kept == summary.images
    assert bytes_in(copied)["0_0.png"] != bytes_in(finished)["0_0.png"]


def test_states_of_a_wrong_shape(model, tmp_path):
    with pytest.raises(UserError, match=r"case 0: its embedding is \(77, 31\), and the model takes \(77, 32\)"):
        generate(model, ROWS, tmp_path, QUICK, IDENTITY, progress=False, encode=lambda text: torch.zeros(77, 31))


def test_guidance_and_size_of_rows(model, tmp_path):
    rows = [Row(0, "a", 1, evaluation_guidance=5.0, width=80, height=64), Row(1, "a", 1, evaluation_guidance=5.0)]
    own = replace(QUICK, num_samples=1, row_guidance=True, row_size=True)
    generate(model, rows, tmp_path / "own", own, IDENTITY, progress=False)
    generate(model, rows, tmp_path / "flag", replace(own, row_guidance=False, guidance=5.0, row_size=False), IDENTITY, progress=False)  # fmt: skip
    assert Picture.open(tmp_path / "own" / "0_0.png").size == (80, 64)
    same = [np.asarray(Picture.open(tmp_path / name / "1_0.png"), dtype=int) for name in ("own", "flag")]
    assert np.abs(same[0] - same[1]).max() <= 1
    cells = json.loads((tmp_path / "own" / "manifest.json").read_text())["images"]["0_0.png"]
    assert (cells["guidance"], cells["width"], cells["height"]) == (5.0, 80, 64)


def test_empty_cells_mean_the_setting(model):
    s = GenerationSettings(image_size=64, guidance=3.0, row_guidance=True, row_size=True)
    (image,) = images_of([Row(0, "a", 1)], s, 8)
    assert (image.guidance, image.width, image.height) == (3.0, 64, 64)


def test_negative_prompt_counts(model):
    plain, steered = (drawn(model, ROWS[:1], replace(QUICK, negative_prompt=text)) for text in ("", "a photo"))
    assert not torch.allclose(plain["4_0.png"], steered["4_0.png"], atol=1e-3)


# ---- what is kept --------------------------------------------------------------------------------------------------


def changed(before, folder):
    after = bytes_in(folder)
    return {name for name in after if after[name] != before.get(name) and name.endswith(".png")}


def test_a_second_run_makes_nothing(model, copied):
    before = bytes_in(copied)
    times = {path.name: path.stat().st_mtime_ns for path in copied.glob("*.png")}
    summary = generate(model, ROWS, copied, QUICK, IDENTITY, progress=False)
    assert (summary.made, summary.kept, summary.remade) == (0, 10, 0)
    assert bytes_in(copied) == before
    assert times == {path.name: path.stat().st_mtime_ns for path in copied.glob("*.png")}


@pytest.mark.parametrize("change", [{"prompt": "something else"}, {"evaluation_seed": 1}])
def test_a_changed_row_is_drawn_anew(model, copied, change):
    before = bytes_in(copied)
    rows = [replace(row, **change) if row.case_number == 9 else row for row in ROWS]
    summary = generate(model, rows, copied, QUICK, IDENTITY, progress=False)
    assert (summary.made, summary.remade, summary.kept) == (2, 2, 8)
    assert changed(before, copied) == {"9_0.png", "9_1.png"}


@pytest.mark.parametrize("change", [{"guidance": 4.0}, {"steps": 4}, {"sampler": "lms"}, {"negative_prompt": "a"}])
def test_other_settings_draw_all_anew(model, copied, change):
    before = bytes_in(copied)
    summary = generate(model, ROWS[:2], copied, replace(QUICK, **change), IDENTITY, progress=False)
    assert summary.remade == 4 and changed(before, copied) == {"4_0.png", "4_1.png", "0_0.png", "0_1.png"}


def test_another_model_draws_all_anew(model, copied):
    other = tiny_model(seed=1)
    assert generate(other, ROWS[:1], copied, QUICK, IDENTITY, progress=False).remade == 2
    edited = {**IDENTITY, "edits": [{"kind": "gates", "sha256": "1"}]}  # an edit that is not in the weights
    assert generate(other, ROWS[:1], copied, QUICK, edited, progress=False).remade == 2


def test_what_does_not_matter_keeps_images(model, copied):
    moved = {"base": {**IDENTITY["base"], "path": "elsewhere"}}
    for s in (replace(QUICK, batch_size=8), replace(QUICK, preset="", naming="case", default_seed=3)):
        assert generate(model, ROWS, copied, s, moved, progress=False).made == 0


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "foreign"])
def test_damaged_images_are_drawn_anew(model, copied, damage):
    before = bytes_in(copied)
    path = copied / "9_1.png"
    content = before["9_1.png"]
    if damage == "foreign":  # somebody else's picture of the same name
        Picture.new("RGB", (64, 64)).save(path)
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes({"cut": content[:-20], "empty": b"", "flipped": flipped}[damage])
    assert generate(model, ROWS, copied, QUICK, IDENTITY, progress=False).remade == 1
    assert bytes_in(copied) == before


def test_overwrite_draws_all_anew(model, copied):
    before = bytes_in(copied)
    assert generate(model, ROWS[:2], copied, QUICK, IDENTITY, progress=False, overwrite=True).made == 4
    assert {name for name in before if before[name] != (copied / name).read_bytes()} <= {"manifest.json"}


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lost=st.sets(st.sampled_from([f"{row.case_number}_{k}.png" for row in ROWS for k in (0, 1)]), min_size=1))
def test_lost_images_come_back_byte_for_byte(model, finished, copied, lost):
    """Whichever images are left, they must not be drawn in other batches than before."""
    for name in lost:
        (copied / name).unlink()
    generate(model, ROWS, copied, QUICK, IDENTITY, progress=False)
    assert bytes_in(copied) == bytes_in(finished)


def test_an_interrupted_run_goes_on_to_the_same_bytes(model, finished, tmp_path, monkeypatch):
    save, count = engine.save_image, 0

    def interrupted(*arguments):
        nonlocal count
        count += 1
        if count == 6:
            raise KeyboardInterrupt
        save(*arguments)

    monkeypatch.setattr(engine, "save_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(model, ROWS, tmp_path, QUICK, IDENTITY, progress=False)
    monkeypatch.undo()
    assert len(list(tmp_path.glob("*.png"))) == 5
    dead = 2**22 + 1  # above the largest process number
    (tmp_path / f".9_0.{dead}-0123abcd.tmp.png").write_bytes(b"half")
    generate(model, ROWS, tmp_path, QUICK, IDENTITY, progress=False)
    assert bytes_in(tmp_path) == bytes_in(finished)


def test_files_of_a_living_run_are_left_alone(model, tmp_path):
    theirs = tmp_path / f".9_0.{os.getppid()}-0123abcd.tmp.png"
    own = tmp_path / ".notes.tmp.txt"
    for path in (theirs, own):
        path.write_bytes(b"half")
    generate(model, ROWS[:1], tmp_path, QUICK, IDENTITY, progress=False)
    assert theirs.exists() and own.exists()


def test_images_of_other_rows_stay_listed(model, finished, tmp_path):
    """So that a CSV can be drawn in parts, by from_case and till_case."""
    for part in (ROWS[:2], ROWS[2:]):
        generate(model, part, tmp_path, QUICK, IDENTITY, progress=False)
    ours, theirs = (json.loads((f / "manifest.json").read_text()) for f in (tmp_path, finished))
    assert ours == theirs
    generate(model, ROWS[:1], tmp_path, replace(QUICK, steps=4), IDENTITY, progress=False)
    assert set(json.loads((tmp_path / "manifest.json").read_text())["images"]) == {"4_0.png", "4_1.png"}


def test_manifest_says_what_images_are(model, finished):
    manifest = json.loads((finished / "manifest.json").read_text())
    assert manifest["model"] == IDENTITY and manifest["dtype"] == "float32"
    assert manifest["settings"]["image_size"] == 64 and manifest["settings"]["steps"] == QUICK.steps
    assert set(manifest["images"]) == {path.name for path in finished.glob("*.png")}
    for name, record in manifest["images"].items():
        assert record["made_from"] == stamp_in(finished / name)
        assert name == f"{record['case_number']}_{record['k']}.png"
        row = next(row for row in ROWS if row.case_number == record["case_number"])
        assert (record["prompt"], record["evaluation_seed"]) == (row.prompt, row.evaluation_seed)


# ---- mistakes ------------------------------------------------------------------------------------------------------


def test_sizes_that_the_model_cannot_draw(model, tmp_path):
    with pytest.raises(UserError, match="case 4.*60x60.*multiples of 16"):
        generate(model, ROWS, tmp_path, replace(QUICK, image_size=60), IDENTITY)
    with pytest.raises(UserError, match="case 1.*72x64"):
        generate(model, [Row(1, "", 1, width=72)], tmp_path, replace(QUICK, row_size=True), IDENTITY)


def test_noise_of_a_gpu_needs_one(model, tmp_path):
    with pytest.raises(UserError, match="GPU"):
        generate(model, ROWS, tmp_path, replace(QUICK, noise_device="cuda"), IDENTITY)


def test_two_images_of_one_name(model, tmp_path):
    for rows, naming in (([Row(1, "a", 1), Row(1, "b", 2)], "case"), ([Row(1, "a", 1), Row(2, "a", 1)], "cpe")):
        with pytest.raises(UserError, match="would both be"):
            generate(model, rows, tmp_path, replace(QUICK, naming=naming), IDENTITY)


def test_no_rows(model, tmp_path):
    with pytest.raises(UserError, match="no rows"):
        generate(model, [], tmp_path, QUICK, IDENTITY)


def test_a_model_that_draws_nan(tmp_path):
    broken = tiny_model()
    broken.model.diffusion_model.out[-1].bias.data.fill_(float("nan"))
    with pytest.raises(UserError, match="NaN for case 0"):
        generate(broken, ROWS, tmp_path, QUICK, IDENTITY, progress=False)
    assert not list(tmp_path.glob("*.png"))


# ---- presets -------------------------------------------------------------------------------------------------------


def test_samplers_are_those_that_there_are():
    assert set(SAMPLERS) == set(samplers.NAMES)


@pytest.mark.parametrize("name", PRESETS)
def test_flags_override_a_preset(name):
    s = preset(name, steps=7, guidance=None, naming="case")
    assert (s.preset, s.steps, s.guidance, s.naming) == (name, 7, PRESETS[name].guidance, "case")
    assert s.sampler == PRESETS[name].sampler and set(NAMINGS) >= {PRESETS[name].naming}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"num_samples": 0}, "num_samples must be"),
        ({"batch_size": -1}, "batch_size must be"),
        ({"sampler": "euler"}, "unknown sampler"),
        ({"sampler": "plms", "eta": 0.5}, "deterministic"),
        ({"sampler": "lms", "steps": 1}, "at least 2 steps"),
        ({"eta": -1.0}, "negative"),
        ({"naming": "prompt"}, "unknown naming"),
        ({"noise_device": "tpu"}, "noise device"),
        ({"guidance": float("nan")}, "guidance"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(UserError, match=message):
        preset("toy", **change)
    with pytest.raises(UserError, match="unknown preset"):
        preset("sdxl")


def test_folders_of_the_families(tmp_path):
    assert image_folder("esd", tmp_path, "diffusers-x") == tmp_path / "diffusers-x"
    assert image_folder("uce", tmp_path, "diffusers-x.pt") == tmp_path / "x"
    assert image_folder("rece", tmp_path, "x", "nudity") == tmp_path / "nudity" / "imgs"
