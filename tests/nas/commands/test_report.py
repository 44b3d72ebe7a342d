"""`nas report`."""

from tests.nas.commands.helpers import BUDGET, nas
from tests.nas.report.helpers import searched


def test_reports_compare_runs_and_write_files(run, tmp_path):
    import optuna

    folder, _ = run
    other = nas("search", *BUDGET, "--searcher", "random", "--evals", 4, "--out", tmp_path / "b")
    assert other.returncode == 0, other.stderr
    done = nas("report", folder, tmp_path / "b", "--largest", "--journal", tmp_path / "study.log")
    assert done.returncode == 0, done.stderr
    page = (folder / "report.html").read_text()
    assert "exact" in page
    assert "random" in page
    assert '"name":"largest subnet: ' in page
    assert "https://" not in page.split("<script", 1)[0]
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.log")))
    assert len(optuna.load_study(study_name="hubert-tiny", storage=storage).trials) == 8


def test_a_largest_subnet_that_the_run_scored_is_not_scored_again(tmp_path):
    done = nas("report", searched(tmp_path / "a", budgets=()), "--largest")
    assert done.returncode == 2
    assert "has scored the largest subnet" in done.stderr
