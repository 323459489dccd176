"""The UNet, forward and with the backward pass, beside diffusers' UNet2DConditionModel with the same weights."""

import math

from benchmarks import models
from benchmarks.harness import Column, Settings, compare, interleave, ratio_columns, seconds_text

TITLE = "UNet beside diffusers' UNet2DConditionModel"
NOTE = (
    "Same random weights in both (`erasure.key_maps`), 77 text tokens, no gradient checkpointing; the backward pass is that "
    "of all weights. *peer / ours* above 1: ours is faster; *from*, *to*: middle half of the pairs. *difference*: largest "
    "deviation of the outputs, as a share of the largest output. bfloat16 on a processor without such instructions is emulated."
)
COLUMNS = [
    Column("model", "model"),
    Column("latents", "latents"),
    Column("dtype", "dtype"),
    Column("mode", "pass"),
    *ratio_columns(),
    Column("difference", "difference", "{:.0e}".format),
]
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.06, "float16": 0.01}  # of the largest output: the same function, rounded
MODES = ("forward", "forward + backward")
BATCH, TOKENS = 2, 77


def run(settings: Settings) -> list[dict]:
    rows = []
    for name in settings.chosen_models(models.CONFIGS):
        pair = build(name, settings.device)
        for dtype in settings.dtypes:
            for mode in MODES:
                side = latent_side(name, dtype, mode, settings)
                rows.append(measure(name, pair, dtype, mode, side, settings))
                _show(rows[-1])
    return rows


def latent_side(name: str, dtype: str, mode: str, settings: Settings) -> int:
    """The model's own size; on a CPU, SD v1 gets smaller latents where its own would take many minutes."""
    if settings.quick:
        return 8
    if name == "toy":
        return 16
    if settings.latents:
        return settings.latents
    if settings.device != "cpu":
        return 64
    return {("float32", MODES[0]): 64, ("float32", MODES[1]): 16}.get((dtype, mode), 16 if mode == MODES[0] else 8)


def build(name: str, device: str):
    """(our UNet, diffusers' UNet) of a model's shape, with the same random weights, in float32 and evaluation mode."""
    import torch
    from diffusers.utils import logging

    from erasure.key_maps import unet_to_diffusers
    from ldm.util import instantiate_from_config

    logging.set_verbosity_error()
    node = models.config(name).params.unet_config
    torch.manual_seed(0)
    with torch.device(device):
        ours, peer = instantiate_from_config(node), diffusers_unet(node.params)
    models.fill_zeros(ours)
    peer.load_state_dict(unet_to_diffusers(ours.state_dict()))
    return ours.eval(), peer.eval()


def diffusers_unet(params: dict):
    """A UNet2DConditionModel of the same shape."""
    from diffusers import UNet2DConditionModel

    attends = [2**level in params["attention_resolutions"] for level in range(len(params["channel_mult"]))]
    return UNet2DConditionModel(
        in_channels=params["in_channels"],
        out_channels=params["out_channels"],
        block_out_channels=[params["model_channels"] * factor for factor in params["channel_mult"]],
        down_block_types=["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        up_block_types=["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)],
        layers_per_block=params["num_res_blocks"],
        cross_attention_dim=params["context_dim"],
        attention_head_dim=params["num_heads"],  # the number of heads, by a mistake that diffusers keeps for old files
    )


def measure(name: str, pair, dtype: str, mode: str, side: int, settings: Settings) -> dict:
    """One row. RuntimeError if the two networks do not compute the same function."""
    import torch

    networks = dict(zip(("ours", "peer"), (network.to(getattr(torch, dtype)) for network in pair), strict=True))
    slow = name == "sd-v1" and settings.device == "cpu"
    difference = check(networks, forwards(networks, 8 if slow else side), f"{name} {dtype}", TOLERANCE[dtype])
    calls = {form: _call(call, networks[form], mode) for form, call in forwards(networks, side).items()}
    rounds = (1, 1) if settings.quick else (2, 30)
    times = interleave(calls, settings.device, settings.seconds, rounds, warm_up=not slow or dtype == "float32")
    shape = f"{BATCH}x4x{side}x{side}"
    return {"model": name, "latents": shape, "dtype": dtype, "mode": mode} | compare(times) | {"difference": difference}


def forwards(networks: dict, side: int) -> dict:
    """Calls of both networks with the same random input."""
    import torch

    ours, peer = networks["ours"], networks["peer"]
    weight = ours.time_embed[0].weight
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(BATCH, 4, side, side, generator=generator).to(weight)
    context = torch.randn(BATCH, TOKENS, context_width(ours), generator=generator).to(weight)
    t = torch.randint(1000, (BATCH,), generator=generator).to(weight.device)
    return {
        "ours": lambda: ours(x, t, context=context),
        "peer": lambda: peer(x, t, encoder_hidden_states=context).sample,
    }


def check(networks: dict, calls: dict, what: str, tolerance: float) -> float:
    """Largest deviation of the outputs, as a share of the largest output."""
    import torch

    with torch.no_grad():
        a, b = (calls[form]().float() for form in networks)
    difference = float((a - b).abs().max() / b.abs().max())
    if not math.isfinite(difference) or difference > tolerance:
        raise RuntimeError(f"{what}: the two UNets differ by {difference:.1e} of the largest output")
    return difference


def context_width(unet) -> int:
    return next(value.shape[1] for key, value in unet.state_dict().items() if key.endswith("attn2.to_k.weight"))


def _call(forward, network, mode: str):
    import torch

    def with_gradients():
        forward().float().square().mean().backward()
        network.zero_grad(set_to_none=True)

    return torch.no_grad()(forward) if mode == MODES[0] else with_gradients


def _show(row: dict) -> None:
    print(
        f"  {row['model']} {row['latents']} {row['dtype']} {row['mode']}: ours {seconds_text(row['ours_s'])}, "
        f"peer {seconds_text(row['peer_s'])}, peer / ours {row['ratio']:.2f}",
        flush=True,
    )
