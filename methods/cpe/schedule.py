"""Stages of a training, and the learning rate of every iteration."""

import math
from dataclasses import dataclass

from erasure.errors import UserError

ERASE, ATTACK = "erase", "adv"
SCHEDULERS = ("cosine_with_restarts", "linear", "constant_with_warmup", "constant")


@dataclass(frozen=True)
class Phase:
    """Iterations with one optimiser: erasing, or the adversarial phase that follows it."""

    stage: int  # from 0 on
    kind: str  # ERASE or ATTACK
    iterations: int
    lr: float
    warmup: int
    cycles: float
    scheduler: str = SCHEDULERS[0]

    def lr_at(self, iteration: int) -> float:
        """Used in iteration i = 0, 1, ...: with a warm-up, the first step changes nothing."""
        return self.lr * factor(self.scheduler, iteration, self.iterations, self.warmup, self.cycles)


def factor(scheduler: str, iteration: int, total: int, warmup: int = 0, cycles: float = 1) -> float:
    """Linear from 0 to 1 over `warmup` steps, then the scheduler's course to the end.

    cosine_with_restarts: half a cosine from 1 to 0, `cycles` times.
    """
    if scheduler == "constant":
        return 1.0
    if iteration < warmup:
        return iteration / max(1, warmup)
    done = (iteration - warmup) / max(1, total - warmup)
    if scheduler == "constant_with_warmup":
        return 1.0
    if scheduler == "linear":
        return max(0.0, 1 - done)
    if done >= 1:
        return 0.0
    return max(0.0, 0.5 * (1 + math.cos(math.pi * ((cycles * done) % 1.0))))


def phases(s) -> list[Phase]:
    """All phases of a run (`settings.CpeSettings`), in order: erase, attack, erase, attack, ...

    The first erasing phase is longer and steeper. The last adversarial phase changes no residual: published and the default,
    left out with `skip_last_adv`.
    """
    found = []
    for stage in range(s.num_stages):
        first = stage == 0
        found.append(
            Phase(
                stage,
                ERASE,
                s.iterations * (s.factor_init_iter if first else 1),
                s.lr * (s.factor_init_lr if first else 1),
                s.lr_warmup_steps,
                s.lr_scheduler_num_cycles * (s.factor_init_lr_cycle if first else 1),
                s.lr_scheduler,
            )
        )
        if s.do_adv_learn and not (s.skip_last_adv and stage == s.num_stages - 1):
            found.append(
                Phase(
                    stage,
                    ATTACK,
                    s.iterations_adv,
                    s.lr_adv,
                    s.lr_warmup_steps_adv,
                    s.lr_scheduler_num_cycles_adv,
                    s.lr_scheduler_adv,
                )
            )
    return found


def check_scheduler(name: str) -> None:
    """UserError for one that is not known here."""
    if name not in SCHEDULERS:
        raise UserError(f"lr_scheduler {name!r} is not one of {', '.join(SCHEDULERS)}")
