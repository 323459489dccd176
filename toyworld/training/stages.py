"""The four networks of the embedded model, each trained by one function that resumes where it stopped."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from erasure.runs import atomic_path
from toyworld.judge import Judge, classification_loss
from toyworld.training.data import STYLE_CLASSES, SUBJECT_CLASSES, to_float
from toyworld.training.loop import Ema, Schedule, train

LATENT_SCALE = 0.18215


def _indices(count, batch, generator):
    return torch.randint(count, (batch,), generator=generator)


def train_judge(pictures, work, steps, autoencoder=None, initial=None):
    """Style and subject classifier; with an autoencoder, a third of every batch has passed through it."""
    torch.manual_seed(0)
    judge = Judge()
    if initial is not None:
        judge.load_state_dict(initial.state_dict())
    judge.train()
    passed = None if autoencoder is None else reconstructions(autoencoder, pictures, Path(work) / "reconstructions.npy")

    def loss_fn(step, generator):
        index = _indices(len(pictures), 48, generator)
        images = pictures.batch(index)
        if passed is not None:
            index[:16] = _indices(len(passed), 16, generator)
            images = torch.cat([to_float(passed[index[:16].numpy()]), images[16:]])
        images = _augment(images, generator)
        return classification_loss(judge, images, pictures.style[index], pictures.subject[index])

    name = "judge" if autoencoder is None else "judge-final"
    lr = 2e-3 if autoencoder is None else 1e-3
    train(name, {"judge": judge}, Schedule(steps, lr), loss_fn, work, weight_decay=0.01)
    return judge.eval()


@torch.no_grad()
def reconstructions(autoencoder, pictures, path, count=2000, batch=32):
    """What the autoencoder makes of the first `count` pictures, uint8 [count, 128, 128, 3]; computed once."""
    count = min(count, len(pictures))
    if path.exists() and len(found := np.load(path, mmap_mode="r")) == count:
        return found
    out = []
    for start in tqdm(range(0, count, batch), desc="reconstruct", mininterval=2):
        images = pictures.batch(torch.arange(start, min(start + batch, count)))
        decoded = autoencoder.decode(autoencoder.encode(images).mode())
        out.append((decoded * 127.5 + 127.5).clamp(0, 255).round().permute(0, 2, 3, 1).byte().numpy())
    with atomic_path(path) as temporary:
        np.save(temporary, np.concatenate(out))
    return np.load(path, mmap_mode="r")


def _augment(images, generator):
    """Blur, brightness and noise, so that the judge is not put off by what an autoencoder does to pixels."""
    draw = torch.rand(len(images), 1, 1, 1, generator=generator)
    blurred = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2, mode="bilinear", align_corners=False)
    images = torch.where(draw < 0.4, torch.lerp(images, blurred, draw / 0.4), images)
    shift = 0.08 * torch.randn(len(images), 3, 1, 1, generator=generator)
    noise = 0.04 * torch.randn(images.shape, generator=generator)
    return (images + shift + noise).clamp(-1, 1)


def train_autoencoder(autoencoder, pictures, judge, work, steps):
    """KL autoencoder: L1, edges and the judge's early features; crops first, whole pictures at the end."""
    for parameter in judge.parameters():
        parameter.requires_grad_(False)
    whole_from = int(steps * 0.85)

    def loss_fn(step, generator):
        crop, batch = (64, 10) if step < whole_from else (128, 3)
        images = pictures.batch(_indices(len(pictures), batch, generator))
        y, x = torch.randint(0, 128 - crop + 1, (2,), generator=generator).tolist()
        images = images[:, :, y : y + crop, x : x + crop].contiguous(memory_format=torch.channels_last)
        posterior = autoencoder.encode(images)
        latent = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)
        decoded = autoencoder.decode(latent)
        loss = F.l1_loss(decoded, images) + 0.5 * _edge_loss(decoded, images) + 1e-6 * posterior.kl().mean()
        for a, b in zip(judge.features(decoded)[:3], judge.features(images)[:3], strict=True):
            loss = loss + 0.08 * F.l1_loss(a, b)
        return loss

    autoencoder.to(memory_format=torch.channels_last).train()
    train("vae", {"vae": autoencoder}, Schedule(steps, 1e-3), loss_fn, work)
    autoencoder.eval()


def _edge_loss(a, b):
    """L1 between horizontal and vertical pixel differences: keeps outlines and brush strokes."""
    return F.l1_loss(a.diff(dim=2), b.diff(dim=2)) + F.l1_loss(a.diff(dim=3), b.diff(dim=3))


