"""A frozen teacher from a Hugging Face folder, its hidden states brought to the student's frames, and their cache.

A HuBERT-like student's frame t sees samples 320t .. 320t+400: its centre is sample 320t+200. HuBERT, wav2vec 2.0
and WavLM share that grid. Whisper's encoder frame t is centred on sample 320t, so a student frame lies 200/320
of the way from teacher frame t to t+1, and the target is interpolated there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces import AudioError, CheckpointError
from supernet.audio import RATE, Utterance, load_audio, normalise
from supernet.store import FrameStore

__all__ = ["TEACHERS", "TargetCache", "Teacher", "load_teacher"]

TEACHERS = ("hubert", "wav2vec2", "wavlm", "whisper")
_HOP = 320


class Teacher(nn.Module):
    """A pretrained encoder: waveforms in, hidden states at the student's 50 Hz frames out.

    `layers` has for each of K targets the indices of the hidden states (0 is the input of the first layer) that it is
    the mean of: one state, as in DistilHuBERT, or several, as in data2vec. `dim` is their width.
    Each frame of a state is layer-normalised without affine weights, which tames frames whose norm is an outlier
    (Whisper's middle layers have frames of 25 times the median norm), as data2vec does before averaging.
    """

    def __init__(
        self, model: Any, kind: str, layers: tuple[tuple[int, ...], ...], extractor: Any, fingerprint: str
    ) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.kind, self.layers, self.fingerprint = kind, layers, fingerprint
        self.dim = int(model.config.hidden_size)
        self._extractor = extractor
        if kind == "whisper":
            self._positions = model.embed_positions.weight.detach().clone()

    @torch.no_grad()
    def forward(self, waves: Sequence[npt.NDArray[np.float32]], frames: int) -> Tensor:
        """Targets (B, K, frames, dim) float32 of equally long recordings (S,), K = len(layers)."""
        device = next(self.model.parameters()).device
        if self.kind == "whisper":
            hidden = self._whisper(waves, device)
        else:
            wav = torch.from_numpy(np.stack([normalise(wave) for wave in waves])).to(device)
            hidden = self.model(wav, output_hidden_states=True).hidden_states
        used = {layer for layers in self.layers for layer in layers}
        normed = {layer: F.layer_norm(hidden[layer].float(), hidden[layer].shape[-1:]) for layer in used}
        states = torch.stack([torch.stack([normed[layer] for layer in layers]).mean(0) for layers in self.layers], 1)
        if self.kind == "whisper":
            later = torch.cat([states[:, :, 1:], states[:, :, -1:]], 2)
            states = torch.lerp(states, later, 200 / _HOP)
        if states.shape[2] < frames:  # rounding at the end of a recording: repeat the last frame
            states = torch.cat([states, states[:, :, -1:].expand(-1, -1, frames - states.shape[2], -1)], 2)
        return states[:, :, :frames]

    def _whisper(self, waves: Sequence[npt.NDArray[np.float32]], device: torch.device) -> tuple[Tensor, ...]:
        """Hidden states of a window of the clip and at least one second of silence, in whole seconds.

        Nearly the features of the 30 s window that Whisper was trained on, at a fraction of the cost; without
        the silence, most clips have outlier frames.
        """
        seconds = -(-max(len(wave) for wave in waves) // RATE) + 1
        if seconds > 30:
            raise AudioError(f"a Whisper teacher hears at most 29 s at once; got {seconds - 1} s: split the recording")
        mel = self._extractor(
            list(waves), sampling_rate=RATE, padding="max_length", max_length=seconds * RATE, return_tensors="pt"
        ).input_features
        positions = 50 * seconds
        self.model.config.max_source_positions = positions
        self.model.embed_positions = nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]
            self._positions[:positions].to(device)
        )
        hidden: tuple[Tensor, ...] = self.model(mel.to(device), output_hidden_states=True).hidden_states
        return hidden


def load_teacher(path: Path | str, layers: Sequence[int | Sequence[int]] | None = None, device: str = "cpu") -> Teacher:
    """The teacher in a Hugging Face folder (safetensors only: an untrusted pickle is never read).

    `layers`: hidden states to regress, or groups of which to regress the mean; by default three spread over the depth,
    the last one included.
    Raises `CheckpointError` where the folder is not one of `TEACHERS` or a layer does not exist.
    """
    import transformers
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    folder = Path(path)
    config_file, weights = folder / "config.json", folder / "model.safetensors"
    for file in (config_file, weights):
        if not file.is_file():
            raise CheckpointError(f"teacher {folder} needs {file.name}: a Hugging Face folder with safetensors weights")
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        kind = config["model_type"]
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{config_file} is not a Hugging Face config: no model_type in it") from None
    if kind not in TEACHERS:
        raise CheckpointError(f"model_type of teacher {folder} must be one of {', '.join(TEACHERS)}; got {kind!r}")
    loader = WhisperEncoder if kind == "whisper" else transformers.AutoModel
    try:
        model = loader.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, attn_implementation="sdpa")
    except Exception as error:  # transformers raises many kinds for a broken folder
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"cannot load teacher {folder}: {first}") from None
    if model.training:
        model.eval()
    depth = int(model.config.num_hidden_layers)
    values = layers or [round(depth * part / 3) for part in (1, 2, 3)]
    chosen = tuple(tuple(each) if isinstance(each, (list, tuple)) else (each,) for each in values)
    for layer in (layer for each in chosen for layer in each):
        if not (isinstance(layer, int) and 0 <= layer <= depth):
            raise CheckpointError(f"teacher {folder} has hidden states 0..{depth}; got layer {layer}")
    extractor = None
    if kind == "whisper":
        extractor = transformers.WhisperFeatureExtractor.from_pretrained(folder)
    return Teacher(model, kind, chosen, extractor, _fingerprint(weights)).to(device)


def _fingerprint(file: Path) -> str:
    with file.open("rb") as stream:
        return (
            hashlib.file_digest(stream, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else (hashlib.sha256(stream.read()).hexdigest())
        )


class TargetCache:
    """Teacher targets on disk, computed once: an append-only float16 file and an index that names each utterance.

    Killed at any moment, the next run keeps every utterance whose index line was written whole.
    Kept under `folder/<key>`, where the key stands for the teacher's weights and layers.
    """

    def __init__(self, folder: Path | str, teacher: Teacher, frames_of: Callable[[int], int]) -> None:
        self.teacher, self.frames_of = teacher, frames_of
        layers = "-".join("+".join(map(str, each)) for each in teacher.layers)
        key = f"{teacher.kind}-{teacher.fingerprint[:12]}-{layers}"
        self.folder = Path(folder) / key
        self._store = FrameStore(self.folder, (len(teacher.layers), teacher.dim), "targets")

    def missing(self, utterances: Sequence[Utterance]) -> list[Utterance]:
        return [utterance for utterance in utterances if utterance.id not in self._store]

    def fill(self, utterances: Sequence[Utterance], done: Callable[[float], None] = lambda seconds: None) -> None:
        """Computes what is missing, in groups of equal window; `done(seconds)` is called after each group."""
        groups: dict[int, list[Utterance]] = {}
        for utterance in self.missing(utterances):
            groups.setdefault(-(-int(utterance.seconds * RATE) // RATE), []).append(utterance)
        for seconds, group in sorted(groups.items()):
            per_batch = max(1, 48 // (seconds + 1))
            for start in range(0, len(group), per_batch):
                batch = group[start : start + per_batch]
                self._write(batch)
                done(sum(utterance.seconds for utterance in batch))

    def _write(self, batch: Sequence[Utterance]) -> None:
        waves = [load_audio(utterance.audio) for utterance in batch]
        if self.teacher.kind == "whisper":
            longest = max(self.frames_of(len(wave)) for wave in waves)
            targets = list(self.teacher(waves, longest + 1))
        else:
            targets = [self.teacher([wave], self.frames_of(len(wave)))[0] for wave in waves]
        for utterance, wave, target in zip(batch, waves, targets, strict=True):
            frames = self.frames_of(len(wave))
            self._store.add(utterance.id, target[:, :frames].transpose(0, 1).half().cpu().numpy())

    def __getitem__(self, name: str) -> npt.NDArray[np.float16]:
        """Targets (T, K, dim) of one utterance."""
        return self._store[name]

    def statistics(self, utterances: Sequence[Utterance], most: int = 800) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (K, dim) over the frames of at most `most` evenly chosen utterances."""
        chosen = utterances[:: max(1, len(utterances) // most)]
        frames = np.concatenate([self[utterance.id] for utterance in chosen]).astype(np.float32)
        return torch.from_numpy(frames.mean(0)), torch.from_numpy(frames.std(0) + 1e-3)
