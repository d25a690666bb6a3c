"""Any causal language model as reader: the k prompts one after another, ``answer:``, then the answer."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import numpy as np
import torch

from ..attention import AnswerRowRecorder, self_attention_modules
from ..plain_text import plain_text
from .base import Encoded, Output, Passages, Reader, answer_loss, pad_left
from .prompt import TEMPLATE, passage_prompts


class DecoderOnlyReader(Reader):
    """Self-attention from the answer's positions to the passages before them.

    Sequences are padded on the left, so that every answer ends at the last column: the rows to record and the
    logits to keep are the last A + 1 columns, whatever the prompts' lengths.
    """

    @staticmethod
    def model_class():
        """Whatever causal LM the directory's config names."""
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM

    def encode(
        self, questions: Sequence[str], passages: Sequence[Passages], answers: Sequence[str] | None = None
    ) -> Encoded:
        """See :meth:`Reader.encode`; without passages (closed book) the prompt is ``question: {Q}``."""
        flat = passage_prompts(
            self.tokenizer,
            [question for question, found in zip(questions, passages, strict=True) for _ in found],
            [passage for found in passages for passage in found],
            self.passage_max_tokens,
            end="\n",
        )
        asked = [f"question: {question}\n" for question in questions]
        closed = plain_text(self.tokenizer)(asked, add_special_tokens=False)
        trigger = self.tokenizer("answer:", add_special_tokens=False)["input_ids"]
        ids, owners, segments, labels = [], [], [], []
        prompts = iter(flat)
        for number, (found, answer) in enumerate(
            zip(passages, self._answer_rows(answers, len(questions), " "), strict=True)
        ):
            own = [next(prompts) for _ in found]
            head = np.concatenate([prompt.ids for prompt in own]) if own else np.asarray(closed["input_ids"][number])
            segment = np.concatenate([prompt.segment for prompt in own]) if own else np.zeros(len(head), int)
            owner = np.repeat(np.arange(len(own)), [len(p.ids) for p in own]) if own else np.full(len(head), -1)
            rest = len(trigger) + len(answer)
            ids.append([*head.tolist(), *trigger, *answer])
            segments.append([*segment.tolist(), *[TEMPLATE] * rest])
            owners.append([*np.where(segment == TEMPLATE, -1, owner).tolist(), *[-1] * rest])
            labels.append(answer)
        pad_id = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.end_id
        return Encoded(
            ids=pad_left(ids, pad_id),
            mask=pad_left([[1] * len(row) for row in ids], 0),
            passage=pad_left(owners, -1),
            segment=pad_left(segments, TEMPLATE),
            labels=pad_left(labels, -100).long(),
        )

    def forward(self, encoded: Encoded, *, record: bool = False, value_norm: bool = True, check: bool = True) -> Output:
        """See :meth:`Reader.forward`."""
        labels = encoded.labels
        length, answers = encoded.ids.shape[1], labels.shape[1]
        inputs = {"input_ids": encoded.ids, "attention_mask": encoded.mask, "use_cache": False}
        if "position_ids" in inspect.signature(self.model.forward).parameters:
            inputs["position_ids"] = (encoded.mask.cumsum(1) - 1).clamp(min=0)
        if record:
            rows = torch.arange(length - 1 - answers, length - 1, device=labels.device).expand(len(labels), -1)
            recorder = AnswerRowRecorder(
                self_attention_modules(self.model),
                rows,
                labels != -100,
                encoded.mask.bool(),
                value_norm=value_norm,
                check=check,
            )
            with recorder:
                logits = self.model(**inputs, logits_to_keep=answers + 1).logits
            attention = recorder.token_attention()
        else:
            logits, attention = self.model(**inputs, logits_to_keep=answers + 1).logits, None
        return Output(answer_loss(logits[:, :-1], labels), attention)

    @torch.inference_mode()
    def generate(self, encoded: Encoded) -> list[str]:
        """See :meth:`Reader.generate`."""
        generated = self.model.generate(
            input_ids=encoded.ids.to(self.device),
            attention_mask=encoded.mask.to(self.device),
            max_new_tokens=self.answer_max_tokens,
            do_sample=False,
            eos_token_id=self.end_id,
            pad_token_id=self.end_id,
        )
        return self._texts(generated[:, encoded.ids.shape[1] :])
