"""Learning-rate factors as functions of the step, for ``torch.optim.lr_scheduler.LambdaLR``."""

import logging
import math
from itertools import accumulate

logger = logging.getLogger(__name__)


def _cosine(start, end, progress):
    return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * progress))


class _Reporting:
    """Calls ``schedule(n)``, logs the factor now and then and keeps it in ``last_lr``."""

    verbosity_interval = 0
    last_lr = 0.0

    def schedule(self, n, **kwargs):
        raise NotImplementedError

    def __call__(self, n, **kwargs):
        return self.schedule(n, **kwargs)

    def _report(self, n, value):
        if self.verbosity_interval > 0 and n % self.verbosity_interval == 0:
            logger.info("step %d: learning-rate factor %g", n, value)
        self.last_lr = value
        return value


class LambdaWarmUpCosineScheduler(_Reporting):
    """Linear warm-up from ``lr_start`` to ``lr_max``, then a cosine down to ``lr_min`` at ``max_decay_steps``."""

    def __init__(self, warm_up_steps, lr_min, lr_max, lr_start, max_decay_steps, verbosity_interval=0):
        self.lr_warm_up_steps = warm_up_steps
        self.lr_min, self.lr_max, self.lr_start = lr_min, lr_max, lr_start
        self.lr_max_decay_steps = max_decay_steps
        self.verbosity_interval = verbosity_interval

    def schedule(self, n, **kwargs):
        """Factor at step n >= 0."""
        warm = self.lr_warm_up_steps
        if n < warm:
            return self._report(n, self.lr_start + (self.lr_max - self.lr_start) / warm * n)
        progress = min((n - warm) / (self.lr_max_decay_steps - warm), 1.0)
        return self._report(n, _cosine(self.lr_max, self.lr_min, progress))


class LambdaWarmUpCosineScheduler2(_Reporting):
    """The same in cycles: one entry per cycle in every list; a cycle's steps include its warm-up."""

    def __init__(self, warm_up_steps, f_min, f_max, f_start, cycle_lengths, verbosity_interval=0):
        lists = (warm_up_steps, f_min, f_max, f_start, cycle_lengths)
        if len({len(values) for values in lists}) != 1:
            raise ValueError("warm_up_steps, f_min, f_max, f_start and cycle_lengths need one entry per cycle each")
        self.lr_warm_up_steps, self.f_min, self.f_max, self.f_start, self.cycle_lengths = map(list, lists)
        self.cum_cycles = [0, *accumulate(self.cycle_lengths)]
        self.verbosity_interval = verbosity_interval
        self.last_f = 0.0

    def find_in_interval(self, n):
        """Index of the cycle that step n belongs to (a cycle's last step counts to it)."""
        for cycle, end in enumerate(self.cum_cycles[1:]):
            if n <= end:
                return cycle
        raise ValueError(f"step {n} lies beyond the last cycle, which ends at step {self.cum_cycles[-1]}")

    def schedule(self, n, **kwargs):
        """Factor at step n >= 0."""
        cycle = self.find_in_interval(n)
        n = n - self.cum_cycles[cycle]
        warm, start, peak = self.lr_warm_up_steps[cycle], self.f_start[cycle], self.f_max[cycle]
        value = start + (peak - start) / warm * n if n < warm else self._after_warm_up(cycle, n)
        self.last_f = value
        return self._report(n, value)

    def _after_warm_up(self, cycle, n):
        warm = self.lr_warm_up_steps[cycle]
        progress = min((n - warm) / max(self.cycle_lengths[cycle] - warm, 1), 1.0)
        return _cosine(self.f_max[cycle], self.f_min[cycle], progress)


class LambdaLinearScheduler(LambdaWarmUpCosineScheduler2):
    """In cycles too, with a straight line down to ``f_min`` at the cycle's end after the warm-up."""

    def _after_warm_up(self, cycle, n):
        length = self.cycle_lengths[cycle]
        return self.f_min[cycle] + (self.f_max[cycle] - self.f_min[cycle]) * (length - n) / length
