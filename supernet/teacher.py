"""A frozen teacher from a Hugging Face folder, its hidden states at the student's frames, and a cache of them.

Frame t of a HuBERT-like student covers samples 320t .. 320t+400: its centre is sample 320t+200. HuBERT, wav2vec 2.0
and WavLM have the same frames. Whisper's encoder frame t is centred on sample 320t, so a student frame lies 200/320
of the way from teacher frame t to t+1, and the target is interpolated there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces import AudioError, CheckpointError
from search_spaces.files import read_text
from search_spaces.text import first_line
from supernet.audio import RATE, Utterance, load_audio
from supernet.hub import local_folder
from supernet.preprocessor import FILE, Preprocessor, read_preprocessor
from supernet.store import FrameStore
from supernet.weights import shards, tensor_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel, WhisperFeatureExtractor

__all__ = ["TEACHERS", "TargetCache", "Teacher", "load_teacher"]

TEACHERS = ("hubert", "wav2vec2", "wavlm", "whisper")
_HOP = 320
_MAX_WHISPER_SECONDS = 30  # the window that its positions cover
_BATCH_SECONDS = 48


class Teacher(nn.Module):
    """A pretrained encoder: waveforms in, hidden states at the student's 50 Hz frames out.

    `layers` holds, for each of K targets, the indices of the hidden states that it averages (0 is the input of the
    first layer): one state, as in DistilHuBERT, or several, as in data2vec. `dim` is their width.
    Each frame of a state is layer-normalised without affine weights, as data2vec does before averaging. This limits
    frames with outlier norms (Whisper's middle layers have frames of 25 times the median norm).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        kind: str,
        layers: tuple[tuple[int, ...], ...],
        extractor: WhisperFeatureExtractor | None,
        fingerprint: str,
        prepare: Preprocessor,
    ) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.kind, self.layers, self.fingerprint = kind, layers, fingerprint
        self.dim = int(model.config.hidden_size)
        self._extractor, self.prepare = extractor, prepare
        if kind == "whisper":
            self._positions = model.embed_positions.weight.detach().clone()

    @torch.no_grad()
    def forward(self, waves: Sequence[npt.NDArray[np.float32]], frames: int) -> Tensor:
        """Targets (B, K, frames, dim) in float32 of recordings (S,); only Whisper takes different lengths at once."""
        device = next(self.model.parameters()).device
        if self.kind == "whisper":
            hidden = self._whisper(waves, device)
        else:
            wav = torch.from_numpy(np.stack([self.prepare(wave) for wave in waves])).to(device)
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
        """Hidden states of a window of whole seconds: the recordings and at least one second of silence.

        They are close to those of the 30 s window that Whisper was trained on, at a fraction of the cost. Without the
        silence, most recordings have outlier frames.
        """
        seconds = -(-max(len(wave) for wave in waves) // RATE) + 1
        if seconds > _MAX_WHISPER_SECONDS:
            raise AudioError(
                f"a Whisper teacher takes recordings of at most {_MAX_WHISPER_SECONDS - 1} s; got {seconds - 1} s: "
                "split the recording"
            )
        assert self._extractor is not None
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
    """The teacher in a Hugging Face folder or of the Hub (safetensors only: untrusted pickles are never read).

    `layers`: hidden states to regress, or groups of them whose mean to regress; default: three, evenly spaced over the
    depth, including the last.
    Raises `CheckpointError` if the model is not one of `TEACHERS` or a layer does not exist.
    """
    folder = local_folder(path)
    kind = _kind(folder)
    model = _loaded(folder, kind)
    depth = int(model.config.num_hidden_layers)
    chosen = layers or [round(depth * part / 3) for part in (1, 2, 3)]
    groups = tuple(tuple(each) if isinstance(each, (list, tuple)) else (each,) for each in chosen)
    for layer in (layer for group in groups for layer in group):
        if not (isinstance(layer, int) and 0 <= layer <= depth):
            raise CheckpointError(f"teacher {folder} has hidden states 0..{depth}; got layer {layer}")
    extractor = None
    if kind == "whisper":
        extractor = _whisper_extractor(folder)
    prepare = read_preprocessor(folder)
    return Teacher(model, kind, groups, extractor, _fingerprint(folder), prepare).to(device)


def _whisper_extractor(folder: Path) -> WhisperFeatureExtractor:
    from transformers import WhisperFeatureExtractor

    try:
        return WhisperFeatureExtractor.from_pretrained(folder)
    except Exception as error:  # transformers raises many kinds of errors for a broken file
        raise CheckpointError(f"cannot read {folder / FILE}: {error!s:.200}") from None


def _fingerprint(folder: Path) -> str:
    """Of the weights, and of the preprocessor's settings if the folder has some: both determine the targets."""
    settings = [folder / FILE] if (folder / FILE).is_file() else []
    return _sha256(*shards(folder), *settings)


def _kind(folder: Path) -> str:
    """The model type, one of `TEACHERS`, of a folder with `config.json` and safetensors weights."""
    file = folder / "config.json"
    weights = folder / "model.safetensors"
    for needed, present in (
        (file, file.is_file()),
        (weights, weights.is_file() or weights.with_name(f"{weights.name}.index.json").is_file()),
    ):
        if not present:
            raise CheckpointError(
                f"teacher {folder} needs {needed.name}: a Hugging Face folder with safetensors weights"
            )
    try:
        kind = json.loads(read_text(file))["model_type"]
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{file} is not a Hugging Face config: no model_type in it") from None
    if kind not in TEACHERS:
        raise CheckpointError(f"model_type of teacher {folder} must be one of {', '.join(TEACHERS)}; got {kind!r}")
    return str(kind)


def _loaded(folder: Path, kind: str) -> PreTrainedModel:
    """The encoder in float32 and eval mode, every weight of it from the folder's files.

    Raises `CheckpointError` naming the weights that the files lack, in transformers' spelling, or that are not finite.
    """
    from transformers.utils import logging as transformers_logging

    files = shards(folder)
    loader, part = _loader(kind, files)
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        model, info = loader.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            attn_implementation="eager" if kind == "wavlm" else "sdpa",  # WavLM's relative positions need eager
            output_loading_info=True,
        )
    except Exception as error:  # transformers raises many kinds of errors for a broken folder
        raise CheckpointError(f"cannot load teacher {folder}: {first_line(error)}") from None
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
    encoder = model.get_encoder() if part else model
    needed = {f"{part}{name}" for name, _ in encoder.named_parameters()} - _UNUSED
    missing = sorted(needed & {*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])})
    if missing:
        count, total = len(missing), len(needed)
        raise CheckpointError(f"teacher {folder} lacks {count} of {total} weights: {', '.join(missing[:3])}")
    for name, value in encoder.named_parameters():
        if f"{part}{name}" in needed and not torch.isfinite(value).all():
            raise CheckpointError(f"teacher {folder}: {part}{name} contains NaN or infinite numbers")
    encoder.config = model.config
    return encoder.eval()


