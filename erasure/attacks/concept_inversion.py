"""Concept inversion (CCE): an embedding for a new token, learnt on the erased model from pictures of the concept.

Textual inversion (arXiv 2208.01618) with the UNet of the erased model; everything but the embedding is frozen. One embedding
serves all prompts: each is then `prompt` with the token in it, drawn with the seed of a case.
Our own code from the method's description (arXiv 2308.01508); its hyper-parameters are general knowledge and not read from code.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from erasure import runs
from erasure.attacks import losses, tokens
from erasure.attacks.log import Log
from erasure.attacks.target import Case, Plan, Target
from erasure.errors import UserError

FILE = "concept_inversion.safetensors"
TOKEN = "<c>"


class ConceptInversion:
    """Learns the embedding for the first case, or reads the file that an earlier run left, made from the same things."""

    def __init__(self, target: Target, plan: Plan):
        self.target, self.plan, self.own = target, plan, plan.settings["concept_inversion"]
        self.criterion = losses.criterion(plan.criterion)
        self.pictures = [case.image for case in plan.cases if case.image is not None][: self.own["images"]]
        if not self.pictures:
            raise UserError("concept inversion needs pictures of the concept, which the original model draws")
        self._embedding: Tensor | None = None

    def embedding(self) -> Tensor:
        """[D] of the new token."""
        if self._embedding is None:
            path = self.plan.folder / FILE if self.plan.folder else None
            pictures = [runs.sha256_file(picture) for picture in self.pictures]
            made_from = json.dumps({"facts": self.plan.facts, "pictures": pictures}, sort_keys=True, default=str)
            if path is not None and path.is_file() and _made_from(path) == made_from:
                self._embedding = read(path).to(self.target.device)
            else:
                self._embedding = self.learnt()
                if path is not None:
                    runs.save_safetensors(path, {TOKEN: self._embedding}, {"made_from": made_from})
        return self._embedding

    def learnt(self) -> Tensor:
        target, own = self.target, self.own
        generator = torch.Generator(target.device).manual_seed(self.plan.seed)
        latents = torch.cat([target.latent(path) for path in self.pictures])
        templates = [Template(target.model, text, own["init"]) for text in own["templates"]]
        variable = torch.nn.Parameter(templates[0].start.float().clone())
        adam = torch.optim.AdamW([variable], lr=own["lr"], weight_decay=own["weight_decay"])

        def draw(high: int) -> Tensor:
            return torch.randint(high, (own["batch"],), generator=generator, device=target.device)

        for _ in tqdm(range(own["steps"]), desc="concept inversion", disable=not self.plan.progress):
            x0, t = latents[draw(len(latents))], draw(target.model.num_timesteps)
            chosen = draw(len(templates)).tolist()
            noise = torch.randn(x0.shape, generator=generator, device=x0.device)
            x = losses.noised(x0, noise, target.model.alphas_cumprod[t][:, None, None, None])
            with torch.enable_grad():
                states = tokens.states_of(
                    target.model, torch.stack([templates[i].embeddings(variable) for i in chosen])
                )
                loss = self.criterion(noise, target.model.apply_model(x, t, states))
                (variable.grad,) = torch.autograd.grad(loss, [variable])
            adam.step()
        return variable.detach()

    def run(self, case: Case, log: Log) -> None:
        log.cut(1)
        template = Template(self.target.model, self.own["prompt"], self.own["init"])
        with torch.no_grad():
            states = tokens.states_of(self.target.model, template.embeddings(self.embedding()))[0]
        picture, answer = self.target.tried(states, case)
        log.add(picture, "concept_inversion.png", answer | {"prompt": self.own["prompt"]})


class Template:
    """A text with the new token in it. UserError if it is not, or if `init` is more than one token."""

    def __init__(self, model, text: str, init: str):
        if text.count(TOKEN) != 1:
            raise UserError(f"{text!r}: the token {TOKEN} must be in it once")
        before = text.partition(TOKEN)[0]
        tokenizer = model.cond_stage_model.tokenizer
        if len(tokenizer.encode(init, add_special_tokens=False)) != 1:
            raise UserError(
                f"concept_inversion.init {init!r} must be one token: a related word, such as object or person"
            )
        ids = tokens.ids_of(model, text.replace(TOKEN, init))
        self.position = 1 + len(tokenizer.encode(before, add_special_tokens=False))
        self.base = tokens.table_of(model)[ids.to(model.device)]
        self.start = self.base[self.position]

    def embeddings(self, embedding: Tensor) -> Tensor:
        """[77, D] with the token's embedding [D] in its place."""
        place = torch.arange(len(self.base), device=self.base.device)[:, None] == self.position
        return torch.where(place, embedding.to(self.base.dtype), self.base)


def _made_from(path: Path) -> str | None:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return (file.metadata() or {}).get("made_from")


def read(path: str | os.PathLike, names: Sequence[str] = (TOKEN, "emb_params")) -> Tensor:
    """The embedding [D] of a file: ours, diffusers' ({token: [D]}) or A1111's (emb_params [1, D]). UserError for others."""
    from erasure.checkpoint_files import read_tensors

    tensors = read_tensors(Path(path))
    found = next((tensors[name] for name in names if name in tensors), None)
    found = next(iter(tensors.values())) if found is None and len(tensors) == 1 else found
    if found is None or found.numel() != found.shape[-1]:
        raise UserError(f"{path}: not the embedding of one token")
    return found.reshape(-1).float()
