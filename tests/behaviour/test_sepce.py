"""SepCE at the embedded model's preset: three styles erased with a term each, then one of them restored."""

import pytest
import torch

from erasure import base_models, edits
from erasure.text_states import TextStates
from tests.behaviour.conftest import prompts
from tests.behaviour.sepce_checks import SepceChecks

NONE = dict.fromkeys(("style", "object", "person", "figure"), 0)


class TestThreeStyles(SepceChecks):
    targets = ("van gogh", "picasso", "cezanne")
    script = "SepCE"
    flags = ("--concepts", ",".join(targets))

    def test_every_term_stopped_by_itself(self, edit):
        assert all(part.facts["stopped"] for part in edits.parts_of(edit))

    @pytest.mark.parametrize("restored", targets[:1])
    def test_only_the_restored_style_comes_back(self, bench, before, edit, restored):
        rest = edits.drop(edit, [restored])
        after = bench.measure(
            f"{type(self).__module__}.without-{restored}", prompts(*self.targets, others=NONE), rest, **self.drawing
        )
        assert after.of(restored) >= 0.9 * before.of(restored)
        still = {target: after.of(target) for target in self.targets if target != restored}
        assert {target: share for target, share in still.items() if share > self.gone} == {}

    def test_a_restored_term_leaves_the_others_as_they_were(self, edit):
        """The model of what is left is, bit for bit, the one that these terms alone make."""
        model, identity = base_models.load("toy")
        first, *others = edits.parts_of(edit)
        with edits.apply(model, edits.drop(edit, [first.concept]), identity):
            dropped = {name: w.clone() for name, w in model.state_dict().items()}
        with edits.apply(model, edits.compose([edits.keep(edit, [part.concept]) for part in others]), identity):
            for name, weight in model.state_dict().items():
                assert torch.equal(weight, dropped[name]), name

    def test_protected_prompts_see_little_of_a_term(self, edit):
        """No two prompts fit into the 96 dimensions exactly; what passes is what the edit's header says."""
        texts = TextStates.of(base_models.load("toy")[0])
        for part in edits.parts_of(edit):
            largest = max(texts[prompt].states.norm(dim=1).max().item() for prompt in part.protected)
            passes = max((texts[p].states @ part.basis.T).norm(dim=1).max().item() for p in part.protected) / largest
            own = (texts[part.concept].states @ part.basis.T).norm(dim=1).max().item() / largest
            assert passes == pytest.approx(part.facts["leak"], rel=1e-6) and passes < own / 5
