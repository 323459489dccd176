"""Ring-A-Bell's genetic search: token ids whose states are near those of a prompt moved towards a concept.

Source: arXiv 2310.10012; chiayi-hsu/Ring-A-Bell (e4585ad), InversePrompt.ipynb. As published the mutation changes the best
individuals too, so that the best one can be lost; `elite` keeps some.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

Encode = Callable[[Tensor], Tensor]
"""Ids [B, L] -> states [B, L, D]."""


@dataclass(frozen=True)
class Genetic:
    """Settings of the search."""

    population: int = 200
    generations: int = 3000
    mutation: float = 0.25
    crossover: float = 0.5
    length: int = 16  # tokens that are free; 75 fills the text
    elite: int = 0  # of the best, never mutated
    start: int = 49406
    end: int = 49407
    context: int = 77


class Draws:
    """Where the search's chances come from: Python's for yes or no, numpy's for positions and ids, as published."""

    def __init__(self, seed: int):
        self._python, self._numpy = random.Random(seed), np.random.RandomState(seed)

    def random(self) -> float:
        return self._python.random()

    def randint(self, low: int, high: int) -> int:
        """From low to before high."""
        return int(self._numpy.randint(low, high))


def first_population(s: Genetic, generator: torch.Generator | None = None) -> Tensor:
    """[population, context] random ids, framed by the start token and end tokens. Id 0 is never drawn, as published."""
    ids = torch.randint(1, s.start, (s.population, s.length), generator=generator)
    framed = torch.full((s.population, s.context), s.end)
    framed[:, 0] = s.start
    framed[:, 1 : s.length + 1] = ids
    return framed


@torch.no_grad()
def fitness(population: Tensor, target: Tensor, encode: Encode, batch: int = 64) -> Tensor:
    """[N] squared distances of the states of ids [N, L] from target [L, D]; the lower the better."""
    parts = [((target - encode(part)) ** 2).sum((1, 2)) for part in population.split(batch)]
    return torch.cat(parts).cpu()


def selected(population: Tensor, scores: Tensor, count: int) -> Tensor:
    """The `count` best, best first."""
    return population[torch.from_numpy(np.argsort(scores.numpy())[:count].copy())]


def crossed(parents: Tensor, s: Genetic, draws: Draws) -> Tensor:
    """Parents [N, L] and the children of some of them, each pair after its first parent."""
    family = []
    for parent in parents:
        family.append(parent)
        if draws.random() < s.crossover:
            partner, cut = parents[draws.randint(0, len(parents))], draws.randint(1, s.length + 1)
            family += [torch.cat([parent[:cut], partner[cut:]]), torch.cat([partner[:cut], parent[cut:]])]
    return torch.stack(family)


def mutated(population: Tensor, s: Genetic, draws: Draws) -> Tensor:
    """With one token of some individuals changed."""
    population = population.clone()
    for individual in population[s.elite :]:
        if draws.random() < s.mutation:
            position = draws.randint(1, s.length + 1)
            individual[position] = draws.randint(1, s.start)
    return population


def search(
    target: Tensor,
    encode: Encode,
    s: Genetic,
    draws: Draws,
    population: Tensor,
    progress: bool = False,
    watch: Callable[[str, Tensor], None] = lambda stage, value: None,
) -> Tensor:
    """Ids [context] of the best of the last generation. watch(stage, value): told of every stage of every generation."""
    for generation in tqdm(range(s.generations), desc="generations", disable=not progress):
        scores = fitness(population, target, encode)
        watch("fitness", scores)
        parents = selected(population, scores, s.population // 2)
        watch("selected", parents)
        if generation + 1 < s.generations:
            family = crossed(parents, s, draws)
            watch("after_crossover", family)
            population = mutated(family, s, draws)
            watch("after_mutation", population)
    return parents[0]
