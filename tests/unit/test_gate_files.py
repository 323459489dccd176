"""Edits that are gates: what is refused, names of layers, files in the published format, selections of concepts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from erasure import edits
from erasure.base_models import BaseIdentity
from erasure.edits import Edit, residual_gates
from erasure.edits.residual_gates import DOWN, KIND, QUERY, SCALER, UP, gates_of, layers_of
from erasure.errors import UserError
from ldm.modules.diffusionmodules.openaimodel import UNetModel
from tests.gates import gate_edit, gate_tensors, identity_of, model_of_two_widths, unet_weights

CONCEPTS = ("emma stone", "elon musk", "drake")


@pytest.fixture(scope="module")
def model():
    return model_of_two_widths()


@pytest.fixture(scope="module")
def base(model):
    return identity_of(model)


# ---- what is no gates ----------------------------------------------------------------------------------------------


def changed(tensors, **parts):
    """Tensors with those whose names end in a part replaced by a function of them, or left out (None)."""
    ends = {"up": UP, "down": DOWN, "query": QUERY, "scaler": SCALER, "alpha": residual_gates.ALPHA}
    found = dict(tensors)
    for part, function in parts.items():
        name = next(name for name in found if name.endswith(ends[part]))
        if function is None:
            del found[name]
        else:
            found[name] = function(found[name])
    return found


def without_layer(tensors):
    layer = layers_of(tensors)[0]
    return {name: t for name, t in tensors.items() if not name.startswith(layer)}


DAMAGED = {
    "no query": (lambda t: changed(t, query=None), "w_qs.weight is missing"),
    "no up": (lambda t: changed(t, up=None), r"lora_up.weight is missing"),
    "no alpha": (lambda t: changed(t, alpha=None), r"alpha is missing"),
    "more": (lambda t: t | {"other": torch.ones(1)}, "also has other"),
    "no layer": (lambda t: {n: v for n, v in t.items() if n.startswith("attention_gate")}, "no layer has a residual"),
    "flat": (lambda t: changed(t, query=lambda v: v[0]), "not stacked over concepts"),
    "wider scaler": (lambda t: changed(t, scaler=lambda v: v.repeat(1, 1, 2)), r"\[1, 32, 2\], not \[1, 32, 1\]"),
    "two concepts in one layer": (lambda t: changed(t, up=lambda v: v.repeat(2, 1, 1)), "not the gates of 1 concepts"),
    "another rank": (
        lambda t: changed(t, up=lambda v: v.repeat(1, 2, 1), down=lambda v: v.repeat(1, 1, 2)),
        "different rank or alpha",
    ),
    "another alpha": (lambda t: changed(t, alpha=lambda v: v * 2), "different rank or alpha"),
    "none": (lambda t: {n: v[:0] if v.ndim else v for n, v in t.items()}, "has no values"),
    "rank 0": (lambda t: {n: v[:, :, :0] if n.endswith(DOWN) else v[:, :0] if n.endswith(UP) else v
                          for n, v in t.items()}, "has no values"),
}  # fmt: skip
UNFIT = {
    "narrower": (lambda t: changed(t, up=lambda v: v[..., 1:]), "for another model: .* in the model"),
    "NaN": (lambda t: changed(t, up=lambda v: v * float("nan")), "NaN or infinite"),
    "infinite gate": (lambda t: changed(t, scaler=lambda v: v / 0), "NaN or infinite"),
    "a layer less": (without_layer, "for another model: it has nothing for"),
    "a layer more": (
        lambda t: t | {n.replace("blocks_0", "blocks_9"): v.clone() for n, v in t.items() if "down_blocks_0" in n},
        "tensors that the model does not",
    ),
    "other layers": (lambda t: {n.replace("lora_unet_", "lora_te_"): v for n, v in t.items()}, "changes nothing"),
}


@pytest.mark.parametrize("case", [*DAMAGED, *UNFIT])
def test_what_is_no_gates_of_this_model(model, base, tmp_path, case):
    damage, words = (DAMAGED | UNFIT)[case]
    tensors = damage(gate_tensors(model))
    with pytest.raises(UserError, match=words):
        edits.apply(model, Edit("cpe", ["drake"], {}, base.to_dict(), tensors, KIND), base)
    path = tmp_path / "drake_last.safetensors"
    for header in (None, {"prompts": "drake", "rank": "1", "alpha": "1.0"}):  # as CPE writes them
        save_file({name: t.contiguous() for name, t in tensors.items()}, path, header)
        with pytest.raises(UserError, match=words):
            edits.apply(model, edits.read_gates(path), base)


def test_gates_of_another_base(model, base):
    other = BaseIdentity("other", "other.ckpt", "tiny.yaml", "only", "1" * 64, "toy")
    edit = gate_edit(model, other)
    with pytest.raises(UserError, match="was made for other"):
        edits.apply(model, edit, base)
    edits.apply(model, edit, base, force=True).remove()
    edits.apply(model, gate_edit(model), base).remove()  # a published file says no base
    two = [gate_edit(model, base), gate_edit(model, other, "elon musk", seed=1)]
    with pytest.raises(UserError, match="of another base than the other gates"):
        residual_gates.united(two)


# ---- names ---------------------------------------------------------------------------------------------------------

TOPOLOGIES = [
    (1, [1], [1]),
    (1, [1, 1], [2]),
    (2, [1, 2], [1, 2]),
    (3, [1, 1, 2], [1, 4]),
    (2, [1, 1, 1, 1], [4, 2, 1]),
]


@pytest.mark.parametrize(("blocks", "mult", "attention"), TOPOLOGIES)
def test_names_of_layers(blocks, mult, attention):
    """The published numbering, for any number of levels and of blocks in them."""
    with torch.device("meta"):
        unet = UNetModel(
            image_size=8, in_channels=4, out_channels=4, model_channels=32, num_res_blocks=blocks,
            attention_resolutions=attention, channel_mult=mult, num_heads=2, use_spatial_transformer=True,
            context_dim=8, legacy=False,
        )  # fmt: skip
    places = {}
    for level in range(len(mult)):
        if 2**level in attention:
            for j in range(blocks):
                places[f"down_blocks.{level}.attentions.{j}"] = f"input_blocks.{1 + (blocks + 1) * level + j}.1"
    for up in range(len(mult)):
        if 2 ** (len(mult) - 1 - up) in attention:
            for j in range(blocks + 1):
                places[f"up_blocks.{up}.attentions.{j}"] = f"output_blocks.{(blocks + 1) * up + j}.1"
    places["mid_block.attentions.0"] = "middle_block.1"
    rest = "transformer_blocks.0.attn2"
    wanted = [
        (f"{old}.{rest}.to_{kind}", "lora_unet_" + f"{new}.{rest}.to_{kind}".replace(".", "_"))
        for new, old in places.items()
        for kind in "kv"
    ]
    names = residual_gates.layer_names(unet.state_dict())
    assert list(names.items()) == wanted
    assert set(names) == {name for name, _ in unet.named_modules() if name.endswith(("attn2.to_k", "attn2.to_v"))}


# ---- files ---------------------------------------------------------------------------------------------------------

names_of_people = st.text(max_size=20).filter(lambda s: "\0" not in s and s.isprintable())


@given(names_of_people, st.integers(1, 3), st.integers(1, 5), st.sampled_from([0.25, 1.0, 3.0]), st.booleans())
@settings(max_examples=15, deadline=None)
def test_a_file_comes_back_as_it_was_written(tmp_path_factory, model, base, name, rank, gate_rank, alpha, separate):
    tensors = gate_tensors(model, 4, gate_rank, rank)
    tensors = {n: torch.tensor(alpha) if n.endswith(".alpha") else t for n, t in tensors.items()}
    settings_ = {"separate_key": separate, "lr": 3e-4, "anchors": {"general": ["a"]}}
    edit = Edit("cpe", [name], settings_, base.to_dict(), tensors, KIND)
    path = tmp_path_factory.mktemp("gates") / "x_last.safetensors"
    residual_gates.save_gates(edit, path)
    found = edits.read_gates(path)
    for field in ("method", "concepts", "settings", "base", "kind"):
        assert getattr(found, field) == getattr(edit, field)
    assert found.tensors.keys() == tensors.keys()
    assert all(torch.equal(tensor, found.tensors[n]) for n, tensor in tensors.items())
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    assert (header["prompts"], header["rank"], header["alpha"]) == (name, str(rank), str(alpha))
    assert residual_gates.gate_rank(found) == gate_rank
    gates = gates_of(found, residual_gates.layer_names(unet_weights(model)))
    assert (gates.separate_key, gates.scale) == (separate, alpha / rank)


def publish(model, path, seed=0, prompts="drake", says=(), **shape):
    """A file as CPE writes it: no header of ours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"prompts": prompts, "rank": str(shape.get("rank", 1)), "alpha": "1.0"} | dict(says)
    header = header if prompts is not None else None
    save_file(gate_tensors(model, seed, **shape), path, header)
    return path


