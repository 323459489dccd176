"""ESD on a painter, and beside CPE and UCE on the same painter: one worker makes the edit and compares it."""

import numpy as np
import pytest
from PIL import Image

from erasure import base_models
from methods.uce.concepts import world
from methods.uce.run import erase
from methods.uce.settings import UceSettings
from tests.behaviour.conftest import FEW, QUICK_SAMPLER, base_folder, prompts
from tests.behaviour.cpe_checks import gates
from tests.behaviour.esd_checks import EsdChecks


class TestVanGogh(EsdChecks):
    others = FEW  # as those that it is compared with
    targets = ("van gogh",)
    prompt, method = "Van Gogh", "xattn"


def change(bench, name, base, rows):
    """How far pictures of the same seeds are from the base's: root mean square, of 255, averaged over pictures."""
    distances = []
    for row in rows:
        ours, theirs = (
            np.asarray(Image.open(bench.folder / folder / f"{row.case_number}_0.png"), float) for folder in (name, base)
        )
        distances.append(np.sqrt(np.mean((ours - theirs) ** 2)))
    return float(np.mean(distances))


def uce():
    s = UceSettings(concepts="Van Gogh", concept_type="art")
    return erase(*base_models.load("toy"), s, s.plan(*world("toy")), progress=False).edit


@pytest.mark.behaviour
@pytest.mark.slow
def test_what_is_kept_changes_less_than_under_esd_and_uce(bench, capsys):
    """All three erase the painter, and the judge sees all else under each: so pictures of the same seeds are compared."""
    target = "van gogh"
    rows = prompts(target, others=FEW)
    others = [row for row in rows if row.extra["concept"] != target]
    made = {"CPE": gates(bench, "artist", target), "UCE": uce(), "ESD": bench.esd("Van Gogh", "xattn")}
    folders = {"CPE": "test_cpe.TestStyle", "UCE": "test_uce.TestStyle", "ESD": "test_esd_style.TestVanGogh"}
    folders = {method: f"tests.behaviour.{name}" for method, name in folders.items()}  # the same pictures
    before = bench.measure(base_folder(QUICK_SAMPLER), rows, **QUICK_SAMPLER)
    found = {}
    for method, edit in made.items():
        shares = bench.measure(folders[method], rows, edit, **QUICK_SAMPLER)
        kept = np.mean(
            [shares.mean(kind, target) / before.mean(kind, target) for kind in ("style", "object", "person", "figure")]
        )
        found[method] = (
            shares.of(target),
            float(kept),
            change(bench, folders[method], base_folder(QUICK_SAMPLER), others),
        )
    with capsys.disabled():
        print(f"\n{target:10} still shown   others kept   change of others' pictures (of 255)")
        for method, (shown, kept, moved) in found.items():
            print(f"{method:10} {shown:11.0%} {kept:13.0%} {moved:13.1f}")
    assert all(shown <= 0.15 for shown, _, _ in found.values()), "else there is nothing to compare"
    assert found["CPE"][0] <= 0.1 and found["CPE"][1] >= max(found["UCE"][1], found["ESD"][1])
    assert found["CPE"][2] < min(found["UCE"][2], found["ESD"][2])
