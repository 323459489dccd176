"""CPE on the embedded model: three people at once, and one of them restored."""

import torch

from erasure import base_models, edits
from tests.behaviour.conftest import prompts
from tests.behaviour.cpe_checks import CpeChecks, gates

PEOPLE = ("adam driver", "anna faris", "barack obama")
NONE = dict.fromkeys(("style", "object", "person", "figure"), 0)


class TestOnePerson(CpeChecks):
    targets = concepts = PEOPLE[:1]
    domain = "celeb"


class TestThreePeople(CpeChecks):
    targets = concepts = PEOPLE
    domain = "celeb"

    def test_a_restored_person_comes_back_and_the_others_do_not(self, bench, before, edit):
        rest = edits.drop(edit, PEOPLE[:1])
        name = f"{type(self).__module__}.without"
        after = bench.measure(name, prompts(*PEOPLE, others=NONE), rest, **self.drawing)
        assert after.of(PEOPLE[0]) >= 0.9 * before.of(PEOPLE[0])
        assert {person: after.of(person) for person in PEOPLE[1:] if after.of(person) > self.gone} == {}

    @torch.no_grad()
    def test_what_is_left_is_exactly_the_edit_of_the_others(self, bench, edit):
        model, identity = base_models.load("toy")
        x, t = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([500])
        context = model.get_learned_conditioning([f"a portrait of {PEOPLE[0]}"])
        said = []
        for of_others in (edits.drop(edit, PEOPLE[:1]), gates(bench, "celeb", *PEOPLE[1:])):
            with edits.apply(model, of_others, identity):
                said.append(model.apply_model(x, t, context))
        assert torch.equal(*said)
