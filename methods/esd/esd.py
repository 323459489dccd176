"""The ESD algorithm as pure functions: models, noise and random draws come in as arguments.

One iteration (paper, equations 6 and 7): the model being trained denoises pure noise towards the concept c down to about
time t; the frozen model's predictions there give the target  e_0 - eta (e_p - e_0),  and the trained model's prediction
for c is regressed to it.
"""

import functools

import torch
from torch import Tensor, nn

from erasure.samplers import no_noise
from erasure.training import draws
from erasure.training.draws import NUM_TIMESTEPS, draw_timestep, t_range
from erasure.training.frozen import FrozenWeights
from erasure.training.naming import format_number, name_part
from methods.esd import PROMPT_KEYWORDS, TRAIN_METHODS

__all__ = [
    "FrozenWeights", "concept_pairs", "diffusers_name", "draw_timestep", "esd_step", "esd_target", "exact_timestep",
    "expand_prompt", "format_number", "frozen_predictions", "iteration_generators", "run_name", "sample_till",
    "select_parameters", "t_range",
]  # fmt: skip

iteration_generators = functools.partial(draws.iteration_generators, "esd")
"""(seed, iteration) -> random streams of one iteration."""


def expand_prompt(prompt: str, seperator: str | None = None) -> list[str]:
    """Concepts named by a prompt: keyword expansion of the whole prompt first, then the split at ``seperator``.

    Without a separator the (expanded) prompt is one concept. Raises ValueError if a concept would be empty.
    """
    prompt = PROMPT_KEYWORDS.get(prompt, prompt)
    words = [word.strip() for word in prompt.split(seperator)] if seperator else [prompt]
    if not all(word.strip() for word in words):
        raise ValueError(f"empty concept in prompt {prompt!r} split at {seperator!r}")
    return words


def concept_pairs(
    prompt: str, seperator: str | None = None, erase_from: str | None = None
) -> list[tuple[str, str | None]]:
    """(concept, text it is erased from or None) for every concept of a prompt.

    ``erase_from`` is split at the same separator and names one text for all concepts or one for each. Raises ValueError
    if the numbers do not fit.
    """
    words = expand_prompt(prompt, seperator)
    if erase_from is None:
        return [(word, None) for word in words]
    origins = expand_prompt(erase_from, seperator)
    if len(origins) not in (1, len(words)):
        raise ValueError(f"erase_from names {len(origins)} texts for {len(words)} concepts: give one, or one for each")
    return list(zip(words, origins * len(words) if len(origins) == 1 else origins, strict=True))


def run_name(
    prompt: str, train_method: str, start_guidance: float, negative_guidance: float, iterations: int, lr: float
) -> str:
    """Folder and file name of a run, e.g. ``compvis-word_VanGogh-method_xattn-sg_3-ng_1-iter_1000-lr_1e-05``.

    The word is the prompt as typed (keywords unexpanded) without blanks. Differences from the published code: characters
    that no file name can hold become ``_``, and a very long prompt is cut and told apart by a hash.
    """
    word = name_part(prompt, blanks=False)
    return (
        f"compvis-word_{word}-method_{train_method}-sg_{format_number(start_guidance)}"
        f"-ng_{format_number(negative_guidance)}-iter_{int(iterations)}-lr_{format_number(lr)}"
    )


def diffusers_name(name: str) -> str:
    """Name of the diffusers-keyed twin of a run's file."""
    return name.replace("compvis", "diffusers")


def _is_selected(name: str, method: str, in_matrix: bool) -> bool:
    """Substring rules of the two published generations; ``in_matrix``: the parameter belongs to a Linear or Conv2d."""
    cross, attn1 = "attn2" in name, "attn1" in name
    head = name.startswith("out.") or "time_embed" in name  # the rest of the UNet outside its blocks
    match method:
        case "full":
            return True
        case "noxattn":
            return not (head or cross)
        case "notime":
            return not head
        case "selfattn":
            return attn1
        case "xattn":
            return cross
        case "xlayer":
            return cross and ("output_blocks.6." in name or "output_blocks.8." in name)
        case "selflayer":
            return attn1 and ("input_blocks.4." in name or "input_blocks.7." in name)
        # The diffusers generation never trains normalisation layers, and its esd-u includes time_embed and out.2.
        case "esd-x":
            return in_matrix and cross
        case "esd-u":
            return in_matrix and not cross
        case "esd-x-strict":
            return in_matrix and ("attn2.to_k" in name or "attn2.to_v" in name)
        case "esd-all" | "esd-a":  # the published help says esd-a, the published code wants esd-all
            return in_matrix
    raise ValueError(f"unknown train_method {method!r}; choose from {', '.join(TRAIN_METHODS)}")


