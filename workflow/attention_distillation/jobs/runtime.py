"""What every script does first: its threads, its log, its GPUs, and errors in one line."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import platform
import signal
import subprocess
import sys
import traceback
from pathlib import Path

from ..files import InputError
from . import gpus, log


def start(snakemake, *, prints: bool = False) -> None:
    """Set the job's threads everywhere, its log, how its errors are shown, and which GPUs are its own.

    Two processes with two threads each on two cores run many times slower than one after the other, so the
    rule's ``threads`` is handed to every library that makes threads. Call it before torch is imported.

    Args:
        prints: the job prints what it is for, and standard output stays what it is.
    """
    threads = str(snakemake.threads)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = threads
    os.environ["TOKENIZERS_PARALLELISM"] = "false" if threads == "1" else "true"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    label = " ".join([snakemake.rule, *map(str, snakemake.wildcards)])
    if snakemake.log:
        log.redirect(str(snakemake.log[0]), label, stdout=not prints)
    if prints:  # a terminal that has no such character shows a question mark
        sys.stdout.reconfigure(errors="replace")
    sys.excepthook = _show_error
    gpus.claim(snakemake.resources.get("gpu", 0))


def torch_threads(snakemake) -> None:
    """Hand the rule's threads to torch too, and silence the bars of transformers: a job's log tells what it does."""
    _quiet(snakemake.threads)


def _quiet(threads: int) -> None:
    import torch
    from transformers.utils import logging

    torch.set_num_threads(threads)
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def launch(module: str, argument: str | Path, processes: int, threads: int) -> None:
    """Run ``python -m module argument`` in several processes that know of each other; they write into the job's log.

    Raises:
        SystemExit: one of them failed; its last words are there.
    """
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, "-m", *torchrun, "-m", module, str(argument)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, threads // processes))}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or they would train on without this one
    with subprocess.Popen(command, env=environment, preexec_fn=_ends_with_this_process()) as running:
        try:
            running.wait()
        except BaseException:
            running.terminate()
            raise
    if running.returncode:
        raise SystemExit(running.returncode)


def _ends_with_this_process():
    """What a child calls before it starts, so that Linux ends it with its parent, even where that is killed (SIGKILL).

    torchrun, ended by SIGTERM, ends its processes. Else they would train on, with GPUs that are given to others.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl, pr_set_pdeathsig = ctypes.CDLL(None).prctl, 1
    return lambda: prctl(pr_set_pdeathsig, signal.SIGTERM)


def start_worker() -> None:
    """What :func:`start` does, in a process that :func:`launch` made: its threads are in the environment."""
    sys.excepthook = _show_error
    faulthandler.enable()
    _quiet(int(os.environ["OMP_NUM_THREADS"]))


def part_of(folder: str | list[str], part: str) -> str | list[str]:
    """A model's directory: the checkpoint's part, or the directory itself where it is a model's own, or its two."""
    if not isinstance(folder, str):
        return list(folder)
    inside = Path(folder) / part
    return str(inside if inside.is_dir() else folder)


def device() -> str:
    """``cuda`` where there is one, else ``cpu``.

    cuDNN's attention, which torch prefers on a Hopper GPU, is turned off: with a mask its backward gives NaN at some
    lengths (pytorch issue 196678, torch 2.11 to 2.13), and it makes a plan anew for every length.

    Raises:
        InputError: the job has a GPU, and this torch cannot use it; on the CPU it would take weeks.
    """
    import torch

    if not torch.cuda.is_available():
        if os.environ.get("CUDA_VISIBLE_DEVICES") and gpus.DRIVER.exists():
            raise InputError(
                f"this job has a GPU that torch {torch.__version__} (CUDA {torch.version.cuda or 'none'}) cannot use; "
                "install envs/requirements-gpu.txt, or a driver that is new enough for it."
            )
        return "cpu"
    torch.backends.cuda.enable_cudnn_sdp(False)
    return "cuda"


def dtype(precision: str):
    """What a model computes in: bfloat16 on a GPU that is asked for it; a CPU takes float32."""
    import torch

    return torch.bfloat16 if precision == "bfloat16" and torch.cuda.is_available() else torch.float32


def device_name() -> str:
    """What the device calls itself, for provenance."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu ({platform.machine()})"


def _show_error(kind, error, trace) -> None:
    if isinstance(error, InputError):
        sys.stderr.write(f"error: {error}\n")
    else:
        sys.stderr.write("".join(traceback.format_exception(kind, error, trace)))
    sys.stderr.flush()
