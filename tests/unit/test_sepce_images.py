"""Training images: which folder, which order, which pixels, which latents; and drawing those that are missing."""

import dataclasses
import importlib.util
import shlex

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from erasure import runs
from erasure.base_models import BaseIdentity
from erasure.errors import UserError
from methods.sepce import images
from methods.sepce.images import ConceptImages, find_folder, image_files, load_image, training_images
from methods.sepce.settings import SepceSettings
from tests.tiny import tiny_model

IDENTITY = BaseIdentity("tiny", "tiny.safetensors", "tiny.yaml", "only", "0" * 64, "toy")


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def picture(width, height, mode="RGB", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode)


def fill(folder, names, side=32):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        picture(side, side, seed=i).save(folder / name)
    return folder


# ---- folders -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.text("abcXYZ", min_size=1, max_size=5), min_size=1, max_size=3), st.randoms())
def test_case_and_spaces_do_not_matter(tmp_path_factory, words, random):
    root = tmp_path_factory.mktemp("data")
    (root / " ".join(words)).mkdir()
    (root / "something else").mkdir()
    spelled = random.choice(["", " "]).join(random.choice([word.upper(), word.lower(), word]) for word in words)
    assert find_folder(root, spelled) == root / " ".join(words)
    assert find_folder(root, spelled + "0") is None


def test_exact_name_comes_first_and_doubt_is_an_error(tmp_path):
    for name in ("Van Gogh", "van gogh"):
        (tmp_path / name).mkdir()
    (tmp_path / "VANGOGH").touch()  # no folder
    assert find_folder(tmp_path, "van gogh") == tmp_path / "van gogh"
    with pytest.raises(UserError, match="'VanGogh' could be in any of Van Gogh, van gogh"):
        find_folder(tmp_path, "VanGogh")
    assert find_folder(tmp_path / "nothing", "x") is None


def test_folder_of_the_repository_is_found_from_elsewhere(tmp_path, monkeypatch):
    home = tmp_path / "repository"
    fill(home / "data" / "a b", ["0.png"])
    monkeypatch.setattr(runs, "ROOT", home)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    assert find_folder("./data", "AB") == home / "data" / "a b"
    fill(tmp_path / "data" / "AB", ["0.png"])
    assert find_folder("./data", "a b").resolve() == tmp_path / "data" / "AB"


@settings(deadline=None)
@given(st.sets(st.tuples(st.integers(0, 2000), st.integers(0, 3)), min_size=1, max_size=8))
def test_images_are_sorted_by_their_numbers(tmp_path_factory, cases):
    folder = tmp_path_factory.mktemp("images")
    for case, k in cases:
        (folder / f"{case}_{k}.png").touch()
    for other in ("manifest.json", ".5_0.123-abcdefgh.tmp.png", "seeds.csv"):
        (folder / other).touch()
    assert [f.name for f in image_files(folder)] == [f"{case}_{k}.png" for case, k in sorted(cases)]
    assert {f.name for f in image_files(folder, sort=False)} == {f.name for f in image_files(folder)}


# ---- pixels --------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 48), st.sampled_from(["RGB", "L", "RGBA", "P"]))
def test_preprocessing_is_torchvisions(tmp_path_factory, width, height, size, mode):
    from torchvision.transforms import CenterCrop, Compose, Resize, ToTensor

    file = tmp_path_factory.mktemp("image") / "x.png"
    picture(width, height, mode).save(file)
    reference = Compose([Resize(size), CenterCrop(size), ToTensor()])(Image.open(file).convert("RGB"))
    loaded = load_image(file, size)
    assert loaded.shape == (1, 3, size, size)
    assert torch.equal(loaded[0], 2.0 * reference - 1.0)


def test_no_images_and_broken_images(model, tmp_path):
    with pytest.raises(UserError, match="no images in it"):
        ConceptImages(tmp_path, model, 32)
    (tmp_path / "0.png").write_bytes(b"not a picture")
    with pytest.raises(UserError, match="0.png: not an image that can be read"):
        ConceptImages(tmp_path, model, 32).posterior(0)


