"""CLIP's tokenizer: text to the tokens that the text encoder was trained on.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020), section 2.4:
lower-cased byte-pair encoding with 49,152 entries (Sennrich et al., arXiv 1508.07909), and a start and an end token.
The merging is done by the `tokenizers` library; here stand the vocabulary, the splitting rule and the cleaning.
"""

from __future__ import annotations

import functools
import gzip
import html
from collections.abc import Sequence
from importlib import resources

import ftfy
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from birder.errors import ConfigError

CONTEXT_LENGTH = 77
_VOCABULARY_SIZE = 49408
_START, _END = "<start_of_text>", "<end_of_text>"
_WORDS = rf"(?i:{_START}|{_END}|'s|'t|'re|'ve|'m|'ll|'d|\p{{L}}+|\p{{N}}|[^\s\p{{L}}\p{{N}}]+)"


class ClipTokenizer:
    """Texts to token numbers of shape (N, context_length): start, words, end, then zeros.

    Attributes
    ----------
    context_length
        Tokens in a row; a longer text is cut, and its last token is the end token still.
    vocabulary_size
        Token numbers are below it.
    """

    def __init__(self, context_length: int = CONTEXT_LENGTH) -> None:
        if context_length < 2:
            raise ConfigError(f"A context of {context_length} tokens has no room for the start and the end token.")
        self.context_length = context_length
        self.vocabulary_size = _VOCABULARY_SIZE
        self._bpe = byte_pair_encoder()
        self._special = dict(special_tokens())

    def __call__(self, texts: str | Sequence[str]) -> torch.Tensor:
        """Tokens of the texts, int64 of shape (N, context_length)."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        cleaned = [clean(text) for text in texts]
        tokens = torch.zeros(len(texts), self.context_length, dtype=torch.int64)
        start, end = self._special[_START], self._special[_END]
        for i, (text, encoding) in enumerate(zip(cleaned, self._bpe.encode_batch(cleaned), strict=True)):
            words = self._with_special(text) if _START in text or _END in text else encoding.ids
            row = [start, *words[: self.context_length - 2], end]
            tokens[i, : len(row)] = torch.tensor(row)
        return tokens

    def _with_special(self, text: str) -> list[int]:
        """Tokens of a text that spells out a special token: that word is one token, as in the reference."""
        ids: list[int] = []
        for word, _ in self._bpe.pre_tokenizer.pre_tokenize_str(text):
            ids += [self._special[word]] if word in self._special else [t.id for t in self._bpe.model.tokenize(word)]
        return ids


def clean(text: str) -> str:
    """The text as the text encoder saw texts in training: mended, HTML entities resolved, single spaces, lower case."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def special_tokens() -> tuple[tuple[str, int], tuple[str, int]]:
    """The start token and the end token, each with its number."""
    return (_START, _VOCABULARY_SIZE - 2), (_END, _VOCABULARY_SIZE - 1)


@functools.cache
def byte_pair_encoder() -> Tokenizer:
    """The encoder with CLIP's vocabulary: the byte symbols, those ending a word, the merges in order, two specials."""
    packed = resources.files("birder.data").joinpath("bpe_simple_vocab_16e6.txt.gz").read_bytes()
    symbols = _byte_symbols()
    lines = gzip.decompress(packed).decode("utf-8").split("\n")
    count = _VOCABULARY_SIZE - 2 - 2 * len(symbols)
    merges = [(first, second) for first, second in (line.split() for line in lines[1 : 1 + count])]  # line 0: a title
    entries = [*symbols, *(symbol + "</w>" for symbol in symbols), *(a + b for a, b in merges), _START, _END]
    vocabulary = {entry: i for i, entry in enumerate(entries)}
    encoder = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>"))
    encoder.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return encoder


def _byte_symbols() -> list[str]:
    """One visible character for each byte, in the vocabulary's order: visible Latin-1, then the rest from U+0100."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in visible] + [chr(0x100 + i) for i in range(256 - len(visible))]
