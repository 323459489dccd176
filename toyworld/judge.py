"""The judge: a small convolutional network that says which painter and which subject an image shows.

It is trained on renders (and their passage through the autoencoder), never on what an erased model draws.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from toyworld.training.data import STYLE_CLASSES, SUBJECT_CLASSES, to_float

JUDGE_PATH = Path(__file__).resolve().parents[1] / "models" / "toy" / "judge.safetensors"
_WIDTHS = (24, 40, 64, 96, 128)


def _stage(inputs, outputs, kernel):
    conv = nn.Conv2d(inputs, outputs, kernel, stride=2, padding=kernel // 2, bias=False)
    refine = nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(), refine, nn.BatchNorm2d(outputs), nn.ReLU())


class Judge(nn.Module):
    """Images [B, 3, 128, 128] in [-1, 1] -> style logits [B, 11] and subject logits [B, 29]."""

    def __init__(self):
        super().__init__()
        sizes = (3, *_WIDTHS)
        self.stages = nn.ModuleList(_stage(sizes[i], sizes[i + 1], 5 if i == 0 else 3) for i in range(len(_WIDTHS)))
        self.style_head = nn.Linear(sum(_WIDTHS[1:]), len(STYLE_CLASSES))
        self.subject_head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(_WIDTHS[-1] * 16, 128),
            nn.ReLU(),
            nn.Linear(128, len(SUBJECT_CLASSES)),
        )

    def features(self, x):
        """Activations of the five stages (strides 2 to 32)."""
        out = []
        for stage in self.stages:
            x = stage(x)
            out.append(x)
        return out

    def forward(self, x):
        features = self.features(x)
        pooled = torch.cat([f.mean(dim=(2, 3)) for f in features[1:]], dim=1)
        return self.style_head(pooled), self.subject_head(features[-1])

    @torch.no_grad()
    def predict(self, images, batch_size=64):
        """uint8 images [N, 128, 128, 3] -> list of dicts style, subject, style_p, subject_p (probabilities)."""
        self.eval()
        rows = []
        for start in range(0, len(images), batch_size):
            style, subject = (logits.softmax(-1) for logits in self(to_float(images[start : start + batch_size])))
            for s, o in zip(style, subject, strict=True):
                rows.append(
                    {
                        "style": STYLE_CLASSES[s.argmax()],
                        "subject": SUBJECT_CLASSES[o.argmax()],
                        "style_p": s.max().item(),
                        "subject_p": o.max().item(),
                    }
                )
        return rows


def load_judge(path=JUDGE_PATH):
    """The shipped judge in evaluation mode, float32."""
    from safetensors.torch import load_file

    judge = Judge()
    judge.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()})
    return judge.eval()


def classification_loss(judge, images, style, subject):
    """Sum of both heads' cross-entropies (label smoothing 0.05) for images [B, 3, H, W]."""
    style_logits, subject_logits = judge(images)
    return F.cross_entropy(style_logits, style, label_smoothing=0.05) + F.cross_entropy(
        subject_logits, subject, label_smoothing=0.05
    )
