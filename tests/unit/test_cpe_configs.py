"""CPE's YAML files: the published values, files that are there or can be made, and what the embedded model gets instead."""

import hashlib

import pytest

from erasure import prompt_rules, prompt_sets
from erasure.errors import UserError
from erasure.prompts import read_csv, read_table
from erasure.runs import ROOT, find
from methods.cpe.yaml_files import merged, read_config, read_yaml
from toyworld import captions
from toyworld.concepts import OBJECTS, PEOPLE, STYLES

DOMAINS = ("celeb", "artist", "explicit")
TRAINING = [f"configs/train_{domain}/config.yaml" for domain in DOMAINS]
GENERATION = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("configs/gen_*/*.yaml"))
FAMILIES = ("sd-v1", "toy")

# What differs between the published training files, in the order of DOMAINS
PUBLISHED = {
    "replace_word": ("actor", "artist", "explicit"),
    "network.rank": (1, 1, 4),
    "network.alpha": (1.0, 1.0, 1.0),
    "network.init_size": (16, 16, 64),
    "train.iterations": (450, 450, 1200),
    "train.lr": (3e-5, 3e-5, 3e-5),
    "train.lr_warmup_steps": (5, 5, 10),
    "train.lr_scheduler_num_cycles": (1, 1, 1),
    "train.pal": (1e5, 1e4, 1e5),
    "train.train_seed": (2024, 2024, 2024),
    "train.do_adv_learn": (True, True, True),
    "train.num_stages": (5, 10, 20),
    "train.iterations_adv": (450, 450, 1200),
    "train.lr_adv": (0.01, 0.01, 0.01),
    "train.lr_warmup_steps_adv": (5, 5, 5),
    "train.lr_scheduler_num_cycles_adv": (1, 1, 1),
    "train.num_add_prompts": (16, 16, 32),
    "train.adv_coef": (1.0, 1.0, 1.0),
    "train.factor_init_iter": (4, 4, 2),
    "train.factor_init_lr": (10, 10, 10),
    "train.factor_init_lr_cycle": (2, 2, 2),
    "save.name": ("singleton_onebyone_person", "artistic_onebyone", "singleton_onebyone_explicit"),
    "save.stage_interval": (1, 1, 20),
    "logging.interval": (1800, 1800, 2400),
    "logging.stage_interval": (6, 11, 21),
}
TARGETS = {  # number, first ones, neutral, guidance, anchors drawn per iteration
    "celeb": (50, ["chris evans", "chuck norris", "jake gyllenhaal"], "a person", "0.3", 32),
    "artist": (100, ["briton rivière", "brooke didonato"], "real photograph", "0.5", 16),
    "explicit": (4, ["nudity", "naked", "erotic", "sexual"], "a person in modest clothing", "3.0", 16),
}
TEMPLATES = {  # sha256 of the published prompt_templates.csv
    "celeb": "e83c208c828ab0fc54b52f4421ec95e62d9de40e5ef646db6e5bbad46ae4e175",
    "artist": "314b5618fc91aac1401087f17b9b001a0c1caae2d1e619d0854c1685857529d2",
    "explicit": "59bd6a5a9828e80d7f17671ab1109609020d76cb8b6925b98a4c563ba1266f8d",
}
GENERATED = {  # prompts, whether the negative prompt is the long one, images per prompt
    "gen_celeb/config_celeb_erased": ("celebrity_50_erased", True, 1, "celeb_50/#/erased"),
    "gen_celeb/config_celeb_remained": ("celebrity_100_remained", True, 1, "celeb_50/#/remained"),
    "gen_celeb/config_artist": ("art_100_remained", False, 1, "celeb_50/#/artist"),
    "gen_celeb/config_character": ("character_64", False, 5, "celeb_50/#/character"),
    "gen_celeb/config_coco_30k": ("coco_30k", False, 1, "celeb_50/#/coco_30k"),
    "gen_artist/config_artist_erased": ("art_100_erased", False, 1, "artist_100/#/erased"),
    "gen_artist/config_artist_remained": ("art_100_remained", False, 1, "artist_100/#/remained"),
    "gen_artist/config_actor": ("celebrity_100_remained", True, 1, "artist_100/#/actor"),
    "gen_artist/config_character": ("character_64", False, 5, "artist_100/#/character"),
    "gen_artist/config_coco_30k": ("coco_30k", False, 1, "artist_100/#/coco_30k"),
    "gen_explicit/config_explicit_erased": ("I2P_prompts_4703", False, 1, "explicit_4/#/i2p_nudity"),
    "gen_explicit/config_coco_30k": ("coco_30k", False, 1, "explicit_4/#/coco_30k"),
}
LONG = (
    "bad anatomy,watermark,extra digit,signature,worst quality,jpeg artifacts,normal quality,low quality,long neck,lowres,error,"
    "blurry,missing fingers,fewer digits,missing arms,text,cropped,Humpbacked,bad hands,username"
)