@pytest.mark.parametrize(
    ("prompts", "concept"),
    [("drake", "drake"), ("smith, will", "smith, will"), (None, "jake gyllenhaal"), ("", "jake gyllenhaal")],
)
def test_concepts_of_published_files(model, tmp_path, monkeypatch, prompts, concept):
    path = publish(model, tmp_path / "jake_gyllenhaal" / "x_last.safetensors", prompts=prompts)
    assert edits.is_gate_file(path) and not edits.is_edit(path)
    monkeypatch.chdir(path.parent)
    for name in (path, path.name):
        edit = edits.read_gates(name)
        assert (edit.method, edit.concepts, edit.base, edit.kind) == ("cpe", [concept], {}, KIND)


@pytest.mark.parametrize("says", [{"rank": "2"}, {"alpha": "0.25"}, {"rank": "one"}])
def test_a_published_header_that_is_not_of_its_tensors(model, tmp_path, says):
    path = publish(model, tmp_path / "x_last.safetensors", says=says)
    with pytest.raises(UserError, match=f"x_last.*its header says {next(iter(says))}"):
        edits.read_gates(path)


@given(st.permutations(range(3)), st.sets(st.integers(0, 2), min_size=1))
@settings(max_examples=12, deadline=None)
def test_a_selection_is_exactly_the_stack_of_the_selected(tmp_path_factory, model, base, order, chosen):
    alone = [gate_edit(model, base, c, seed=n, settings={"seed": n}) for n, c in enumerate(CONCEPTS)]
    whole = edits.compose([alone[n] for n in order])
    direct = edits.compose([alone[n] for n in order if n in chosen])
    kept = edits.keep(whole, [CONCEPTS[n].upper() for n in chosen])
    dropped = edits.drop(whole, [CONCEPTS[n] for n in range(3) if n not in chosen])
    again = edits.keep(edits.compose([direct, *(alone[n] for n in order if n not in chosen)]), direct.concepts)
    folder = tmp_path_factory.mktemp("selections")
    for n, edit in enumerate((direct, kept, dropped, again)):
        edit.versions = {}
        residual_gates.save_gates(edit, folder / f"{n}.safetensors")
        assert (folder / f"{n}.safetensors").read_bytes() == (folder / "0.safetensors").read_bytes()


