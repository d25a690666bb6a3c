"""Real models on a user's passages and questions: is the reader recorded rightly, and what does the retriever find?

``--reader`` is a Llama's directory: eq. 1 as the recorder gives it (float32, SDPA) against attention written out in
float64 from the same weights (tests/support/naive.py), on questions with the passages that the retriever finds.
``--retriever`` is read as its directory says. Nothing is trained. The target ``models`` makes both directories.
"""

from __future__ import annotations

import sys
from pathlib import Path

import common

sys.path.append(str(common.ROOT / "tests" / "support"))
AT = (1, 5, 20)


def material(data: Path):
    """The data's passages and its test questions with answers."""
    from attention_distillation.data.inputs import read_passages, read_questions

    passages = [(passage.title, passage.text) for passage in read_passages(data / "passages.jsonl")]
    return passages, read_questions(data / "test.jsonl")


def found(folder: Path, passages, questions, most: int):
    """Row numbers (questions, most) of the passages that the retriever finds, best first."""
    import numpy as np

    from attention_distillation.models.retriever import Retriever
    from attention_distillation.retrieval.index import ExactIndex

    retriever = Retriever.load(folder).eval()
    passage, question = retriever.passage, retriever.question
    vectors = passage.embed(passage.tokenise([passage.passage_text(*pair) for pair in passages]))
    asked = question.embed(question.tokenise([one.question for one in questions]))
    return ExactIndex([np.ascontiguousarray(vectors)]).search(asked, most)[1]


def hits(rows, passages, questions) -> dict[int, float]:
    """HR@k for each k of ``AT``."""
    from attention_distillation import metrics

    at = {}
    for k in AT:
        told = (
            metrics.hit([passages[row][1] for row in line[:k]], one.answers)
            for line, one in zip(rows, questions, strict=True)
        )
        at[k] = sum(told) / len(questions)
    return at


def apart(folder: Path, rows, passages, questions) -> dict[str, float]:
    """Largest difference of a recorded a_t from the reference, in parts of the question's largest a_t; of the loss."""
    import naive
    import torch

    from attention_distillation.models.readers import DecoderOnlyReader

    reader = DecoderOnlyReader.load(folder, passage_max_tokens=128, answer_max_tokens=32).eval()
    worst = {"a_t": 0.0, "loss": 0.0, "tokens": 0}
    with torch.no_grad():
        for line, one in zip(rows, questions, strict=True):
            encoded = reader.encode([one.question], [[passages[row] for row in line]], [one.answers[0]])
            output = reader(encoded, record=True)
            logits, layers = naive.llama(reader.model, encoded.ids[0])
            length, answers = encoded.ids.shape[1], encoded.labels.shape[1]
            places = list(range(length - 1 - answers, length - 1))
            reference = naive.token_attention(layers, places)
            loss = torch.nn.functional.cross_entropy(logits[places], encoded.labels[0]).item()
            off = (output.token_attention[0].double() - reference).abs().max() / reference.max()
            worst["a_t"] = max(worst["a_t"], off.item())
            worst["loss"] = max(worst["loss"], abs(output.answer_loss.item() - loss) / loss)
            worst["tokens"] = max(worst["tokens"], length)
    return worst


def main() -> None:
    """Measure both, print, and keep the record."""
    parser = common.arguments(__doc__.split("\n\n")[0], questions=20, k=5)
    parser.add_argument("data", type=Path, help="folder with passages.jsonl and test.jsonl (docs/inputs.md)")
    parser.add_argument("--reader", type=Path, help="a Llama's directory")
    parser.add_argument("--retriever", type=Path, required=True)
    options = parser.parse_args()
    common.set_threads(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    passages, questions = material(options.data)
    rows = found(options.retriever, passages, questions, min(max(AT), len(passages)))
    table = [{"what": f"HR@{k}", "value": f"{rate:.4f}"} for k, rate in hits(rows, passages, questions).items()]
    notes = [f"{len(passages):,} passages, {len(questions):,} test questions; nothing is drawn: there is no seed"]
    if options.reader:
        some = slice(options.questions)
        worst = apart(options.reader, rows[some, : options.k], passages, questions[some])
        table += [
            {"what": "a_t of eq. 1, largest difference from float64 ÷ the question's largest", "value": worst["a_t"]},
            {"what": "answer's loss, largest relative difference from float64", "value": worst["loss"]},
        ]
        notes.append(
            f"the reader: the first {len(questions[some])} questions with {options.k} passages each, at most "
            f"{worst['tokens']} tokens, the first answer given"
        )
    common.tell("Real models", table, notes, options)


if __name__ == "__main__":
    main()
