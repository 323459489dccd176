"""Settings of Esd, which is ESD's trainer under the names and with the defaults of SepCE's repository."""

from dataclasses import dataclass
from typing import Any

from methods.esd.settings import EsdSettings
from methods.sepce import ESD_PRESETS, run_name


@dataclass(frozen=True)
class EsdBaselineSettings(EsdSettings):
    """`erase_cat` and `erased_index`: the concept's place in a published list, if it was named by it; of the run's name only."""

    save_format: str = "edit"
    erase_cat: str | None = None
    erased_index: int | None = None

    @classmethod
    def for_family(cls, family: str, **chosen: Any) -> "EsdBaselineSettings":
        chosen = {name: value for name, value in chosen.items() if value is not None}
        return super().for_family(family, **(ESD_PRESETS[family] | chosen))

    @property
    def run_name(self) -> str:
        """As published: ESD's, or that of the later script, which says less."""
        if self.erase_cat is None:
            return super().run_name
        return run_name("Esd", self.concepts, self.to_dict() | {"iter_break": self.iterations})

    @property
    def weights_names(self) -> tuple[str, str]:
        """The later script's name is that of the UNet for diffusers, which it wrote over the whole model."""
        return super().weights_names if self.erase_cat is None else (f"compvis-{self.run_name}", self.run_name)
