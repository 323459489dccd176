"""The pure parts of ESD: prompts and names, draws, partial sampling, the target and the frozen network."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.ddpm import LatentDiffusion
from methods.esd import PROMPT_KEYWORDS, TRAIN_METHODS, esd

WORDS = st.lists(st.text("abcdefgh -'", min_size=1).filter(str.strip), min_size=1, max_size=5)


# ---- prompts and names ---------------------------------------------------------------------------------------------


@given(WORDS)
def test_prompt_splits_at_the_separator_only(words):
    prompt = ",".join(words)
    assert esd.expand_prompt(prompt, ",") == [word.strip() for word in words]
    assert esd.expand_prompt(prompt) == [prompt]


@pytest.mark.parametrize("keyword", PROMPT_KEYWORDS)
def test_keywords_stand_for_lists(keyword):
    assert esd.expand_prompt(keyword) == [PROMPT_KEYWORDS[keyword]]
    concepts = esd.expand_prompt(keyword, ",")
    assert len(concepts) > 1 and ", ".join(concepts) == PROMPT_KEYWORDS[keyword]
    assert esd.expand_prompt(f"{keyword}, x", ",") == [keyword, "x"]  # only the whole prompt is a keyword


@pytest.mark.parametrize(("prompt", "seperator"), [("", None), ("  ", None), ("a,,b", ","), ("a,", ",")])
def test_empty_concepts_are_refused(prompt, seperator):
    with pytest.raises(ValueError, match="empty concept"):
        esd.expand_prompt(prompt, seperator)


def test_pairs_of_concept_and_origin():
    assert esd.concept_pairs("a, b", ",") == [("a", None), ("b", None)]
    assert esd.concept_pairs("a, b", ",", "c") == [("a", "c"), ("b", "c")]
    assert esd.concept_pairs("a, b", ",", "c,d") == [("a", "c"), ("b", "d")]
    with pytest.raises(ValueError, match="3 texts for 2 concepts"):
        esd.concept_pairs("a, b", ",", "c,d,e")


def test_run_names_are_the_published_ones():
    name = "compvis-word_VanGogh-method_xattn-sg_3-ng_1-iter_1000-lr_1e-05"
    assert esd.run_name("Van Gogh", "xattn", 3, 1, 1000, 1e-5) == name
    assert esd.run_name("Van Gogh", "xattn", 3.0, 1.0, 1000, 1e-05) == name
    assert esd.diffusers_name(name) == name.replace("compvis", "diffusers")
    assert "word_VanGogh,PabloPicasso-" in esd.run_name("Van Gogh,Pablo Picasso", "xattn", 3, 1, 1000, 1e-5)
    assert esd.run_name("allartist", "noxattn", 7.5, 1, 2, 0.001).endswith(
        "word_allartist-method_noxattn-sg_7.5-ng_1-iter_2-lr_0.001"
    )


@given(st.text(max_size=400))
def test_any_prompt_makes_a_file_name(prompt):
    name = esd.run_name(prompt, "xattn", 3, 1, 1000, 1e-5)
    assert not set(name) & set('/\\\0:*?"<>|')
    assert len(f"{esd.diffusers_name(name)}-epoch_100000.safetensors".encode()) < 255


def test_long_prompts_stay_apart():
    prompts = ["x" * 300 + end for end in ("a", "b")]
    assert len({esd.run_name(prompt, "xattn", 3, 1, 1000, 1e-5) for prompt in prompts}) == 2


# ---- selection -----------------------------------------------------------------------------------------------------


def test_unknown_and_empty_selections_are_refused():
    network = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="unknown train_method 'x-attn'; choose from noxattn"):
        esd.select_parameters(network, "x-attn")
    with pytest.raises(ValueError, match="selects no parameter"):
        esd.select_parameters(network, "xattn")
    for method in TRAIN_METHODS:
        assert esd._is_selected("input_blocks.4.1.attn1.attn2.to_k.output_blocks.6.weight", method, True) in (
            True,
            False,
        )


# ---- draws ---------------------------------------------------------------------------------------------------------


@given(st.integers(2, 100), st.integers(0, 2**32))
def test_timesteps_fall_into_their_range(ddim_steps, seed):
    t_enc, t_ddpm = esd.draw_timestep(ddim_steps, torch.Generator().manual_seed(seed))
    assert 0 <= t_enc < ddim_steps
    low, high = esd.t_range(t_enc, ddim_steps)
    assert low <= t_ddpm < high


@given(st.integers(2, 1000))
def test_ranges_tile_the_schedule(ddim_steps):
    ranges = [esd.t_range(i, ddim_steps) for i in range(ddim_steps)]
    assert ranges[0][0] == 0 and ranges[-1][1] == esd.NUM_TIMESTEPS
    assert all(before[1] == after[0] for before, after in zip(ranges, ranges[1:], strict=False))


def test_draws_depend_on_seed_and_iteration_alone():
    def numbers(seed, iteration):
        chooser, generator = esd.iteration_generators(seed, iteration)
        return chooser.random(), torch.randn(3, generator=generator).tolist()

    random.seed(0)
    torch.manual_seed(0)
    first = numbers(3, 7)
    random.seed(1)
    torch.manual_seed(1)
    assert numbers(3, 7) == first
    assert len({str(numbers(seed, i)) for seed in range(4) for i in range(4)}) == 16


# ---- sampling ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def known():
    """(model, noised): predictions are always the same noise, so DDIM moves along the line that `noised` knows."""
    identity = {"target": "ldm.models.autoencoder.IdentityFirstStage"}
    unet = {"target": "torch.nn.Linear", "params": {"in_features": 1, "out_features": 1}}  # never called
    model = LatentDiffusion(identity, identity, unet_config=unet, linear_start=0.00085, linear_end=0.012, use_ema=False)
    x0, noise = torch.randn(2, 1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    model.apply_model = lambda x, t, cond: noise.expand(x.shape)
    return model, lambda t: model.q_sample(x0, torch.tensor([t]), noise)


@pytest.mark.parametrize("ddim_steps", [5, 16, 20, 50])
def test_exact_sampling_ends_at_its_label(known, ddim_steps):
    model, noised = known
    emb = torch.zeros(1, 2, 3)
    last = (len(range(0, 1000, 1000 // ddim_steps)) - 1) * (1000 // ddim_steps) + 1
    for t_enc in range(ddim_steps):
        start = noised(last)
        z = esd.sample_till(DDIMSampler(model), emb, emb, 3.0, start, t_enc, ddim_steps, exact=True)
        label = esd.exact_timestep(t_enc, ddim_steps)
        assert torch.allclose(z, noised(label), atol=1e-4), t_enc


@pytest.mark.parametrize("ddim_steps", [20, 50])
def test_published_sampling_is_two_to_three_grid_steps_less_noisy(known, ddim_steps):
    model, noised = known
    emb, stride = torch.zeros(1, 2, 3), 1000 // ddim_steps
    for t_enc in range(2, ddim_steps):
        start = noised((ddim_steps - 2) * stride + 1)  # where the shortened grid begins
        z = esd.sample_till(DDIMSampler(model), emb, emb, 3.0, start, t_enc, ddim_steps)
        t = (t_enc - 2) * stride + 1
        assert torch.allclose(z, noised(t), atol=1e-4), t_enc
        low, high = esd.t_range(t_enc, ddim_steps)
        assert 2 * stride - 1 <= low - t and high - 1 - t <= 3 * stride - 2


def test_sampling_touches_no_global_random_numbers(known):
    model, noised = known
    emb = torch.zeros(1, 2, 3)
    state = torch.get_rng_state()
    for exact in (False, True):
        esd.sample_till(DDIMSampler(model), emb, emb, 3.0, noised(999), 3, 20, exact=exact)
    assert torch.equal(torch.get_rng_state(), state)


# ---- target, step and frozen network ---------------------------------------------------------------------------------


class Linear(nn.Module):
    """eps = scale * x + mean(context) + t: simple enough to know every prediction."""

    def __init__(self):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(1.0))
        self.calls = 0

    def forward(self, x, t, context):
        self.calls += 1
        offset = context.mean(dim=(1, 2)) + t
        return self.scale * x + self.shift + offset[:, None, None, None]


@pytest.mark.parametrize("origin", [None, 5.0])
@pytest.mark.parametrize("eta", [0.0, 1.0, 3.0])
def test_loss_is_the_papers(eta, origin):
    network = Linear()
    frozen = esd.FrozenWeights(network, {"scale": network.scale})
    with torch.no_grad():
        network.scale.fill_(2.0)
    z, t = torch.full((1, 4, 2, 2), 3.0), torch.tensor([7])
    emb_0, emb_p = torch.zeros(1, 2, 2), torch.full((1, 2, 2), 4.0)
    emb_f = None if origin is None else torch.full((1, 2, 2), origin)
    loss = esd.esd_step(network, frozen, z, t, emb_0, emb_p, eta, emb_f)
    e_0 = 0.5 * 3 + 1 + 7
    target = e_0 + (origin or 0) - eta * 4  # the concept's embedding adds 4, the origin's 5
    e_n = 2.0 * 3 + 1 + 7 + (4 if origin is None else origin)
    assert loss.item() == pytest.approx((e_n - target) ** 2)
    assert network.calls == 2  # all frozen predictions in one batch
    loss.backward()
    assert network.scale.grad.item() == pytest.approx(2 * (e_n - target) * 3)  # only through e_n


def test_frozen_weights_keep_only_the_selected_twice():
    network = Linear()
    scale, shift = network.scale.data, network.shift.data
    frozen = esd.FrozenWeights(network, {"scale": network.scale})
    assert network.shift.data_ptr() == shift.data_ptr()
    assert network.scale.data_ptr() != scale.data_ptr()
    with torch.no_grad():
        network.scale.fill_(9.0)
    x, t, context = torch.ones(1, 4, 1, 1), torch.zeros(1), torch.zeros(1, 1, 1)
    assert frozen(x, t, context).unique().item() == 1.5
    assert network(x, t, context).unique().item() == 10.0
    with pytest.raises(KeyError), frozen.swapped():
        raise KeyError
    assert network.scale.item() == 9.0  # put back after an error, too
    frozen.restore()
    assert network.scale.data_ptr() == scale.data_ptr() and network.scale.item() == 0.5
