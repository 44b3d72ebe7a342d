"""Letters or phones from speech: CTC on frozen hidden states; character, word and phone error rates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluators.tasks.data import Dataset, Example, check_phones, check_text
from evaluators.tasks.features import HiddenStates
from evaluators.tasks.heads import CtcHead
from evaluators.tasks.metrics import edit_rates, edits
from evaluators.tasks.task import Built, TaskContext
from search_spaces import AudioError, NasError
from search_spaces.types import JsonObject
from supernet.audio import batches

__all__ = ["Transcription", "build_transcription", "ctc_loss", "decode", "fits", "letters_of", "spelling"]

_OF_LOSS = 0.01


class Transcription:
    """Texts as letters 1.. of `alphabet`; 0 is the blank. A batch is as long as so many utterances of mean length.

    With `names`, each letter stands for the phone of that name, and the error rate is of phones.
    """

    def __init__(
        self,
        data: Dataset,
        alphabet: str,
        states: HiddenStates,
        device: str = "cpu",
        hidden: int = 0,
        beam: int = 1,
        names: tuple[str, ...] = (),
    ) -> None:
        self.names = names
        self.alphabet, self.states, self.device, self.hidden, self.beam = alphabet, states, device, hidden, beam
        train = [e for e in data.train if fits(e.label, states.frames(e))]
        if not train:
            raise AudioError("every train text has more letters than its recording has frames (50 a second)")
        self.too_long = len(data.train) - len(train)
        self.train, self._dev, self._test = train, data.dev, data.test
        self.frames = [states.frames(example) for example in train]

    def head(self) -> nn.Module:
        upstream = self.states.upstream
        return CtcHead(upstream.layers, upstream.dim, len(self.alphabet), self.hidden).to(self.device)

    def plan(self, rng: np.random.Generator, batch: int) -> list[list[int]]:
        return list(batches(self.frames, batch * float(np.mean(self.frames)), rng))

    def ids(self, rows: Sequence[int]) -> list[str]:
        return [self.train[row].id for row in rows]

    def loss(self, head: nn.Module, rows: Sequence[int]) -> Tensor:
        chosen = [self.train[row] for row in rows]
        return ctc_loss(*self._run(head, chosen), [letters_of(e.label, self.alphabet) for e in chosen])

    def dev(self, head: nn.Module) -> float:
        """Minus the error rate of letters (see `spelling`)."""
        heard = ((*self._run(head, chosen), [e.label for e in chosen]) for chosen in self._batches(self._dev))
        return spelling(heard, self.alphabet)

    @torch.no_grad()
    def hypotheses(self, heads: Sequence[nn.Module]) -> list[list[str]]:
        """The text of each test recording by each of `heads`."""
        result: list[list[str]] = []
        for head in heads:
            texts = {}
            for chosen in self._batches(self._test):
                log_probs, lengths = self._run(head, chosen)
                for example, row, length in zip(chosen, log_probs.cpu(), lengths.tolist(), strict=True):
                    texts[example.id] = decode(row[:length], self.alphabet, self.beam)
            result.append([texts[example.id] for example in self._test])
        return result

    def test(self, heads: Sequence[nn.Module]) -> JsonObject:
        guesses = self.hypotheses(heads)
        result = edit_rates([example.label for example in self._test], guesses)
        pairs = zip(self._test[:5], guesses[0], strict=False)
        first = [{"text": self._spelled(e.label), "heard": self._spelled(guess)} for e, guess in pairs]
        rates = {"per": result["cer"]} if self.names else result
        return {**rates, "examples": first}

    def _spelled(self, letters: str) -> str:
        return " ".join(self.names[self.alphabet.index(each)] for each in letters) if self.names else letters

    def _run(self, head: nn.Module, chosen: Sequence[Example]) -> tuple[Tensor, Tensor]:
        states, lengths = self.states.batch(chosen, self.device)
        return head(states, lengths), lengths

    def _batches(self, examples: Sequence[Example]) -> list[list[Example]]:
        frames = [self.states.frames(example) for example in examples]
        return [[examples[row] for row in rows] for rows in batches(frames, 4000)]


def fits(text: str, frames: int) -> bool:
    """Whether CTC can spell `text` in so many frames: doubled letters need a blank between them."""
    return len(text) + sum(a == b for a, b in pairwise(text)) <= frames


def letters_of(text: str, alphabet: str) -> list[int]:
    return [alphabet.index(letter) + 1 for letter in text]


def ctc_loss(log_probs: Tensor, lengths: Tensor, letters: Sequence[Sequence[int]], lenient: bool = False) -> Tensor:
    """Mean loss per letter over utterances; `log_probs` (B, T, letters + 1). `lenient`: impossible ones give 0."""
    targets = torch.tensor([letter for each in letters for letter in each])
    sizes = torch.tensor([len(each) for each in letters])
    return F.ctc_loss(log_probs.transpose(0, 1), targets.to(log_probs.device), lengths, sizes, zero_infinity=lenient)


def spelling(heard: Iterable[tuple[Tensor, Tensor, Sequence[str]]], alphabet: str) -> float:
    """Minus the error rate of letters in batches of log probabilities (B, T, letters + 1), lengths (B,) and texts.

    What is reported chooses, as in SUPERB. A hundredth of the loss a letter is added: while nothing is spelled yet, the
    rate stays at 1.
    """
    wrong, loss, letters = 0, 0.0, 0
    for log_probs, lengths, texts in heard:
        known = [letters_of(text, alphabet) for text in texts]
        size = sum(map(len, known))
        loss += float(ctc_loss(log_probs, lengths, known, lenient=True)) * size
        for text, row, length in zip(texts, log_probs.cpu(), lengths.tolist(), strict=True):
            wrong += edits(text, decode(row[:length], alphabet))["cer"][0]
        letters += size
    return -(wrong + _OF_LOSS * loss) / letters


def decode(log_probs: Tensor, alphabet: str, beam: int = 1) -> str:
    """The text of log probabilities (T, letters + 1): the best letter of each frame, or a prefix beam search."""
    if beam > 1:
        try:
            from fast_ctc_decode import beam_search
        except ImportError:
            raise NasError("beam search needs fast-ctc-decode: pip install 'lighthubert-nas[tasks]'") from None
        probabilities = log_probs.exp().float().numpy()
        text = beam_search(probabilities, ["", *alphabet], beam_size=beam, beam_cut_threshold=0.0)[0]
    else:
        best = [letter for letter, _ in groupby(log_probs.argmax(-1).tolist())]
        text = "".join(alphabet[letter - 1] for letter in best if letter)
    return " ".join(text.split())


def build_transcription(context: TaskContext) -> Built:
    """Letters of texts, or phones, by CTC."""
    names: tuple[str, ...] = ()
    if context.task.kind == "phones":
        data, alphabet, names = check_phones(context.manifest, context.data)
    else:
        data, alphabet = check_text(context.manifest, context.data, context.alphabet)
    context.fill(data)
    hidden, beam = context.hidden, context.beam
    problem = Transcription(data, alphabet, context.states, context.device, hidden, beam, names)
    about = {
        "alphabet": names or alphabet,
        "head": f"BLSTM of {hidden}" if hidden else "linear",
        "beam": beam,
        "too_long": problem.too_long,
    }
    return Built(problem, data, about)
