"""What every method has to show on the embedded model: the target goes, everything else stays, and the way back is exact.

A subclass named Test... says what is erased and how. Files hold few of them, so that one worker erases and draws while
the other does the next file.
"""

import pytest
import torch

from erasure import base_models, edits
from tests.behaviour.conftest import MANY, base_folder, prompts


@pytest.mark.behaviour
@pytest.mark.slow
class ErasureChecks:
    targets: tuple[str, ...]
    others = MANY  # prompts of every other concept
    drawing: dict = {}  # of the pictures, other than the preset
    gone = 0.15  # at most this share of a target's pictures still shows it
    kept = 0.9  # at least this share of the base's, by kind

    @classmethod
    def make(cls, bench):
        """The edit."""
        raise NotImplementedError

    @classmethod
    def changes(cls, key: str) -> bool:
        """Whether the method may change this tensor of the model."""
        return "attn2.to_k" in key or "attn2.to_v" in key

    @classmethod
    def rows(cls):
        return prompts(*cls.targets, others=cls.others)

    @pytest.fixture(scope="class")
    @classmethod
    def edit(cls, bench):
        return cls.make(bench)

    @pytest.fixture(scope="class")
    @classmethod
    def after(cls, bench, edit):
        return bench.measure(f"{cls.__module__}.{cls.__name__}", cls.rows(), edit, **cls.drawing)

    @pytest.fixture(scope="class")
    @classmethod
    def before(cls, bench, after):  # last, as the other worker wants the same pictures at the same time
        return bench.measure(base_folder(cls.drawing), cls.rows(), **cls.drawing)

    def test_the_target_is_gone(self, before, after):
        assert min(before.of(target) for target in self.targets) >= 0.9
        assert {target: after.of(target) for target in self.targets if after.of(target) > self.gone} == {}

    @pytest.mark.parametrize("kind", ("style", "object", "person", "figure"))
    def test_everything_else_stays(self, before, after, kind):
        assert after.mean(kind, *self.targets) >= self.kept * before.mean(kind, *self.targets)

    def test_removing_the_edit_gives_the_base_back_bit_for_bit(self, edit):
        model, identity = base_models.load("toy")
        original = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        with edits.apply(model, edit, identity) as applied:
            assert set(applied.matched) and not applied.missing
            changed = [key for key, tensor in model.state_dict().items() if not torch.equal(tensor, original[key])]
            assert changed and all(self.changes(key) for key in changed)
        for key, tensor in model.state_dict().items():
            assert torch.equal(tensor, original[key]), key
