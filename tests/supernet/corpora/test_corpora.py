"""Which corpora are known; a folder of none is refused as before."""

from importlib import import_module

import pytest

from search_spaces import AudioError
from supernet.audio import read_manifest
from supernet.corpora import CORPORA, corpus_of


def test_a_manifest_and_an_empty_folder_are_none(tmp_path):
    (tmp_path / "m.jsonl").write_text("{}")
    assert corpus_of(tmp_path) is None
    assert corpus_of(tmp_path / "m.jsonl") is None
    assert corpus_of(tmp_path / "missing") is None
    with pytest.raises(AudioError, match="cannot read manifest"):
        read_manifest(tmp_path)


def test_what_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "wav.scp").write_bytes(b"\xff")
    with pytest.raises(AudioError, match=r"cannot read .*: 'utf-8' codec can't decode"):
        read_manifest(tmp_path)


def test_every_reader_exists():
    for corpus in CORPORA.values():
        module, _, name = corpus.reader.partition(":")
        assert callable(getattr(import_module(module), name))
