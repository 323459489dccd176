"""The converter from the command line: both ways, as diffusers and transformers read it, and wrong input."""

import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from erasure import base_models, edits, key_maps
from erasure.errors import UserError
from erasure.runs import ROOT
from methods.esd.convertModels import main, parse, savemodelDiffusers
from tests.cli import process
from tests.unit.test_checkpoint_files import Payload

SCRIPT = ROOT / "methods" / "esd" / "convertModels.py"
UNET, VAE, TEXT = (key_maps.PREFIXES[part] for part in ("unet", "vae", "text_encoder"))


@pytest.fixture(scope="module")
def model(weights):
    """What `place` holds as tiny.safetensors."""
    return weights


def run(*arguments, cwd):
    return process.run(SCRIPT, *arguments, cwd=cwd)


def same(found, expected):
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor), key


def test_from_another_directory_and_back(model, place):
    """One process each way; the other tests call `main`."""
    done = run("tiny.safetensors", "unet.safetensors", cwd=place)
    assert done.returncode == 0 and done.stdout.startswith("wrote unet.safetensors"), done.stderr
    same(load_file("unet.safetensors"), key_maps.compvis_to_diffusers(model.state_dict())["unet"])
    assert run("unet.safetensors", "back.pt", cwd=place).returncode == 0
    unet = {k: t for k, t in model.state_dict().items() if k.startswith(UNET)}
    same(torch.load("back.pt", weights_only=True), unet)