@torch.no_grad()
def encode_pictures(autoencoder, pictures, batch=64):
    """Latent means of all pictures, float32 [N, 4, 16, 16], unscaled."""
    out = []
    for start in tqdm(range(0, len(pictures), batch), desc="encode", mininterval=2):
        index = torch.arange(start, min(start + batch, len(pictures)))
        out.append(autoencoder.encode(pictures.batch(index).contiguous(memory_format=torch.channels_last)).mean)
    return torch.cat(out)


@torch.no_grad()
def normalise_latents(autoencoder, latents):
    """Scale the autoencoder's latents so that Stable Diffusion's factor 0.18215 gives them unit variance.

    quant_conv is the encoder's last and post_quant_conv the decoder's first layer, so the change is exact.
    """
    factor = 1 / (LATENT_SCALE * latents.std().item())
    channels = latents.shape[1]
    autoencoder.quant_conv.weight[:channels] *= factor
    autoencoder.quant_conv.bias[:channels] *= factor
    autoencoder.quant_conv.bias[channels:] += 2 * torch.tensor(factor).log()
    autoencoder.post_quant_conv.weight /= factor
    return latents * factor


def train_text(text, pictures, work, steps):
    """Contrastive training of the text tower (arXiv 2103.00020) against what the pictures show: painter and subject."""
    project_text = nn.Linear(text.transformer.text_model.final_layer_norm.weight.shape[0], 64)
    project_image = nn.Linear(len(STYLE_CLASSES) + len(SUBJECT_CLASSES), 64)
    features = torch.cat(
        [F.one_hot(pictures.style, len(STYLE_CLASSES)), F.one_hot(pictures.subject, len(SUBJECT_CLASSES))], 1
    )
    features = features.float()
    tokens = _tokens(text, pictures.captions)
    for parameter in text.transformer.parameters():
        parameter.requires_grad_(True)

    def loss_fn(step, generator):
        index = _indices(len(pictures), 64, generator)
        hidden = text.transformer(input_ids=tokens[index]).last_hidden_state
        eos = (tokens[index] == tokens.max()).int().argmax(1)
        a = F.normalize(project_text(hidden[torch.arange(len(index)), eos]), dim=-1)
        b = F.normalize(project_image(features[index]), dim=-1)
        logits = a @ b.T * 14
        same = (features[index] @ features[index].T) > 1.99
        targets = same.float() / same.sum(1, keepdim=True)
        return F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)

    modules = {"text": text.transformer, "project_text": project_text, "project_image": project_image}
    train("text", modules, Schedule(steps, 1e-3), loss_fn, work)
    for parameter in text.transformer.parameters():
        parameter.requires_grad_(False)


def _tokens(text, captions):
    return text.tokenizer(captions, truncation=True, max_length=77, padding="max_length", return_tensors="pt")[
        "input_ids"
    ]


@torch.no_grad()
def encode_captions(text, captions):
    """(contexts [K, 77, C] of the distinct captions, with "" last; index int64 [N] into them)."""
    distinct = sorted(set(captions) - {""}) + [""]
    rows = {caption: i for i, caption in enumerate(distinct)}
    contexts = torch.cat([text.encode(distinct[i : i + 64]) for i in range(0, len(distinct), 64)])
    return contexts, torch.tensor([rows[caption] for caption in captions])


def train_unet(model, latents, contexts, caption_index, work, steps, batch=32):
    """The denoiser: noise prediction with 10 % dropped captions, min-SNR weights (arXiv 2303.09556) and an EMA."""
    unet = model.model.diffusion_model.train()
    ema = Ema(unet, decay=0.9985)
    latents = latents * LATENT_SCALE
    alphas = model.alphas_cumprod.cpu()
    weight = (5.0 / (alphas / (1 - alphas))).clamp(max=1.0)
    empty = len(contexts) - 1

    def loss_fn(step, generator):
        index = _indices(len(latents), batch, generator)
        caption = torch.where(torch.rand(batch, generator=generator) < 0.1, empty, caption_index[index])
        t = torch.randint(model.num_timesteps, (batch,), generator=generator)
        noise = torch.randn(latents[index].shape, generator=generator)
        noisy = model.q_sample(latents[index], t, noise)
        predicted = unet(noisy, t, context=contexts[caption])
        return ((predicted - noise).square().mean(dim=(1, 2, 3)) * weight[t]).mean()

    train("unet", {"unet": unet}, Schedule(steps, 6e-4, warmup=200), loss_fn, work, ema=ema, weight_decay=0.0)
    ema.copy_to_model()
    unet.eval()
