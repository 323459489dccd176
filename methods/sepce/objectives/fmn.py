"""FMN as SepCE compares with it: attention logits of a prompt with the concept go to those of the prompt without.

Forget-Me-Not (arXiv 2303.17591) itself minimises attention probabilities at the concept's tokens, after textual inversion.
"""

from ldm.modules import kv_shift
from methods.sepce.objectives import CrossAttentionWeights, Encode, Terms, fmn_loss

TEMPLATE = "a painting of"  # as published for objects, too


class FMN(CrossAttentionWeights):
    """loss = sum over layers of mean((q k(with)^T - q k(without)^T)^2 / d_head), queries of the prompt with the concept.

    No frozen prediction is needed. The last layer's to_v and to_out get no gradient, and so stay as they are.
    """

    method = "fmn"

    def __init__(self, model, encode: Encode, concept: str, iter_break: int):
        self.prompts = f"{TEMPLATE} {concept}", TEMPLATE
        super().__init__(model, encode, concept, self.prompts, iter_break)

    def __enter__(self) -> "FMN":
        super().__enter__()
        # For as long as training lasts: layers that are recomputed in the backward pass have to record there, too.
        self._recording = kv_shift.logit_differences(self.unet, self.texts[self.prompts[1]])
        self.found = self._recording.__enter__()
        return self

    def __exit__(self, *exception) -> None:
        self._recording.__exit__(*exception)
        self.found.clear()
        super().__exit__(*exception)

    def terms(self, step) -> Terms:
        self.predict(self.noised(step), step.t, [self.texts[self.prompts[0]]])
        loss = fmn_loss(self.found.values())
        return Terms(loss, {"loss": loss.item(), "loss_reg": self.change_to_show()})
