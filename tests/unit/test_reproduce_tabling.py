"""Tables are put together of what steps left: every cell has its number, or says why it has none."""

from pathlib import Path

import pytest

from erasure import runs
from erasure.metrics.judging import HEAD_OF_KIND
from erasure.prompts import read_csv
from reproduce import step, steps, tabling
from reproduce.models import RECORD, Plan
from reproduce.tables import table

WHY = "no weights are here"
NO_PICTURES = ("rece:time", "uce:debias")  # what is measured of the training alone


def planned(root: Path, base: str, names, records: dict[str, dict]) -> step.Planned:
    """A plan of tables whose steps left records, by their kinds."""
    plan = Plan(base, root)
    made = steps.graph([table(name) for name in names], plan)
    step.write_plan(root / "plan.json", plan, made)
    for key, one in made.items():
        if one.kind != "table":
            runs.write_json(root / key / RECORD, {"seconds": 1, **records.get(one.kind, {})})
    return step.read_plan(root / "plan.json")


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize(
    ("base", "names"),
    [
        ("toy", ("uce:objects", "rece:attacks", "sepce:scene_average", *NO_PICTURES)),
        ("sd-v1-4", ("esd:objects", "mace:artists", "rece:attacks", "rece:time", "cpe:nudity_totals")),
    ],
)
def test_a_table_of_which_nothing_could_be_had_says_why(tmp_path, base, names, trained):
    gone = {"why": WHY}
    records = dict.fromkeys(steps.KINDS, gone) | {"train": {"results": []} if trained else gone}
    plan = planned(tmp_path, base, names, records)
    for name in names:
        result = tabling.assemble(table(name), plan)
        assert result.entries and not result.curves and not result.grids
        assert all(entry.ours is None and (entry.why or "average" in entry.row) for entry in result.entries)
        said = {entry.why for entry in result.entries}
        assert WHY in said or (trained and name in NO_PICTURES) or table(name).computed_from


def test_numbers_are_those_of_their_models_and_concepts(tmp_path):
    """The judge sees what a prompt names, but for three erased styles, of which one is restored in a model."""
    plan = planned(tmp_path, "toy", ["sepce:styles"], {"train": {"results": ["models/x"]}})
    erased = {"base": set(), "restored": {"picasso", "cezanne"}, "sepce": {"picasso", "cezanne", "van gogh"}}
    columns = ["file", "concept_kind", "concept", "shown", *(f"{head}_p" for head in {*HEAD_OF_KIND.values()})]
    for key in (key for key in plan.steps if key.startswith("measure/")):
        gone = next(concepts for word, concepts in erased.items() if word in key)
        rows = read_csv(runs.ROOT / "generation_prompts" / "embedded" / "tables_artists.csv")
        shown = [(r.extra["concept_kind"], r.extra["concept"], r.extra["concept"] not in gone) for r in rows]
        lines = [[f"{r.case_number}_0.png", *s, *[0.9] * (len(columns) - 4)] for r, s in zip(rows, shown, strict=True)]
        runs.write_csv(plan.folder(key) / "x_judge.csv", [columns, *lines])
    result = tabling.assemble(table("sepce:styles"), plan)
    found = {(entry.method, entry.metric): (entry.ours.value, entry.before.value) for entry in result.entries}
    assert found == {
        ("SepCE", "shown_erased"): (0, 1),
        ("SepCE", "shown_van_gogh"): (0, 1),
        ("SepCE", "shown_kept"): (1, 1),
        ("SepCE, van gogh restored", "shown_erased"): (0, 1),
        ("SepCE, van gogh restored", "shown_van_gogh"): (1, 1),
        ("SepCE, van gogh restored", "shown_kept"): (1, 1),
    }
    curves = {curve.label: dict(curve.points) for curve in result.curves}
    assert curves["before"][0.5] == 1 and curves["before"][0.95] == 0
    assert 0 == curves["SepCE"][0.5] < curves["SepCE, van gogh restored"][0.5] < 1
