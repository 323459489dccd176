"""RECE against the published code: adversarial embeddings, epochs, and what its three scripts call and keep."""

import pytest
import torch

from erasure.base_models import BaseIdentity
from erasure.edits.applying import UNET
from erasure.key_maps import unet_map
from erasure.prompts import Row
from erasure.runs import read_json, tensors_sha256
from erasure.text_states import TextStates
from methods.rece import command
from methods.rece.adversarial import adversarial_embedding, sums
from methods.rece.rece import Rece
from methods.rece.settings import ARTISTS, OBJECTS, TRAIN
from methods.rece.training import Job, Run
from methods.rece.validation import Validation
from tests.golden.golden_data import load, load_json
from tests.tiny import tiny_config, tiny_model

FLOAT64, FLOAT32 = 1e-9, 5e-3  # relative Frobenius error against the float64 and the float32 run of the original
SCRIPTS = {"rece_train": TRAIN, "rece_train_artists": ARTISTS, "rece_train_object": OBJECTS}


def relative(found, wanted):
    wanted = wanted.double().reshape(found.shape)
    return (torch.linalg.norm(found.double() - wanted) / torch.linalg.norm(wanted)).item()


def stored(tensors, prefix):
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def stored_texts(meta, tensors):
    """The original's encoder gave out stored embeddings."""
    rows = {text: i for i, text in enumerate(meta["texts"])}

    def encode(texts):
        numbers = [rows[text] for text in texts]
        return tensors["embeddings"][numbers], [int(tensors["n_tokens"][i]) - 2 for i in numbers]

    return TextStates(encode)


def understood(case):
    """(script, parsed flags, texts, settings) of a recorded command."""
    script = SCRIPTS[case["script"]]
    arguments = command.build_parser(script).parse_args([*case["argv"], "--save_path", "out"])
    if case["start_edit"] is None:
        arguments.target_ckpt = ""
    texts, settings = command.settings_of(script, arguments, artists=case.get("artists", ()))
    return script, arguments, texts, settings


def test_adversarial_embeddings():
    meta, tensors = load("rece/rece_adv_embedding")
    texts, originals, edited = stored_texts(meta, tensors), stored(tensors, "original."), stored(tensors, "edited.")
    for number, case in enumerate(meta["cases"]):
        of_case = {k: w for k, w in edited.items() if case.get("with_to_k", True) or "to_k" not in k}
        target = case.get("old_target_concept")
        found = adversarial_embedding(
            *sums(of_case, originals),
            texts[case["concept"]].states,
            case["emb_computing"],
            case["regular_scale"],
            case.get("reg_item", "1st"),
            None if target is None else texts[target].states,
        )
        assert relative(found, tensors[f"case{number}.f64.adv_embedding"]) < FLOAT64, case
        assert relative(found, tensors[f"case{number}.adv_embedding"]) < FLOAT32, case


def test_epochs():
    """Embeddings and projections of every epoch that the scripts ran, from the weights they began with."""
    meta, tensors = load("rece/rece_train")
    texts, originals = stored_texts(meta, tensors), stored(tensors, "original.")
    for number, case in enumerate(meta["cases"]):
        rece = Rece(texts, originals, stored(tensors, f"case{number}.start."), understood(case)[3])
        for e in range(case["epochs_run"]):
            epoch = rece.epoch()
            for i, embedding in enumerate(epoch.embeddings):
                assert relative(embedding, tensors[f"case{number}.f64.adv.{e}-{i}"]) < FLOAT64, (number, e, i)
                assert relative(embedding, tensors[f"case{number}.adv.{e}-{i}"]) < FLOAT32, (number, e, i)
            weights = rece.weights()
            recorded = stored(tensors, f"case{number}.epoch{e}.f64.")
            assert weights.keys() == recorded.keys()
            for name, weight in weights.items():
                assert relative(weight, recorded[name]) < FLOAT64, (number, e, name)
                assert relative(weight, tensors[f"case{number}.epoch{e}.{name}"]) < FLOAT32, (number, e, name)


def test_texts_and_folders_of_commands():
    for case in load_json("rece/rece_train")["cases"]:
        script, arguments, texts, settings = understood(case)
        assert list(settings.concepts) == case["old_texts"]
        assert list(settings.guides) == case["new_texts"]
        assert list(settings.retained) == case["retain_texts"]
        folder = command.folder_of(script, arguments, texts, arguments.base or "1.4")
        assert folder.as_posix() == case["save_path"]


@pytest.fixture(scope="module")
def tiny():
    model = tiny_model()
    unet = {k.removeprefix(UNET): t for k, t in model.state_dict().items() if k.startswith("model.")}
    return model, BaseIdentity("tiny", "", "", "only", tensors_sha256(unet), "toy")


def scripted(case, script):
    """A validation that draws one picture a stage and answers as the recorded detectors did; and the stages it saw."""
    answers = iter([*case.get("rates", ()), *map(tuple, case.get("accs", ()))])
    stages = []

    def measure(folder):
        assert [file.name for file in folder.glob("*.png")] == ["0_0.png"]
        stages.append(folder.parent.name)
        return next(answers, None)

    return Validation([Row(0, "a picture", 0)], script.measure, measure, "recorded results"), stages


def test_what_scripts_keep(tiny, tmp_path):
    """Whole runs on a random model, given the recorded detectors' results: files, their contents, early stop."""
    model, identity = tiny
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    names = set(unet_map(tiny_config()["model"]["params"]["unet_config"]).values())
    for number, case in enumerate(load_json("rece/rece_train")["cases"]):
        script, arguments, texts, settings = understood(case)
        if script == OBJECTS and len(settings.concepts) > 1:
            continue  # published: nothing is kept; ours keeps the last epoch
        validation, stages = scripted(case, script)
        folder = tmp_path / str(number) / command.folder_of(script, arguments, texts, "1.4")
        job = Job(
            script, texts, settings, folder, arguments.target_ckpt, save_format="pt", pictures=False, ddim_steps=2
        )
        Run(model, identity, job, validation).run()
        assert stages == case["generate_calls"], case
        files = {file.name for file in folder.iterdir() if file.suffix in (".pt", ".json")} - {"settings.json"}
        assert files == set(case["saved_files"]), case
        assert {name: read_json(folder / name) for name in case["json_files"]} == case["json_files"]
        assert len(list(folder.glob("epoch_*.safetensors"))) == case["epochs_run"]
        for name in case["checkpoints"]:
            assert set(torch.load(folder / name, weights_only=True)) == names
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