def value(settings, key):
    for part in key.split("."):
        settings = settings[part]
    return settings


@pytest.mark.parametrize("key", PUBLISHED)
def test_training_values(key):
    assert tuple(value(read_config(path, "sd-v1"), key) for path in TRAINING) == PUBLISHED[key]


@pytest.mark.parametrize("domain", DOMAINS)
def test_targets_in_training_order(domain):
    n, first, neutral, guidance, drawn = TARGETS[domain]
    listed = read_yaml(f"configs/train_{domain}/prompt.yaml")
    assert [entry["target"] for entry in listed][: len(first)] == first
    assert len({entry["target"] for entry in listed}) == len(listed) == n
    for entry in listed:
        assert entry["positive"] == entry["target"]
        assert (entry["neutral"], entry["guidance_scale"]) == (neutral, guidance)
        assert (entry["sampling_batch_size"], entry["unconditional"]) == (drawn, "")


@pytest.mark.parametrize("domain", DOMAINS)
def test_templates_are_the_published_files(domain):
    content = (ROOT / f"configs/train_{domain}/prompt_templates.csv").read_bytes()
    assert hashlib.sha256(content).hexdigest() == TEMPLATES[domain]


def test_generation_values():
    assert GENERATION == sorted(f"configs/{name}.yaml" for name in GENERATED)
    for name, (prompts, long, n, where) in GENERATED.items():
        settings = read_config(f"configs/{name}.yaml", "sd-v1")
        fields = "{}_{}_{}_{}.png" if prompts.startswith("I2P") else "{}_{}_{}.png"
        assert settings == {
            "prompt_path": f"generation_prompts/{prompts}.csv",
            "negative_prompt": LONG if long else "",
            "unconditional_prompt": "",
            "width": 512,
            "height": 512,
            "num_inference_steps": 50,
            "guidance_scale": 7.5,
            "seed": 0,
            "generate_num": n,
            "save_path": f"generated_images/{where}/{fields}",
            "gate_rank": 64 if "explicit" in name else 16,
        }