def test_latents_are_the_autoencoders_and_encoded_once(model, tmp_path, monkeypatch):
    folder = fill(tmp_path, ["0.png", "1.png"], side=40)
    calls, encode = [], model.encode_first_stage
    monkeypatch.setattr(model, "encode_first_stage", lambda x: calls.append(x) or encode(x))
    concept = ConceptImages(folder, model, 32)
    latents = [concept.latent(1, torch.Generator().manual_seed(5)) for _ in range(3)]
    assert len(calls) == 1 and torch.equal(calls[0], load_image(folder / "1.png", 32))
    posterior = encode(calls[0])
    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(5))
    assert torch.allclose(latents[0], model.scale_factor * (posterior.mean + posterior.std * noise))
    assert all(torch.equal(z, latents[0]) for z in latents)
    assert not latents[0].requires_grad


# ---- drawing -------------------------------------------------------------------------------------------------------


def run_of(count, **chosen):
    values = dict(image_size=32, num_images=count, cycle_images=True) | chosen
    return SepceSettings.for_family("FMN", "toy", ("Van Gogh",), **values)


def draw(model, root, count, identity=IDENTITY, **options):
    return training_images(model, identity, run_of(count), root, progress=False, **options)


def test_missing_images_are_drawn_completed_and_kept(model, tmp_path, capsys):
    (concept,) = draw(model, tmp_path, 2)
    folder = tmp_path / "Van Gogh"
    assert concept.folder == folder and [f.name for f in concept.files] == ["0_0.png", "1_0.png"]
    assert "drawing 2 training images of 'Van Gogh' with the base model" in capsys.readouterr().out
    rows = runs.read_json(folder / "manifest.json")["images"].values()
    assert {row["prompt"] for row in rows} == {"Van Gogh"}
    assert [row["evaluation_seed"] for row in rows] == [images.FIRST_SEED, images.FIRST_SEED + 1]
    before = {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in concept.files}
    (folder / "1_0.png").unlink()  # as if killed in between
    assert len(draw(model, tmp_path, 2)[0]) == 2
    assert (folder / "1_0.png").read_bytes() == before["1_0.png"][0]
    assert len(draw(model, tmp_path, 3)[0]) == 3
    assert (folder / "0_0.png").stat().st_mtime_ns == before["0_0.png"][1]
    capsys.readouterr()
    assert len(draw(model, tmp_path, 2)[0]) == 3  # what is there is used
    assert capsys.readouterr().out == ""


def test_folders_of_the_user_are_left_alone(model, tmp_path):
    folder = fill(tmp_path / "vangogh", ["a.png"])
    (concept,) = draw(model, tmp_path, 5)
    assert concept.folder == folder and [f.name for f in folder.iterdir()] == ["a.png"]


def test_images_of_another_base_are_not_mixed(model, tmp_path):
    draw(model, tmp_path, 1)
    other = dataclasses.replace(IDENTITY, sha256="1" * 64)
    with pytest.raises(UserError, match="images of another base model .000000000000, not 111111111111"):
        draw(model, tmp_path, 2, identity=other)


def test_no_draw_names_the_command(model, tmp_path):
    with pytest.raises(UserError, match="3 of 3 images of 'Van Gogh' are missing") as refused:
        draw(model, tmp_path, 3, draw=False)
    assert not (tmp_path / "Van Gogh").exists()
    words = shlex.split(str(refused.value).partition("draw them with: python ")[2])
    spec = importlib.util.spec_from_file_location("generate_data", runs.ROOT / words[0])
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    flags = script.build_parser().parse_args(words[1:])
    assert (flags.prompt, flags.num_images, flags.model_name) == ("Van Gogh", 3, "Van Gogh")
    assert flags.save_path == str(tmp_path)
