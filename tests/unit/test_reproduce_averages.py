"""Rows and tables that are averages of others: the published averages come out of the published numbers."""

import pytest

from reproduce import averages
from reproduce.results import Entry, Measured
from reproduce.tables import table


def published(name):
    """The published numbers, as if they were ours."""
    return [
        Entry(
            str(cell.row), cell.method, cell.metric, cell.part, cell.better, cell.measure, cell.value, cell.certainty,
            None if cell.value is None else Measured(cell.value, n=10),
        )
        for cell in table(name).cells()
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["esd:objects", "uce:objects"])
def test_a_computed_row_is_the_mean_of_the_others(name):
    found = averages.with_computed(table(name), published(name))
    computed = [entry for entry in found if entry.ours.definition]
    assert len(computed) == len(table(name).metrics)
    for entry in computed:
        assert entry.ours.value == pytest.approx(entry.published, abs=0.06) and entry.ours.n == 100


def test_an_average_of_rows_that_are_not_there_is_not_made():
    (average,) = [
        entry for entry in averages.with_computed(table("mace:objects"), published("mace:objects"))
        if entry.method == "UCE" and entry.metric == "acc_e" and entry.why
    ]  # fmt: skip
    assert average.why == "it averages 10 rows, of which 4 are in this table"


def of_sources(name):
    sources = [entry for source in table(name).computed_from for entry in published(source)]
    return averages.of_sources(table(name), sources)


def test_averages_over_roles_are_the_published_ones():
    """But for the two cells that the table's note names as not agreeing with their source, within rounding."""
    found = of_sources("sepce:weights_average")
    far = [e for e in found if e.ours and abs(e.ours.value - e.published) > max(0.06, 0.003 * e.published)]
    assert len(found) == 90 and [(e.row, e.metric, e.part) for e in far] == [
        ("SRS-ME without weight regularisation, 1, t2", "recovered", "lpips"),
        ("SRS-ME with weight regularisation, 1, t0", "erased", "acc"),
    ]
    assert sum(entry.ours is None for entry in found) == sum(entry.published is None for entry in found) == 6


def test_averages_over_times_are_the_published_ones():
    found = [entry for entry in of_sources("sepce:scene_average") if entry.ours]
    assert len(found) == 6 and all(e.ours.value == pytest.approx(e.published, rel=5e-3) for e in found)
    single = [entry for entry in of_sources("sepce:scene_average") if not entry.ours]
    assert {entry.why for entry in single} == {"no row of the tables that it is computed from is of this method"}


def test_a_table_takes_rows_of_other_names():
    ours = {entry.method: entry.ours and entry.ours.value for entry in of_sources("cpe:nudity_totals")}
    assert ours == {"SD v1.4": 646, "RECE": 66, "CPE (four words)": 40, "AdvUnlearn": None, "SAeUron": None}
