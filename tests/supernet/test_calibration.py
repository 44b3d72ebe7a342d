"""Calibration speech: rounded in files, exact in the cache, and computed again if a cached file is broken."""

import pytest
import torch

from search_spaces import CheckpointError, NasError
from supernet.calibration import CalibrationSpeech, kept_calibration, load_calibration, save_calibration


def test_a_cached_result_is_exact_and_a_broken_file_is_computed_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = []

    def make():
        made.append(CalibrationSpeech([torch.randn(n, 3) for n in (2, 5)], [torch.randn(n, 1, 4) for n in (2, 5)]))
        return made[-1]

    first = kept_calibration("weights and speech", make)
    again = kept_calibration("weights and speech", make)
    assert len(made) == 1
    for name in ("features", "targets"):
        assert all(map(torch.equal, getattr(first, name), getattr(again, name)))
    kept_calibration("other weights", make)
    assert len(made) == 2
    for file in tmp_path.glob("lighthubert-nas/*"):
        file.write_bytes(file.read_bytes()[:40])
    kept_calibration("weights and speech", make)
    assert len(made) == 3


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    made = CalibrationSpeech([torch.zeros(1, 3)], [torch.zeros(1, 1, 4)])
    assert kept_calibration("k", lambda: made) is made


def test_files_hold_half_precision_features_and_targets_in_steps(tmp_path):
    features = [torch.randn(n, 3) for n in (2, 5)]
    targets = [torch.tensor([[[0.5, -4.0]], [[100.0, 0.02]]]), torch.zeros(5, 1, 2)]
    save_calibration(CalibrationSpeech(features, targets), tmp_path / "new" / "c.safetensors")
    again = load_calibration(tmp_path / "new" / "c.safetensors")
    assert all(torch.equal(a.half().float(), b) for a, b in zip(features, again.features, strict=True))
    expected = torch.tensor([[[16 / 31, -124 / 31]], [[127 / 31, 1 / 31]]])  # 0.5 * 31 = 15.5 rounds to even
    assert torch.allclose(again.targets[0], expected)
    assert (len(again.targets[1]), again.waves) == (5, None)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["c.safetensors"]


def test_other_files_are_refused(tmp_path):
    (tmp_path / "c").write_bytes(b"x" * 20)
    for file in (tmp_path / "c", tmp_path / "none"):
        with pytest.raises(CheckpointError, match="is not a calibration file"):
            load_calibration(file)
    with pytest.raises(NasError, match="cannot write"):
        save_calibration(CalibrationSpeech([torch.zeros(1, 3)], [torch.zeros(1, 1, 4)]), tmp_path / "c" / "d")
