"""docs/metrics.md is what the code says, and the definitions are complete and used."""

import re

import pytest

from erasure.metrics import docs
from erasure.metrics.definitions import METRICS, meaning
from erasure.runs import ROOT
from tests.cli.process import run


def test_the_document_is_up_to_date():
    assert docs.PATH.read_text(encoding="utf-8") == docs.text(), "run python -m erasure.metrics.docs"
    done = run("-m", "erasure.metrics.docs", "--check", cwd=ROOT)
    assert done.returncode == 0 and "up to date" in done.stdout


def test_the_document_names_everything():
    text = docs.text()
    for metric in METRICS.values():
        assert f"\n## {metric.title}\n" in text and f"`{metric.script}`" in text
        assert f"](#{docs._anchor(metric.title)})" in text and all(note in text for note in metric.notes)
    assert "dcbb9e9d" in text and "](#clip-score)" in text


@pytest.mark.parametrize("key", METRICS)
def test_a_definition_is_whole_and_its_script_is_there(key):
    metric = METRICS[key]
    for script in (metric.script, *metric.scripts):
        assert (ROOT / script).is_file()
    assert len(metric.definition) > 20 and metric.source and metric.better and metric.interval and metric.files
    used = {"fid"}  # its summaries have the formula of the one of the two that was computed
    code = "".join(path.read_text() for path in (ROOT / "erasure" / "metrics").glob("*.py"))
    code += (ROOT / metric.script).read_text()
    assert key in used or re.search(rf'["\']{key}["\']\)|meaning\("{key}"\)', code), "no summary says it"
    assert meaning(key) == metric.definition


def test_fid_and_kid_say_what_the_definitions_say():
    from erasure.metrics.frechet import DEFINITIONS

    assert DEFINITIONS["FID"] in meaning("fid") and SHARED in meaning("fid") and SHARED in DEFINITIONS["KID"]


SHARED = "(x.y / D + 1)^3, mean of 100 subsets of up to 1000"
