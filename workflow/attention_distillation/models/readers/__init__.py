"""Readers: one interface (:class:`~.base.Reader`), two kinds.

=================  ======================================================================================
decoder_only       any causal LM: the k prompts one after another, ``answer:``, the answer
encoder_decoder    T5 as fusion-in-decoder: each prompt encoded by itself, the decoder attends over all
=================  ======================================================================================
"""

from .base import Encoded, Output, Reader
from .decoder_only import DecoderOnlyReader
from .fusion_in_decoder import FusionInDecoderReader

KINDS: dict[str, type[Reader]] = {"decoder_only": DecoderOnlyReader, "encoder_decoder": FusionInDecoderReader}

__all__ = ["KINDS", "DecoderOnlyReader", "Encoded", "FusionInDecoderReader", "Output", "Reader"]
