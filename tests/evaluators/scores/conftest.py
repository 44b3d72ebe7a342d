"""A random supernet, and speech with labels."""

import json

import numpy as np
import pytest
import soundfile
import torch

from search_spaces import space_from_dict
from supernet import HubertSupernet
from tests.supernet.conftest import SPACE


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = HubertSupernet(space_from_dict(SPACE), (4, 12), 8).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn_like(value))
    return model


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Tones of three pitches: the speakers. Texts say which, or nothing."""
    folder, rng, lines = tmp_path_factory.mktemp("speech"), np.random.default_rng(0), []
    for i in range(60):
        name = ("ann", "bob", "cid")[i % 3]
        time = np.arange(4800) / 16_000
        tone = np.sin(2 * np.pi * (150, 500, 1200)[i % 3] * rng.uniform(0.9, 1.1) * time)
        soundfile.write(folder / f"{i}.wav", (0.3 * tone + 0.02 * rng.normal(size=4800)).astype(np.float32), 16_000)
        line = {"id": str(i), "audio": f"{i}.wav", "seconds": 0.3, "split": "train" if i < 36 else "dev"}
        lines.append(json.dumps({**line, "speaker": name if i % 12 else None, "text": name, "language": "en"}))
    (folder / "m.jsonl").write_text("\n".join(lines))
    return folder / "m.jsonl"
