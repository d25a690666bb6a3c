"""The benchmarks at toy size: every section runs and writes, and what they compare would be seen to differ."""

from __future__ import annotations

import json
import weakref
from pathlib import Path

import pytest
import torch

import gpu
import gpu_agreement
import gpu_bench
import shapes
import true_shapes
from attention_distillation import settings
from attention_distillation.models.readers import KINDS, DecoderOnlyReader
from common import EXPERIMENTS


def section(name: str, folder: Path) -> tuple[dict, str]:
    gpu.main(["--toy", "--sections", name, "--folder", str(folder), "--minutes", "60"])
    return json.loads((folder / f"gpu-{name}.json").read_text()), (folder / f"gpu-{name}.md").read_text()


# ------------------------------------------------------------------ shapes


def test_the_true_shapes_have_the_checkpoints_sizes():
    with torch.device("meta"):
        sizes = {
            kind: sum(weight.numel() for weight in shapes.make_reader(shapes.TRUE, kind, "meta").parameters())
            for kind in KINDS
        }
        sizes["retriever"] = sum(weight.numel() for weight in shapes.make_bert(shapes.TRUE, "meta").parameters())
    assert sizes["decoder_only"] == 1_311_625_216  # tiiuae/falcon-rw-1b
    assert sizes["encoder_decoder"] == 783_150_080  # google/t5-large-lm-adapt
    assert sizes["retriever"] == 108_891_648  # facebook/contriever, without BERT's pooler


def test_prompts_fill_their_limit(tmp_path):
    made = shapes.make_trainer(shapes.TOY, "step1", tmp_path)
    tokens = made.prepared([0, 1], 0)[0].encoded.mask.sum(1).tolist()
    assert all(count >= shapes.TOY.retrieval["k"] * shapes.TOY.prompt["passage_max_tokens"] for count in tokens)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_one_step_of_each_experiment(experiment):
    row = true_shapes.one(experiment, toy=True)
    assert row["finite"] and row["as_due"] and row["losses"]
    assert row["tensors_changed"][row["trained"][0]] > 0
    assert f"| `{experiment}` |" in true_shapes.markdown([row], True) and "NOT" not in true_shapes.markdown([row], True)
    assert "NOT as due" in true_shapes.markdown([{**row, "as_due": False}], True)


# ------------------------------------------------------------------ the GPU's sections, on a CPU


def test_correctness_agrees_and_would_tell_a_difference(tmp_path, monkeypatch):
    told, page = section("correctness", tmp_path)
    assert told["whole"] and told["rows"] and all(row["agrees"] for row in told["rows"]), page
    assert {row["what"] for row in told["rows"]} >= {"recorded attention", "signal", "reader's gradient"}
    forward = DecoderOnlyReader.forward

    def wrong(self, encoded, **how):
        output = forward(self, encoded, **how)
        if not how.get("record") or self.model.dtype != torch.bfloat16:
            return output
        return shapes.replace(output, layer_attention=output.layer_attention * 1.2)

    monkeypatch.setattr(DecoderOnlyReader, "forward", wrong)
    rows = list(gpu_agreement.correctness(gpu.Bench(True, 60, tmp_path)))
    assert not all(row["agrees"] for row in rows if row["what"] == "recorded attention")


def test_correctness_is_of_batches_with_padding(tmp_path, monkeypatch):
    compared, seen = [], gpu_agreement._seen
    monkeypatch.setattr(
        gpu_agreement, "_seen", lambda trainer, parts: (compared.append(parts[0].encoded), seen(trainer, parts))[1]
    )
    list(gpu_agreement.correctness(gpu.Bench(True, 60, tmp_path)))
    assert len(compared) == 3 * len(EXPERIMENTS)
    assert all(not encoded.mask.all() and (encoded.labels == -100).any() for encoded in compared)


def test_one_index_at_a_time(tmp_path, monkeypatch):
    alive, most = weakref.WeakSet(), []
    made = gpu_bench.index.TorchIndex.__init__

    def counted(self, *given):
        alive.add(self)
        most.append(len(alive))
        made(self, *given)

    monkeypatch.setattr(gpu_bench.index.TorchIndex, "__init__", counted)
    gpu.main(["--toy", "--sections", "speed,search", "--folder", str(tmp_path), "--minutes", "60"])
    assert most == [1, 1]  # of speed and of search, which measures its making


def test_a_section_that_fails_does_not_keep_the_next_from_being_measured(tmp_path, monkeypatch):
    def broken(_bench):
        """A section that breaks off."""
        yield {"what": "begun"}
        raise RuntimeError("CUDA error")

    monkeypatch.setitem(gpu.SECTIONS, "correctness", broken)
    with pytest.raises(SystemExit, match="failed: correctness"):
        gpu.main(["--toy", "--sections", "correctness,embedding", "--folder", str(tmp_path), "--minutes", "60"])
    told = json.loads((tmp_path / "gpu-correctness.json").read_text())
    assert told["rows"] == [{"what": "begun"}] and not told["whole"]
    assert json.loads((tmp_path / "gpu-embedding.json").read_text())["whole"]


def test_speed_then_profile_of_the_slowest(tmp_path):
    told, page = section("speed", tmp_path)
    assert [row["experiment"] for row in told["rows"]] == list(EXPERIMENTS) and "| step1 |" in page
    assert all(row["steps a second"] > 0 for row in told["rows"]) and told["facts"]["toy"] is True
    slowest = min(told["rows"], key=lambda row: row["steps a second"])["experiment"]
    rows = section("profile", tmp_path)[0]["rows"]
    assert {row["experiment"] for row in rows} == {slowest} and rows[0]["milliseconds a step"] > 0


def test_embedding_and_search(tmp_path):
    rates = section("embedding", tmp_path)[0]["rows"]
    assert [row["what"] for row in rates] == ["tokenising", "embedding"]
    assert all(row["passages a second"] > 0 for row in rates)
    rows = section("search", tmp_path)[0]["rows"]
    searches = [row for row in rows if row["what"].startswith("search")]
    assert len(searches) == 3 and all(row["each found itself"] and row["times the floor"] > 0 for row in searches)


def test_the_miniature_s_experiments(tmp_path):
    rows = section("miniature", tmp_path)[0]["rows"]
    assert [row["experiment"] for row in rows] == list(settings.MAIN)
    assert all(0 <= row["em"] <= row["f1"] <= 100 and 0 <= row["hr_at_5"] <= 1 for row in rows)


def test_nothing_is_begun_when_time_is_up(tmp_path, capsys):
    gpu.main(["--toy", "--minutes", "0", "--folder", str(tmp_path)])
    assert "time is up before section correctness" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_without_a_gpu_only_toys(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu.runtime, "device", lambda: "cpu")
    with pytest.raises(SystemExit):
        gpu.main(["--folder", str(tmp_path)])
    assert "there is no GPU here" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        gpu.main(["--toy", "--sections", "sped"])
    assert "no section sped" in capsys.readouterr().err
