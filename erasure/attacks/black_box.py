"""Attacks that only draw with the erased model: nothing, other seeds, random tokens, and Ring-A-Bell's two forms."""

import dataclasses

import torch
from torch import Tensor
from tqdm import tqdm

from erasure.attacks import genetic, ring_a_bell, tokens
from erasure.attacks.log import Log
from erasure.attacks.target import Case, Plan, Target
from erasure.errors import UserError
from erasure.text_states import TextStates

MAX_SEED = 9_000_000_000


class NoAttack:
    """The unchanged prompt, which is entry 0 of every run."""

    def __init__(self, target: Target, plan: Plan):
        self.target, self.plan, self.settings = target, plan, plan.settings

    def run(self, case: Case, log: Log) -> None:
        """Add entries to the log, which has the first."""


class SeedSearch(NoAttack):
    """The unchanged prompt with other seeds: always all of them, as published, and several drawn at once."""

    def run(self, case: Case, log: Log) -> None:
        generator = torch.Generator().manual_seed(self.plan.seed + case.index)
        count, done = self.settings["iteration"], len(log.entries) - 1
        seeds = torch.randint(MAX_SEED, (count,), generator=generator).tolist()
        together, prompt = self.target.drawing.batch_size, self.target.unchanged(case)
        for at in tqdm(
            range(done, count, together), desc=f"prompt {case.index}", disable=not self.plan.progress, leave=False
        ):
            part = seeds[at : at + together]
            pictures = self.target.pictures([prompt] * len(part), part, case.guidance)
            for i, (seed, picture, answer) in enumerate(
                zip(part, pictures, self.target.judge(pictures), strict=True), at
            ):
                drawn = self.target.drawn_with(case, seed)
                log.add(picture, f"iter_{i}.png", {**answer, **drawn, "prompt": case.prompt, "seed": str(seed)})


class RandomTokens(NoAttack):
    """k random tokens before or after the prompt, up to `iteration` times."""

    def run(self, case: Case, log: Log) -> None:
        where, model = self.settings["insertion_location"], self.target.model
        if where not in ("prefix_k", "suffix_k"):
            raise UserError(
                f"insertion_location {where!r}: random tokens go before (prefix_k) or after a prompt (suffix_k)"
            )
        prompt = tokens.Prompt(model, case.prompt, self.settings["k"], where)
        generator = torch.Generator().manual_seed(self.plan.seed + case.index)
        count = self.settings["iteration"]
        found = torch.randint(tokens.end_of(model) - 1, (count, self.settings["k"]), generator=generator)
        if log.entries[-1]["success"]:
            return
        for i in range(len(log.entries) - 1, count):
            picture, answer = self.target.tried_ids(prompt.with_ids(found[i]), case)
            if log.add(picture, f"{i}.png", answer):
                return


class RingABellEmbedding(NoAttack):
    """RECE's form: the concept's direction added to the states of the prompt."""

    def __init__(self, target: Target, plan: Plan):
        super().__init__(target, plan)
        self.own = self.settings["ring_a_bell"]
        self.vector = vector(target.model, self.own)

    def run(self, case: Case, log: Log) -> None:
        log.cut(1)
        attack = ring_a_bell.RingABell(self.vector, self.own["cof"])
        with torch.no_grad():
            states = attack.encode(self.target.model)(case.prompt)
        picture, answer = self.target.tried(states, case)
        log.add(picture, "ring_a_bell.png", answer | {"prompt": case.prompt})


class RingABellSearch(RingABellEmbedding):
    """The original form: a text whose states are near those, found with nothing but the text encoder."""

    def run(self, case: Case, log: Log) -> None:
        log.cut(1)
        model, own = self.target.model, self.own
        names = {f.name for f in dataclasses.fields(genetic.Genetic)} & own.keys()
        settings = genetic.Genetic(
            **{name: own[name] for name in names}, start=tokens.end_of(model) - 1, end=tokens.end_of(model)
        )
        draws = genetic.Draws(self.plan.seed + case.index)
        first = genetic.first_population(settings, torch.Generator().manual_seed(self.plan.seed + case.index))

        def encode(ids: Tensor) -> Tensor:
            return model.cond_stage_model.transformer(input_ids=ids.to(self.target.device)).last_hidden_state

        with torch.no_grad():
            target = ring_a_bell.RingABell(self.vector, own["cof"]).encode(model)(case.prompt)
        found = genetic.search(target, encode, settings, draws, first, self.plan.progress)
        picture, answer = self.target.tried_ids(found, case)
        log.add(picture, "ring_a_bell.png", answer)


def vector(model, own) -> Tensor:
    """[77, D]: of a file, or made of the pairs of a CSV. UserError if neither is named."""
    if own.get("vector"):
        return ring_a_bell.read_vector(own["vector"])
    if not own.get("pairs_csv"):
        raise UserError("Ring-A-Bell needs --attacker.ring_a_bell.vector or --attacker.ring_a_bell.pairs_csv")
    with torch.no_grad():
        return ring_a_bell.vector_of(TextStates.of(model), ring_a_bell.read_pairs(own["pairs_csv"]))
