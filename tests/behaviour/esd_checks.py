"""ESD at the embedded model's preset: the target goes, everything else stays, and the way back is exact.

Each case has a file of its own, so that one worker trains and draws it while the other does the next.
"""

import pytest
import torch

from erasure import base_models, edits


@pytest.mark.behaviour
@pytest.mark.slow
class ErasureChecks:
    """Subclass it as Test... with the concept as one would type it, the train_method and the concept's kind."""

    prompt: str
    method: str
    kind: str

    @pytest.fixture(scope="class")
    @classmethod
    def edit(cls, bench):
        return bench.esd(cls.prompt, cls.method)

    @pytest.fixture(scope="class")
    @classmethod
    def after(cls, bench, edit):
        return bench.measure(cls.prompt.lower(), edit)

    @pytest.fixture(scope="class")
    @classmethod
    def before(cls, bench, after):  # last, as the other worker wants the same pictures at the same time
        return bench.measure("base")

    @property
    def target(self):
        return self.prompt.lower()

    def test_the_target_is_gone(self, before, after):
        assert before.by_concept[self.kind, self.target] >= 0.9
        assert after.by_concept[self.kind, self.target] <= 0.10

    def test_every_other_style_stays(self, before, after):
        base = before.kind("style", self.target)
        kept = {concept: share / base[concept] for concept, share in after.kind("style", self.target).items()}
        assert {concept: share for concept, share in kept.items() if share < 0.9} == {}

    @pytest.mark.parametrize("kind", ("object", "person"))
    def test_objects_and_people_stay(self, before, after, kind):
        assert after.mean(kind, self.target) >= 0.95 * before.mean(kind, self.target)

    def test_removing_the_edit_gives_the_base_back_bit_for_bit(self, edit):
        model, identity = base_models.load("toy")
        original = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        with edits.apply(model, edit, identity) as applied:
            assert set(applied.matched) and not applied.missing
            changed = [key for key, tensor in model.state_dict().items() if not torch.equal(tensor, original[key])]
            assert changed and all(("attn2" in key) == (self.method == "xattn") for key in changed)
        for key, tensor in model.state_dict().items():
            assert torch.equal(tensor, original[key]), key
