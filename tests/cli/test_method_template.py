"""docs/method-template, copied and run as docs/add-a-method.md says; what that page adds elsewhere works with it."""

import signal
import sys

import pytest
import torch
import yaml

from erasure import base_models, edits, errors
from erasure.runs import ROOT, read_json
from tests.cli import method_template, process
from tests.cli.method_template import NAME

TINY = ["--ckpt_path", "tiny.safetensors", "--config_path", "tiny.yaml", "--device", "cpu"]
QUICK = ["--concept", "Thomas Kinkade", "--iterations", "4", "--seed", "1"]
RUN = f"{NAME}-ThomasKinkade"


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The folder of the copy, which can be imported."""
    folder = method_template.copy(tmp_path_factory.mktemp("copy"))
    with method_template.importable(folder):
        yield folder


@pytest.fixture(scope="module")
def script(package):
    return process.load(package / "train.py")


@pytest.fixture(scope="module")
def snippets():
    return method_template.snippets()


def main(path, *arguments) -> None:
    """A script's main in this process."""
    argv, sys.argv = sys.argv, [path, *map(str, arguments)]
    try:
        process.load(ROOT / path).main()
    finally:
        sys.argv = argv


# ---- the copy ------------------------------------------------------------------------------------------------------


def test_help_needs_no_torch_whatever_it_is_called(tmp_path):
    """Renamed as the page says."""
    renamed = tmp_path / "methods" / "other"
    method_template.copy(tmp_path).rename(renamed)
    for file in renamed.iterdir():
        file.write_text(file.read_text(encoding="utf-8").replace(NAME, "other"), encoding="utf-8")
    shown = process.help_without_torch(renamed / "train.py")
    assert "methods/other/train.py --concept" in shown and NAME not in shown
    assert "0.001 for the embedded model" in shown and "--ckpt_path" in shown


def test_run_in_a_process_of_its_own_and_again(package, script, place):
    done = process.run(package / "train.py", *TINY, *QUICK, cwd=place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "base: tiny.safetensors"
    assert f"generate-images.py --model_name {RUN} --prompts_path" in done.stdout
    file = edits.find_for(RUN)
    assert file.resolve() == place / "models" / RUN / "edit.safetensors"
    model, identity = base_models.load("tiny.safetensors", "tiny.yaml")
    with edits.load_into(model, identity, file) as applied:
        assert applied.edit.method == NAME and applied.edit.concepts == ["Thomas Kinkade"]
        assert applied.matched and all("attn2.to_" in key for key in applied.matched)
    saved = read_json(file.with_name("settings.json"))
    assert saved["settings"] == applied.edit.settings and saved["settings"]["seed"] == 1
    assert len(file.with_name("loss.csv").read_text().splitlines()) == 1 + 4
    first = file.read_bytes()
    assert script.main([*TINY, *QUICK]) == 0 and file.read_bytes() == first  # finished: nothing to do
    if torch.get_num_threads() == 1:  # as there: bits depend on it
        assert script.main([*TINY, *QUICK, "--force"]) == 0 and file.read_bytes() == first


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(script, place, monkeypatch, capsys):
    from methods.mymethod import method

    assert script.main([*TINY, *QUICK, "--save_path", "whole"]) == 0
    draw = method.draw
    monkeypatch.setattr(method, "draw", lambda s, i: (i == 2 and signal.raise_signal(signal.SIGINT), draw(s, i))[1])
    assert script.main([*TINY, *QUICK]) == errors.INTERRUPTED
    monkeypatch.setattr(method, "draw", draw)
    folder = place / "models" / RUN
    assert (folder / "checkpoint.safetensors").is_file() and not (folder / "edit.safetensors").exists()
    with pytest.raises(errors.UserError, match="stopped after 3 of 4 iterations: --resume goes on"):
        script.main([*TINY, *QUICK])
    assert script.main([*TINY, *QUICK, "--resume"]) == 0
    assert "resuming after iteration 3" in capsys.readouterr().out
    for name in ("edit.safetensors", "loss.csv"):
        assert (folder / name).read_bytes() == (place / "whole" / RUN / name).read_bytes()
    assert not (folder / "checkpoint.safetensors").exists()


def test_the_model_is_left_as_it_was(package, weights, tmp_path):
    from methods.mymethod.settings import Settings
    from methods.mymethod.training import train
    from tests.gates import identity_of

    before = {name: (p.data_ptr(), p.detach().clone(), p.requires_grad) for name, p in weights.named_parameters()}
    settings = Settings("golf ball", "an object", iterations=2, seed=0)
    edit = train(weights, identity_of(weights), settings, tmp_path / "run", progress=False)
    for name, p in weights.named_parameters():
        pointer, value, required = before[name]
        assert p.data_ptr() == pointer and torch.equal(p, value) and p.requires_grad == required and p.grad is None
    assert all(not torch.equal(t, before[f"model.diffusion_model.{key}"][1]) for key, t in edit.tensors.items())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--lr", "0"], "lr must be greater than 0"),
        (["--lr", "1e20"], "the loss is inf in iteration 2: lower --lr"),
        (["--iterations", "0"], "iterations must be at least 1"),
        (["--preserve_scale", "nan"], "preserve_scale must be at least 0"),
        (["--concept", " "], "the concept is empty"),
        (["--concept", "Art"], "'art' stands for itself; give another --neutral"),
        (["--ckpt_path", "nothing.ckpt"], "no model at nothing.ckpt"),
        (["--device", "gpu"], "--device 'gpu': give cpu"),
    ],
)
def test_mistakes_end_in_one_line(script, place, capsys, flags, message):
    with pytest.raises(SystemExit) as stopped:
        errors.run(lambda: script.main([*TINY, *QUICK, *flags]))
    error = capsys.readouterr().err.splitlines()[-1]
    assert stopped.value.code == 2
    assert error.startswith("error: ") and message in error
    assert not list(place.glob("models/*/edit.safetensors"))


