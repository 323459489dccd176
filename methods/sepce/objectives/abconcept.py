"""Abconcept as SepCE compares with it: model-based concept ablation (arXiv 2303.13516), simplified.

Images are those of the concept, not of its anchor.
"""

from methods.sepce.objectives import CrossAttentionWeights, Encode, Terms, abconcept_loss

ANCHOR = "painting"  # as published for objects, too


class Abconcept(CrossAttentionWeights):
    """loss = MSE(e_pn, e_n) + 10 MSE(e_p0, e_n)

    e_n is the original network's prediction for "painting", e_p0 the trained one's, and e_pn the trained one's for
    "{concept} painting".
    """

    method = "abconcept"

    def __init__(self, model, encode: Encode, concept: str, iter_break: int, anchor_weight: float = 10.0):
        self.prompts = f"{concept} {ANCHOR}", ANCHOR
        super().__init__(model, encode, concept, self.prompts, iter_break)
        self.anchor_weight = anchor_weight

    def terms(self, step) -> Terms:
        x = self.noised(step)
        contexts = [self.texts[prompt] for prompt in self.prompts]
        (e_n,) = self.original(x, step.t, contexts[1:])
        e_pn, e_p0 = self.predict(x, step.t, contexts)
        loss, concept, anchor = abconcept_loss(e_pn, e_p0, e_n, self.anchor_weight)
        numbers = {"loss": loss, "concept_term": concept, "anchor_term": anchor}
        numbers = {name: value.item() for name, value in numbers.items()}
        return Terms(loss, numbers | {"loss_reg": self.change_to_show()})
