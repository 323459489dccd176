"""Which epoch is kept: the rules of the published scripts, fed with what validation measured.

rule = rule_for("rate", validated=True)
rule.before("sd", 0.9), rule.before("uce", 0.5)
rule.after(0, 0.4)      # Verdict(published_name="0.4000-0", stop=False)
rule.selected()         # Selected(epoch=0, why="lowest detection rate")
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Verdict(NamedTuple):
    published_name: str | None  # of the checkpoint that the published script would keep; None: it keeps none
    stop: bool = False


class Selected(NamedTuple):
    epoch: int
    why: str
    improves: bool  # the published rule keeps it


@dataclass
class EveryEpoch:
    """train_artists.py, and any run without validation: all epochs are kept, and the last one is the result."""

    epochs: list[int] = field(default_factory=list)

    def before(self, stage: str, measured: Any) -> None:
        pass

    def after(self, epoch: int, measured: Any) -> Verdict:
        self.epochs.append(epoch)
        return Verdict(f"epoch_{epoch}")

    def selected(self) -> Selected:
        return Selected(self.epochs[-1], "last epoch", True)

    def files(self) -> dict[str, dict]:
        return {}


@dataclass
class LowestRate:
    """train.py: an epoch is kept if its detection rate is lower than that of all before it, base and start included."""

    rates: dict[str, float] = field(default_factory=dict)  # sd, uce, 0, 1, ...
    kept: list[int] = field(default_factory=list)

    def before(self, stage: str, measured: float) -> None:
        self.rates[stage] = measured

    def after(self, epoch: int, measured: float) -> Verdict:
        lower = measured < min(self.rates.values())
        self.rates[str(epoch)] = measured
        if not lower:
            return Verdict(None)
        self.kept.append(epoch)
        return Verdict(f"{measured:.4f}-{epoch}")

    def selected(self) -> Selected:
        if self.kept:
            return Selected(self.kept[-1], "lowest detection rate", True)
        epochs = [int(stage) for stage in self.rates if stage.isdigit()]
        best = min(reversed(epochs), key=lambda epoch: self.rates[str(epoch)])
        return Selected(best, "lowest detection rate of the epochs, though not below that of before", False)

    def files(self) -> dict[str, dict]:
        return {"detect_rate.json": self.rates}


@dataclass
class TargetAccuracy:
    """train_object.py: an epoch is kept if less of the target is left than at the start and little else is lost.

    Accuracies are pairs (of the erased class, of the others). Nothing left of the target ends the run.
    """

    target: dict[str, float] = field(default_factory=dict)
    other: dict[str, float] = field(default_factory=dict)
    kept: list[int] = field(default_factory=list)
    tolerance = 0.1  # of the other classes' accuracy

    def before(self, stage: str, measured: tuple[float, float]) -> None:
        self.target[stage], self.other[stage] = measured

    def after(self, epoch: int, measured: tuple[float, float]) -> Verdict:
        target, other = self.target[str(epoch)], self.other[str(epoch)] = measured
        start = "uce" if "uce" in self.target else "sd"
        gone = target == 0
        if not (gone or (target < self.target[start] and other >= self.other[start] - self.tolerance)):
            return Verdict(None)
        self.kept.append(epoch)
        return Verdict(f"ep_{epoch}_tar_{target}_oth_{other}", stop=gone)

    def selected(self) -> Selected:
        epochs = self.kept or [int(stage) for stage in self.target if stage.isdigit()]
        best = min(reversed(epochs), key=lambda epoch: (self.target[str(epoch)], -self.other[str(epoch)]))
        why = "least left of the target" + ("" if self.kept else ", though no epoch improves on the start")
        return Selected(best, why, bool(self.kept))

    def files(self) -> dict[str, dict]:
        return {"target_acc.json": self.target, "other_acc.json": self.other}


def rule_for(measure: str, validated: bool = True) -> EveryEpoch | LowestRate | TargetAccuracy:
    """The rule of a script by what its validation measures."""
    rules = {"rate": LowestRate, "accuracy": TargetAccuracy}
    return rules[measure]() if validated and measure in rules else EveryEpoch()
