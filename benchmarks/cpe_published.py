"""CPE as published, written plainly: the gate anew in every layer, and losses of what every layer's projection yields."""

import torch
from torch import Tensor

from methods.cpe import losses, sampling
from methods.cpe.training import Trainer


def residual(x: Tensor, query: Tensor, scaler: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """[B, T, C] of N concepts in one layer, before alpha / rho: x [B, T, D], down [N, D, rho], up [N, rho, C]."""
    q = torch.einsum("btd,ndr->bntr", x, query)
    attended = (q @ q.transpose(-1, -2)).softmax(dim=-1) @ x.unsqueeze(1)  # [B, N, T, D]
    opened = torch.sigmoid(attended @ scaler)
    chosen = torch.nn.functional.one_hot(opened.argmax(dim=1).squeeze(-1), len(scaler)).movedim(-1, 1).unsqueeze(-1)
    chosen = chosen.to(x.dtype)  # [B, N, T, 1]
    embeddings = torch.einsum("bnti,bntd->btd", chosen * opened, attended)
    return torch.einsum("bntr,nrc->btc", torch.einsum("btd,ndr->bntr", embeddings, down) * chosen, up)


class Published(Trainer):
    """A training whose losses run all projections, plain and gated, on the states of all texts.

    Draws, optimizer and parameters are ours, which is cheaper than published.
    """

    def _layers(self):
        """(place, weight [C, D], what the gated projection does) of all projections."""
        own = self.residuals
        for (places, weights), ups in zip(self.problem.projections.groups, own.ups, strict=True):
            for i, weight, up in zip(places.tolist(), weights, ups, strict=True):
                yield i, weight, self._gated(weight, own.down[None, :, i], up[None])

    def _gated(self, weight: Tensor, down: Tensor, up: Tensor):
        own = self.residuals
        query, scaler = own.query[None], own.scaler[None]
        return lambda x: x @ weight.T + own.scale * residual(x, query, scaler, down, up)

    def _split(self, errors: dict[int, Tensor]) -> losses.Split:
        """A loss of every projection's mean squared error."""
        projections = self.problem.projections
        found = torch.stack([errors[i] for i in range(len(projections.names))])
        return losses.Split(*(projections.of_kind @ (projections.strength * found) / len(found)))

    def _erase(self, template: int, rng, generator):
        s, problem = self.settings, self.problem
        anchors = sampling.draw_anchors(
            problem.protected, s.sampling_batch_size, rng, generator, s.noise_scale, s.mixup
        )
        target, neutral = problem.target[template, None], problem.neutral[template, None]
        attacked = target[:0] if self.attack is None else target + self.attack.values
        x = torch.cat([target, attacked, neutral, problem.empty, anchors])
        sizes = [1, len(attacked), 1, 1 + len(anchors)]
        erasing, adversarial, anchoring = {}, {}, {}
        for i, weight, gated in self._layers():
            with torch.no_grad():
                plain_target, _, plain_neutral, plain = (x @ weight.T).split(sizes)
                goal = plain_neutral + s.guidance * (plain_neutral - plain_target)
            of_target, of_attacked, _, of_protected = gated(x).split(sizes)
            erasing[i] = (goal - of_target).square().mean()
            anchoring[i] = (plain - of_protected).square().mean()
            if len(attacked):
                adversarial[i] = (goal - of_attacked).square().mean()
        attacks = self._split(adversarial) if adversarial else None
        result = losses.EraseLosses(self._split(erasing), attacks, self._split(anchoring), torch.zeros(()))
        result.total = result.erasing.total + s.pal * result.anchoring.total
        if attacks:
            result.total = result.total + s.adv_coef * attacks.total
        self.loss = result.total
        return result.numbers

    def _attack(self, template: int):
        (offsets,), target = self.trained.values(), self.problem.target[template]
        errors = {}
        for i, weight, gated in self._layers():
            with torch.no_grad():
                plain = target @ weight.T
            errors[i] = (gated(target + offsets) - plain).square().mean()
        split = self._split(errors)
        self.loss = split.total
        return lambda: split.numbers("loss")