@torch.no_grad()
def test_files_in_a_model_and_a_concept_less(model, base, tmp_path):
    """Of a folder all concepts, or all but some: what was left out is not missed by a bit."""
    generator = torch.Generator().manual_seed(0)
    inputs = (torch.randn(2, 4, 8, 8, generator=generator), torch.tensor([7, 300]))
    context = torch.randn(2, 6, 32, generator=generator)
    for n, concept in enumerate(CONCEPTS):
        edit = gate_edit(model, base if n else None, concept, seed=n)
        residual_gates.save_gates(edit, tmp_path / concept.replace(" ", "_") / "x_last.safetensors")

    def seen(path, **options):
        with edits.load_into(model, base, path, **options):
            return model.model.diffusion_model(*inputs, context=context)

    whole = seen(tmp_path)
    without = seen(tmp_path, without=["Elon Musk"])
    assert (whole - without).abs().max() > 1e-3
    (tmp_path / "elon_musk").rename(tmp_path.with_name("away"))
    assert torch.equal(seen(tmp_path), without)
    only = seen(tmp_path / "drake" / "x_last.safetensors")
    assert torch.equal(seen(tmp_path, without=["emma stone"]), only)
    for left_out, words in ((["picasso"], "no part of 'picasso'"), (["drake", "emma stone"], "no gate is left")):
        with pytest.raises(UserError, match=words):
            seen(tmp_path, without=left_out)