def files_of(settings):
    """Paths that settings name."""
    anchors = settings.get("anchors", {}).values()
    named = [settings.get(key) for key in ("prompts_file", "scripts_file", "prompt_path")]
    return [path for path in (*named, *anchors) if isinstance(path, str)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("path", TRAINING + GENERATION)
def test_files_are_here_or_known(path, family):
    settings = read_config(path, family)
    assert "embedded" not in settings
    third_party = {source["file"] for source in prompt_sets.sources().values()}
    assert files_of(settings)
    for file in files_of(settings):
        known = family == "sd-v1" and (file.rpartition("/")[2] in prompt_rules.rules() or file in third_party)
        assert known or find(file).is_file(), file


@pytest.mark.parametrize("path", TRAINING + GENERATION)
def test_the_embedded_model_has_a_folder_and_texts_of_its_own(path):
    published, embedded = (read_config(path, family) for family in FAMILIES)
    domain = path.split("/")[1].split("_")[1]
    place, other = (value(s, "save.path") if "save" in s else s["save_path"] for s in (embedded, published))
    assert place.split("/")[-3 if "save" in embedded else -4] == f"{domain}_embedded"
    assert place.rsplit("/", 1)[1] == other.rsplit("/", 1)[1]
    assert not set(files_of(published)) & set(files_of(embedded))
    assert read_yaml(path)["embedded"]


# ---- the embedded model's texts --------------------------------------------------------------------------------------

FILLS = {
    "OBJECT_PHOTO": [{"object": captions.with_article(o), "name": o} for o in OBJECTS],
    "OBJECT_IN_STYLE": [
        {"object": captions.with_article(o), "name": o, "style": s} for o in OBJECTS for s in STYLES
    ],
    "PORTRAIT_IN_STYLE": [{"style": s} for s in STYLES],
    "STYLE_ALONE": [{"style": s} for s in STYLES],
    "PERSON_IN_STYLE": [{"person": p, "style": s} for p in PEOPLE for s in STYLES],
    "PERSON": [{"person": p} for p in PEOPLE],
}  # fmt: skip
CAPTIONS = {t.format(**fill) for name, fills in FILLS.items() for t in getattr(captions, name) for fill in fills}
CAPTIONS |= {
    *captions.SOMEONE,
    *captions.ANY_OBJECT,
    *captions.ANY_ART,
    *captions.FIGURE["clothed"],
    *captions.FIGURE["nude"],
}
EMBEDDED_PROMPTS = sorted({read_config(path, "toy")["prompt_path"] for path in GENERATION})


@pytest.mark.parametrize("path", EMBEDDED_PROMPTS)
def test_prompts_are_captions_that_the_model_knows(path):
    rows = read_csv(path)
    assert 10 <= len(rows) <= 40
    assert {row.prompt for row in rows} <= CAPTIONS
    assert len({(row.prompt, row.evaluation_seed) for row in rows}) == len(rows)
    for row in rows:
        if row.extra.get("concept_kind") in ("style", "person", "object"):
            assert row.extra["concept"] in row.prompt


@pytest.mark.parametrize(("kind", "domain", "known"), [("celebrity", "celeb", PEOPLE), ("artist", "artist", STYLES)])
def test_prompts_of_the_embedded_model_are_of_the_erased_or_of_all_the_others(kind, domain, known):
    erased, remained = (
        {row.extra["concept"] for row in read_csv(f"generation_prompts/embedded/{kind}_{part}.csv")}
        for part in ("erased", "remained")
    )
    settings = read_config(f"configs/train_{domain}/config.yaml", "toy")
    assert {entry["target"] for entry in read_yaml(settings["prompts_file"])} == erased
    assert (erased | remained, erased & remained) == (set(known), set())
    assert settings["anchors"]["candidates"] == list(known)


@pytest.mark.parametrize("domain", DOMAINS)
def test_templates_and_anchors_of_the_embedded_model(domain):
    settings = read_config(f"configs/train_{domain}/config.yaml", "toy")
    word = settings["replace_word"]
    _, rows = read_table(settings["scripts_file"])
    templates = [row["prompt"] for row in rows] + [word]
    assert all(word in template for template in templates)
    if domain == "explicit":
        assert set(find(settings["anchors"]["prompts"]).read_text().splitlines()) <= CAPTIONS - set(
            captions.FIGURE["nude"]
        )
        return
    general, known = settings["anchors"]["general"], settings["anchors"]["candidates"]
    assert {template.replace(word, name) for template in templates for name in known} <= CAPTIONS
    assert set(general) <= CAPTIONS
    assert not any(word in anchor for anchor in general + known)  # it would be filled in twice


# ---- the reader -------------------------------------------------------------------------------------------------------


def test_mappings_are_merged_and_lists_are_replaced():
    values = {"a": {"x": 1, "y": [1, 2], "z": {"deep": 1}}, "b": 2}
    over = {"a": {"y": [3], "z": {"new": 4}}, "c": {"d": 5}}
    assert merged(values, over) == {"a": {"x": 1, "y": [3], "z": {"deep": 1, "new": 4}}, "b": 2, "c": {"d": 5}}
    assert values == {"a": {"x": 1, "y": [1, 2], "z": {"deep": 1}}, "b": 2}


def test_the_embedded_block_counts_for_its_family_only(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: {x: 1, y: 2}\nembedded:\n  a: {x: 3}\n")
    assert read_config(path, "toy") == {"a": {"x": 3, "y": 2}}
    assert read_config(path, "sd-v1") == {"a": {"x": 1, "y": 2}}
    path.write_text("pal: 1e+4\nlr: '3e-5'\n")
    assert read_config(path, "toy") == read_config(path, "sd-v1") == {"pal": 1e4, "lr": "3e-5"}


@pytest.mark.parametrize(
    ("text", "what"),
    [("a: [1", "not a YAML file"), ("- a\n- b\n", "holds no settings"), ("embedded: 3\n", "embedded holds no settings"),
     ("!!python/object/apply:os.system ['true']\n", "not a YAML file"), ("a: ${nowhere}\n", "not a YAML file")],
)  # fmt: skip
def test_mistakes(tmp_path, text, what):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=what):
        read_config(path, "toy")


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_config(tmp_path / "config.yaml", "toy")
    with pytest.raises(UserError, match="is a folder"):
        read_config(tmp_path, "toy")
