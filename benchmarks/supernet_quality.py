"""Is the supernet trained? Teacher distance and linear probes of its subnets, beside log-mel and the teacher.

python benchmarks/supernet_quality.py --audio speech/manifest.jsonl --teacher TEACHER --targets ckpt/targets \
    --supernet untrained= --supernet 'stage 1=ckpt/stage1' --supernet 'shipped=hubert-tiny'

Probes are closed form (ridge on one-hot labels), fitted on utterances of the train split and tested on dev. Features:
mean and standard deviation over time of every hidden state, joined. Speaker: the characters with at least 40
utterances; language: the recordings that come in several languages (one or two speakers each, so that it is
also a speaker probe).
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import torch
from _common import header

from evaluators.scores.probes import pooled, ridge_probe
from search_spaces import get_space
from supernet import load_supernet
from supernet.audio import Utterance, load_audio, normalise, read_manifest
from supernet.model import HubertSupernet
from supernet.teacher import TargetCache, load_teacher
from supernet.training.batches import TrainingSpeech
from supernet.training.distil import untrained
from supernet.training.recipe import StageRecipe
from supernet.training.stage import validate


def chosen(audio: Path, label: str, per_label: int) -> tuple[list[Utterance], list[Utterance]]:
    """Train and dev utterances with this label, at most `per_label` of each label in train."""
    train, dev = read_manifest(audio, "train"), read_manifest(audio, "dev")
    if label == "language":  # the source that has several
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
    """Both probes, for anything that turns an utterance into hidden states."""

    def __init__(self, audio: Path, per_label: int) -> None:
        self.sets = {label: chosen(audio, label, per_label) for label in ("speaker", "language")}
        self.utterances = list({u.id: u for train, dev in self.sets.values() for u in [*train, *dev]}.values())

    def __call__(self, vectors: dict[str, torch.Tensor]) -> dict[str, float]:
        found = {}
        for label, (train, dev) in self.sets.items():
            x, y = (torch.stack([vectors[u.id] for u in part]) for part in (train, dev))
            found[label] = ridge_probe(x, [getattr(u, label) for u in train], y, [getattr(u, label) for u in dev])
        return found


def moments(states: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([pooled(states), *(state.double().std(0) for state in states)])


@torch.no_grad()
def subnet_vectors(model: HubertSupernet, utterances: list[Utterance]) -> dict[str, dict[str, torch.Tensor]]:
    space = model.space
    subnets = {"smallest": space.smallest, "middle": space.middle, "largest": space.largest}
    vectors: dict[str, dict[str, torch.Tensor]] = {name: {} for name in subnets}
    for u in utterances:
        features = model.front_end(torch.from_numpy(normalise(load_audio(u.audio)))[None])
        for name, subnet in subnets.items():
            with model.active(subnet):
                vectors[name][u.id] = moments([state[0] for state in model.encode(features).hidden_states])
    return vectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--targets", type=Path, required=True)
    parser.add_argument("--layers", default="2,4,6")
    parser.add_argument("--supernet", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--per-label", type=int, default=40)
    args = parser.parse_args()

    space = get_space("hubert-tiny")
    teacher = load_teacher(args.teacher, [int(layer) for layer in args.layers.split(",")])
    cache = TargetCache(args.targets, teacher, space.network.frames)
    train, dev = read_manifest(args.audio, "train"), read_manifest(args.audio, "dev")
    cache.fill([*dev, *train])
    statistics = cache.statistics(train)
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
        distance = validate(model, dev, TrainingSpeech(dev, dev, cache, statistics), recipe)
        for subnet, vectors in subnet_vectors(model, probes.utterances).items():
            per_layer = distance[subnet]
            said = " / ".join(f"{value:.3f}" for value in per_layer)
            rows.append((f"{name}, {subnet}", f"{sum(per_layer) / len(per_layer):.3f}", said, probes(vectors)))
            print(json.dumps(rows[-1]), flush=True)
    print("| features | teacher distance | by head | speaker | language |\n|---|---|---|---|---|")
    for name, mean, per_head, found in rows:
        print(f"| {name} | {mean} | {per_head} | {found['speaker']:.3f} | {found['language']:.3f} |")
    sizes = {label: (len(a), len(b), len({getattr(u, label) for u in a})) for label, (a, b) in probes.sets.items()}
    print(f"\nprobe sets (train, dev, classes): {sizes}\n{header()}")


if __name__ == "__main__":
    main()
