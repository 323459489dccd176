"""The models that are measured: the embedded one with its weights, Stable Diffusion v1 in its size with random weights."""

CONFIGS = {"toy": "configs/toy/v1-inference.yaml", "sd-v1": "configs/stable-diffusion/v1-inference.yaml"}


def config(name: str):
    """Configuration of the whole model (what is under ``model:``), without gradient checkpointing."""
    from omegaconf import OmegaConf

    from erasure.runs import find

    node = OmegaConf.load(find(CONFIGS[name])).model
    node.params.unet_config.params.use_checkpoint = False
    return node


def load(name: str, device: str, dtype=None):
    """LatentDiffusion in evaluation mode on a device."""
    import torch

    from erasure import base_models

    if name == "toy":
        return base_models.load("toy", device=device, dtype=dtype)[0]
    from ldm.util import instantiate_from_config

    torch.manual_seed(0)
    model = instantiate_from_config(config(name))
    fill_zeros(model.model)
    return model.to(device, dtype or torch.float32).eval()


def fill_zeros(network) -> None:
    """Random values for layers that start at zero, which would hide those before them."""
    import torch

    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
