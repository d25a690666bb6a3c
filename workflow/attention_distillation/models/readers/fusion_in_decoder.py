"""T5 as fusion-in-decoder (Izacard and Grave, 2020b): each passage is encoded by itself, with the question.

No model internals are patched: the encoder runs on (B·k, L), its states are laid end to end, and the decoder takes
them as ``encoder_outputs``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...files import InputError
from ..attention import AnswerRowRecorder, cross_attention_modules
from ..plain_text import plain_text
from .base import Encoded, Output, Passages, Reader, answer_loss, exact_logits, pad_right
from .prompt import TEMPLATE, passage_prompts

CLASSES = {
    "t5": "T5ForConditionalGeneration",
    "mt5": "MT5ForConditionalGeneration",
    "umt5": "UMT5ForConditionalGeneration",
}


class FusionInDecoderReader(Reader):
    """Cross-attention from the decoder's answer positions to the tokens of all passages."""

    @staticmethod
    def model_class(config):
        """T5, mT5 or UMT5, as the config says: their position biases and their heads differ."""
        import transformers

        if config.model_type not in CLASSES:
            raise InputError(
                f"{config.name_or_path or 'models.encoder_decoder'}: '{config.model_type}' is none of "
                f"{', '.join(CLASSES)}; a decoder-only model is given as models.reader."
            )
        return getattr(transformers, CLASSES[config.model_type])

    def encode(
        self, questions: Sequence[str], passages: Sequence[Passages], answers: Sequence[str] | None = None
    ) -> Encoded:
        """See :meth:`Reader.encode`; every question of a batch has the same number of passages.

        Without passages (closed book) the encoder reads ``question: {Q}`` alone.
        """
        k = len(passages[0])
        if k:
            flat = passage_prompts(
                self.tokenizer,
                [question for question in questions for _ in range(k)],
                [passage for shown in passages for passage in shown],
                self.passage_max_tokens - 1,
                template=self.prompt.template,
            )
            ids = [[*prompt.ids.tolist(), self.end_id] for prompt in flat]
            segment = [[*prompt.segment.tolist(), TEMPLATE] for prompt in flat]
        else:
            ids = plain_text(self.tokenizer)(
                [self.prompt.closed_book.replace("{question}", question) for question in questions]
            )["input_ids"]
            segment = [[TEMPLATE] * len(row) for row in ids]
        shape = (len(questions), max(k, 1), -1)
        segment = pad_right(segment, TEMPLATE).view(shape)
        mask = pad_right([[1] * len(row) for row in ids], 0).view(shape)
        owner = torch.arange(shape[1])[None, :, None].expand_as(segment)
        return Encoded(
            ids=pad_right(ids, self.pad_id).view(shape),
            mask=mask,
            prompt=torch.where(mask > 0, owner, -1).flatten(1) if k else torch.full_like(owner.flatten(1), -1),
            segment=segment.flatten(1),
            labels=pad_right(self._answer_rows(answers, len(questions)), -100).long(),
        )

    def _encode_passages(self, encoded: Encoded):
        from transformers.modeling_outputs import BaseModelOutput

        batch, k, length = encoded.ids.shape
        states = self.model.encoder(
            input_ids=encoded.ids.view(batch * k, length), attention_mask=encoded.mask.view(batch * k, length)
        ).last_hidden_state
        return BaseModelOutput(last_hidden_state=states.view(batch, k * length, -1)), encoded.mask.flatten(1)

    def forward(self, encoded: Encoded, *, record: bool = False, value_norm: bool = True, check: bool = True) -> Output:
        """See :meth:`Reader.forward`."""
        states, mask = self._encode_passages(encoded)
        labels, attention = encoded.labels, None
        inputs = {"encoder_outputs": states, "attention_mask": mask, "labels": labels, "use_cache": False}
        if record:
            rows = torch.arange(labels.shape[1], device=labels.device).expand(len(labels), -1)
            recorder = AnswerRowRecorder(
                cross_attention_modules(self.model),
                rows,
                labels != -100,
                mask.bool(),
                value_norm=value_norm,
                check=check,
            )
            with recorder, exact_logits(self.model):
                logits = self.model(**inputs).logits
            attention = recorder.by_layer()
        else:
            with exact_logits(self.model):
                logits = self.model(**inputs).logits
        return Output(answer_loss(logits, labels), attention)

    def alone(self, encoded: Encoded) -> tuple[Encoded, Tensor]:
        """See :meth:`Reader.alone`: (B, k, L) as (B·k, 1, L)."""
        batch, k, length = encoded.ids.shape
        return Encoded(
            ids=encoded.ids.reshape(batch * k, 1, length),
            mask=encoded.mask.reshape(batch * k, 1, length),
            prompt=torch.where(encoded.prompt < 0, -1, 0).view(batch * k, length),
            segment=encoded.segment.view(batch * k, length),
            labels=encoded.labels.repeat_interleave(k, 0),
        ), torch.arange(k * length, device=encoded.ids.device).view(k, length).repeat(batch, 1)

    @property
    def context_embeddings(self) -> torch.nn.Module:
        """See :attr:`Reader.context_embeddings`."""
        return self.model.encoder.embed_tokens

    @property
    def recorded_layers(self) -> tuple[int, int]:
        """See :attr:`Reader.recorded_layers`: of the decoder."""
        return len(cross_attention_modules(self.model)), self.model.config.num_decoder_layers

    @torch.inference_mode()
    def generate(self, encoded: Encoded) -> list[str]:
        """See :meth:`Reader.generate`."""
        states, mask = self._encode_passages(encoded.to(self.device))
        with exact_logits(self.model):
            generated = self.model.generate(
                encoder_outputs=states, attention_mask=mask, max_new_tokens=self.answer_max_tokens, do_sample=False
            )
        return self._texts(generated)
