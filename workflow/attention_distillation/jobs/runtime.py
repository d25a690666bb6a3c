"""What every script does first: threads, a log beside the screen, and errors told in one line."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import traceback
from pathlib import Path

from ..files import InputError
from . import gpus


class _Tee:
    """Standard error of a job: to its log, and to the screen with the job's name before each line.

    Progress bars redraw with a carriage return; jobs that run side by side would draw over each other, so each
    redrawing becomes a line.
    """

    def __init__(self, screen, log: Path, label: str) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._screen, self._log, self._label, self._rest = screen, open(log, "w", encoding="utf-8"), label, ""  # noqa: SIM115

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text.replace("\r", "\n")).split("\n")
        for line in lines:
            if line.strip():
                self._log.write(line + "\n")
                self._screen.write(f"[{self._label}] {line}\n")
        return len(text)

    def flush(self) -> None:
        self._log.flush()
        self._screen.flush()

    def isatty(self) -> bool:
        return False


def start(snakemake) -> None:
    """Set the job's threads everywhere, its log, how its errors are told, and which GPUs are its own.

    Two processes with two threads each on two cores run many times slower than one after the other, so the
    rule's ``threads`` is handed to every library that makes threads. Call it before torch is imported.
    """
    threads = str(snakemake.threads)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = threads
    os.environ["TOKENIZERS_PARALLELISM"] = "false" if threads == "1" else "true"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    label = " ".join([snakemake.rule, *map(str, snakemake.wildcards)])
    if snakemake.log:
        sys.stderr = _Tee(sys.stderr, Path(str(snakemake.log[0])), label)
    sys.excepthook = _tell
    gpus.claim(snakemake.resources.get("gpu", 0), Path("results") / ".gpus")


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
    """Run ``python -m module argument`` in several processes that know of each other, and pass on what they say.

    Raises:
        SystemExit: one of them failed; it has said why.
    """
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, "-m", *torchrun, "-m", module, str(argument)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, threads // processes))}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or they would train on without this one
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as running:
        try:
            for line in running.stdout:
                sys.stderr.write(line)
        except BaseException:
            running.terminate()
            raise
    if running.returncode:
        raise SystemExit(running.returncode)


def start_worker() -> None:
    """What :func:`start` does, in a process that :func:`launch` made: its threads are in the environment."""
    sys.excepthook = _tell
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
        if gpus.held and gpus.DRIVER.exists():
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


def _tell(kind, error, trace) -> None:
    if isinstance(error, InputError):
        sys.stderr.write(f"error: {error}\n")
    else:
        sys.stderr.write("".join(traceback.format_exception(kind, error, trace)))
    sys.stderr.flush()
