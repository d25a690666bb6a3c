"""What the benchmarks share: a process of its own for each side, alternating timing, peak memory, and a record of it.

Every comparison runs its sides in turn within one call and prints their ratio: a machine's speed differs from hour
to hour, the ratio of two things timed side by side much less. Times are processor time: with one thread, and nothing
else running, that is the time on the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "workflow")]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
EXPERIMENTS = ("step1", "step2", "off_the_shelf", "atlas", "perplexity")
"""Those of the paper that train; step1 first, which needs no index."""
VERSIONS = ("torch", "transformers", "tokenizers", "faiss-cpu", "datasets", "pyarrow", "numpy")


def arguments(description: str, **defaults: int | float) -> argparse.ArgumentParser:
    """A parser with ``--threads``, ``--record`` and an option for each default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="of torch, FAISS and tokenizers")
    parser.add_argument("--record", type=Path, metavar="FILE.md", help="append the figures to this file")
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return parser


def set_threads(threads: int) -> None:
    """Hand ``threads`` to every library that makes its own; call it before torch is imported."""
    os.environ.update(dict.fromkeys(THREADS, str(threads)), TOKENIZERS_PARALLELISM=str(threads > 1).lower())


# ------------------------------------------------------------------ time


def alternate(sides: dict[str, Callable[[], object]], rounds: int, *, warm: bool = True) -> dict[str, list[float]]:
    """Processor seconds of each side in each round; the order turns every round.

    Args:
        sides: what to call, by name.
        rounds: how often each is timed.
        warm: call each once before.
    """
    for run in sides.values() if warm else ():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
            start = time.process_time()
            sides[name]()
            seconds[name].append(time.process_time() - start)
    return seconds


def ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> tuple[float, float, float]:
    """How many times longer ``slow`` took than ``fast``: median, least and most over the rounds' pairs."""
    pairs = [a / b for a, b in zip(seconds[slow], seconds[fast], strict=True)]
    return statistics.median(pairs), min(pairs), max(pairs)


# ------------------------------------------------------------------ memory


