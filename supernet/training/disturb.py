"""What a student hears instead of a clean recording: it learns to give what the teacher gives for the clean one.

speech  part of another recording on top, for at most half of the time, 5 dB louder to 5 dB quieter (as WavLM does it,
        Chen et al. 2022, whose students must tell the main speaker from another)
noise   of a random colour, 5 to 25 dB quieter
room    reverberation: the direct sound, and noise that decays by 60 dB in 0.1 to 0.5 s

Recordings keep their length, so that frames stay where they were.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from supernet.audio import RATE, Utterance, load_audio

__all__ = ["disturbed", "in_room", "with_noise", "with_speech"]

Samples = npt.NDArray[np.float32]
_QUIET = 1e-8


def disturbed(wave: Samples, others: Sequence[Utterance], rng: np.random.Generator) -> Samples:
    """`wave` (S,) disturbed in one of the three ways: every other time by one of `others`."""
    kind = rng.choice(3, p=[0.5, 0.25, 0.25])
    if kind == 0:
        return with_speech(wave, load_audio(others[int(rng.integers(len(others)))].audio), rng)
    return with_noise(wave, rng) if kind == 1 else in_room(wave, rng)


def with_speech(wave: Samples, other: Samples, rng: np.random.Generator) -> Samples:
    """`wave` (S,) with a part of `other` on top of at most half of it."""
    length = int(rng.integers(1, max(2, min(len(wave) // 2, len(other)) + 1)))
    start, taken = rng.integers(len(wave) - length + 1), rng.integers(len(other) - length + 1)
    mixed: Samples = wave.copy()
    mixed[start : start + length] += _quieter(other[taken : taken + length], wave, rng.uniform(-5, 5))
    return mixed


def with_noise(wave: Samples, rng: np.random.Generator) -> Samples:
    """`wave` (S,) with noise whose power falls as a random power, up to the second, of the frequency."""
    spectrum = np.fft.rfft(rng.standard_normal(len(wave)))
    spectrum[1:] *= np.arange(1, len(spectrum)) ** (-rng.uniform(0, 1))
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, len(wave)).astype(np.float32)
    noisy: Samples = wave + _quieter(noise, wave, rng.uniform(5, 25))
    return noisy


def in_room(wave: Samples, rng: np.random.Generator) -> Samples:
    """`wave` (S,) as in a room: echoes after the direct sound, as loud as before in all."""
    seconds, level = rng.uniform(0.1, 0.5), rng.uniform(0.3, 1.0)
    times = np.arange(round(seconds * RATE)) / RATE
    echoes = rng.standard_normal(len(times)) * 10 ** (-3 * times / seconds)
    response = level * echoes / np.sqrt(np.square(echoes).sum())
    response[0] = 1.0
    size = len(wave) + len(response) - 1
    heard = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(response, size), size)[: len(wave)]
    return _as_loud(heard.astype(np.float32), wave)


def _quieter(sound: Samples, than: Samples, decibels: float) -> Samples:
    """`sound` with a mean power so many dB under that of another."""
    quieter: Samples = (_as_loud(sound, than) * 10 ** (-decibels / 20)).astype(np.float32)
    return quieter


def _as_loud(sound: Samples, other: Samples) -> Samples:
    scaled: Samples = sound * np.sqrt((np.square(other).mean() + _QUIET) / (np.square(sound).mean() + _QUIET))
    return scaled.astype(np.float32)
