"""The attention dump of a reader on someone's own passages and questions, without training: what units.py reads.

Passages are found by rare words in common, so that no retriever is needed. No answer is generated.

    python benchmarks/units_dump.py --reader smollm2 --tagger en_core_web_sm --passages passages.jsonl \\
        --asked test.jsonl --questions 100 --out smollm2.parquet
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path

import common

K = 5
PROMPT = {"passage_max_tokens": 128, "answer_max_tokens": 32}  # the paper's


def found_by_words(passages: list[dict], questions: list[str]) -> list[list[int]]:
    """The K passages with the most of each question's words, a word weighing the logarithm of its rarity."""
    import numpy as np

    holds = defaultdict(list)
    for number, passage in enumerate(passages):
        for word in set(re.findall(r"\w+", f"{passage['title']} {passage['text']}".lower())):
            holds[word].append(number)
    rows = []
    for question in questions:
        score = np.zeros(len(passages))
        for word in Counter(re.findall(r"\w+", question.lower())):
            if word in holds:
                score[holds[word]] += np.log(len(passages) / len(holds[word]))
        rows.append(np.argsort(-score, kind="stable")[:K].tolist())
    return rows


def main() -> None:
    """Dump, and say how much."""
    parser = common.arguments(__doc__.split("\n\n")[0], questions=100, batch=2)
    parser.add_argument("--reader", type=Path, required=True, help="folder of a decoder-only reader, safetensors")
    parser.add_argument("--tagger", help="folder of spaCy's en_core_web_sm; without: content words for nouns")
    parser.add_argument("--passages", type=Path, required=True, help="JSONL: title, text")
    parser.add_argument("--asked", type=Path, required=True, help="JSONL: question, answers")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    common.set_threads(options.threads)

    import datasets
    import numpy as np

    from attention_distillation import files, records
    from attention_distillation.analysis import inference
    from attention_distillation.models.readers import DecoderOnlyReader
    from attention_distillation.settings import Analysis, Distillation
    from attention_distillation.training.context import Material

    passages = [row for _, row in files.read_jsonl(options.passages)]
    asked = [
        records.Question(str(number), row["question"], row["answers"])
        for number, row in list(files.read_jsonl(options.asked))[: options.questions]
    ]
    rows = np.array(found_by_words(passages, [question.question for question in asked]))
    material = Material(datasets.Dataset.from_list(passages), {"test": asked}, {"test": rows})
    reader = DecoderOnlyReader.load(options.reader, **PROMPT)
    nouns = "en_core_web_sm" if options.tagger else "content_words"
    columns = inference.dump(
        reader, material, Distillation(), Analysis(instances=len(asked), nouns=nouns), "attention",
        batch_size=options.batch, seed=0, tagger=options.tagger,
    )  # fmt: skip
    records.write_dump(options.out, columns, {"nouns": nouns, "passages_found_by": "words in common"})
    print(
        f"{len(asked)} questions, {material.hit_rate('test', rows):.3f} with an answer-bearing passage: {options.out}"
    )


if __name__ == "__main__":
    main()
