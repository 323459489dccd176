"""Known answers on the embedded model: an attack brings a weakly erased style back, and finds nothing where nothing is to be found.

docs/attacks.md has the figures of all attacks, which take too long for a test.
"""

import contextlib

import pytest
from PIL import Image

from erasure import attacks, base_models, edits
from erasure.attacks.settings import resolve
from erasure.attacks.target import Case, Plan, Target
from erasure.generation import settings
from erasure.prompts import read_csv
from erasure.runs import ROOT
from erasure.text_states import TextStates
from methods.uce.erase import Erasure, context_map
from toyworld.attack_judge import embedded_judge

CONCEPT = "van gogh"
WEAK = 4e-4  # of UCE's scale, which erases fully from 1e-2 on: about half of the prompts still show the style
SETTINGS = resolve(
    "configs/attacks/embedded/text_grad.json", {"attacker.iteration": 10, "attacker.timesteps": 12}
)["attacker"]  # fmt: skip


@contextlib.contextmanager
def weakly_erased(model, identity):
    texts = TextStates.of(model)
    found, _ = context_map(Erasure([(CONCEPT, " ")], [""], erase_scale=WEAK), texts)
    edit = edits.Edit("uce", [CONCEPT], {}, identity.to_dict(), found.tensors(), "context_map")
    with edits.apply(model, edit, identity):
        yield


@contextlib.contextmanager
def deaf(model):
    """Whatever the text, the UNet is given that of another object: the model cannot be made to draw the style."""
    always = model.get_learned_conditioning(["a photo of a church"])

    def replaced(_, args, kwargs):
        return args, kwargs | {"c_crossattn": [0 * c + always for c in kwargs["c_crossattn"]]}

    hook = model.model.register_forward_pre_hook(replaced, with_kwargs=True)
    yield
    hook.remove()


@pytest.fixture(scope="module")
def base():
    return base_models.load("toy")


@pytest.fixture(scope="module")
def cases(base, tmp_path_factory):
    """Prompts for which the original model draws the style, with its pictures."""
    folder, rows = tmp_path_factory.mktemp("pictures"), read_csv(ROOT / "data/attacks/van-gogh.csv")[:6]
    judge, _ = embedded_judge(CONCEPT)
    pictures = Target(base[0], settings("toy-fast"), judge).pictures(
        [row.prompt for row in rows], [row.evaluation_seed for row in rows]
    )
    assert all(answer["success"] for answer in judge(pictures))
    for row, picture in zip(rows, pictures, strict=True):
        Image.fromarray(picture).save(folder / f"{row.case_number}_0.png")
    return [
        Case(row.case_number, row.prompt, row.evaluation_seed, image=folder / f"{row.case_number}_0.png")
        for row in rows
    ]


def attacked(name, model, cases, folder, plan_settings):
    target = Target(model, settings("toy-fast"), embedded_judge(CONCEPT)[0])
    attack = attacks.create(name, target, Plan(plan_settings, cases, progress=False))
    return [attacks.run(attack, case, folder / name / str(case.index), {}) for case in cases]


@pytest.mark.behaviour
@pytest.mark.slow
def test_unlearndiffatk_brings_a_weakly_erased_style_back(base, cases, tmp_path):
    with weakly_erased(*base):
        results = attacked("text_grad", base[0], cases, tmp_path, SETTINGS)
    pre, won = (sum(r[key] for r in results) for key in ("pre_success", "success"))
    assert pre < len(cases) <= won / 0.8, (pre, won)


@pytest.mark.behaviour
def test_nothing_is_found_in_a_model_that_cannot_draw_the_concept(base, cases, tmp_path):
    with deaf(base[0]):
        few = SETTINGS | {"timesteps": 4}
        results = attacked("text_grad", base[0], cases[:2], tmp_path, few)
        results += attacked("seed_search", base[0], cases[:2], tmp_path, few)
        results += attacked("random", base[0], cases[:2], tmp_path, few | {"iteration": 4})
    assert sum(r["success"] for r in results) <= 0.1 * len(results)
    assert {r["entries"] for r in results} == {5, 11}  # nothing ended early
