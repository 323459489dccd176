"""Who says what an image shows: CLIP ViT-B/32, or on the embedded model the judge of its world.

A classifier is a callable (images uint8 [N, H, W, 3], J texts) -> logits [N, J], see `ratios.Classify`.
"""

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

from erasure.errors import UserError
from erasure.runs import find, sha256_file

CLIP = "models/clip/ViT-B-32.safetensors"
CLIP_SOURCE = "model.safetensors of openai/clip-vit-base-patch32"
_TEMPLATE_2025 = "This is a photo of {}."


def check(family: str, attributes: Sequence[str], clip_path: str | None = None) -> None:
    """UserError, before anything is loaded, if the classifier of a family is not there or does not know an attribute."""
    if family == "toy":
        _judge_columns(attributes)
    else:
        _clip_file(clip_path)


def load(family: str, attributes: Sequence[str], variant: str, device="cpu", clip_path: str | None = None):
    """(classifier, what it is in words and a hash) for images of a base model of that family."""
    if family == "toy":
        return _judge(attributes)
    return _clip(_clip_file(clip_path), variant, device)


# ---- the embedded model's judge ------------------------------------------------------------------------------------


def _judge_columns(attributes: Sequence[str]) -> tuple[str, list[str]]:
    """(which of the judge's answers knows the attributes, its name of each)."""
    from toyworld.concepts import STYLES, SUBJECTS

    names = [attribute.lower() for attribute in attributes]
    for head, classes in (("style", STYLES), ("subject", SUBJECTS)):
        if set(names) <= set(classes):
            return head, names
    unknown = [name for name in names if name not in STYLES + SUBJECTS]
    if unknown:
        raise UserError(
            f"the embedded model's judge does not know {unknown[0]!r}; its attributes are styles "
            f"({', '.join(STYLES)}) or subjects ({', '.join(SUBJECTS)})"
        )
    raise UserError(
        f"{', '.join(names)}: the embedded model's judge compares styles or subjects, not one with the other"
    )


def _judge(attributes: Sequence[str]):
    import torch

    from toyworld.judge import JUDGE_PATH, load_judge
    from toyworld.training.data import STYLE_CLASSES, SUBJECT_CLASSES, to_float

    head, names = _judge_columns(attributes)
    classes = STYLE_CLASSES if head == "style" else SUBJECT_CLASSES
    columns = [classes.index(name) for name in names]
    judge = load_judge()

    @torch.no_grad()
    def classify(images, texts):
        style, subject = judge(to_float(images))
        return (style if head == "style" else subject)[:, columns]

    return classify, {"name": f"judge of the embedded model, {head}", "sha256": sha256_file(JUDGE_PATH)}


# ---- CLIP ----------------------------------------------------------------------------------------------------------


def _clip_file(clip_path: str | None) -> Path:
    path = find(clip_path or CLIP)
    if not path.is_file():
        raise UserError(
            f"no CLIP ViT-B/32 at {path}, which says what the images show: put {CLIP_SOURCE} there, "
            "or name it with --clip_path"
        )
    return path


@contextlib.contextmanager
def _quiet():
    """open_clip warns of random weights, which are about to be replaced."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _clip(path: Path, variant: str, device):
    import open_clip
    import torch
    from PIL import Image

    from erasure.checkpoint_files import read_tensors
    from methods.uce.clip_names import to_open_clip

    with _quiet():
        model = open_clip.create_model("ViT-B-32-quickgelu", load_weights=False)
    try:
        model.load_state_dict(to_open_clip(read_tensors(path)))
    except (RuntimeError, KeyError) as error:
        raise UserError(f"{path}: not the weights of CLIP ViT-B/32 ({error})"[:300]) from None
    model = model.eval().to(device)
    preprocess = open_clip.image_transform(model.visual.image_size, is_train=False)
    tokenize = open_clip.get_tokenizer("ViT-B-32-quickgelu")
    template = _TEMPLATE_2025 if variant == "2025" else "{}"
    encoded: dict[tuple[str, ...], torch.Tensor] = {}

    @torch.no_grad()
    def classify(images, texts):
        texts = tuple(texts)
        if texts not in encoded:
            tokens = tokenize([template.format(text) for text in texts]).to(device)
            encoded[texts] = model.encode_text(tokens, normalize=True)
        batch = torch.stack([preprocess(Image.fromarray(image)) for image in images]).to(device)
        return (model.logit_scale.exp() * model.encode_image(batch, normalize=True) @ encoded[texts].T).cpu()

    return classify, {"name": "CLIP ViT-B/32 (open_clip)", "sha256": sha256_file(path)}
