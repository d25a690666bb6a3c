"""What a job finds of the machine that it runs on."""

from __future__ import annotations

import torch

from attention_distillation import runtime


def test_a_gpu_is_taken_without_cudnn_s_attention(monkeypatch):
    told: list[bool] = []
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", told.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runtime.device() == "cpu" and told == [] and runtime.dtype("bfloat16") == torch.float32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert runtime.device() == "cuda" and told == [False] and runtime.dtype("bfloat16") == torch.bfloat16
