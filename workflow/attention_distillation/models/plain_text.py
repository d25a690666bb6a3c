"""What a user wrote is text: ``</s>`` or ``[SEP]`` in a passage, a question or an answer is no control token.

``split_special_tokens`` of transformers is not enough: it stops the search for special tokens before the model of the
tokenizer sees the text, and Unigram (T5's), WordLevel and some BPE models find ``</s>`` among their own pieces.
"""

from __future__ import annotations

import copy
import json
from functools import lru_cache


@lru_cache(maxsize=8)
def plain_text(tokenizer):
    """A tokenizer of the same ids and offsets that takes every letter as text; special tokens it adds as before.

    In a copy of the tokenizer the special tokens have names that no text holds, and merges that make or use one are
    left out. Encode with it only: the copy cannot name its special tokens, so decode and pad with the original.

    Args:
        tokenizer: a fast tokenizer of transformers; it stays as it is.
    """
    from tokenizers import Tokenizer

    backend = tokenizer.backend_tokenizer
    form = json.loads(backend.to_str())
    surrounding = backend.encode("").tokens  # of the post-processor; not all tokenizers list them as special
    listed = [token["content"] for token in form["added_tokens"] if token["special"]]
    names = dict.fromkeys([*listed, *tokenizer.all_special_tokens, *surrounding])
    hidden = {name: f"\uffff\ufdd0{number}\ufdd1\uffff" for number, name in enumerate(names)}  # no characters of text

    for token in form["added_tokens"]:
        token["content"] = hidden.get(token["content"], token["content"])
    model = form["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {hidden.get(piece, piece): number for piece, number in model["vocab"].items()}
    else:  # Unigram: [piece, score]
        model["vocab"] = [[hidden.get(piece, piece), score] for piece, score in model["vocab"]]
    if model.get("unk_token") is not None:
        model["unk_token"] = hidden.get(model["unk_token"], model["unk_token"])
    if "merges" in model:
        merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        model["merges"] = [pair for pair in merges if hidden.keys().isdisjoint([*pair, "".join(pair)])]

    plain = copy.copy(tokenizer)
    plain._tokenizer = Tokenizer.from_str(json.dumps(form))
    return plain
