"""What a RECE run is told to do: the three published scripts and where they differ, and the settings of the algorithm.

Nothing here needs torch: a script knows all of it before it loads anything.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from erasure.errors import UserError

EMB_COMPUTING = ("close_standardreg", "close_surrogatereg", "close_regzero")
REG_ITEMS = ("1st", "2nd", "both")
TECHNIQUES = ("replace", "tensor")
SAVE_FORMATS = ("edit", "pt")


@dataclass(frozen=True)
class Script:
    """One of the published scripts: its defaults, and how it calls things."""

    name: str
    about: str
    examples: str
    concept_types: tuple[str, ...] | None  # None: any word
    epochs: int
    regular_scale: float
    emb_computing: str | None  # None: has to be named
    save_path: str
    test_csv_path: str
    stages: tuple[str, str, str]  # folders of the pictures of the base model, of the start, and of epoch {}
    measure: str  # what validation measures: rate, accuracy, or nothing but pictures
    marks_scratch: bool = False  # save_path says so if the run starts from the original weights


TRAIN = Script(
    name="train.py",
    about="Erase nudity or other unsafe concepts with RECE.",
    examples="python methods/rece/train.py --concepts nudity --concept_type nudity --emb_computing close_regzero\n"
    "python methods/rece/train.py --concepts i2p --concept_type unsafe --emb_computing close_regzero --epochs 2",
    concept_types=("nudity", "unsafe"),
    epochs=3,
    regular_scale=0.1,
    emb_computing=None,
    save_path="ckpt2/SD_adv_train/adv_train_concepts",
    test_csv_path="dataset/validation_inappropriate.csv",
    stages=("sd", "uce", "epoch-{}"),
    measure="rate",
    marks_scratch=True,
)
ARTISTS = Script(
    name="train_artists.py",
    about="Erase artists' styles with RECE.",
    examples="python methods/rece/train_artists.py --concepts 'Kelly McKernan' --guided_concepts art --concept_type art "
    "\\\n    --emb_computing close_regzero",
    concept_types=None,
    epochs=1,
    regular_scale=1e-3,
    emb_computing=None,
    save_path="ckpt2/SD_adv_train",
    test_csv_path="dataset/validation_niche_artists.csv",
    stages=("before", "uce", "epoch_{}"),
    measure="pictures",
)
OBJECTS = Script(
    name="train_object.py",
    about="Erase objects with RECE.",
    examples="python methods/rece/train_object.py --concepts Church --concept_type object\n"
    "python methods/rece/train_object.py --concepts 'Golf Ball' --concept_type object --regular_scale 0.1",
    concept_types=None,
    epochs=1,
    regular_scale=1e-3,
    emb_computing="close_regzero",
    save_path="ckpt2/SD_adv_train",
    test_csv_path="dataset/validation_imagenet_prompts.csv",
    stages=("sd", "uce", "epoch_{}"),
    measure="accuracy",
)


@dataclass(frozen=True)
class ReceSettings:
    """Texts and numbers of a run. UserError, in one line, for what no run could use."""

    concepts: tuple[str, ...]
    guides: tuple[str, ...]  # one a concept: what it is answered like
    retained: tuple[str, ...]  # texts that are to stay
    targets: tuple[str | None, ...] = ()  # one a concept, or none at all: where close_standardreg pulls to
    emb_computing: str = "close_regzero"
    reg_item: str = "1st"
    regular_scale: float = 0.1
    technique: str = "replace"
    epochs: int = 3
    lamb: float = 0.1
    erase_scale: float = 1
    preserve_scale: float = 0.1

    def __post_init__(self):
        object.__setattr__(self, "targets", tuple(self.targets) or (None,) * len(self.concepts))
        if not self.concepts:
            raise UserError("no concept to erase")
        for name in ("guides", "targets"):
            if len(getattr(self, name)) != len(self.concepts):
                raise UserError(
                    f"{len(getattr(self, name))} {name} for {len(self.concepts)} concepts: give one for each"
                )
        for name, choices in (
            ("emb_computing", EMB_COMPUTING),
            ("reg_item", REG_ITEMS),
            ("technique", TECHNIQUES),
        ):
            if getattr(self, name) not in choices:
                raise UserError(f"{name} {getattr(self, name)!r} is not one of {', '.join(choices)}")
        for name in ("regular_scale", "lamb", "erase_scale", "preserve_scale"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise UserError(f"--{name} must be a number that is not negative, not {getattr(self, name)}")
        if self.erase_scale == 0:
            raise UserError("--erase_scale 0 would erase nothing")
        if self.epochs < 1:
            raise UserError(f"--epochs must be at least 1, not {self.epochs}")

    def to_dict(self) -> dict[str, Any]:
        """For headers of files and the terminal: of many texts to retain only how many there are."""
        return asdict(self) | {"retained": brief(self.retained), "concepts": list(self.concepts)}


def brief(texts: Sequence[str], limit: int = 12) -> list[str] | str:
    return list(texts) if len(texts) <= limit else f"{len(texts)} texts: {', '.join(map(repr, texts[:3]))} ..."
