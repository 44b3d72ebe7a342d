"""Each family at its Base size with random weights: equal to transformers, what it costs, how fast it is scored.

python -m benchmarks.families                       # about 15 minutes on two cores
python -m benchmarks.families wavlm whisper --device cuda

Parity: the largest difference of the last hidden state from transformers', relative to its largest value, over speech
frames of a padded batch. Scoring: the hidden states of random subnets of the fine space on the same speech, by the
shared path in float32 and, where the hardware has it, bf16; beside one pass of transformers' whole model for each of
them (it has no subnets), and beside each subnet's own extracted module. Rivals run for 8 of the subnets. Runs take
turns; ratios are medians with their range.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks._common import command_line, header
from evaluators.costs import macs, params
from evaluators.costs.latency.measure import measure
from evaluators.costs.latency.target import Target
from nas.commands.speed_rows import precisions
from search_spaces import Subnet
from search_spaces.proposals import proposed_space
from supernet import HubertSupernet, load_supernet
from supernet.shared import SharedEncoder, Speech

CONSOLE = Console(width=170)
SIZES = {
    "hubert": ("Hubert", {}),
    "wav2vec2": ("Wav2Vec2", {}),
    "wav2vec2-pre-norm": ("Wav2Vec2", {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}),
    "wavlm": ("WavLM", {}),
    "data2vec": ("Data2VecAudio", {}),
    "unispeech-sat": ("UniSpeechSat", {}),
    "whisper": ("Whisper", {
        "d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048,
        "decoder_layers": 1, "decoder_attention_heads": 8, "decoder_ffn_dim": 2048,
    }),
}  # fmt: skip
SECONDS, UTTERANCES = 2.0, {"cpu": 4, "cuda": 32}
RIVALS = (
    ("extracted modules", "ours"),
    ("transformers", "ours"),
    ("transformers", "ours, bf16"),
    ("transformers, bf16", "ours, bf16"),
)


def source(name: str, folder: Path) -> Any:
    """The transformers model of Base size, every weight random, in `folder` too."""
    import transformers

    torch.manual_seed(0)
    kind, changes = SIZES[name]
    model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**changes)).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.02 * torch.randn_like(value))
    model.save_pretrained(folder)
    return model


def heard(model: Any, wav: Tensor, lengths: Tensor | None = None) -> Tensor:
    """transformers' last hidden state."""
    if hasattr(model.config, "encoder_layers"):
        from supernet.layers import LogMel

        encoder, frames = model.get_encoder(), wav.shape[1] // 320
        if encoder.embed_positions.num_embeddings != frames:  # its window must be that of the speech
            encoder.config.max_source_positions = frames
            weight = encoder.embed_positions.weight.detach()[:frames]
            encoder.embed_positions = torch.nn.Embedding.from_pretrained(weight)  # type: ignore[no-untyped-call]
        return encoder(LogMel(80).to(wav.device)(wav)).last_hidden_state  # type: ignore[no-any-return]
    mask = None if lengths is None else (torch.arange(wav.shape[1], device=wav.device) < lengths[:, None]).long()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return model(wav, attention_mask=mask).last_hidden_state  # type: ignore[no-any-return]