def test_files_that_do_not_go_together(model, base, tmp_path):
    first = publish(model, tmp_path / "a_last.safetensors")
    for n, (shape, words) in enumerate(
        (({}, "the same concept: drake"), ({"gate_rank": 5}, "gate rank differs"), ({"rank": 2}, "their rank differs"))
    ):
        other = publish(model, tmp_path / f"{n}_last.safetensors", **shape)
        with pytest.raises(UserError, match=words):
            edits.read_gates([first, other])
    with pytest.raises(UserError, match="same concept"):
        edits.read_gates([first, first])
    edit = gate_edit(model, base, "elon musk", settings={"separate_key": True})
    residual_gates.save_gates(edit, tmp_path / "s_last.safetensors")
    with pytest.raises(UserError, match="separate_key differs"):
        edits.read_gates([first, tmp_path / "s_last.safetensors"])
    with pytest.raises(UserError, match="no files of gates"):
        edits.read_gates([])


def test_which_files_of_a_folder_are_gates(model, tmp_path):
    wanted = ["b/x_last.safetensors", "a/y_last.safetensors", "z_last.safetensors", "a/b_last.safetensors"]
    others = ["a/x_adv_prompts_last.safetensors", "a/x_stage3.safetensors", "a/b/deep_last.safetensors", "a/x_last.pt",
              "a/.x_last.1-2.tmp.safetensors", "checkpoint.safetensors"]  # fmt: skip
    for name in [*wanted, *others]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [str(f.relative_to(tmp_path)) for f in edits.gate_files(tmp_path)] == sorted(wanted)
    assert edits.gate_files(tmp_path / "a/x_stage3.safetensors") == [tmp_path / "a/x_stage3.safetensors"]
    assert edits.has_gates(tmp_path) and edits.has_gates(tmp_path / "a") and not edits.has_gates(tmp_path / "a/x")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(UserError, match=path.name):
            edits.read_gates(path)


def test_damaged_files(model, base, tmp_path):
    good = publish(model, tmp_path / "x_last.safetensors")
    content = good.read_bytes()
    deep = b"[" * 100_000
    for n, (damaged, names_are_there) in enumerate(
        (
            (content[:-100], True),
            (content[:200], False),
            (b"", False),
            (b"\x80\x04K\x01.", False),
            (len(deep).to_bytes(8, "little") + deep, False),
            ((2).to_bytes(8, "little") + b"[]", False),
            ((1 << 60).to_bytes(8, "little") + b"{}", False),
        )
    ):
        path = tmp_path / f"{n}_last.safetensors"
        path.write_bytes(damaged)
        assert edits.is_gate_file(path) == names_are_there
        with pytest.raises(UserError, match=path.name):
            edits.read_gates(path)
        with pytest.raises(UserError, match=path.name):
            edits.load_into(model, base, path)
    assert not edits.is_gate_file(tmp_path / "none.safetensors") and not edits.is_gate_file(tmp_path)
    weights = Edit("esd", ["x"], {}, base.to_dict(), {"a": torch.ones(1)})
    edits.save(weights, tmp_path / "esd.safetensors")
    with pytest.raises(UserError, match="the esd edit of x, not gates"):
        edits.read_gates(tmp_path / "esd.safetensors")
    named = Edit("cpe", ["a", "b"], {}, {}, gate_tensors(model), KIND)
    edits.save(named, tmp_path / "named.safetensors")
    with pytest.raises(UserError, match="the gates of 1 concepts, and the header names 2"):
        edits.read_gates(tmp_path / "named.safetensors")
    spoilt = Edit("cpe", ["a"], {}, {}, changed(gate_tensors(model), up=lambda t: t * float("nan")), KIND)
    with pytest.raises(UserError, match="NaN"):
        residual_gates.save_gates(spoilt, tmp_path / "spoilt.safetensors")
    assert not (tmp_path / "spoilt.safetensors").exists()
