"""CLIP score, FID and KID: properties of the formulas, images in batches, remembered features, weights that must be brought."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from erasure.errors import UserError
from erasure.metrics import clip_model, clip_score, frechet, inception, inception_weights
from erasure.metrics.harmonic import celebrity_score, harmonic_mean, object_score
from erasure.metrics.image_prompts import ImagePrompt
from erasure.metrics.network_inputs import batches, clip, inception_clean, to_tensor
from erasure.runs import save_pt

seeds = st.integers(0, 1000)


def features(seed, n, d=6, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def picture(path, value, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)
    return path


# ---- FID and KID ---------------------------------------------------------------------------------------------------


@given(seeds, st.integers(2, 20), st.integers(2, 20))
def test_frechet_distance_is_a_distance(seed, n, m):
    """Zero to itself, symmetric, never negative; more rows than dimensions and fewer."""
    a, b = frechet.statistics(features(seed, n)), frechet.statistics(features(seed + 1, m, shift=1.0))
    there, back = frechet.frechet_distance(a, b), frechet.frechet_distance(b, a)
    assert there == pytest.approx(back, abs=1e-8) and there >= -1e-8
    assert frechet.frechet_distance(a, a) == pytest.approx(0, abs=1e-8)


@given(seeds, st.floats(-3, 3))
def test_frechet_distance_of_a_shift(seed, shift):
    """Same covariance: the squared distance of the means is left."""
    x = features(seed, 12)
    found = frechet.frechet_distance(frechet.statistics(x), frechet.statistics(x + shift))
    assert found == pytest.approx(x.shape[1] * shift**2, abs=1e-7)


def test_statistics_are_numpys():
    x = features(0, 40)
    found = frechet.statistics(x)
    assert np.allclose(found.covariance, np.cov(x.numpy(), rowvar=False)) and np.allclose(found.mean, x.mean(dim=0))
    with pytest.raises(ValueError, match="two"):
        frechet.statistics(x[:1])


def test_frechet_distance_as_scipys_root_gives_it():
    linalg = pytest.importorskip("scipy.linalg")
    a, b = frechet.statistics(features(1, 30)), frechet.statistics(features(2, 25, shift=0.5))
    root = linalg.sqrtm((a.covariance @ b.covariance).numpy())
    expected = (a.mean - b.mean).square().sum() + (a.covariance + b.covariance).trace() - 2 * np.trace(root.real)
    assert frechet.frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-9)


@given(seeds, seeds)
def test_kernel_distance_of_equal_small_sets_does_not_depend_on_the_seed(seed, other):
    x, y = features(3, 12), features(4, 12)
    one, two = (frechet.kernel_distance(x, y, subsets=3, seed=s) for s in (seed, other))
    assert one == pytest.approx(two, abs=1e-9)


def test_kernel_distance_grows_with_the_shift():
    found = [frechet.kernel_distance(features(5, 60), features(6, 60, shift=s), subsets=2) for s in (0, 0.5, 1)]
    assert found[0] < found[1] < found[2]
    with pytest.raises(ValueError, match="one size"):
        frechet.squared_mmd(features(1, 3), features(1, 4))


@pytest.mark.parametrize("mode", ["FID", "KID"])
def test_intervals_hold_the_value_and_shrink_with_more_images(mode):
    widths = []
    for n in (40, 400):
        x, y = features(7, n), features(8, n, shift=0.3)
        if mode == "FID":
            value = frechet.frechet_distance(frechet.statistics(x), frechet.statistics(y))
            found = frechet.frechet_interval(x, y, value)
        else:
            value = frechet.kernel_distance(x, y)
            found = frechet.kernel_interval(x, y, value)
        assert found.low < value == found.value < found.high and found.n == n
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2


def test_the_jackknife_is_right_about_the_spread():
    """Its error against the real one, from many samples of the same two populations."""
    values, errors = [], []
    for seed in range(60):
        x, y = features(seed, 100), features(1000 + seed, 100, shift=0.5)
        values.append(frechet.frechet_distance(frechet.statistics(x), frechet.statistics(y)))
        found = frechet.frechet_interval(x, y, values[-1])
        errors.append((found.high - found.low) / 2 / frechet._T)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.3)


def test_files_of_statistics(tmp_path):
    x, y = features(9, 30), features(10, 30)
    a, b = frechet.statistics(x), frechet.statistics(y)
    frechet.write_statistics(tmp_path / "a.npz", a)
    read = frechet.read_statistics(tmp_path / "a.npz")
    assert read.n == 30 and frechet.frechet_distance(read, b) == pytest.approx(frechet.frechet_distance(a, b))
    np.savez(tmp_path / "odd.npz", mu=np.zeros(3), sigma=np.zeros((2, 2)))
    np.savez(tmp_path / "pickled.npz", mu=np.array([{}]), sigma=np.array([{}]))
    (tmp_path / "text.npz").write_text("text")
    for name in ("odd", "pickled", "text"):
        with pytest.raises(UserError, match=f"{name}.npz"):
            frechet.read_statistics(tmp_path / f"{name}.npz")


# ---- images and what is remembered of them -------------------------------------------------------------------------


def test_clean_resizing_keeps_what_is_in_range():
    pixels = np.zeros((20, 31, 3), np.uint8)
    pixels[:, 15:] = 255  # an edge, where bicubic overshoots
    found = inception_clean(Image.fromarray(pixels))
    assert found.shape == (3, 299, 299) and found.min() == 0 and found.max() == 255 and found.dtype == torch.float32


def test_clip_input_is_that_of_transformers():
    import transformers

    # its newer releases call the one that resizes with Pillow, as the published scripts did, by this name
    processor = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 61, 3), np.uint8))
    expected = processor(image, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(clip()(image), expected, rtol=0, atol=1e-5)


def test_batches_keep_the_order_and_end_at_an_error():
    assert [len(batch) for batch in batches(range(23), lambda n: n, 5)] == [5, 5, 5, 5, 3]
    assert [n for batch in batches(range(23), lambda n: n, 5) for n in batch] == list(range(23))
    with pytest.raises(ZeroDivisionError):
        list(batches([1, 0, 1], lambda n: 1 / n, 1))


class Brightness:
    """A network of 4 features, that remembers what it was fed."""

    def __init__(self, name="brightness"):
        self.identity, self.fed = {"network": name}, 0

    def __call__(self, pixels):
        self.fed += len(pixels)
        return pixels.mean(dim=(2, 3)) @ torch.ones(3, 4)


def test_features_are_remembered_by_contents(tmp_path):
    for n, value in enumerate([10, 20, 30, 20]):
        picture(tmp_path / "sub" / f"{n}.png" if n == 3 else tmp_path / f"{n}.png", value)
    network = Brightness()
    found = inception.features_of(tmp_path, network, progress=False, batch_size=2)
    assert found[:, 0].tolist() == pytest.approx([30, 60, 90, 60], rel=1e-5)
    picture(tmp_path / "1.png", 40)
    before = network.fed
    again = inception.features_of(tmp_path, network, progress=False)
    assert again[:, 0].tolist() == pytest.approx([30, 120, 90, 60], rel=1e-5) and network.fed == before + 1
    other = Brightness("other")
    inception.features_of(tmp_path, other, progress=False)
    assert other.fed == 4
    (tmp_path / inception.FEATURES).write_bytes(b"damaged")
    assert torch.equal(inception.features_of(tmp_path, Brightness(), progress=False), again)


def test_features_that_are_not_numbers(tmp_path):
    picture(tmp_path / "0.png", 1)
    network = Brightness()
    network.__class__ = type("Nan", (Brightness,), {"__call__": lambda self, x: torch.full((len(x), 4), torch.nan)})
    with pytest.raises(UserError, match="not numbers"):
        inception.features_of(tmp_path, network, progress=False)
    assert not (tmp_path / inception.FEATURES).exists()


# ---- CLIP score ----------------------------------------------------------------------------------------------------


@given(seeds, st.floats(0.1, 10))
@settings(max_examples=20)
def test_scores_do_not_depend_on_the_length_of_embeddings(seed, factor):
    images, texts = features(seed, 5), features(seed + 1, 5)
    own = clip_score.paired(images, texts)
    torch.testing.assert_close(own, clip_score.paired(images * factor, texts / factor))
    torch.testing.assert_close(own, clip_score.logits(images, texts).diagonal())
    assert own.abs().max() <= 100 + 1e-9 and (clip_score.hessel(own / 100) >= 0).all()
    torch.testing.assert_close(clip_score.probabilities(images, texts).sum(dim=1), torch.ones(5, dtype=own.dtype))


class Words:
    """An embedder to which a text is its length, and a picture its brightness."""

    preprocess, scale = staticmethod(to_tensor), 100.0

    def __init__(self):
        self.asked = []

    def images(self, pixels):
        return torch.stack([pixels.mean(dim=(1, 2, 3)), torch.ones(len(pixels))], dim=1)

    def texts(self, prompts):
        self.asked += prompts
        return torch.tensor([[len(prompt) / 10, 1.0] for prompt in prompts])


def test_measuring_keeps_the_order_over_batches(tmp_path):
    values, texts = [0, 51, 102, 255, 204], ["", "ab", "ab", "abcdef", "ab"]
    pairs = [
        ImagePrompt(picture(tmp_path / f"{n}.png", v), t) for n, (v, t) in enumerate(zip(values, texts, strict=True))
    ]
    words = Words()
    found = clip_score.measure(pairs, words, progress=False, batch_size=2)
    expected = [math.cos(math.atan(v / 255) - math.atan(len(t) / 10)) * 100 for v, t in zip(values, texts, strict=True)]
    assert found == pytest.approx(expected, rel=1e-5) and sorted(words.asked) == ["", "ab", "abcdef"]
    assert clip_score.mean_and_deviation(found) == (
        pytest.approx(np.mean(expected)),
        pytest.approx(np.std(expected), rel=1e-3),
    )


# ---- weights -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    """A folder as transformers writes it, of a CLIP of two layers and 16 channels."""
    from transformers import CLIPConfig, CLIPModel

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = small | {"image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=small, vision_config=vision, projection_dim=8)).eval()
    folder = tmp_path_factory.mktemp("clip") / "tiny"
    model.save_pretrained(folder)
    return folder, model


@torch.inference_mode()
def test_clip_is_that_of_transformers(tiny_clip):
    folder, model = tiny_clip
    found = clip_model.Clip(folder)
    assert found.identity["weights"] == "model.safetensors" and len(found.identity["sha256"]) == 64
    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (50, 40, 3), np.uint8))
    texts = ["a cat", "a dog " * 60]
    ids = found._tokenizer(texts, truncation=True, padding=True, return_tensors="pt")
    pixels = found.preprocess(image)[None]
    expected = model(**ids, pixel_values=pixels).logits_per_image[0]
    torch.testing.assert_close(clip_score.logits(found.images(pixels), found.texts(texts), found.scale)[0], expected)


def test_where_clip_is_looked_for(tiny_clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub-cache"))
    with pytest.raises(
        UserError, match="model.safetensors of .*openai/clip-vit-base-patch32.*models/clip/ViT-B-32.safetensors.*--clip"
    ):
        clip_model.find_weights(None)
    cached = tmp_path / "hub-cache" / "hub" / "models--openai--clip-vit-base-patch32" / "snapshots" / "abc"
    cached.parent.mkdir(parents=True)
    cached.symlink_to(tiny_clip[0])
    assert clip_model.find_weights(None) == cached / "model.safetensors"
    placed = tmp_path / "models" / "clip" / "ViT-B-32.safetensors"
    placed.parent.mkdir(parents=True)
    placed.touch()
    assert (
        clip_model.find_weights(None).samefile(placed) and clip_model.find_weights(tiny_clip[0]).parent == tiny_clip[0]
    )
    (tmp_path / "empty").mkdir()
    for name, message in (("nowhere", "no such file"), ("empty", "not usable")):
        with pytest.raises(UserError, match=message):
            clip_model.find_weights(name)


def test_clip_weights_that_are_not_all_there(tiny_clip, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "part"
    folder.mkdir()
    (folder / "config.json").write_bytes((tiny_clip[0] / "config.json").read_bytes())
    tensors = load_file(tiny_clip[0] / "model.safetensors")
    tensors.pop("visual_projection.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="visual_projection"):
        clip_model.Clip(folder)
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="model.safetensors"):
        clip_model.Clip(folder)
    (folder / "config.json").write_text("{")
    (folder / "model.safetensors").write_bytes((tiny_clip[0] / "model.safetensors").read_bytes())
    with pytest.raises(UserError, match="is not a CLIP model"):
        clip_model.Clip(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match="of CLIP's tensors|is not a CLIP model"):
        clip_model.Clip(folder / "model.safetensors")  # without a configuration it has to be ViT-B/32


def test_inception_weights(tmp_path, monkeypatch):
    """The published file's names are torchvision's; it is checked by the hash in its name, and found where it is put."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    with pytest.raises(
        UserError, match=f"{inception_weights.FILES[0]}.*6726825d.*models/inception.*--inception_weights"
    ):
        inception_weights.find_file(None)
    network = inception.Inception(random=True)
    from torchvision.models import inception_v3

    with torch.device("meta"):
        published = inception_v3(weights=None, init_weights=False, num_classes=1008, aux_logits=False).state_dict()
    ours = network.network.state_dict()
    assert {name: t.shape for name, t in ours.items()} == {
        name: t.shape for name, t in published.items() if not name.startswith("fc.")
    }
    placed = tmp_path / "models" / "inception" / inception_weights.FILES[1]
    placed.parent.mkdir(parents=True)
    save_pt(placed, {**ours, "fc.weight": torch.zeros(2)})
    with pytest.raises(UserError, match="is damaged"):
        inception.Inception()
    mine = placed.rename(tmp_path / "mine.pth")
    read = inception.Inception(mine)
    pixels = torch.rand(2, 3, 299, 299) * 255
    assert torch.equal(read(pixels), network(pixels)) and read(pixels).shape == (2, 2048) and read(pixels).std() > 0.01
    save_pt(mine, {"features.0.weight": torch.zeros(2)})
    with pytest.raises(UserError, match="not the weights of the FID Inception"):
        inception.Inception(mine)


def test_inception_is_that_of_torch_fidelity(monkeypatch):
    """The same weights in the package's own network, on images that it need not resize."""
    from torch_fidelity import feature_extractor_inceptionv3 as package

    ours = inception.Inception(random=True)
    state = ours.network.state_dict() | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    monkeypatch.setattr(package, "load_state_dict_from_url", lambda *_, **__: state)
    whole = package.FeatureExtractorInceptionV3("inception", ["2048"])
    pixels = torch.randint(0, 256, (1, 3, 299, 299), dtype=torch.uint8)
    torch.testing.assert_close(ours(pixels.float()), whole(pixels)[0], rtol=1e-4, atol=1e-5)


# ---- harmonic means ------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_a_harmonic_mean_lies_within_its_shares(shares):
    assert (min(shares) - 1e-9 <= harmonic_mean(shares) <= max(shares) + 1e-9) or 0 in shares


def test_harmonic_means_of_nothing_gone_and_all_gone():
    assert celebrity_score(1.0, 1.0) == 0 == object_score(0.0, 0.0, 0.0) and celebrity_score(0.0, 1.0) == 1
    with pytest.raises(ValueError, match="within"):
        harmonic_mean([1.1])
