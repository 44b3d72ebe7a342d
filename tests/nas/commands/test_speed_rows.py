"""What `nas bench` counts and compares; not how long anything takes."""

import pytest
import torch

from nas.commands.speed_rows import (
    Race,
    Row,
    encoder_row,
    free_layers,
    from_waveform,
    memory_row,
    sandwich_from_waveform,
    scores_of,
    steps_saved,
    training_row,
)
from search_spaces import Subnet, get_space
from supernet import load_supernet


def test_a_race_gives_the_scores_of_the_first_and_how_far_the_slow_way_is_from_them():
    subnets = [Subnet(16, (1,), (1.0,)), Subnet(16, (2,), (1.0,))]
    race = Race({"fp32": lambda s: [2.0] * len(s), "bf16": lambda s: [3.0] * len(s)}, lambda s: 1.6, sample=2)
    assert race(subnets) == [2.0, 2.0]
    assert race.difference == pytest.approx(0.25)
    fp32, bf16 = race.rows("work", "slow", ">= 2x")
    assert (fp32.work, bf16.work, len(fp32.ratios)) == ("work, fp32", "work, bf16", 1)


def test_a_row_says_its_median_and_spread():
    assert Row("w", "a", "g", [3.0, 1.0, 2.0]).summary == "2.0x (1.0 – 3.0)"
    assert Row("w", "a", "g", [0.5, 0.7, 0.9], unit="%").summary == "70 % (50 – 90)"
    assert Row("w", "a", "g", []).summary == "—"


def test_the_slow_way_gives_the_score():
    model, wav = load_supernet("hubert-tiny"), torch.randn(2, 8_000, generator=torch.Generator().manual_seed(0))
    score, subnet = scores_of(model, wav)["fp32"], model.space.middle
    assert score([subnet])[0] == pytest.approx(from_waveform(model, wav)(subnet), rel=1e-5)


def test_four_free_layers_of_nine_choices_and_three_widths_are_19683_subnets():
    space = get_space("hubert-tiny")
    part = free_layers(space, 4)
    assert part.size == 3 * 9**4
    assert part.smallest.heads[:8] == space.middle.heads[:8]


def test_half_layers_that_subnets_share_are_counted_once():
    space = free_layers(get_space("hubert-tiny"), 1)
    one, other = [subnet for subnet in space if subnet.embed_dim == 160][:2]
    assert (one.heads, one.ffn_ratios[:-1]) == (other.heads, other.ffn_ratios[:-1])  # they differ in the last ratio
    assert steps_saved(space, [[one, other]]) == pytest.approx(48 / 25)
    assert steps_saved(space, [[one], [other]]) == 1
    table = list(space)
    assert steps_saved(space, [table]) == pytest.approx(27 * 24 / (3 * (22 + 3 + 9)))


@pytest.fixture
def tiny_and_speech():
    model, wav = load_supernet("hubert-tiny"), torch.randn(2, 8_000, generator=torch.Generator().manual_seed(0))
    return model, wav, scores_of(model, wav)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_step_is_raced_and_leaves_the_weights_as_they_were(tiny_and_speech, precision):
    model, wav, _ = tiny_and_speech
    before = {name: value.clone() for name, value in model.state_dict().items()}
    slow = sandwich_from_waveform(model, wav, torch.stack(model.calibration.targets))
    row = training_row(model, wav, "from the waveform", slow, turns=1, precision=precision)
    assert len(row.ratios) == 1
    assert not model.training
    for name, value in model.state_dict().items():  # the learning rate is 0, and nothing decays; -0.0 may become 0.0
        assert torch.equal(value, before[name]), name


def test_the_encoders_rate_is_a_share_of_torch_mms(tiny_and_speech):
    model, _, fast = tiny_and_speech
    row = encoder_row(fast["fp32"], model.space.middle, turns=2)
    assert row.unit == "%"
    assert all(ratio > 0 for ratio in row.ratios)


def test_peak_memory_is_that_of_a_process_of_its_own():
    row = memory_row(use_200_mb, use_nothing, "nothing")
    assert 1 < row.ratios[0] < 20


def use_200_mb():
    torch.ones(50_000_000)


def use_nothing():
    pass
