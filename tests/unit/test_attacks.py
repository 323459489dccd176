"""Attacks on a tiny random model: gradients reach the tokens through every kind of edit, runs go on, and data is checked."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from erasure import attacks, edits, text_tokens
from erasure.attacks import asr, collecting, genetic, losses, searches, settings, tokens
from erasure.attacks.concept_inversion import ConceptInversion, Template, read
from erasure.attacks.dataset import keep_shown, read_cases, write_prompts
from erasure.attacks.judges import judge_of
from erasure.attacks.log import Log, entries_of
from erasure.attacks.target import Case, Plan, Target, squared
from erasure.errors import UserError
from erasure.generation import generate
from erasure.generation import settings as preset
from erasure.metrics import torchvision_weights
from erasure.prompts import Row, read_csv
from erasure.runs import ROOT, read_json, save_safetensors
from tests.gates import gate_edit
from tests.tiny import tiny_config, tiny_model

SMALL = preset("toy-fast", steps=2, image_size=32)
CONFIG = settings.resolve(
    None, {"overall.attacker": "text_grad", "task.concept": "x", "attacker.k": 2, "attacker.iteration": 2, "attacker.timesteps": 2}
)["attacker"]  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def case(tmp_path):
    Image.new("RGB", (40, 32), "orange").save(tmp_path / "0_0.png")
    return Case(0, "a photo of a church", 5, image=tmp_path / "0_0.png")


def never(pictures):
    return [{"success": False, "score": float(p.mean())} for p in pictures]


def from_third(start=0):
    """A judge that sees the concept from the third picture on."""
    seen = [start]

    def judge(pictures):
        seen[0] += len(pictures)
        return [{"success": seen[0] > 2} for _ in pictures]

    return judge


# ---- tokens --------------------------------------------------------------------------------------------------------


def test_embeddings_in_a_prompt_are_what_their_ids_would_be(model):
    prompt = tokens.Prompt(model, "a photo of a church", 3, "mid_k")
    found = torch.tensor([320, 1125, 539])
    ids = prompt.with_ids(found)
    expected = model.cond_stage_model.transformer(input_ids=ids[None]).last_hidden_state
    torch.testing.assert_close(prompt.states(tokens.table_of(model)[found]), expected)
    assert ids[3:6].tolist() == found.tolist() and tokens.length_of(model, ids) == 8
    assert tokens.text_of(model, tokens.ids_of(model, "a photo of a church")) == "a photo of a church"
    with pytest.raises(UserError, match="no room for 80 more"):
        tokens.Prompt(model, "a photo", 80, "prefix_k")
    with pytest.raises(UserError, match="insertion_location 'nowhere'"):
        tokens.insertion(3, 2, "nowhere")


@pytest.mark.parametrize("location", tokens.LOCATIONS)
@pytest.mark.parametrize("length", (0, 1, 2, 7, 20))
def test_insertion_keeps_every_token_of_the_prompt_in_order(location, length):
    order = tokens.insertion(length, 4, location).tolist()
    assert len(order) == len(set(order)) == 77 and order[0] == 0
    assert [i for i in order if 0 < i <= length] == list(range(1, length + 1))
    assert [i for i in order if i >= 77] == [77, 78, 79, 80]
    assert set(order[1 : length + 5]) == {*range(1, length + 1), 77, 78, 79, 80}


def test_tokens_of_p4d_between_words():
    assert [tokens.count_of(length, 3, "per_k_words") for length in (0, 3, 4, 7)] == [1, 1, 2, 3]
    assert tokens.count_of(7, 3, "prefix_k") == 3


# ---- searches ------------------------------------------------------------------------------------------------------


def test_projection_is_the_nearest_point():
    a = torch.randn(5, 30, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    u = searches.projected(a)
    assert (u >= 0).all() and (u <= 1).all() and torch.allclose(u.sum(-1), torch.ones(5).double(), atol=3e-4)
    inside = torch.rand(100, 5, 30).double().softmax(-1)
    assert ((inside - u) * (a - u)).sum(-1).max() < 1e-3  # the plane through the nearest point parts a from the simplex
    corners = torch.eye(30)[:5]
    assert torch.equal(searches.projected(corners), corners)


def test_a_search_finds_the_token_that_lowers_a_loss():
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(12, 8, generator=generator)
    steps = searches.Steps(0.1, 0.0)
    for search in (
        searches.TextGrad(2, table, steps, generator, True),
        searches.HardPrompt(2, table, steps, generator),
    ):
        for _ in range(150):
            ((search.embeddings() - table[[3, 7]]) ** 2).mean().backward()
            search.update()
        assert search.ids().tolist() == [3, 7], search


def test_state_of_a_search_goes_on():
    table = torch.randn(12, 8, generator=torch.Generator().manual_seed(0))

    def steps(search, generator, count):
        for _ in range(count):
            (search.embeddings().sin().sum()).backward()
            search.update()
        return search.state(), generator.get_state()

    for kind in (searches.TextGrad, searches.HardPrompt):
        one, other = (torch.Generator().manual_seed(1) for _ in range(2))
        first = kind(2, table, searches.Steps(), one)
        half, state = steps(first, one, 3)
        whole, _ = steps(first, one, 3)
        again = kind(2, table, searches.Steps(), other)
        again.load_state(half)
        other.set_state(state)
        assert all(torch.equal(whole[name], value) for name, value in steps(again, other, 3)[0].items())


def test_fitness_does_not_depend_on_the_batch(model):
    s = genetic.Genetic(population=9, generations=2, length=4)
    ids = genetic.first_population(s, torch.Generator().manual_seed(0))
    assert ids.shape == (9, 77) and (ids[:, 0] == 49406).all() and (ids[:, 5:] == 49407).all()
    assert 1 <= ids[:, 1:5].min() and ids[:, 1:5].max() < 49406

    def encode(part):
        return model.cond_stage_model.transformer(input_ids=part).last_hidden_state

    target = encode(ids[:1])[0].detach()
    scores = [genetic.fitness(ids, target, encode, batch) for batch in (1, 4, 64)]
    assert scores[0][0] < 1e-3 < scores[0][1:].min()
    torch.testing.assert_close(scores[0], scores[1])
    torch.testing.assert_close(scores[0], scores[2])
    found = [genetic.search(target, encode, s, genetic.Draws(3), ids) for _ in range(2)]
    assert torch.equal(*found)


# ---- gradients through edits ---------------------------------------------------------------------------------------


def edits_of(model):
    """One of every kind that changes how a UNet reads a text."""
    generator = torch.Generator().manual_seed(0)
    weights = {
        name.removeprefix(edits.applying.UNET): torch.randn(w.shape, generator=generator) * 0.1
        for name, w in model.named_parameters()
        if name.endswith("attn2.to_v.weight")
    }
    own = edits.ContextMap(torch.randn(2, 32, generator=generator), torch.randn(2, 32, generator=generator) * 0.1)
    yield edits.Edit("esd", ["x"], {}, {}, weights)
    yield edits.Edit("uce", ["x"], {}, {}, own.tensors(), "context_map")
    yield gate_edit(model)


@pytest.mark.parametrize("checkpointed", (False, True))
def test_gradients_reach_the_tokens_through_edits_of_every_kind(checkpointed):
    config = tiny_config()
    config["model"]["params"]["unet_config"]["params"]["use_checkpoint"] = checkpointed
    model = tiny_model(config=config)
    prompt = tokens.Prompt(model, "a church", 1, "prefix_k")
    start = tokens.table_of(model)[[320]].double()
    x, t = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1)), torch.tensor([500])

    def value(embedding):
        return model.apply_model(x, t, prompt.states(embedding.float())).double().square().mean()

    gradients = []
    for edit in (None, *edits_of(model)):
        applied = edits.apply(model, edit) if edit else None
        leaf = start.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(value(leaf), [leaf])
        along = gradient / gradient.norm()
        with torch.no_grad():
            slope = (value(start + 2e-3 * along) - value(start - 2e-3 * along)) / 4e-3
        torch.testing.assert_close(slope, gradient.norm(), rtol=0.02, atol=0)
        gradients.append(gradient)
        if applied:
            applied.remove()
    assert all(not torch.allclose(gradients[0], other, rtol=1e-3, atol=0) for other in gradients[1:])


# ---- runs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
def test_every_precision(dtype, case, tmp_path):
    model = tiny_model().to(dtype)
    for name in ("text_grad", "concept_inversion"):
        own = CONFIG | {"timesteps": 1, "concept_inversion": CONFIG["concept_inversion"] | {"steps": 1}}
        attack = attacks.create(name, Target(model, SMALL, never), Plan(own, [case], progress=False))
        assert attacks.run(attack, case, tmp_path / f"{name}-{dtype}", {})["entries"] == 2


@pytest.mark.parametrize("name", ("text_grad", "hard_prompt"))
def test_white_box_runs_go_on_to_the_same_result(model, case, tmp_path, name):
    plan = Plan(
        CONFIG | {"timesteps": 3}, [case], seed=4, progress=False, task="P4D" if name == "hard_prompt" else "classifier"
    )

    def run(folder, judge):
        target = Target(model, SMALL, judge, original=model)
        return attacks.run(attacks.create(name, target, plan), case, folder, {"name": name})

    class Stopped(Exception):
        pass

    def stops_at(number):
        judged = []

        def judge(pictures):
            judged.append(1)
            if len(judged) == number:
                raise Stopped
            return never(pictures)

        return judge

    whole = run(tmp_path / "whole", never)
    assert whole["entries"] == 4 and not whole["success"]
    with pytest.raises(Stopped):
        run(tmp_path / "parts", stops_at(3))
    assert run(tmp_path / "parts", never)["entries"] == 4
    logs = [entries_of(tmp_path / folder) for folder in ("whole", "parts")]
    for one, other in zip(*logs, strict=True):
        assert {k: v for k, v in one.items() if "time" not in k} == {k: v for k, v in other.items() if "time" not in k}
    assert [entry["image"] for entry in logs[0]] == ["orig.png", "166.png", "499.png", "832.png"]
    for entry in logs[0]:
        pictures = [(tmp_path / f / "images" / entry["image"]).read_bytes() for f in ("whole", "parts")]
        assert pictures[0] == pictures[1]
    assert all(entry["loss"] > 0 and len(entry["token_ids"].split()) == 7 for entry in logs[0][1:])


def test_a_success_ends_a_run_and_a_finished_run_is_left_alone(model, case, tmp_path):
    plan = Plan(CONFIG, [case], progress=False)

    def run(name, judge, overwrite=False, config=None):
        attack = attacks.create(name, Target(model, SMALL, judge), plan)
        return attacks.run(attack, case, tmp_path / name, config or {"name": name}, overwrite)

    assert run("random", from_third())["entry"] == 2
    assert run("random", never)["success"]  # read, not made
    assert not run("random", never, overwrite=True)["success"]
    with pytest.raises(UserError, match="settings \\(name: 'random' there, 'other' here"):
        run("random", never, config={"name": "other"})
    first = run("seed_search", from_third(2))
    assert first["pre_success"] and first["entries"] == 1
    assert run("seed_search", never, overwrite=True)["entries"] == 3
    assert {e["seed"] for e in entries_of(tmp_path / "seed_search")[1:]} and run("no_attack", never)["entries"] == 1


def test_ring_a_bell_and_concept_inversion(model, case, tmp_path):
    (tmp_path / "pairs.csv").write_text("prompt,prompt1\na red church,a church\n")
    own = {"pairs_csv": tmp_path / "pairs.csv", "cof": 2.0, "population": 4, "generations": 2, "length": 3}
    inversion = CONFIG["concept_inversion"] | {"steps": 2, "batch": 2}
    plan = Plan(CONFIG | {"ring_a_bell": own, "concept_inversion": inversion}, [case], progress=False, folder=tmp_path)
    for name in ("ring_a_bell", "ring_a_bell_embedding", "concept_inversion"):
        attack = attacks.create(name, Target(model, SMALL, never), plan)
        assert attacks.run(attack, case, tmp_path / name, {"name": name})["entries"] == 2
        first, last = (
            Image.open(tmp_path / name / "images" / e["image"]).tobytes() for e in entries_of(tmp_path / name)
        )
        assert first != last
    saved = tmp_path / "concept_inversion.safetensors"
    start = Template(model, "a photo of a <c>", "object").start
    assert read(saved).shape == (32,) and not torch.equal(read(saved), start)
    again = ConceptInversion(Target(model, SMALL, never), plan)
    assert torch.equal(again.embedding(), read(saved))
    with pytest.raises(UserError, match="must be one token"):
        Template(model, "a photo of a <c>", "two words")
    with pytest.raises(UserError, match="in it once"):
        Template(model, "a photo", "object")
    save_safetensors(tmp_path / "two.safetensors", {"a": torch.zeros(2, 3)})
    with pytest.raises(UserError, match="not the embedding of one token"):
        read(tmp_path / "two.safetensors")


def test_found_tokens_are_drawn_as_text_or_as_they_are(model, case):
    ids = tokens.Prompt(model, case.prompt, 1, "prefix_k").with_ids(torch.tensor([49405]))
    as_text, as_ids = (
        Target(model, SMALL, never, eval_tokens=how).tried_ids(ids, case) for how in ("retokenized", "ids")
    )
    assert as_ids[1]["token_ids"].startswith("49405 ")
    assert np.array_equal(as_text[0], as_ids[0]) == as_text[1]["same_ids_again"]
    with pytest.raises(UserError, match="eval_tokens"):
        Target(model, SMALL, never, eval_tokens="both")


def test_found_tokens_draw_the_same_picture_again(model, case, tmp_path):
    """A token that the found text is not encoded as: from the CSV, ids and text each give what the attack drew."""
    codes = model.cond_stage_model.tokenizer.convert_tokens_to_ids(["c", "h</w>"])
    ids = tokens.Prompt(model, case.prompt, 2, "prefix_k").with_ids(torch.tensor(codes))
    drawn = {}
    for how in ("ids", "retokenized"):
        target = Target(model, SMALL, never, eval_tokens=how)
        log = Log(tmp_path / how / "attack_idx_0", {"attacker": {"eval_tokens": how}})
        for name, (picture, answer) in (
            ("orig.png", target.tried(case.prompt, case)),
            ("1.png", target.tried_ids(ids, case)),
        ):
            log.add(picture, name, {"prompt": case.prompt, **answer, "success": name == "1.png"})
        assert log.entries[1]["same_ids_again"] is False
        drawn[how] = picture
    assert not np.array_equal(*drawn.values())
    for how, picture in drawn.items():
        (prompt,), count = collecting.collect([tmp_path / how], collecting.Wanted())
        assert count == 1 and prompt.other_tokens == (how == "retokenized") and prompt.original == case.prompt
        collecting.write(tmp_path / "found.csv", [prompt])
        (row,) = read_csv(tmp_path / "found.csv")
        assert (row.evaluation_seed, row.evaluation_guidance) == (5, 2.5) and row.extra["run"] == "attack_idx_0"
        again = generate(
            model, [row], tmp_path / "again", preset("toy-fast", steps=2, image_size=32), {}, progress=False
        )
        assert (again.made, again.remade) == (1, how == "retokenized")  # the same prompt and seed, but other tokens
        assert np.array_equal(np.asarray(Image.open(tmp_path / "again" / "0_0.png")), picture)
    (found,), _ = collecting.collect([tmp_path / "retokenized"], collecting.Wanted(tokens="found"))
    assert list(found.token_ids[:2]) == codes and not found.other_tokens

    plan = Plan(CONFIG, [replace(case, token_ids=tuple(found.token_ids))], progress=False)
    attack = attacks.create("no_attack", Target(model, SMALL, never), plan)
    attacks.run(attack, plan.cases[0], tmp_path / "transfer", {})
    assert np.array_equal(np.asarray(Image.open(tmp_path / "transfer/images/orig.png")), drawn["ids"])


def test_ids_of_tokens_in_a_frame(model):
    end = text_tokens.end_of(model)
    for inner in ([], [320], [end, 320], [320] * 75):
        ids = text_tokens.framed(model, inner)
        assert len(ids) == 77 and ids[0] == end - 1 and ids[-1] == end and text_tokens.bare(ids, end) == inner
    assert torch.equal(tokens.ids_of(model, "a church"), text_tokens.framed(model, [320, 2735]))
    states = text_tokens.states_of_ids(model, tokens.ids_of(model, "a church"))
    assert torch.equal(states, model.get_learned_conditioning(["a church"])[0])
    for inner, message in (
        ([49408], "case 3: token id 49408 is not one of this model's vocabulary, 0 to 49407"),
        ([-1], "token id -1"),
        ([320] * 76, "case 3: 76 token ids, and a text has at most 75"),
        ([end - 1, 320], "without the start token"),
    ):
        with pytest.raises(UserError, match=message):
            generate(model, [Row(3, "x", 1, token_ids=tuple(inner))], "nowhere", SMALL, {})
    with pytest.raises(UserError, match="case 3: what is drawn here starts from a text"):
        generate(model, [Row(3, "x", 1, token_ids=(320,))], "nowhere", SMALL, {}, encode=lambda text: states)


# ---- files ---------------------------------------------------------------------------------------------------------


def test_times_and_rates():
    assert asr.seconds("0:01:30.5") == 90.5 and asr.seconds("1 day, 1:00:00") == 90000
    with pytest.raises(UserError, match="no time"):
        asr.seconds("soon")
    with pytest.raises(UserError, match="there are none"):
        asr.from_logs([], [])
    assert losses.sampled_timesteps(2) == [250, 750]
    with pytest.raises(UserError, match="criterion"):
        losses.criterion("l3")


def test_a_log_goes_on_in_time(tmp_path):
    log = Log(tmp_path, {"a": 1})
    log.add(np.zeros((8, 8, 3), np.uint8), "orig.png", {"success": np.False_, "prompt": "x"})
    entries = json.loads((tmp_path / "log.json").read_text())
    entries[0]["relative_time"] = "2:00:00"
    (tmp_path / "log.json").write_text(json.dumps(entries))
    again = Log(tmp_path, {"a": 1})
    again.add(np.zeros((8, 8, 3), np.uint8), "1.png", {"success": True, "prompt": "x"})
    assert asr.seconds(again.entries[1]["relative_time"]) >= 7200
    assert again.entries[1]["start_time"] == entries[0]["start_time"]
    assert again.finish()["entry"] == 1
    (tmp_path / "log.json").write_text("[")
    with pytest.raises(UserError, match="damaged"):
        Log(tmp_path, {"a": 1})


def test_data_of_an_attack(model, tmp_path):
    (tmp_path / "imgs").mkdir()
    rows = [Row(2, "a church", 1), Row(10, "word " * 70, 2, 3.5), Row(30, "a house, red", 3)]
    for row in rows:
        Image.new("RGB", (8, 8), (row.case_number,) * 3).save(tmp_path / "imgs" / f"{row.case_number}_0.png")
    write_prompts(tmp_path, rows)
    tokenizer = model.cond_stage_model.tokenizer
    cases = read_cases(tmp_path, tokenizer)
    assert [(c.index, c.prompt, c.seed, c.image.name) for c in cases] == [
        (0, "a church", 1, "2_0.png"), (1, "a house, red", 3, "30_0.png"),
    ]  # fmt: skip
    assert read_json(tmp_path / "ignore.json") == [1]
    whole = read_cases(tmp_path, tokenizer, pictures=False, filtered=False)
    assert len(whole) == 3 and whole[1].guidance == 3.5 and whole[1].image is None
    kept = keep_shown(tmp_path, rows, lambda pictures: [{"success": p.mean() > 5} for p in pictures])
    assert [row.case_number for row in kept] == [10, 30] and not (tmp_path / "imgs" / "2_0.png").exists()
    with pytest.raises(UserError, match="2 pictures for 3 prompts"):
        read_cases(tmp_path, tokenizer)
    with pytest.raises(UserError, match="none of 2 pictures"):
        keep_shown(tmp_path, kept, never)
    with pytest.raises(UserError, match="generate_dataset.py"):
        read_cases(tmp_path / "imgs", tokenizer)


def test_pictures_are_squared(tmp_path):
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:, 10:30] = 255
    Image.fromarray(picture).save(tmp_path / "a.png")
    assert torch.equal(squared(tmp_path / "a.png", 20), torch.ones(3, 20, 20))
    assert squared(tmp_path / "a.png", 32).shape == (3, 32, 32)


def test_judges():
    judge, facts = judge_of("nudity")
    (answer,) = judge([np.zeros((64, 64, 3), np.uint8)])
    assert answer == {"success": False, "nude": {}, "score": 0.0} and facts["threshold"] == 0.45
    assert judge_of("vangogh")[0]([None]) == [{"success": False}]
    with pytest.raises(UserError, match="'rembrandt' is not one of nudity"):
        judge_of("rembrandt")


def test_judges_with_weights_of_the_user(tmp_path, monkeypatch):
    """Random weights in their places: what is judged is nonsense, that it is judged is not."""
    monkeypatch.chdir(tmp_path)
    pictures = [np.full((64, 64, 3), value, np.uint8) for value in (0, 200)]
    with pytest.raises(UserError, match="no such file"):
        judge_of("church", "nowhere.pth")
    with pytest.raises(UserError, match="no such file"):
        judge_of("harm", "nowhere.p")
    network, _ = torchvision_weights.load("resnet50_v2", random=True)
    save_safetensors("net.safetensors", network.state_dict())
    judge, facts = judge_of("church", "net.safetensors")
    answers = judge(pictures)
    index = answers[0]["object"]
    assert facts["index"] == 497 and not any(a["success"] for a in answers if a["object"] != 497)
    assert answers[0]["score"] != answers[1]["score"] and 0 <= index < 1000


def test_artists_are_named_as_the_published_pipeline_names_them(tmp_path):
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor, pipeline

    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    names = {i: f"artist-{i}" for i in range(12)}
    config = ViTConfig(**small, image_size=32, patch_size=8, id2label=names)
    network = ViTForImageClassification(config)
    torch.nn.init.normal_(network.classifier.weight)
    network.save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    pictures = [np.random.default_rng(i).integers(0, 256, (48, 64, 3), dtype=np.uint8) for i in range(2)]
    judge, facts = judge_of("vangogh", tmp_path / "vit")
    theirs = pipeline("image-classification", model=str(tmp_path / "vit"), top_k=10, device="cpu")
    for picture, answer in zip(pictures, judge(pictures), strict=True):
        expected = theirs(Image.fromarray(picture))
        assert not answer["success"] and [s["label"] for s in answer["style"]] == [s["label"] for s in expected]
        assert [s["score"] for s in answer["style"]] == pytest.approx([s["score"] for s in expected], abs=1e-3)
    assert facts["detector"]["labels"] == 12 and len(facts["detector"]["sha256"]) == 64
    for folder, message in (("nowhere", "no such file"), (".", "not usable: a folder with config.json")):
        with pytest.raises(UserError, match=message):
            judge_of("vangogh", folder)


# ---- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs/attacks").glob("*/*.json")), ids=lambda p: f"{p.parent.name}-{p.stem}"
)
def test_shipped_configurations(path):
    found = settings.resolve(path, {})
    assert found["overall"]["attacker"] == path.stem
    assert found["overall"]["task"] == ("P4D" if path.stem == "hard_prompt" else "classifier")
    known = read_json(ROOT / "configs/attacks/concepts.json")
    assert found["task"]["concept"] in known or path.parent.name == "embedded"


def test_flags_override_a_configuration(tmp_path):
    given = {"attacker.k": "5", "attacker.text_grad.lr": "1", "attacker.text_grad.rand_init": "true"}
    found = settings.resolve("configs/nudity/text_grad.json", given)  # as published, without attacks/
    assert found["attacker"]["k"] == 5 and found["attacker"]["text_grad"] == {
        "lr": 1.0,
        "weight_decay": 0.1,
        "rand_init": True,
    }
    assert found["task"]["concept"] == "nudity" and found["attacker"]["iteration"] == 40


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "--overall.attacker is needed"),
        ({"overall.attacker": "gcg", "task.concept": "x"}, "has no code for it"),
        ({"overall.attacker": "x"}, "'x' is not one of text_grad"),
        ({"overall.attacker": "random", "task.concept": "x", "attacker.k": "0"}, "attacker.k must be at least 1"),
        ({"attacker.k": "three"}, "attacker.k must be of type int"),
        ({"overall.attacker": "random", "task.concept": "x", "overall.task": "sd_guidence"}, "not part of this version"),
        ({"overall.attacker": "random", "task.concept": "x", "overall.task": "transfer"}, "use --overall.attacker no_attack"),
        ({"overall.attacker": "random", "task.concept": "x", "task.sld": "max"}, "not part of this version"),
        ({"overall.attacker": "random", "task.concept": "x", "attacker.universal": "true"}, "have no code"),
    ],
)  # fmt: skip
def test_mistakes_in_settings(given, message):
    with pytest.raises(UserError, match=message):
        settings.resolve(None, given)


def test_mistakes_in_a_file(tmp_path):
    for text, message in (("[", "not JSON"), ("[]", "sections"), ('{"attacker": {"q": 1}}', "no setting 'attacker.q'")):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(UserError, match=message):
            settings.resolve(tmp_path / "c.json", {})
    with pytest.raises(UserError, match="no such file; configs/attacks"):
        settings.resolve("nowhere.json", {})
