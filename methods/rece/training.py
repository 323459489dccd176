"""One run of RECE from a model to a folder: start, epochs, pictures, and the edit that validation chooses."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from erasure import edits, runs
from erasure.edits import Edit, context_projections
from erasure.generation import GenerationSettings, generate, settings
from erasure.prompts import Row
from erasure.text_states import TextStates
from methods.rece.names import Texts
from methods.rece.rece import Epoch, Rece, retained_gram, uce_start
from methods.rece.selection import rule_for
from methods.rece.settings import ReceSettings, Script
from methods.rece.starts import METHOD, Start, edit_of, read_start
from methods.rece.validation import Validation, write_rows
from methods.uce.concepts import preserve_scale

LAST_EMBEDDING = "close_new_embedding_preserved"
_PRODUCTS = (
    "epoch_*", "adv_emb_*", "uce.safetensors", f"{LAST_EMBEDDING}.*", "[01].[0-9]*-*.pt", "ep_*_tar_*.pt", "*_rate.json",
    "*_acc.json",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """All that a command says about a run besides its base model."""

    script: Script
    texts: Texts
    settings: ReceSettings
    folder: Path
    target_ckpt: str | None = None  # None: a UCE edit made here; "": the original weights
    seed: int = 42  # of the pictures of adversarial embeddings
    save_format: str = "edit"
    pictures: bool = True  # of the adversarial embeddings
    num_samples: int = 1
    ddim_steps: int | None = None  # None: the preset's


class Run:
    """A job on a model. `validation` may be any `Validation`, None for none."""

    def __init__(self, model, identity, job: Job, validation: Validation | None = None):
        self.model, self.identity, self.job, self.validation = model, identity, job, validation
        self.rule = rule_for(validation.measures if validation else "pictures", validation is not None)
        self.base = identity.to_dict()
        self.texts = TextStates.of(model)
        self.originals = {name: w.detach().cpu().clone() for name, w in context_projections(model).items()}
        self.written: set[Path] = set()

    def run(self) -> Edit:
        """Do it all; returns the edit that was chosen (also edit.safetensors of the job's folder)."""
        job = self.job
        retained = retained_gram(self.texts, job.settings.retained, progress=True)
        start = self._start(retained)
        print(f"start: {start.label}")
        rece = Rece(self.texts, self.originals, start.projections, job.settings, retained)
        current = start.edit(self.base)
        self._validate_before(current)
        while rece.index < job.settings.epochs:
            epoch = rece.epoch()
            self._keep_embeddings(epoch, current)
            current = edit_of(rece, start, self.base, list(job.settings.concepts), self._facts(epoch.index, start))
            edits.save(current, self._file(f"epoch_{epoch.index}.safetensors"))
            if self._validate(epoch, current):
                print("nothing is left of the target: no further epoch")
                break
        return self._finish(start)

    # ---- start -----------------------------------------------------------------------------------------------------

    def _start(self, retained) -> Start:
        job = self.job
        if job.target_ckpt is not None:
            return read_start(self.model, self.identity, job.target_ckpt)
        kept = ("", *job.texts.preserved)
        gram = retained if kept == job.settings.retained else retained_gram(self.texts, kept, progress=True)
        scale, pairs = preserve_scale(len(kept)), list(zip(job.settings.concepts, job.settings.guides, strict=True))
        towards = ", ".join(map(repr, dict.fromkeys(job.settings.guides)))
        label = f"a UCE edit made here (towards {towards}, {len(kept)} texts preserved at {scale:.3g}, lamb 0.5)"
        start = Start(label, uce_start(self.texts, pairs, gram, scale), concepts=job.settings.concepts)
        edits.save(start.edit(self.base), self._file("uce.safetensors"))
        return start

    # ---- epochs ----------------------------------------------------------------------------------------------------

    def _keep_embeddings(self, epoch: Epoch, current: Edit | None) -> None:
        """Every c', and a picture of it by the weights that it was derived from."""
        concepts = self.job.settings.concepts
        for i, embedding in enumerate(epoch.embeddings):
            facts = {"concept": concepts[i], "epoch": epoch.index}
            tensors = {"embedding": embedding[None].float()}
            runs.save_safetensors(self._file(f"adv_emb_{epoch.index}_{i}.safetensors"), tensors, facts)
            if self.job.save_format == "pt":
                runs.save_pt(self._file(f"{LAST_EMBEDDING}.pt"), tensors["embedding"])
            else:
                runs.save_safetensors(self._file(f"{LAST_EMBEDDING}.safetensors"), tensors, facts)
        if self.job.pictures:
            with self._with(current):
                self._picture(epoch)

    def _picture(self, epoch: Epoch) -> None:
        """emb2imgs/{epoch}-{i}_0.png"""
        states = {f"{epoch.index}-{i}": embedding.float() for i, embedding in enumerate(epoch.embeddings)}
        rows = [Row(i, name, self.job.seed, extra={"name": name}) for i, name in enumerate(states)]
        drawing = self._drawing(naming="named", num_samples=1)
        hashed = {"embeddings": runs.tensors_sha256(states)}
        generate(self.model, rows, self.job.folder / "emb2imgs", drawing, self._identity() | hashed, encode=states.get)

    def _facts(self, epoch: int, start: Start) -> dict[str, Any]:
        return self.job.settings.to_dict() | {"epoch": epoch, "start": start.label}

    # ---- validation ------------------------------------------------------------------------------------------------

    def _validate_before(self, start: Edit | None) -> None:
        """The base model's pictures and, unless it starts from those weights, the start's."""
        if self.validation is None:
            return
        print(f"validation: {self.validation.about}")
        base, uce, _ = self.job.script.stages
        for stage, folder, edit in (("sd", base, None), ("uce", uce, start)):
            if stage == "sd" or start is not None:
                measured = self._measured(folder, edit)
                self.rule.before(stage, measured)
                print(f"{stage}: {len(self.validation.rows)} prompts{_in_words(measured)}", flush=True)

    def _validate(self, epoch: Epoch, edit: Edit) -> bool:
        """Draw and measure an epoch, keep what the published script keeps; whether the run is over."""
        measured = None
        if self.validation is not None:
            measured = self._measured(self.job.script.stages[2].format(epoch.index), edit)
        print(f"epoch {epoch.index}: {self._described(epoch)}{_in_words(measured)}", flush=True)
        verdict = self.rule.after(epoch.index, measured)
        if verdict.published_name and self.job.save_format == "pt":
            with self._with(edit):
                edits.export_diffusers(self.model, self._file(f"{verdict.published_name}.pt"))
        for name, values in self.rule.files().items():
            runs.write_json(self._file(name), values)
        return verdict.stop

    def _described(self, epoch: Epoch) -> str:
        concepts = (self.texts[concept].states for concept in self.job.settings.concepts)
        moved = [
            (torch.linalg.norm(e - c) / torch.linalg.norm(c)).item()
            for e, c in zip(epoch.embeddings, concepts, strict=True)
        ]
        return f"|c' - c| / |c| up to {max(moved):.3g}, condition number {epoch.system.condition():.1e}"

    def _measured(self, stage: str, edit: Edit | None) -> Any:
        images = self.job.folder / stage / "imgs"
        drawing = self._drawing(num_samples=self.job.num_samples)
        write_rows(self.validation.rows, self.job.folder / stage / "prompts.csv")
        with self._with(edit):
            generate(self.model, self.validation.rows, images, drawing, self._identity())
        wanted = {f"{row.case_number}_{k}.png" for row in self.validation.rows for k in range(drawing.num_samples)}
        for file in images.glob("*.png"):
            if file.name not in wanted:
                file.unlink()  # of an earlier run with other prompts: it would be measured too
        return self.validation.measure(images)

    # ---- shared ----------------------------------------------------------------------------------------------------

    def _file(self, name: str) -> Path:
        """Where a product of this run goes."""
        self.written.add(self.job.folder / name)
        return self.job.folder / name

    def _remove_earlier(self) -> None:
        """What a run of more epochs, or from another start, left here: the folder's name is the same."""
        for file in (file for pattern in _PRODUCTS for file in self.job.folder.glob(pattern)):
            if file.is_file() and file not in self.written:
                file.unlink()

    def _with(self, edit: Edit | None) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext() if edit is None else edits.apply(self.model, edit, self.identity)

    def _identity(self) -> dict[str, Any]:
        return {"base": self.base}  # the weights are hashed as they are in the model

    def _drawing(self, **given) -> GenerationSettings:
        """RECE's settings for Stable Diffusion, the embedded model's for itself; noise from the CPU where there is no GPU."""
        preset = "rece" if self.identity.family == "sd-v1" else "toy"
        if self.model.device.type == "cpu":
            given["noise_device"] = "cpu"
        return settings(preset, steps=self.job.ddim_steps, **given)

    def _finish(self, start: Start) -> Edit:
        job, chosen = self.job, self.rule.selected()
        file = job.folder / f"epoch_{chosen.epoch}.safetensors"
        with runs.atomic_path(job.folder / "edit.safetensors") as temporary:
            shutil.copyfile(file, temporary)
        edit = edits.read(file)
        runs.write_json(
            job.folder / "settings.json",
            {
                "method": METHOD,
                "script": job.script.name,
                "settings": job.settings.to_dict(),
                "retained": list(job.settings.retained),
                "start": start.label,
                "base": self.base,
                "selected": chosen._asdict(),
                "validation": self.validation.about if self.validation else None,
                "measured": self.rule.files(),
                "versions": runs.versions(),
            },
        )
        self._remove_earlier()
        print(f"chosen: epoch {chosen.epoch} ({chosen.why})")
        if not chosen.improves:
            print("  by the published rule no epoch would have been kept")
        return edit


def _in_words(measured: Any) -> str:
    if measured is None:
        return ""
    if isinstance(measured, tuple):
        return f"; accuracy on the erased {measured[0]:.3f}, on others {measured[1]:.3f}"
    return f"; detection rate {measured:.4f}"
