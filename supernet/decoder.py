"""The decoder of a supernet's source (Whisper), given the text: what an encoder is worth to whom it feeds."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces import CheckpointError, NasError
from search_spaces.text import first_line
from supernet.companion import rest_of_model
from supernet.model import HubertSupernet
from supernet.weights import plain_tensors

__all__ = ["TextDecoder"]

_MULTILINGUAL = 51_865  # tokens at least, by OpenAI's own rule


class TextDecoder(nn.Module):
    """Log probabilities of a text's tokens given the encoder's last hidden state, each token after the true ones.

    `tokens` makes the tokens: the prompt (start, language, task, no timestamps), the text, and the end. Tokens of the
    prompt have no probability.
    """

    head: Tensor

    def __init__(self, decoder: nn.Module, head: Tensor, tokenizer: Any) -> None:
        super().__init__()
        self.decoder, self._tokenizer = decoder.eval().requires_grad_(False), tokenizer
        self.register_buffer("head", head)
        self.multilingual = len(head) >= _MULTILINGUAL
        self._special: dict[str, int] = tokenizer.get_added_vocab()
        self.prompt_length = len(self.prompt(None))

    @classmethod
    def of(cls, model: HubertSupernet, device: str = "cpu") -> TextDecoder:
        """The decoder that belongs to `model`. Raises `NasError` if there is none."""
        if model.source is None or not rest_of_model(model.source).stored:
            raise NasError(
                "this supernet has no decoder: make it from a whole Whisper with nas convert, or score by distillation"
            )
        return _loaded(model.source).to(device)

    @classmethod
    def in_folder(cls, folder: Path) -> TextDecoder:
        """The decoder in a folder of a whole model. Raises `CheckpointError`."""
        return _loaded(folder)

    @property
    def positions(self) -> int:
        """The greatest number of tokens."""
        return int(self.decoder.config.max_target_positions)  # type: ignore[union-attr, arg-type]

    @property
    def languages(self) -> dict[str, int]:
        """The tokens of the languages, by their codes."""
        words = {word.strip("<|>"): token for word, token in self._special.items()}
        return {word: token for word, token in words.items() if word.isalpha() and 2 <= len(word) <= 3}

    @property
    def tasks(self) -> dict[str, int]:
        """The tokens of the tasks, by their names."""
        return {name: self._special[f"<|{name}|>"] for name in ("transcribe", "translate")}

    def complete(self, settings: Any) -> None:
        """Adds to the settings of `generate` (transformers' GenerationConfig) the special tokens that old ones lack."""
        if self.multilingual and getattr(settings, "lang_to_id", None) is None:
            settings.lang_to_id = {f"<|{name}|>": token for name, token in self.languages.items()}
            settings.task_to_id = self.tasks
            settings.is_multilingual = True
        settings._from_model_config = False  # pipelines would make them anew, without these
        settings.no_timestamps_token_id = self._special["<|notimestamps|>"]

    def texts(self, tokens: Tensor) -> list[str]:
        """The texts of tokens (B, L), without the special ones."""
        decoded: list[str] = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return decoded

    def prompt(self, language: str | None) -> list[int]:
        """The tokens before the text. Raises `NasError` for a language that the decoder does not know."""
        words = ["<|startoftranscript|>"]
        if self.multilingual:
            words += [f"<|{language or 'en'}|>", "<|transcribe|>"]
        if any(word not in self._special for word in words):
            raise NasError(
                f"the decoder's tokenizer does not know the language {language!r}: use codes such as en or es"
            )
        return [self._special[word] for word in (*words, "<|notimestamps|>")]

    def tokens(self, text: str, language: str | None) -> Tensor:
        """(1, L): prompt, text, end. Raises `NasError` for texts that are longer than the decoder's positions."""
        own = self._tokenizer(f" {text.strip()}", add_special_tokens=False).input_ids
        tokens = [*self.prompt(language), *own, self._tokenizer.eos_token_id]
        if len(tokens) > self.positions:
            raise NasError(f"a text of {len(tokens)} tokens: the decoder takes {self.positions}; got '{text[:60]}…'")
        return torch.tensor([tokens])

    def forward(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Log probabilities (B, L - P, vocabulary) of tokens (B, L) after the prompt of P, from states (B, T, D).

        Tokens may be -1 after the end of a text.
        """
        tokens = tokens.clamp(min=0)
        states = self.decoder(tokens[:, :-1].to(hidden.device), encoder_hidden_states=hidden.float())
        return F.linear(states.last_hidden_state[:, self.prompt_length - 1 :], self.head).log_softmax(-1)

    def counted(self, tokens: Tensor) -> Tensor:
        """(B, L - P), True for tokens of the texts of (B, L): not of the prompt of P, nor after the end (-1)."""
        return tokens[:, self.prompt_length :] >= 0

    def surprise(self, log_probs: Tensor, tokens: Tensor) -> Tensor:
        """-log p (B, L - P) of the tokens (B, L), from what `forward` gives of them; 0 after the end."""
        true = tokens[:, self.prompt_length :].to(log_probs.device)
        return -log_probs.gather(2, true.clamp(min=0)[..., None])[..., 0] * (true >= 0)


@lru_cache(maxsize=1)
def _loaded(folder: Path) -> TextDecoder:
    """The decoder and tokenizer in a folder of the rest of a model, in float32."""
    from transformers import AutoTokenizer, WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperDecoder

    rest = rest_of_model(folder)
    weights = plain_tensors(folder, rest.weights)
    own = {name.removeprefix("model.decoder."): value for name, value in weights.items() if "decoder." in name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.get_added_vocab()["<|startoftranscript|>"], tokenizer.get_added_vocab()["<|notimestamps|>"]
        decoder = WhisperDecoder(WhisperConfig.from_dict(rest.config))  # type: ignore[no-untyped-call]
        decoder.load_state_dict(own, strict=True)
    except Exception as error:  # transformers raises many kinds of errors for a broken folder
        raise CheckpointError(f"cannot load the decoder in {folder}: {first_line(error):.200}") from None
    head = weights.get("proj_out.weight", own["embed_tokens.weight"])
    return TextDecoder(decoder, head, tokenizer)