def test_folder_that_diffusers_reads(model, place):
    diffusers, transformers = pytest.importorskip("diffusers"), pytest.importorskip("transformers")
    main(["tiny.safetensors", "out"])
    unet, info = diffusers.UNet2DConditionModel.from_pretrained("out/unet", output_loading_info=True)
    assert not any(info.values())
    vae, info = diffusers.AutoencoderKL.from_pretrained("out/vae", output_loading_info=True)
    assert not any(info.values()) and vae.config.scaling_factor == model.scale_factor
    text, info = transformers.CLIPTextModel.from_pretrained("out/text_encoder", output_loading_info=True)
    assert not any(info.values())
    generator = torch.Generator().manual_seed(0)
    latents, times = torch.randn(2, 4, 8, 8, generator=generator), torch.tensor([3, 900])
    prompts = ["a photo", "a house by the sea"]
    tokens = model.cond_stage_model.tokenizer(
        prompts, max_length=77, padding="max_length", return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        context = model.get_learned_conditioning(prompts)
        assert torch.allclose(text.eval()(tokens).last_hidden_state, context, atol=1e-5)
        ours, theirs = model.apply_model(latents, times, context), unet.eval()(latents, times, context).sample
        assert torch.allclose(ours, theirs, atol=1e-4)
        images = vae.eval().decode(latents / model.scale_factor).sample
        assert torch.allclose(model.decode_first_stage(latents), images, atol=1e-4)


@pytest.mark.parametrize("precision", ("float32", "float16"))
def test_whole_model_through_a_folder_and_back(precision, model, place):
    main(["tiny.safetensors", "out", "--precision", precision])
    main(["out", "back.safetensors", "--precision", precision])
    dtype = getattr(torch, precision)
    expected = {
        key: tensor.to(dtype) if "." in key and tensor.is_floating_point() else tensor
        for key, tensor in edits.compvis_state_dict(model).items()
    }
    same(load_file("back.safetensors"), expected)
    assert load_file("out/vae/diffusion_pytorch_model.safetensors")["encoder.conv_in.weight"].dtype == dtype
    assert base_models.load("out")[1].family == "toy"  # the configuration lies in the folder


def test_edit_in_its_base(model, place):
    identity = base_models.load("tiny.safetensors", "tiny.yaml")[1]
    key = "output_blocks.0.1.transformer_blocks.0.attn2.to_k.weight"
    value = model.state_dict()[UNET + key] + 1
    edits.save(edits.Edit("esd", ["a"], {}, identity.to_dict(), {key: value}), "edit.safetensors")
    main(["edit.safetensors", "whole.pt", "--base", "tiny.safetensors", "--config", "tiny.yaml"])
    same(torch.load("whole.pt", weights_only=True), edits.compvis_state_dict(model) | {UNET + key: value})
    main(["edit.safetensors", "unet.safetensors", "--base", "tiny.safetensors", "--to", "diffusers"])
    changed = {k: t for k, t in model.state_dict().items() if k.startswith(UNET)} | {UNET + key: value}
    same(load_file("unet.safetensors"), key_maps.compvis_to_diffusers(changed)["unet"])


def test_averages_and_rewriting(model, place):
    raw = edits.compvis_state_dict(model)
    unet = {k: t for k, t in raw.items() if k.startswith(UNET)}
    averages = {"model_ema." + k.removeprefix("model.").replace(".", ""): t + 1 for k, t in unet.items()}
    torch.save({"state_dict": raw | averages, "global_step": 3}, "full-ema.ckpt")
    main(["full-ema.ckpt", "raw.safetensors", "--to", "compvis"])
    same(load_file("raw.safetensors"), raw)
    main(["full-ema.ckpt", "ema.safetensors", "--to", "compvis", "--weights", "ema"])
    same(load_file("ema.safetensors"), raw | {key: tensor + 1 for key, tensor in unet.items()})


def test_help_is_quick_to_import(place):
    done = run("--help", cwd=place)
    assert done.returncode == 0 and "examples" in done.stdout and "--base" in done.stdout
    code = f"import sys; sys.argv = ['x', '--help']; import runpy\ntry: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    code += "except SystemExit: pass\nassert 'torch' not in sys.modules"
    assert process.run("-c", code).returncode == 0


def write_bad_files():
    text = {f"{TEXT}text_model.{i}": torch.ones(1) for i in range(3)}
    save_file(text, "text.safetensors")
    save_file({UNET + "out.2.weight": torch.ones(1)}, "part.safetensors")
    edits.save(edits.Edit("esd", [], {}, {}, {"out.2.bias": torch.ones(4)}), "edit.safetensors")
    torch.save({"state_dict": text, "callbacks": Payload("payload-ran")}, "malicious.ckpt")
    open("empty.ckpt", "w").close()
    open("page.pt", "w").write("<html>not found</html>")
    content = open("tiny.safetensors", "rb").read()
    open("half.safetensors", "wb").write(content[: len(content) // 2])


BAD = {
    "missing": (["nowhere.pt", "out.pt"], "nowhere.pt"),
    "same file": (["tiny.safetensors", "./tiny.safetensors"], "same file"),
    "no UNet": (["text.safetensors", "out.pt"], "UNet"),
    "incomplete": (["part.safetensors", "out.pt"], "not a complete UNet"),
    "edit alone": (["edit.safetensors", "out.pt"], "--base"),
    "wrong base": (["edit.safetensors", "out.pt", "--base", "tiny.safetensors"], "was made for"),
    "empty": (["empty.ckpt", "out.pt"], "empty"),
    "web page": (["page.pt", "out.safetensors"], "web page"),
    "malicious": (["malicious.ckpt", "out.pt"], "run code"),
    "wrong shape": (["part.safetensors", "out.pt", "--base", "tiny.safetensors"], "another model"),
    "changes nothing": (["tiny.safetensors", "out.pt", "--base", "tiny.safetensors"], "changes nothing"),
    "truncated": (["half.safetensors", "out.pt"], "damaged"),
    "no averages": (["tiny.safetensors", "out.pt", "--weights", "ema"], "moving averages"),
    "no configuration": (["tiny.safetensors", "folder", "--config", "nowhere.yaml"], "nowhere.yaml"),
    "output in no folder": (["tiny.safetensors", "tiny.yaml/out.pt"], "tiny.yaml"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_input_is_one_line(case, place):
    write_bad_files()
    before = sorted(os.listdir())
    arguments, said = BAD[case]
    with pytest.raises((UserError, OSError)) as raised:
        main(arguments)
    assert said in str(raised.value) and "\n" not in str(raised.value)
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("case", ("truncated", "malicious", "output in no folder"))
def test_exit_code_2_without_a_traceback(case, place):
    write_bad_files()
    arguments, said = BAD[case]
    done = run(*arguments, cwd=place)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and said in done.stderr
    assert done.stderr.count("\n") == 1 and done.stdout == "" and not (place / "payload-ran").exists()


@pytest.mark.parametrize(
    "arguments",
    (
        [],
        ["a.pt"],
        ["a.pt", "b.pt", "--to", "x"],
        ["a.pt", "folder", "--to", "compvis"],
        ["a", "b", "--force"],
        ["a", "b", "--x"],
    ),
)
def test_wrong_flags(arguments, capsys):
    with pytest.raises(SystemExit) as raised:
        parse(arguments)
    assert raised.value.code == 2 and "usage:" in capsys.readouterr().err


# ---- the published callable ----------------------------------------------------------------------------------------

RUN = "compvis-word_VanGogh-method_xattn-sg_3-ng_1-iter_1000-lr_1e-05"


@pytest.mark.parametrize("suffix", (".pt", ".safetensors"))
def test_published_entry_point(suffix, model, place):
    edits.export_compvis(model, f"models/{RUN}/{RUN}{suffix}")
    written = savemodelDiffusers(RUN, "tiny.yaml", "config.json", device="cpu")
    assert written.name == RUN.replace("compvis", "diffusers") + suffix
    found = load_file(written) if suffix == ".safetensors" else torch.load(written, weights_only=True)
    same(found, key_maps.compvis_to_diffusers(model.state_dict())["unet"])


def test_published_entry_point_with_wrong_names(model, place):
    with pytest.raises(UserError, match="no nothing.safetensors"):
        savemodelDiffusers("nothing", None, None)
    edits.export_compvis(model, "models/mine/mine.pt")
    with pytest.raises(UserError, match="compvis"):
        savemodelDiffusers("mine", None, None)
    edits.export_compvis(model, f"models/{RUN}/{RUN}.pt")
    with pytest.raises(UserError, match="names differ"):
        savemodelDiffusers(RUN, base_models.TOY_CONFIG, None)