def select_parameters(unet: nn.Module, method: str) -> dict[str, nn.Parameter]:
    """Parameters that a method trains: CompVis UNet name (no ``model.diffusion_model.``) -> parameter, in module order.

    Raises ValueError for an unknown method and for one that selects nothing in this network (``xlayer`` in a small one).
    """
    matrices = {name for name, module in unet.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))}
    selected = {
        name: parameter
        for name, parameter in unet.named_parameters()
        if _is_selected(name, method, name.rpartition(".")[0] in matrices)
    }
    if not selected:
        raise ValueError(f"train_method {method!r} selects no parameter of this network")
    return selected


def exact_timestep(t_enc: int, ddim_steps: int) -> int:
    """DDPM time of entry ``t_enc`` of the DDIM grid 1, 1+c, 1+2c, ... (c = 1000 // ddim_steps), for ``exact`` sampling."""
    return t_enc * (NUM_TIMESTEPS // ddim_steps) + 1


@torch.no_grad()
def sample_till(
    sampler, emb: Tensor, emb_uncond: Tensor, guidance: float, start_code: Tensor, t_enc: int, ddim_steps: int,
    exact: bool = False,
) -> Tensor:  # fmt: skip
    """Denoise ``start_code`` [1,4,h,w] towards ``emb`` [1,L,D] with DDIM (eta 0) until about step ``t_enc``; returns z.

    Default, as published: the noisiest DDIM step is dropped (``t_start=-1``), and z ends two to three grid steps less noisy
    than the time label drawn for it; t_enc 0 and 1 both denoise to the end. ``exact``: the paper's reading, z stands at
    ``exact_timestep(t_enc)``, which must then be the label too; the last grid entry is pure noise.
    """
    guided = guidance != 1.0
    kwargs = dict(
        conditioning=emb, unconditional_guidance_scale=guidance, unconditional_conditioning=emb_uncond if guided else None,
        eta=0.0, x_T=start_code, verbose=False, noise_fn=no_noise,
    )  # fmt: skip
    shape = tuple(start_code.shape[1:])
    if not exact:
        return sampler.sample(ddim_steps, start_code.shape[0], shape, t_start=-1, till_T=t_enc, **kwargs)[0]
    grid_length = len(range(0, NUM_TIMESTEPS, NUM_TIMESTEPS // ddim_steps))
    if t_enc >= grid_length - 1:
        return start_code
    # Stopping after grid index till_T - 1 leaves the latent at the noise level of index till_T - 2.
    return sampler.sample(ddim_steps, start_code.shape[0], shape, t_start=None, till_T=t_enc + 2, **kwargs)[0]


def esd_target(e_0: Tensor, e_p: Tensor, eta: float, e_f: Tensor | None = None) -> Tensor:
    """``e_0 - eta (e_p - e_0)``, or ``e_f - eta (e_p - e_0)`` to erase a concept from another one (``--erase_from``)."""
    return (e_0 if e_f is None else e_f) - eta * (e_p - e_0)


@torch.no_grad()
def frozen_predictions(frozen, z: Tensor, t: Tensor, embeddings: list[Tensor]) -> list[Tensor]:
    """Predictions of the frozen model at one latent for several texts, from one batched forward.

    ``frozen(x, t, context) -> eps``; z [1,4,h,w], t [1] int64, embeddings each [1,L,D]; returns one [1,4,h,w] per text.
    """
    n = len(embeddings)
    eps = frozen(z.repeat(n, 1, 1, 1), t.repeat(n), torch.cat(embeddings))
    return list(eps.float().chunk(n))


def esd_step(
    model, frozen, z: Tensor, t_ddpm: Tensor, emb_0: Tensor, emb_p: Tensor, eta: float, emb_f: Tensor | None = None
) -> Tensor:
    """Loss of one iteration; its gradient reaches only the trained prediction e_n (z and the target are constants).

    ``model`` and ``frozen`` are callables ``(x, t, context) -> eps``. With ``emb_f`` the trained prediction is conditioned
    on that text instead of the erased one. The loss is the mean over all elements.
    """
    embeddings = [emb_0, emb_p] if emb_f is None else [emb_0, emb_p, emb_f]
    e_0, e_p, *rest = frozen_predictions(frozen, z, t_ddpm, embeddings)
    target = esd_target(e_0, e_p, eta, *rest)
    e_n = model(z, t_ddpm, emb_p if emb_f is None else emb_f)
    return nn.functional.mse_loss(e_n.float(), target)
