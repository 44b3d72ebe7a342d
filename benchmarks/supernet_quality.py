"""Is the supernet trained? Teacher distance and linear probes of its subnets, beside log-mel and the teacher.

    python -m benchmarks.supernet_quality --audio speech/manifest.jsonl --teacher TEACHER --targets ckpt/targets \
        --supernet untrained= --supernet 'stage 1=ckpt/stage1' --supernet 'shipped=hubert-tiny'

Probes are closed form (ridge regression on one-hot labels), fitted on utterances of the train split and tested on dev.
Features: mean and standard deviation over time of every hidden state, concatenated. Speaker: characters with at least
40 utterances. Language: the prompts recorded in several languages, by one or two speakers each, so this probe is partly
a speaker probe.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import torch

from benchmarks._common import command_line, header
from evaluators.scores.probes import pooled, ridge_probe
from search_spaces import Subnet, get_space
from supernet import load_supernet
from supernet.audio import Utterance, load_audio, read_manifest
from supernet.model import HubertSupernet
from supernet.preprocessor import Preprocessor
from supernet.teacher import TargetCache, load_teacher
from supernet.training.batches import TrainingData
from supernet.training.distil import untrained
from supernet.training.goal import HeadTargets
from supernet.training.recipe import StageRecipe, parse_teacher_layers
from supernet.training.stage import validate


def chosen(audio: Path, label: str, per_label: int) -> tuple[list[Utterance], list[Utterance]]:
    """Train and dev utterances with this label, at most `per_label` of each class in train."""
    train, dev = read_manifest(audio, "train"), read_manifest(audio, "dev")
    if label == "language":  # the source with several languages
        train, dev = ([u for u in part if "asterisk" in u.id] for part in (train, dev))
    count = Counter(getattr(u, label) for u in train if getattr(u, label))
    known = {name for name, n in count.items() if n >= 40 and (label == "language" or name.startswith("queen"))}
    seen: Counter[str] = Counter()
    kept = []
    for u in train:
        name = getattr(u, label)
        if name in known and seen[name] < per_label:
            seen[name] += 1
            kept.append(u)
    return kept, [u for u in dev if getattr(u, label) in known]


class Probes:
    """Both probes, for any features of the utterances."""

    def __init__(self, audio: Path, per_label: int) -> None:
        self.sets = {label: chosen(audio, label, per_label) for label in ("speaker", "language")}
        self.utterances = list({u.id: u for train, dev in self.sets.values() for u in [*train, *dev]}.values())

    def __call__(self, vectors: dict[str, torch.Tensor]) -> dict[str, float]:
        accuracies = {}
        for label, (train, dev) in self.sets.items():
            x, y = (torch.stack([vectors[u.id] for u in part]) for part in (train, dev))
            accuracies[label] = ridge_probe(x, [getattr(u, label) for u in train], y, [getattr(u, label) for u in dev])
        return accuracies


def moments(states: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([pooled(states), *(state.double().std(0) for state in states)])


def landmarks(model: HubertSupernet) -> dict[str, Subnet]:
    """The subnets of the table; a smallest one without layers knows only the front end, and is left out."""
    space = model.space
    named = {"smallest": space.smallest, "middle": space.middle, "largest": space.largest}
    return {name: subnet for name, subnet in named.items() if any((*subnet.heads, *subnet.ffn_dims))}


@torch.no_grad()
def subnet_vectors(model: HubertSupernet, utterances: list[Utterance]) -> dict[str, dict[str, torch.Tensor]]:
    subnets = landmarks(model)
    vectors: dict[str, dict[str, torch.Tensor]] = {name: {} for name in subnets}
    for u in utterances:
        wav = torch.from_numpy(Preprocessor()(load_audio(u.audio)))[None]
        for name, subnet in subnets.items():
            with model.active(subnet):
                states = model.encode(model.features(wav, subnet.front_end)).hidden_states
            vectors[name][u.id] = moments([state[0] for state in states])
    return vectors


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--targets", type=Path, required=True)
    parser.add_argument("--layers", default="2,4,6")
    parser.add_argument("--supernet", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--per-label", type=int, default=40)
    args = parser.parse_args()

    space = get_space("hubert-tiny")
    layers = parse_teacher_layers(args.layers)
    assert layers is not None
    teacher = load_teacher(args.teacher, layers)
    cache = TargetCache(args.targets, teacher, space.network.frames)
    train, dev = read_manifest(args.audio, "train"), read_manifest(args.audio, "dev")
    cache.fill([*dev, *train])
    goal = HeadTargets.of(cache, train)
    probes = Probes(args.audio, args.per_label)
    rows: list[tuple[str, str, str, dict[str, float]]] = []

    mel = {}
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor.from_pretrained(args.teacher)
    for u in probes.utterances:
        wave = load_audio(u.audio)
        frames = extractor(wave, sampling_rate=16_000, padding="longest", return_tensors="pt").input_features[0].T
        mel[u.id] = moments([frames])
    rows.append(("log-mel (floor)", "", "", probes(mel)))
    known = {u.id: moments(list(torch.from_numpy(cache[u.id]).transpose(0, 1))) for u in probes.utterances}
    rows.append(("teacher (ceiling)", "", "", probes(known)))
    for spec in args.supernet:
        name, _, path = spec.partition("=")
        model = (load_supernet(path) if path else untrained(space, (4, 8, 12), teacher.dim, 0)).eval()
        recipe = StageRecipe(stage=1, steps=1, batch_seconds=32.0, precision="fp32")
        distance = validate(model, TrainingData(train, dev, goal, model.heard), recipe)["dev"]
        for subnet, vectors in subnet_vectors(model, probes.utterances).items():
            per_layer = distance[subnet]
            by_head = " / ".join(f"{value:.3f}" for value in per_layer)
            rows.append((f"{name}, {subnet}", f"{sum(per_layer) / len(per_layer):.3f}", by_head, probes(vectors)))
            print(json.dumps(rows[-1]), flush=True)
    print("| features | teacher distance | by head | speaker | language |\n|---|---|---|---|---|")
    for name, mean, per_head, accuracies in rows:
        print(f"| {name} | {mean} | {per_head} | {accuracies['speaker']:.3f} | {accuracies['language']:.3f} |")
    sizes = {label: (len(a), len(b), len({getattr(u, label) for u in a})) for label, (a, b) in probes.sets.items()}
    print(f"\nprobe sets (train, dev, classes): {sizes}\n{header()}")


if __name__ == "__main__":
    main()