def status(*fields: str) -> dict[str, float]:
    """Fields of /proc/self/status in MB: ``VmHWM`` is the peak of what is resident, ``RssAnon`` its private part."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("utf-8").splitlines())
    return {name: int(lines[name].split()[0]) * 1024 / 1e6 for name in fields}


class Sampler(threading.Thread):
    """Samples resident memory while a ``with`` block runs; the kernel keeps a peak of the whole alone.

    ``peak`` then holds, in MB: ``anonymous`` (the process's own), ``file`` (pages of mapped files, which the kernel
    may take back at any time).
    """

    def __init__(self, interval: float = 0.02) -> None:
        super().__init__(daemon=True)
        self.peak = {"anonymous": 0.0, "file": 0.0}
        self._interval, self._over = interval, threading.Event()

    def _sample(self) -> None:
        now = status("RssAnon", "RssFile")
        for name, field in (("anonymous", "RssAnon"), ("file", "RssFile")):
            self.peak[name] = max(self.peak[name], now[field])

    def run(self) -> None:
        while not self._over.wait(self._interval):
            self._sample()

    def __enter__(self) -> Sampler:
        self._sample()
        self.start()
        return self

    def __exit__(self, *_exception) -> None:
        self._over.set()
        self.join()
        self._sample()


def in_a_process(script: str, *arguments: object) -> dict:
    """Run a benchmark's script again in a process of its own; the JSON object that it prints last.

    Raises:
        SystemExit: it failed; its errors are on the screen.
    """
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"failed: {shlex.join(command)}")
    return json.loads(done.stdout.splitlines()[-1])


# ------------------------------------------------------------------ what is measured


def retriever(width: int, layers: int):
    """A BERT with random weights and a word-level tokenizer."""
    import torch
    from transformers import BertConfig, BertModel

    from attention_distillation.models.pretraining import make_tokenizer
    from attention_distillation.models.retriever import Retriever

    torch.manual_seed(0)
    words = make_tokenizer("retriever", None, 0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=width, num_hidden_layers=layers, num_attention_heads=max(2, width // 64),
        intermediate_size=4 * width, pad_token_id=words.pad_token_id, attn_implementation="sdpa",
    )  # fmt: skip
    return Retriever.of(BertModel(config, add_pooling_layer=False), words).eval()


def reader(kind: str, width: int, layers: int, implementation: str = "sdpa"):
    """A Falcon with ALiBi or a T5 with random weights, 64 values a head, and a word-level tokenizer."""
    import torch
    from transformers import FalconConfig, FalconForCausalLM, T5Config, T5ForConditionalGeneration

    from attention_distillation.models.pretraining import make_tokenizer
    from attention_distillation.models.readers import DecoderOnlyReader, FusionInDecoderReader

    torch.manual_seed(0)
    fused = kind == "t5"
    words = make_tokenizer("encoder_decoder" if fused else "reader", None, 0)
    ends = {"vocab_size": len(words), "pad_token_id": words.pad_token_id, "eos_token_id": words.eos_token_id}
    heads = max(2, width // 64)
    if fused:
        config = T5Config(d_model=width, d_kv=64, d_ff=3 * width, num_layers=layers, num_decoder_layers=layers,
                          num_heads=heads, feed_forward_proj="gated-gelu", decoder_start_token_id=words.pad_token_id,
                          attn_implementation=implementation, **ends)  # fmt: skip
        return FusionInDecoderReader(
            T5ForConditionalGeneration(config), words, passage_max_tokens=128, answer_max_tokens=32
        ).eval()
    config = FalconConfig(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, alibi=True, bias=True,
                          multi_query=False, new_decoder_architecture=False, parallel_attn=False,
                          bos_token_id=words.eos_token_id, attn_implementation=implementation, **ends)  # fmt: skip
    return DecoderOnlyReader(FalconForCausalLM(config), words, passage_max_tokens=128, answer_max_tokens=32).eval()


def question_batch(model, questions: int, passages: int, length: int, answer: int):
    """Questions with so many passages of ``length`` random words each, encoded by the reader's own code."""
    import numpy as np

    from attention_distillation.data import miniature

    words, rng = np.asarray(miniature.words(), dtype=object), np.random.default_rng(0)

    def text(count: int) -> str:
        return " ".join(words[rng.integers(len(words), size=count)])

    return model.encode(
        [text(10) for _ in range(questions)],
        [[(text(2), text(length)) for _ in range(passages)] for _ in range(questions)],
        [text(answer) for _ in range(questions)],
    )


# ------------------------------------------------------------------ what is told


def machine(threads: int) -> str:
    """Processor, cores, threads and versions, in one line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = named[0] if named else model
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in VERSIONS)
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return (
        f"{model}, {cores} cores, {threads} thread(s), load {load:.1f} at the end; "
        f"Python {platform.python_version()}, {versions}"
    )


def tell(title: str, rows: list[dict], notes: list[str], options: argparse.Namespace) -> None:
    """Print the rows as a table, and append them with date, command and machine to ``--record``."""
    from tabulate import tabulate

    command = f"python benchmarks/{shlex.join([Path(sys.argv[0]).name, *_without_record(sys.argv[1:])])}"
    about = [f"{time.strftime('%Y-%m-%d')}, `{command}`", machine(options.threads)]
    print(f"\n{title}\n\n{tabulate(rows, headers='keys')}\n")
    print("\n".join([*notes, *about]))
    if options.record:
        options.record.parent.mkdir(parents=True, exist_ok=True)
        table = tabulate(rows, headers="keys", tablefmt="pipe")
        with open(options.record, "a", encoding="utf-8") as file:
            file.write("\n".join(["", f"## {title}", "", table, "", *(f"- {line}" for line in [*notes, *about]), ""]))


def _without_record(given: list[str]) -> list[str]:
    """The command line without ``--record FILE``: where it was kept is no part of what was run."""
    if "--record" in given:
        place = given.index("--record")
        return given[:place] + given[place + 2 :]
    return given
