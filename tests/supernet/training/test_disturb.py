"""What a student hears instead of clean speech: as long, in measure, and the same for the same seed."""

import numpy as np
import pytest

from supernet.audio import load_audio, read_manifest
from supernet.training.disturb import disturbed, in_room, with_noise, with_speech

RNG = np.random.default_rng(0)
WAVE = (0.1 * RNG.standard_normal(16_000)).astype(np.float32)


def power(wave):
    return float(np.square(wave).mean())


@pytest.mark.parametrize("seed", range(8))
def test_other_speech_is_on_at_most_half_of_it_and_about_as_loud(seed):
    other = (3.0 * np.random.default_rng(9).standard_normal(9_000)).astype(np.float32)
    mixed = with_speech(WAVE, other, np.random.default_rng(seed))
    added = np.flatnonzero(mixed != WAVE)
    assert mixed.shape == WAVE.shape
    assert 0 < len(added) <= len(WAVE) // 2
    assert added[-1] - added[0] == len(added) - 1  # in one piece
    if len(added) > 100:
        level = 10 * np.log10(power((mixed - WAVE)[added]) / power(WAVE))
        assert -5.5 < level < 5.5


@pytest.mark.parametrize("seed", range(8))
def test_noise_is_quieter_by_5_to_25_decibels(seed):
    noise = with_noise(WAVE, np.random.default_rng(seed)) - WAVE
    assert -25.1 < 10 * np.log10(power(noise) / power(WAVE)) < -4.9
    assert abs(noise.mean()) < 1e-3


def test_a_room_is_echoes_after_the_direct_sound():
    click = np.zeros(16_000, dtype=np.float32)
    click[1_000] = 1.0
    heard = in_room(click, np.random.default_rng(0))
    assert np.abs(heard[:1_000]).max() < 1e-5
    assert heard[1_000] == np.abs(heard).max()
    assert 0 < np.square(heard[1_001:9_000]).sum() <= heard[1_000] ** 2
    assert not np.abs(heard[10_000:]).max() > 1e-5
    assert power(heard) == pytest.approx(power(click), rel=1e-3)


def test_all_ways_happen_and_depend_on_the_seed_alone(corpus):
    others = read_manifest(corpus, "train")
    wave = load_audio(others[0].audio)
    found = [disturbed(wave, others, np.random.default_rng(seed)) for seed in range(12)]
    again = [disturbed(wave, others, np.random.default_rng(seed)) for seed in range(12)]
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))
    assert all(each.shape == wave.shape and each.dtype == np.float32 and np.isfinite(each).all() for each in found)
    partly = [np.mean(each == wave) > 0.4 for each in found]
    assert any(partly)
    assert not all(partly)
    silent = np.zeros(4_000, dtype=np.float32)
    assert all(np.isfinite(disturbed(silent, others, np.random.default_rng(seed))).all() for seed in range(6))
