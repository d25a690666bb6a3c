"""Any causal language model as reader: the k prompts one after another, ``answer:``, then the answer."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...files import InputError
from ..attention import AnswerRowRecorder, attention_layers, self_attention_modules
from ..plain_text import plain_text
from .base import Encoded, Output, Passages, Reader, answer_loss, exact_logits, pad_left
from .prompt import TEMPLATE, around_question, chat_frame, cut_questions, passage_prompts, running_text, start_ids


class DecoderOnlyReader(Reader):
    """Self-attention from the answer's positions to the passages before them.

    A sequence is: what the tokenizer starts one with (or the chat template's user turn), the prompts, the answer's head
    (and the chat template's turn to the assistant), the answer.

    Sequences are padded on the left, so that every answer ends at the last column: the rows to record and the
    logits to keep are the last A + 1 columns, whatever the prompts' lengths.
    """

    def __init__(self, model, tokenizer, **prompt) -> None:
        super().__init__(model, tokenizer, **prompt)
        self.start, self._turn = start_ids(tokenizer), []
        if self.prompt.chat:
            before, after, end = chat_frame(tokenizer)
            self.start, self._turn = (
                tokenizer(text, add_special_tokens=False)["input_ids"] for text in (before, after)
            )
            if end is not None:
                self.end_id = model.generation_config.eos_token_id = end
        self._takes = set(inspect.signature(model.forward).parameters)

    @staticmethod
    def model_class(config):
        """The causal LM that a config names, or the model with more senses that holds one."""
        from transformers.models.auto.modeling_auto import (
            MODEL_FOR_CAUSAL_LM_MAPPING,
            MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        )

        name = config.name_or_path or "models.reader"
        if config.is_encoder_decoder:
            raise InputError(
                f"{name}: '{config.model_type}' has an encoder and is no decoder-only model; "
                "T5, mT5 and UMT5 are read with as models.encoder_decoder."
            )
        for known in (MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING):
            if type(config) in known:
                return known[type(config)]
        raise InputError(f"{name}: transformers has no causal language model of the type '{config.model_type}'.")

    def encode(
        self, questions: Sequence[str], passages: Sequence[Passages], answers: Sequence[str] | None = None
    ) -> Encoded:
        """See :meth:`Reader.encode`; without passages (closed book) the prompt is ``prompt.closed_book``."""
        form = self.prompt
        flat = passage_prompts(
            self.tokenizer,
            [question for question, given in zip(questions, passages, strict=True) for _ in given],
            [passage for given in passages for passage in given],
            self.passage_max_tokens,
            end=form.separator,
            template=form.template,
        )
        plain = plain_text(self.tokenizer)
        asked = [form.closed_book.replace("{question}", question) + form.separator for question in questions]
        closed = plain(asked, add_special_tokens=False)["input_ids"]
        heads = self._heads(questions)
        joint = "" if form.chat or form.answer_head[-1:].isspace() else " "
        before = "\n" if form.chat else form.answer_head.replace("{question}", "")
        ids, owners, segments, labels = [], [], [], []
        prompts = iter(flat)
        rows = zip(passages, closed, heads, self._answer_rows(answers, len(questions), before, joint), strict=True)
        for given, question, head, answer in rows:
            own = [next(prompts) for _ in given]
            shown = np.concatenate([prompt.ids for prompt in own]).tolist() if own else question
            segment = np.concatenate([prompt.segment for prompt in own]).tolist() if own else [TEMPLATE] * len(shown)
            owner = np.repeat(np.arange(len(own)), [len(p.ids) for p in own]).tolist() if own else [-1] * len(shown)
            start, rest = len(self.start), len(head) + len(answer)
            ids.append([*self.start, *shown, *head, *answer])
            segments.append([*[TEMPLATE] * start, *segment, *[TEMPLATE] * rest])
            owners.append([*[-1] * start, *owner, *[-1] * rest])
            labels.append(answer)
        return Encoded(
            ids=pad_left(ids, self.pad_id),
            mask=pad_left([[1] * len(row) for row in ids], 0),
            prompt=pad_left(owners, -1),
            segment=pad_left(segments, TEMPLATE),
            labels=pad_left(labels, -100).long(),
        )

    def _heads(self, questions: Sequence[str]) -> list[list[int]]:
        """Tokens between the prompts and each question's answer."""
        head = self.prompt.answer_head
        shown = cut_questions(self.tokenizer, questions, self.passage_max_tokens, head)
        texts = [head.replace("{question}", shown[question]) for question in questions]
        rows = plain_text(self.tokenizer)(texts, add_special_tokens=False)["input_ids"]
        return [[*row, *self._turn] for row in rows]

    @property
    def around(self) -> int:
        """How many tokens a sequence may have beside its prompts and its answer."""
        head = self.prompt.answer_head.replace("{question}", "")
        asked = self.passage_max_tokens // 2 if around_question(self.prompt.answer_head)[0] is not None else 0
        words = running_text(self.tokenizer, "", [head])[0] if head else []
        return len(self.start) + len(words) + asked + len(self._turn)

    def alone(self, encoded: Encoded) -> tuple[Encoded, Tensor]:
        """See :meth:`Reader.alone`: of each sequence one prompt stays, with what all prompts share."""
        k = int(encoded.prompt.max()) + 1
        mask = encoded.mask.bool()[:, None]
        number = torch.arange(k, device=encoded.ids.device)[None, :, None]
        kept = (mask & ((encoded.prompt[:, None] == number) | (encoded.prompt[:, None] < 0))).flatten(0, 1)
        places = kept.long().argsort(dim=1, stable=True)[:, -int(kept.sum(1).max()) :]  # to the right, in their order
        kept = kept.gather(1, places)

        def chosen(values: Tensor, elsewhere: int) -> Tensor:
            return values.repeat_interleave(k, 0).gather(1, places).masked_fill(~kept, elsewhere)

        return Encoded(
            ids=chosen(encoded.ids, self.pad_id),
            mask=kept.long(),
            prompt=torch.where(chosen(encoded.prompt, -1) < 0, -1, 0),
            segment=chosen(encoded.segment, TEMPLATE),
            labels=encoded.labels.repeat_interleave(k, 0),
        ), places

    @property
    def context_embeddings(self) -> torch.nn.Module:
        """See :attr:`Reader.context_embeddings`."""
        return self.model.get_input_embeddings()

    @property
    def recorded_layers(self) -> tuple[int, int]:
        """See :attr:`Reader.recorded_layers`."""
        due, layers = attention_layers(self.model.config)
        return len(due), layers

    def logits(self, encoded: Encoded, kept: int) -> Tensor:
        """Logits of the last ``kept`` positions, float32 (B, kept, V)."""
        inputs = {"input_ids": encoded.ids, "attention_mask": encoded.mask, "use_cache": False}
        if "position_ids" in self._takes:
            inputs["position_ids"] = (encoded.mask.cumsum(1) - 1).clamp(min=0)
        if "logits_to_keep" in self._takes:
            inputs["logits_to_keep"] = kept
        with exact_logits(self.model):
            return self.model(**inputs).logits[:, -kept:]

    def forward(self, encoded: Encoded, *, record: bool = False, value_norm: bool = True, check: bool = True) -> Output:
        """See :meth:`Reader.forward`."""
        labels = encoded.labels
        length, answers = encoded.ids.shape[1], labels.shape[1]
        attention = None
        if record:
            rows = torch.arange(length - 1 - answers, length - 1, device=labels.device).expand(len(labels), -1)
            recorder = AnswerRowRecorder(
                self_attention_modules(self.model),
                rows,
                labels != -100,
                encoded.mask.bool(),
                value_norm=value_norm,
                check=check,
                by_hand=not self.model._supports_sdpa,
            )
            with recorder:
                logits = self.logits(encoded, answers + 1)
            attention = recorder.by_layer()
        else:
            logits = self.logits(encoded, answers + 1)
        return Output(answer_loss(logits[:, :-1], labels), attention)

    @torch.inference_mode()
    def generate(self, encoded: Encoded) -> list[str]:
        """See :meth:`Reader.generate`."""
        with exact_logits(self.model):
            generated = self.model.generate(
                input_ids=encoded.ids.to(self.device),
                attention_mask=encoded.mask.to(self.device),
                max_new_tokens=self.answer_max_tokens,
                do_sample=False,
                eos_token_id=self.end_id,
                pad_token_id=self.end_id,
            )
        return self._texts(generated[:, encoded.ids.shape[1] :])
