"""`nas bench`."""

import json


def test_bench_prints_its_rows(monkeypatch):
    from typer.testing import CliRunner

    from cli import app
    from nas.commands.speed_rows import Row

    rows = [Row("score 64 subnets", "one by one", ">= 6x", [5.0, 7.0, 9.0], "note")]
    monkeypatch.setattr("nas.commands.speed_rows.machine_rows", lambda: iter(rows))
    shown = CliRunner().invoke(app, ["bench"], env={"COLUMNS": "200"})
    assert "7.0x (5.0 – 9.0)" in shown.stdout
    (record,) = json.loads(CliRunner().invoke(app, ["bench", "--json"]).stdout)
    assert (record["work"], record["ratios"]) == ("score 64 subnets", [5.0, 7.0, 9.0])
