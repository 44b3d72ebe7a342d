"""`nas train`."""

from tests.nas.commands.helpers import nas


def test_defaults_are_those_of_python():
    from supernet.training.recipe import StageRecipe

    shown = nas("train", "--teacher", "t", "--audio", "a", "--out", "o", "--print-config")
    assert shown.returncode == 0, shown.stderr
    settings = dict(line.split(" = ", 1) for line in shown.stdout.splitlines())
    assert float(settings["batch_seconds"]) == StageRecipe.batch_seconds == 20.0
    assert float(settings["mask_prob"]) == StageRecipe.mask_prob == 0.2
    assert float(settings["mask_from"]) == StageRecipe.mask_from == 0.6


def test_options_of_clusters_need_one(tmp_path):
    done = nas("train", "--teacher", "t", "--audio", "a", "--out", tmp_path / "o", "--workers", 4)
    assert done.returncode == 2
    assert done.stderr == "nas: --workers has no effect without --ray: give --ray too, or leave --workers out\n"
