"""CLIP's tokenizer as a file of the `tokenizers` library, which runs in Python, Rust, JavaScript and R's reticulate."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import ftfy
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, processors

from birder.errors import WeightsError
from birder.net.tokenizer import ClipTokenizer, byte_pair_encoder, special_tokens


def write_tokenizer(path: Path, context_length: int, texts: Sequence[str]) -> None:
    """Write the tokenizer with its start and end token, cut and filled up to the context's length, and check it.

    It lower-cases and joins spaces as Birder does. What Birder also does to a text, and a file of this kind cannot, is
    mending it (`ftfy.fix_text`) and resolving HTML entities; texts that need neither give the same tokens.

    Parameters
    ----------
    path
        The file, .json.
    context_length
        Tokens of a text.
    texts
        What it is compared on.

    Raises
    ------
    WeightsError
        Read back, it gives other tokens than Birder.
    """
    tokenizer = Tokenizer.from_str(byte_pair_encoder().to_str())
    (start, start_id), (end, end_id) = special_tokens()
    tokenizer.add_special_tokens([AddedToken(start, normalized=False), AddedToken(end, normalized=False)])
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(), normalizers.Lowercase()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, start_id), (end, end_id)]
    )
    tokenizer.enable_truncation(context_length)
    tokenizer.enable_padding(length=context_length, pad_id=0, pad_token="!")
    tokenizer.save(str(path), pretty=False)
    read = Tokenizer.from_file(str(path))
    expected = ClipTokenizer(context_length)(texts).tolist()
    for text, tokens in zip(texts, expected, strict=True):
        if read.encode(html.unescape(html.unescape(ftfy.fix_text(text)))).ids != tokens:
            raise WeightsError(f"{path.name} was not kept: it gives other tokens than Birder for {text!r}.")
