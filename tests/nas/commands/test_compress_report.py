"""The table of a compression."""

from nas.commands.compress_report import show

FIGURE = {"value": 0.1, "low": 0.05, "high": 0.2}


def test_what_was_not_measured_is_a_dash(capsys):
    row = {"name": "original", "params": 20_600_000, "macs": 10_000_000_000, "score": None}
    ours = {
        **row, "name": "winner", "params": 9_000_000, "score": 0.25, "latency_ms": 12.34,
        "results": {"wer": FIGURE, "cer": FIGURE}, "over_original": {"cer": FIGURE},
    }  # fmt: skip
    each = {"budget": "params<=50%", "rows": [row, ours], "not_evaluated": "no text"}
    show({"model": "whisper", "budgets": [each]})
    shown = capsys.readouterr().out
    assert "whisper within params<=50%" in shown
    assert "20.60M" in shown
    assert "12.3" in shown
    assert "—" in shown
    assert "not evaluated: no text" in shown
