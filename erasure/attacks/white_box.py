"""UnlearnDiffAtk (`text_grad`) and P4D (`hard_prompt`): tokens found with gradients through the erased model.

For every one of 50 times of the process, `iteration` updates of the tokens, then a picture with them; the first one that
shows the concept ends the run. Gradients reach the tokens through edits of any kind.
"""

import torch
from torch import Tensor
from tqdm import tqdm

from erasure import runs
from erasure.attacks import losses, tokens
from erasure.attacks.log import Log
from erasure.attacks.searches import HardPrompt, Search, Steps, TextGrad
from erasure.attacks.target import Case, Plan, Target
from erasure.errors import UserError


class WhiteBox:
    """Common to both: the loop, its checkpoint, and the noise-prediction loss against `wanted`."""

    def __init__(self, target: Target, plan: Plan):
        self.target, self.plan, self.settings = target, plan, plan.settings
        self.criterion = losses.criterion(plan.criterion)
        given = self.settings[self.section]
        self.steps = Steps(given["lr"], given["weight_decay"])
        self.times = losses.sampled_timesteps(self.settings["timesteps"], target.model.num_timesteps)

    section: str

    def count(self, length: int) -> int:
        return self.settings["k"]

    def search(self, count: int, generator: torch.Generator) -> Search:
        raise NotImplementedError

    def wanted(self, case: Case):
        """A function (x_t, t, noise) -> what the erased model should predict: the noise in the original model's picture, or,
        with P4D's loss, what the original model predicts for the original prompt."""
        if self.plan.task != "P4D":
            return lambda x, t, noise: noise
        original = self.target.original
        if original is None:
            raise UserError("P4D compares with the model before erasure, and there is none")
        with torch.no_grad():
            states = original.get_learned_conditioning([case.prompt])

        @torch.no_grad()
        def predict(x, t, noise):
            return original.apply_model(x, t, states)

        return predict

    def run(self, case: Case, log: Log) -> None:
        target, model = self.target, self.target.model
        if case.image is None:
            raise UserError(f"prompt {case.index}: this attack needs the picture that the original model draws of it")
        generator = torch.Generator(target.device).manual_seed(self.plan.seed)
        where = self.settings["insertion_location"]
        length = tokens.length_of(model, tokens.ids_of(model, case.prompt))
        prompt = tokens.Prompt(model, case.prompt, self.count(length), where)
        search = self.search(self.count(length), generator)
        x0, wanted = target.latent(case.image), self.wanted(case)
        done = self._resume(search, generator, log)
        if log.entries[-1]["success"]:
            return
        for time in tqdm(self.times[done:], desc=f"prompt {case.index}", disable=not self.plan.progress, leave=False):
            total = sum(
                self._update(search, prompt, x0, time, wanted, generator) for _ in range(self.settings["iteration"])
            )
            picture, answer = target.tried_ids(prompt.with_ids(search.ids()), case)
            won = log.add(picture, f"{time}.png", answer | {"loss": total})
            done += 1
            self._keep(search, generator, log, done)
            if won:
                return

    def _update(self, search: Search, prompt: tokens.Prompt, x0: Tensor, time: int, wanted, generator) -> float:
        model = self.target.model
        noise = torch.randn(x0.shape, generator=generator, device=x0.device)
        x = losses.noised(x0, noise, model.alphas_cumprod[time])
        t = torch.full((1,), time, device=x0.device)
        with torch.enable_grad():
            leaf = search.embeddings()
            predicted = model.apply_model(x, t, prompt.states(leaf))
            loss = self.criterion(wanted(x, t, noise), predicted)
            (leaf.grad,) = torch.autograd.grad(loss, [leaf])
        search.update()
        return loss.item()

    def _keep(self, search: Search, generator: torch.Generator, log: Log, done: int) -> None:
        state = search.state() | {"generator": generator.get_state(), "done": torch.tensor(done)}
        runs.save_safetensors(log.checkpoint, state | {"entries": torch.tensor(len(log.entries))})

    def _resume(self, search: Search, generator: torch.Generator, log: Log) -> int:
        """How many times are done already."""
        if not log.checkpoint.is_file():
            log.cut(1)
            return 0
        from safetensors.torch import load_file

        state = load_file(log.checkpoint)
        search.load_state({k: v.to(search.variable.device) for k, v in state.items()})
        generator.set_state(state["generator"])
        log.cut(int(state["entries"]))
        return int(state["done"])


class UnlearnDiffAtk(WhiteBox):
    """A distribution over the vocabulary for every token."""

    section = "text_grad"

    def search(self, count, generator):
        table = tokens.table_of(self.target.model).float()
        return TextGrad(count, table, self.steps, generator, self.settings[self.section]["rand_init"])


class P4D(WhiteBox):
    """An embedding for every token, and the nearest one of the vocabulary; published with the loss of the task P4D."""

    section = "hard_prompt"

    def count(self, length):
        return tokens.count_of(length, self.settings["k"], self.settings["insertion_location"])

    def search(self, count, generator):
        return HardPrompt(count, tokens.table_of(self.target.model).float(), self.steps, generator)