@torch.no_grad()
def parity(theirs: Any, model: HubertSupernet, wav: Tensor) -> float:
    lengths = torch.full((len(wav),), wav.shape[1], device=wav.device)
    lengths[1] = wav.shape[1] // 2
    wav = wav.clone()
    wav[1, wav.shape[1] // 2 :] = 0
    with model.active(model.space.largest):
        ours = model(wav, lengths)
    expected = heard(theirs, wav, lengths)
    assert ours.mask is not None
    return float((ours.last_hidden_state - expected)[ours.mask].abs().max() / expected.abs().max())


def speeds(theirs: Any, model: HubertSupernet, wav: Tensor, count: int, rounds: int) -> dict[str, Any]:
    """Seconds for `count` subnets by each way, and how far the shared path in float32 is from plain slices."""
    space, rng = model.space, np.random.default_rng(0)
    subnets = [space.sample(rng) for _ in range(count)]
    with torch.no_grad():
        features = [model.features(wave[None], ())[0] for wave in wav]
    last = [space.network.num_layers]
    speech = Speech(features, str(wav.device))
    few = subnets[:: max(1, count // 8)]
    exact = SharedEncoder(model, speech).read(few, last, lambda _, hidden: hidden.clone())
    plain = [_last_state(model, subnet, features) for subnet in few]
    difference = max(float((a[0] - b).abs().max() / b.abs().max()) for a, b in zip(exact, plain, strict=True))
    nets = [model.extract(subnet).eval() for subnet in few]
    share = count / len(few)

    def ours(dtype: torch.dtype) -> None:
        encoder = SharedEncoder(model, speech, dtype)  # slices are cut anew, as in a new search
        encoder.read(subnets, last, lambda _, hidden: hidden.float().mean())

    @torch.no_grad()
    def modules() -> None:
        for net in nets:
            net(wav)

    @torch.no_grad()
    def whole(dtype: torch.dtype) -> None:
        with torch.autocast(wav.device.type, dtype, enabled=dtype != torch.float32):
            for _ in few:
                heard(theirs, wav)

    ways: dict[str, tuple[Callable[[], None], float]] = {"ours": (partial(ours, torch.float32), 1.0)}
    ways["extracted modules"] = modules, share
    ways["transformers"] = partial(whole, torch.float32), share
    if "bf16" in precisions(wav.device):
        ways["ours, bf16"] = partial(ours, torch.bfloat16), 1.0
        ways["transformers, bf16"] = partial(whole, torch.bfloat16), share
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, (run, factor) in ways.items():
            _wait(wav)
            before = time.perf_counter()
            run()
            _wait(wav)
            taken[name].append(factor * (time.perf_counter() - before))
    return {"difference": difference, **{name: np.array(each[1:]) for name, each in taken.items()}}


@torch.no_grad()
def _last_state(model: HubertSupernet, subnet: Subnet, features: list[Tensor]) -> Tensor:
    """(N, D) of all frames, by the plain forward pass on slices."""
    with model.active(subnet):
        return torch.cat([model.encode(each[None]).hidden_states[-1][0] for each in features])


def _wait(wav: Tensor) -> None:
    if wav.is_cuda:
        torch.cuda.synchronize()


def latencies(model: HubertSupernet, subnets: list[Subnet], device: str) -> dict[str, list[float]]:
    """Milliseconds of the subnets for 2 s of audio, on one thread, by runtime."""
    result = {}
    for backend in ("torch", "onnxruntime") if device == "cpu" else ("torch",):
        target = Target(backend, device, 1, 1, 2.0)
        result[backend] = measure(model, subnets, target, subnets[0], seconds=6.0, passes=1).ms.tolist()
    return result


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("families", nargs="*", default=list(SIZES), help=", ".join(SIZES))
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--subnets", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    CONSOLE.print(header(), soft_wrap=True)
    costs = Table(
        title="largest and smallest subnet of the coarse space; latency for 2 s, one thread", title_justify="left"
    )
    for column in (
        "family",
        "parity",
        "params",
        "MACs, 1 s",
        *(["torch, ms", "onnxruntime, ms"][: 1 + (options.device == "cpu")]),
    ):
        costs.add_column(column, justify="left" if column == "family" else "right")
    speed = Table(
        title=f"{options.subnets} random subnets of the fine space on {UTTERANCES[options.device]} x {SECONDS:g} s",
        title_justify="left",
    )
    rivals = (f"{rival} / {ours}" for rival, ours in RIVALS)
    for column in ("family", "ours", *rivals, "difference from slices"):
        speed.add_column(column, justify="left" if column == "family" else "right")
    generator = torch.Generator().manual_seed(0)
    samples = round(SECONDS * 16_000)
    wav = torch.nn.functional.layer_norm(
        torch.randn(UTTERANCES[options.device], samples, generator=generator), (samples,)
    )
    for name in options.families:
        with tempfile.TemporaryDirectory() as folder:
            theirs = source(name, Path(folder))
            model = load_supernet(folder)
        theirs, model, wav = theirs.to(options.device), model.to(options.device), wav.to(options.device)
        model.use_space(proposed_space(model.space.network, "coarse"))
        ends = [model.space.largest, model.space.smallest]
        same = parity(theirs, model, wav)
        counts = [[cost(model).of(subnet) / 1e6 for subnet in ends] for cost in (params, macs)]
        timed = latencies(model, ends, options.device)
        numbers = [*counts, *timed.values()]
        costs.add_row(
            name,
            f"{same:.0e}",
            *(f"{high:,.1f} – {low:,.1f}{' M' if i < 2 else ''}" for i, (high, low) in enumerate(numbers)),
        )
        model.use_space(proposed_space(model.space.network, "fine"))
        taken = speeds(theirs, model, wav, options.subnets, options.rounds)
        cells = [f"{np.median(taken['ours']):.2f} s"]
        for rival, ours in RIVALS:
            if rival in taken and ours in taken:
                ratios = taken[rival] / taken[ours]
                cells.append(f"{np.median(ratios):.1f}x ({ratios.min():.1f} – {ratios.max():.1f})")
            else:
                cells.append("—")
        speed.add_row(name, *cells, f"{taken['difference']:.0e}")
        CONSOLE.print(f"{name}: done", soft_wrap=True)
        del theirs, model
    CONSOLE.print(costs)
    CONSOLE.print(speed)


if __name__ == "__main__":
    main()
