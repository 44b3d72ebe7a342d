"""Recordings of tones whose speakers differ in pitch, in the layouts of the corpora, and a tiny exported subnet."""

import json

import numpy as np
import pytest
import soundfile
import torch

from supernet import HubertSupernet, save_extracted
from tests.supernet.conftest import SPACE

PITCH = {"ann": 150, "bob": 400, "cid": 900}


def write_tone(file, hertz, seconds=0.3, seed=0):
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * 16_000)) / 16_000
    samples = 0.3 * np.sin(2 * np.pi * hertz * rng.uniform(0.95, 1.05) * time) + 0.01 * rng.normal(size=len(time))
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, samples.astype(np.float32), 16_000)
    return file


def write_manifest(file, rows):
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return file


@pytest.fixture(scope="session")
def tones(tmp_path_factory):
    """A folder with 36 recordings, and the rows of their manifest: 8 / 2 / 2 of each of three speakers."""
    folder = tmp_path_factory.mktemp("tones")
    rows = []
    for speaker, hertz in PITCH.items():
        for i in range(12):
            file = write_tone(folder / f"{speaker}{i}.wav", hertz, seed=i)
            split = "train" if i < 8 else "dev" if i < 10 else "test"
            text = {"ann": "low", "bob": "mid", "cid": "HIGH  l"}[speaker]
            rows.append({"id": f"{speaker}{i}", "audio": file.name, "seconds": 0.3, "split": split})
            rows[-1] |= {"speaker": speaker, "text": text, "intent": f"{speaker}/x", "language": "en"}
    return folder, rows


@pytest.fixture
def manifest(tones, tmp_path):
    folder, rows = tones
    return write_manifest(tmp_path / "m.jsonl", [{**row, "audio": str(folder / row["audio"])} for row in rows])


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A tiny subnet with random weights, as `nas export` writes it."""
    from search_spaces import space_from_dict

    torch.manual_seed(0)
    model = HubertSupernet(space_from_dict(SPACE)).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn_like(value))
    return save_extracted(model.extract(model.space.smallest), tmp_path_factory.mktemp("exported"))


@pytest.fixture
def model():
    from search_spaces import space_from_dict

    torch.manual_seed(0)
    return HubertSupernet(space_from_dict(SPACE)).eval()


@pytest.fixture(autouse=True)
def _one_thread():
    """Tiny matrices wait for each other on more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
