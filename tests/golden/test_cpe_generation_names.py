"""Where CPE's generators save images and what they ask of the pipeline, as recorded from its scripts on its own files.

Recorded names differ from ours in what `erasure.generation.rows` documents: "/" and line breaks, and a leaked index in place of
the case number of explicit images.
"""

import re
from pathlib import Path

import pytest

from erasure.generation.presets import NAMINGS
from erasure.generation.rows import told_apart
from erasure.prompts import Row
from methods.cpe import generation
from methods.cpe.generation import CPE, EXPLICIT
from tests.golden import golden_data


def runs() -> dict[str, dict]:
    return golden_data.load_json("cpe/generation_filenames")["runs"]


def script_of(config: dict) -> generation.Script:
    return EXPLICIT if config["save_path"].endswith(EXPLICIT.pattern) else CPE


def place_of(run, config) -> tuple[Path, str]:
    """(folder, --save_env) of a recorded run. A prompt with "/" in it made folders below that of the run."""
    depth = len(Path(config["save_path"]).parts) - 1
    folder = Path(*Path(run["saved"][0]).parts[:depth])
    return folder, folder.parts[-2]


def settled(run, config):
    args = generation.build_parser(script_of(config)).parse_args([])
    return generation.settle(args, script_of(config), config)


def rows_of(run, config) -> list[Row]:
    """The rows that the recorded names say: prompts with spaces, of explicit images their first 20 characters."""
    folder, _ = place_of(run, config)
    rows = []
    for saved in run["saved"]:
        name = Path(saved).relative_to(folder).as_posix()
        text, seed = re.fullmatch(r"(.*)_(\d+)_\d+\.png", name, re.DOTALL).groups()
        if script_of(config) is EXPLICIT:
            text = text.split("_", 1)[1].replace("-", " ")
        rows.append(Row(100 + len(rows), text.replace("_", " "), int(seed)))
    return rows


def expected_name(saved: str, folder: Path, config, case_number: int) -> str:
    name = Path(saved).relative_to(folder).as_posix().replace("/", "_").replace("\n", "")
    if script_of(config) is EXPLICIT:
        name = f"{case_number}_{name.split('_', 1)[1]}"
    return name


def test_folders_names_and_settings():
    recorded = runs()
    assert recorded
    for label, run in recorded.items():
        config = generation.read_gen_config(run["config"], "sd-v1")
        folder, env = place_of(run, config)
        assert generation.output_folder(script_of(config), config["save_path"], env) == folder, label
        settings, asked = settled(run, config), run["pipeline_kwargs_first_call"]
        assert settings.steps == asked["num_inference_steps"] and settings.negative_prompt == asked["negative_prompt"]
        assert settings.num_samples == asked["num_images_per_prompt"] and settings.noise_device == "cuda"
        assert settings.image_size == asked["width"] == asked["height"]
        if not settings.row_guidance:
            assert settings.guidance == asked["guidance_scale"]
        drawn = rows_of(run, config)
        once = {(row.prompt, row.evaluation_seed): row for row in reversed(drawn)}  # generate_num names a row
        own = told_apart(list(once.values()), settings)
        ours = {NAMINGS[settings.naming](row, k) for row in own for k in range(settings.num_samples)}
        wanted = {
            expected_name(saved, folder, config, once[row.prompt, row.evaluation_seed].case_number)
            for saved, row in zip(run["saved"], drawn, strict=True)
        }
        assert ours == wanted, label


def test_names_of_the_prompt_files_that_are_made_here():
    """From the CSV's row to the recorded name; a row that repeats another's prompt and seed has its images."""
    checked = 0
    for label, run in runs().items():
        config = generation.read_gen_config(run["config"], "sd-v1")
        try:
            rows = generation.read_rows(config, (config["width"], config["height"]))
        except generation.UserError:  # another's prompts, which are not part of the repository
            continue
        if len(rows) <= max(run["csv_rows"]):
            continue  # what stands in for them
        settings = settled(run, config)
        own, folder = told_apart(rows, settings), place_of(run, config)[0]
        names = [NAMINGS[settings.naming](own[i], k) for i in run["csv_rows"] for k in range(settings.num_samples)]
        assert list(dict.fromkeys(names)) == [Path(saved).relative_to(folder).as_posix() for saved in run["saved"]], (
            label
        )
        checked += 1
    if not checked:
        pytest.skip("none of the recorded prompt files can be made here")
