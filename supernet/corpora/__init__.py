"""Speech as other toolkits keep it, read as utterances: wherever a manifest is taken, these are too.

kaldi.py          data folders: wav.scp, and perhaps segments, text, utt2spk
lhotse_files.py   cuts.jsonl.gz, or recordings and supervisions
arrow.py          folders of Hugging Face datasets, as save_to_disk writes them
audio_folder.py   audio folders of Hugging Face datasets: recordings beside a metadata.csv or metadata.jsonl
parts.py          parts of recordings, and recordings inside of tables, as files

`CORPORA` has a reader for each. What they read is untrusted: no command in it is run, and nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from search_spaces import AudioError

if TYPE_CHECKING:
    from supernet.audio import Utterance

__all__ = ["CORPORA", "Corpus", "corpus_of", "read_corpus"]


class Corpus(NamedTuple):
    """`holds`: whether a file or folder is of this kind, by its name or those in it. `reader`: "module:function"."""

    holds: Callable[[Path], bool]
    reader: str

    def read(self, path: Path) -> list[Utterance]:
        """The utterances in `path`."""
        module, _, name = self.reader.partition(":")
        function: Callable[[Path], list[Utterance]] = getattr(import_module(module), name)
        return function(path)


def _any(folder: Path, *patterns: str) -> bool:
    return folder.is_dir() and any(next(folder.glob(pattern), None) is not None for pattern in patterns)


CORPORA = {
    "Kaldi": Corpus(lambda path: _any(path, "wav.scp", "*/wav.scp"), "supernet.corpora.kaldi:read_kaldi"),
    "lhotse": Corpus(
        lambda path: path.name.endswith(".jsonl.gz") if path.is_file() else _any(path, "*.jsonl.gz"),
        "supernet.corpora.lhotse_files:read_lhotse",
    ),
    "Hugging Face datasets": Corpus(
        lambda path: _any(path, "dataset_dict.json", "dataset_info.json"), "supernet.corpora.arrow:read_arrow"
    ),
    "audio folder": Corpus(
        lambda path: _any(path, "metadata.csv", "metadata.jsonl", "*/metadata.csv", "*/metadata.jsonl"),
        "supernet.corpora.audio_folder:read_audio_folder",
    ),
}
"""What is read beside manifests, by name."""


def corpus_of(path: Path) -> str | None:
    """The name of the kind of corpus that `path` is; None if it is of no kind in `CORPORA`."""
    return next((name for name, corpus in CORPORA.items() if corpus.holds(path)), None)


def read_corpus(path: Path) -> list[Utterance] | None:
    """The utterances of the corpus at `path`, None if it is none. Raises `AudioError` in one line if it is broken."""
    name = corpus_of(path)
    if name is None:
        return None
    try:
        return CORPORA[name].read(path)
    except (OSError, UnicodeDecodeError) as error:
        where = getattr(error, "filename", None) or path
        raise AudioError(f"cannot read {where}: {getattr(error, 'strerror', None) or error}") from None
