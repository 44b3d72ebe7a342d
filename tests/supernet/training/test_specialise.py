"""A subnet trained alone, from its slice: nearer to the teacher, resumable, and of the finalists the best."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from search_spaces import CheckpointError, RunError
from supernet import load_supernet
from supernet.order import convert
from supernet.training.recipe import SpecialiseSettings
from supernet.training.specialise import specialise
from tests.supernet.families import saved


@pytest.fixture(scope="module")
def converted(tmp_path_factory, corpus):
    folder = tmp_path_factory.mktemp("xls-r")
    saved("xls-r", folder / "theirs")
    convert(str(folder / "theirs"), folder / "ours", audio=corpus)
    return folder / "ours"


def settings(corpus, **others):
    values = {"steps": 30, "learning_rate": 2e-4, "batch_seconds": 3.0, **others}
    return SpecialiseSettings(corpus, **values)


def test_the_best_of_the_finalists_is_kept_and_nearer_than_before(converted, corpus, tmp_path):
    model = load_supernet(converted)
    subnets = [model.space.sample(np.random.default_rng(i)) for i in (1, 2)]
    assert specialise(converted, subnets, tmp_path, settings(corpus, minutes=0.0)) is None
    record = specialise(converted, subnets, tmp_path, settings(corpus))
    assert [row["id"] for row in record["finalists"]] == [subnet.id for subnet in subnets]
    assert all(row["after"] < row["before"] for row in record["finalists"])
    assert record["after"] == min(row["after"] for row in record["finalists"])
    special = load_supernet(tmp_path / "supernet")
    assert (special.space.size, special.space.largest.id) == (1, record["id"])
    assert json.loads((tmp_path / "specialised.json").read_text())["id"] == record["id"]
    wav = torch.randn(1, 8_000)
    chosen = next(subnet for subnet in subnets if subnet.id == record["id"])
    with torch.no_grad(), model.active(chosen):
        assert not torch.allclose(special(wav).last_hidden_state, model(wav).last_hidden_state, atol=1e-4)
    again = specialise(converted, subnets, tmp_path, settings(corpus))
    assert again["finalists"] == record["finalists"]
    (tmp_path / "finalists" / subnets[0].id / "before.json").write_text("{")
    with pytest.raises(RunError, match=r"before\.json is damaged"):
        specialise(converted, subnets, tmp_path, settings(corpus))


def test_a_training_that_makes_it_worse_is_not_kept(converted, corpus, tmp_path):
    model = load_supernet(converted)
    subnet, wav = model.space.sample(np.random.default_rng(1)), torch.randn(1, 8_000)
    record = specialise(converted, [subnet], tmp_path, settings(corpus, steps=6, learning_rate=0.1))
    assert (record["trained"], record["after"] > record["before"]) == (False, True)
    special = load_supernet(tmp_path / "supernet")
    assert special.provenance["specialised"]["steps"] == 0
    with torch.no_grad(), model.active(subnet):
        assert torch.allclose(special(wav).last_hidden_state, model(wav).last_hidden_state, atol=1e-4)


def test_another_teacher_must_have_like_outputs(converted, corpus, tmp_path):
    saved("wav2vec2-large", tmp_path / "other")
    subnet = load_supernet(converted).space.smallest
    with pytest.raises(CheckpointError, match="the teacher has outputs of width 40 every 320 samples"):
        specialise(converted, [subnet], tmp_path / "out", settings(corpus, teacher=tmp_path / "other"))
    tiny = load_supernet("hubert-tiny").space.smallest
    with pytest.raises(CheckpointError, match="needs the teacher that they predict"):
        specialise("hubert-tiny", [tiny], tmp_path / "out", settings(corpus))


def test_a_supernet_with_heads_learns_its_teachers_hidden_states(supernet, corpus, teacher_folder, tmp_path):
    from supernet import save_supernet
    from supernet.training.distil import untrained

    model = untrained(supernet.space, (4, 8, 12), 16, 0)
    model.provenance = {"teacher_layers": [1, 2, 3]}
    save_supernet(model, tmp_path / "heads")
    subnet = dataclasses.replace(model.space.smallest)
    record = specialise(
        tmp_path / "heads", [subnet], tmp_path / "out", settings(corpus, steps=8, teacher=teacher_folder)
    )
    assert record["after"] < record["before"]
    assert load_supernet(tmp_path / "out" / "supernet").head_layers == (4, 8, 12)
