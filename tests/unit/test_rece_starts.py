"""What RECE begins with: edits, published files of any naming, nothing; and the edit that comes out of each."""

import pytest
import torch

from erasure import edits, runs
from erasure.base_models import BaseIdentity
from erasure.edits import ContextMap, Edit, context_projections
from erasure.edits.applying import UNET
from erasure.edits.exporting import diffusers_unet
from erasure.errors import UserError
from erasure.text_states import TextStates
from methods.rece.rece import Rece, retained_gram, uce_start
from methods.rece.settings import ReceSettings
from methods.rece.starts import Start, edit_of, read_start
from tests.tiny import tiny_model

SETTINGS = ReceSettings(("nudity", "blood"), (" ", " "), (" ",), regular_scale=0.1)


@pytest.fixture(scope="module")
def base():
    model = tiny_model()
    unet = {k.removeprefix(UNET): t for k, t in model.state_dict().items() if k.startswith(UNET)}
    return model, BaseIdentity("tiny", "", "", "only", runs.tensors_sha256(unet), "toy")


@pytest.fixture(scope="module")
def uce(base):
    """A UCE edit of the base."""
    texts = TextStates.of(base[0])
    pairs = list(zip(SETTINGS.concepts, SETTINGS.guides, strict=True))
    found = uce_start(texts, pairs, retained_gram(texts, [""]), 1.0)
    return Edit("uce", ["nudity", "blood"], {}, base[1].to_dict(), found.tensors(), "context_map")


@pytest.fixture
def files(base, uce, tmp_path):
    """The same UCE edit in every form that users have."""
    model, identity = base
    edits.save_run(uce, tmp_path / "run")
    with edits.apply(model, uce, identity):
        edits.export_diffusers(model, tmp_path / "diffusers.pt")
        edits.export_compvis(model, tmp_path / "compvis.safetensors")
        projections = {
            k: t for k, t in diffusers_unet(model).items() if k.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
        }
        runs.save_safetensors(tmp_path / "projections.safetensors", projections)
        short = {name.removeprefix(UNET): w.detach().clone() for name, w in context_projections(model).items()}
        edits.save(Edit("uce", [], {}, identity.to_dict(), short), tmp_path / "tensors.safetensors")
    return tmp_path


def original_projections(model):
    return {name: w.detach().clone() for name, w in context_projections(model).items()}


def after_epochs(base, start, count=2):
    model, identity = base
    rece = Rece(TextStates.of(model), original_projections(model), start.projections, SETTINGS)
    embeddings = [rece.epoch().embeddings for _ in range(count)][-1]
    return rece, embeddings, edit_of(rece, start, identity.to_dict(), list(SETTINGS.concepts), SETTINGS.to_dict())


def relative(found, wanted):
    return (torch.linalg.norm(found.double() - wanted.double()) / torch.linalg.norm(wanted.double())).item()


@pytest.mark.parametrize(
    "name", ["diffusers.pt", "compvis.safetensors", "projections.safetensors", "tensors.safetensors"]
)
def test_a_checkpoint_is_the_same_start_as_the_edit(base, files, name):
    """To the precision of the checkpoint's float32 weights, which the second epoch magnifies."""
    model, identity = base
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    from_edit = read_start(model, identity, str(files / "run"))
    assert isinstance(from_edit.projections, ContextMap) and not from_edit.changed
    start = read_start(model, identity, str(files / name))
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert start.changed.keys() == {key.removeprefix(UNET) for key in original_projections(model)}

    one, wanted, small = after_epochs(base, from_edit)
    other, found, large = after_epochs(base, start)
    assert max(map(relative, found, wanted)) < 1e-3
    assert small.kind == "context_map" and large.kind == "tensors"
    for edit, rece in ((small, one), (large, other)):
        with edits.apply(model, edit, identity):
            for key, weight in context_projections(model).items():
                assert relative(weight.detach(), rece.weights()[key]) < 1e-4
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_what_a_foreign_start_changes_elsewhere_stays_changed(base, files):
    model, identity = base
    key = next(name for name, _ in model.named_parameters() if name.endswith("attn1.to_q.weight")).removeprefix(UNET)
    tensors = edits.read(files / "tensors.safetensors").tensors
    tensors[key] = model.state_dict()[UNET + key] * 1.5
    edits.save(Edit("esd", [], {}, identity.to_dict(), tensors), files / "more.safetensors")
    _, _, edit = after_epochs(base, read_start(model, identity, str(files / "more.safetensors")))
    assert torch.equal(edit.tensors[key], tensors[key])


def test_original_weights_as_a_start(base):
    start = read_start(*base, "")
    assert start.projections is None and start.edit({}) is None
    _, _, edit = after_epochs(base, start)
    assert edit.kind == "context_map"


def test_the_start_is_an_edit_too(base, uce, files):
    model, identity = base
    for name in ("run", "diffusers.pt"):
        edit = read_start(model, identity, str(files / name)).edit(identity.to_dict())
        with edits.apply(model, uce, identity):
            wanted = original_projections(model)
        with edits.apply(model, edit, identity):
            assert all(relative(w.detach(), wanted[key]) < 1e-6 for key, w in context_projections(model).items())


def test_published_names_stand_for_runs(base, files, monkeypatch):
    """'erased-….pt', which was not written, is the run folder models/erased-…"""
    name = "erased-nudity-towards_uncond-preserve_false-sd_1_4-method_replace"
    (files / "models").mkdir()
    (files / "run").rename(files / "models" / name)
    monkeypatch.chdir(files)
    assert isinstance(read_start(*base, f"models/{name}.pt").projections, ContextMap)
    assert isinstance(read_start(*base, f"{name}.pt").projections, ContextMap)


def test_starts_that_cannot_be(base, files, uce):
    model, identity = base
    with pytest.raises(UserError, match="no such file"):
        read_start(model, identity, str(files / "nothing.pt"))
    other = Edit("uce", [], {}, identity.to_dict() | {"sha256": "0" * 64}, uce.tensors, "context_map")
    edits.save(other, files / "other.safetensors")
    with pytest.raises(UserError, match="was made for tiny"):
        read_start(model, identity, str(files / "other.safetensors"))
    whole = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    text = next(key for key in whole if key.startswith("cond_stage_model") and whole[key].ndim == 2)
    runs.save_safetensors(files / "text.safetensors", whole | {text: whole[text] + 1})
    with pytest.raises(UserError, match="changes more than the UNet"):
        read_start(model, identity, str(files / "text.safetensors"))


def test_a_start_says_what_it_is(base, files):
    assert read_start(*base, str(files / "run")).label.endswith("edit.safetensors")
    assert Start("x").edit({}) is None
