"""CalibrationSpeech that is made once is kept exactly, and made anew where the file is not whole."""

import torch

from supernet.calibration import CalibrationSpeech, kept_calibration


def test_what_was_made_once_is_read_exactly_and_a_broken_file_is_made_anew(tmp_path, monkeypatch):
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
