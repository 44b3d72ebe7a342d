"""What several commands need."""

import json

import pytest

from nas.commands.common import (
    command_line,
    confine,
    costs_line,
    limits,
    load_model,
    note_of_precision,
    read_subnet,
    require_device,
)
from search_spaces import NasError, SpaceError, get_space


def test_the_command_is_kept_as_it_can_be_typed_again(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/x/nas", "search", "--out", "my run"])
    assert command_line() == "nas search --out 'my run'"


def test_devices_that_are_not_there_are_refused():
    require_device("cpu")
    with pytest.raises(NasError, match="device must be cpu or cuda; got 'tpu'"):
        require_device("tpu")


@pytest.mark.parametrize(("supported", "told"), [(False, True), (True, False)])
def test_bf16_on_a_cpu_that_emulates_it_is_told(supported, told, monkeypatch):
    monkeypatch.setattr("nas.commands.common.computes_bf16", lambda device: supported)
    assert note_of_precision("cpu", "fp32") == ""
    assert ("--precision fp32 is faster" in note_of_precision("cpu", "bf16")) == told


def test_subnets_are_read_and_checked(tmp_path):
    space = get_space("hubert-tiny")
    file = tmp_path / "subnet.json"
    file.write_text(space.smallest.to_json())
    assert read_subnet(file, space) == space.smallest
    assert read_subnet(file, None) == space.smallest
    other = get_space("lighthubert-small").largest
    file.write_text(other.to_json())
    with pytest.raises(SpaceError, match="hubert-tiny"):
        read_subnet(file, space)
    file.write_bytes(b"\xff")
    with pytest.raises(NasError, match="cannot read subnet"):
        read_subnet(file, None)


def test_a_model_is_confined_to_a_part_of_its_space(tmp_path):
    model = load_model("hubert-tiny", "cpu")
    whole = model.space
    assert confine(model, None) is whole
    part = {**whole.to_dict(), "name": "part", "embed_dims": list(whole.embed_dims[:1])}
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in part.items() if not isinstance(value, dict))
    for key in ("depth_map", "network"):
        text += f"[{key}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in part[key].items())
    (tmp_path / "part.toml").write_text(text)
    assert confine(model, str(tmp_path / "part.toml")).embed_dims == whole.embed_dims[:1]
    assert model.space.name == "part"


def test_limits_are_on_costs_that_a_space_determines():
    from evaluators.costs import params

    table = params(get_space("hubert-tiny")).table
    assert limits({"params": table}, ["params<=2M"]) == [(table, 2_000_000)]
    with pytest.raises(NasError, match="a space alone determines params"):
        limits({"params": table}, ["latency_ms<=2"])


def test_costs_on_a_line():
    assert costs_line({"params": 1_234_567, "latency_ms": 3.14159}) == "params 1,234,567, latency_ms 3.142"
