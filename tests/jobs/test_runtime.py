"""What a job finds of the machine that it runs on."""

from __future__ import annotations

import pytest
import torch

from attention_distillation.files import InputError
from attention_distillation.jobs import gpus, runtime


def test_a_gpu_is_taken_without_cudnn_s_attention(monkeypatch):
    calls: list[bool] = []
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", calls.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runtime.device() == "cpu" and calls == [] and runtime.dtype("bfloat16") == torch.float32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert runtime.device() == "cuda" and calls == [False] and runtime.dtype("bfloat16") == torch.bfloat16


def test_a_gpu_that_torch_cannot_use_stops_the_job(monkeypatch, tmp_path):
    """An old driver gives no more than a warning, and the CPU would take weeks."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-0")
    monkeypatch.setattr(gpus, "DRIVER", tmp_path / "version")
    assert runtime.device() == "cpu"  # a name that a scheduler gave, on a machine without a driver
    (tmp_path / "version").touch()
    with pytest.raises(InputError, match=r"torch .* cannot use; install envs/requirements-gpu\.txt"):
        runtime.device()