_UNUSED = {"masked_spec_embed"}  # a teacher hears everything


def _loader(kind: str, files: Sequence[Path]) -> tuple[Any, str]:
    """The transformers class that has the weights' names, and the prefix of the encoder's in it."""
    import transformers
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    if kind != "whisper":
        return transformers.AutoModel, ""
    names = [name for file in files for name in tensor_names(file)]
    if any(name.startswith("model.encoder.") for name in names):
        return transformers.WhisperForConditionalGeneration, "model.encoder."
    if any(name.startswith("encoder.") for name in names):
        return transformers.WhisperModel, "encoder."
    return WhisperEncoder, ""


def _sha256(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


class TargetCache:
    """Teacher targets on disk, computed once, in `folder/<key>`: the key names the teacher's weights and layers.

    `frames_of`: the student's number of frames for a number of samples. After a kill, the next run keeps every
    utterance whose index line is complete (see `store.FrameStore`).
    """

    def __init__(self, folder: Path | str, teacher: Teacher, frames_of: Callable[[int], int]) -> None:
        self.teacher, self.frames_of = teacher, frames_of
        layers = "-".join("+".join(map(str, each)) for each in teacher.layers)
        key = f"{teacher.kind}-{teacher.fingerprint[:12]}-{layers}"
        self.folder = Path(folder) / key
        self._store = FrameStore(self.folder, (len(teacher.layers), teacher.dim), "targets")

    def missing(self, utterances: Sequence[Utterance]) -> list[Utterance]:
        """The utterances whose targets are not stored yet."""
        return [utterance for utterance in utterances if utterance.id not in self._store]

    def fill(self, utterances: Sequence[Utterance], done: Callable[[float], None] = lambda seconds: None) -> None:
        """Computes missing targets in batches of equal length in whole seconds; calls `done(seconds)` after each."""
        groups: dict[int, list[Utterance]] = {}
        for utterance in self.missing(utterances):
            groups.setdefault(-(-int(utterance.seconds * RATE) // RATE), []).append(utterance)
        for seconds, group in sorted(groups.items()):
            per_batch = max(1, _BATCH_SECONDS // (seconds + 1))
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

    def statistics(self, utterances: Sequence[Utterance], count: int = 800) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (K, dim) over the frames of about `count` evenly spaced utterances."""
        chosen = utterances[:: max(1, len(utterances) // count)]
        frames = np.concatenate([self[utterance.id] for utterance in chosen]).astype(np.float32)
        return torch.from_numpy(frames.mean(0)), torch.from_numpy(frames.std(0) + 1e-3)