# ---- what the page adds elsewhere ------------------------------------------------------------------------------------


def test_it_erases(script, package, snippets, tmp_path, monkeypatch, capsys):
    """The page's commands on the embedded model: train, draw, judge; and the quickstart's row of it."""
    from toyworld import quickstart_methods
    from toyworld.concepts import OBJECTS, PEOPLE, STYLES

    monkeypatch.chdir(tmp_path)
    model, identity = base_models.load("toy")
    task = quickstart_methods.Task("van gogh", model, identity, tmp_path)
    folder = task.folder(f"{NAME}-vangogh")
    flags = ["--concept", "van gogh", "--seed", "0", "--ckpt_path", base_models.TOY_CKPT, "--device", "cpu"]
    assert script.main([*flags, "--save_path", str(tmp_path), "--exp_name", folder.name]) == 0
    there = dict(vars(quickstart_methods)) | {"METHODS": {}}
    exec(snippets["toyworld/quickstart_methods.py"], there)
    made = there["METHODS"][NAME].erase(task)
    assert "nothing to train" in capsys.readouterr().out
    assert made.edit.concepts == ["van gogh"] and made.seconds > 0 and "200 steps" in made.note

    lines = (ROOT / "data" / "quickstart.csv").read_text().splitlines()
    targets = [line for line in lines if line.endswith(",van gogh")][:5]
    others = [next(line for line in lines if line.endswith(f",{name}")) for name in (STYLES[1], STYLES[8], OBJECTS[4])]
    others += [next(line for line in lines if line.endswith(f",{name}")) for name in (OBJECTS[8], PEOPLE[0])]
    (tmp_path / "few.csv").write_text("\n".join([lines[0], *targets, *others]) + "\n")
    rows = ("--prompts_path", "few.csv")
    main("eval-scripts/generate-images.py", "--model_name", "original", "--edit", folder, *rows, "--save_path", "out",
         "--sampler", "dpm", "--ddim_steps", 8)  # fmt: skip
    main("eval-scripts/evaluate_judge.py", "--folder_path", f"out/{folder.name}", *rows)
    concepts = read_json(f"out/{folder.name}_judge.summary.json")["concepts"]
    shares = {name: share for kind in concepts.values() for name, share in kind.items()}
    gone = shares.pop("van gogh")
    assert gone["n"] == 5 and gone["value"] <= 0.2
    assert len(shares) == 5 and all(share["value"] == 1 for share in shares.values())


def test_the_behaviour_test_is_one(package, snippets):
    from tests.behaviour.erasure_checks import ErasureChecks

    there = {"__name__": "tests.behaviour.shown"}
    exec(snippets["tests/behaviour/test_mymethod.py"], there)
    assert issubclass(there["TestMymethod"], ErasureChecks)
    assert there["TestMymethod"].targets == ("van gogh",)


def test_its_table_can_be_made(package, script, snippets, tmp_path, monkeypatch):
    from reproduce import commands, costs, tables

    methods = tables.methods() | yaml.safe_load(snippets["reproduce/methods.yaml"])
    for module in (tables, commands):
        monkeypatch.setattr(module, "methods", lambda: methods)
    monkeypatch.setattr(costs, "COSTS", dict(costs.COSTS))
    exec(snippets["reproduce/costs.py"], dict(vars(costs)))
    path = tmp_path / f"{NAME}.yaml"
    path.write_text(snippets["reproduce/tables/mymethod.yaml"])
    (table,) = tables.read(path)
    for base, embedded in (("toy", True), ("sd-v1-4", False)):
        (run,) = [run for run in table.models(embedded) if run.method == NAME]
        settings = dict(run.trainings[0])
        program, path, *flags = commands.train(NAME, settings, base)
        assert (program, path) == ("python", f"methods/{NAME}/train.py")
        assert script.build_parser().parse_args(flags).concept == "Van Gogh"
        assert costs.training(costs.MODELS[base], methods[NAME]["cost"], settings).flops > 0
