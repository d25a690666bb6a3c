"""``claims.md``: what ``judging`` returns, for people: verdicts, indicators, what is not borne out, evidence."""

from __future__ import annotations

from collections.abc import Sequence

from ..analysis.statistics import intervals_note
from .judging import INSTANCES, plain
from .typesetting import document, grid, not_paper_scale

PUBLISHED_NOTES = [
    "Published means, to the decimals published. Intervals: normal approximation, as if experiments were independent. "
    f"Tables 3 and 4: from the published standard deviations with n = {INSTANCES:,} instances. Table 1: n is the test "
    "split, a score of 0 or 1 a question; F1, between 0 and 1, has at most that variance.",
    "The initial retriever's HR@5 is Step1's, which leaves the retriever as it was. The tables have no row of "
    "the initial reader's EM and F1, none of Atlas's and of perplexity distillation's EM, F1 and HR@5, none of "
    "perplexity distillation on NQ, and no number of Appendix C.",
]


def measured_notes(labels: dict) -> list[str]:
    """What a reader of measured verdicts must know."""
    return [
        f"Scale: {labels['scale']}. Seeds: {', '.join(map(str, labels['seeds']))}. "
        f"{intervals_note(len(labels['seeds']))} Differences are paired.",
        *not_paper_scale(labels["scale"]),
    ]


def claims_markdown(judgement: dict, labels: dict, title: str, notes: Sequence[str]) -> str:
    """The page that shows what ``judging.judge`` returns."""
    datasets, claims = labels["datasets"], judgement["claims"]
    against = "\n".join(f"- {sentence}" for sentence in judgement["against"]) or "Nothing."
    body = (
        f"{_verdicts(claims, datasets)}\n\n{_not_measurable(claims, datasets)}"
        f"## Indicators (RQ3)\n\n{_indicators(judgement['indicators'], labels)}\n\n## Not borne out\n\n"
        f"Numbers that lie on the other side of what the words say, clearly or not.\n\n{against}\n\n## Evidence\n\n"
        + "\n\n".join(_evidence(claim, datasets) for claim in claims)
        + "\n\n## Notes"
    )
    return document(title, body, notes)


def _verdicts(claims: list[dict], datasets: dict[str, str]) -> str:
    lines = [
        (
            claim["id"],
            claim["statement"],
            f"**{plain(claim['verdict'])}**",
            *(plain(claim["by_dataset"][name]) for name in datasets),
        )
        for claim in claims
    ]
    return grid(("Claim", "Statement", "Verdict", *datasets.values()), lines)


def _not_measurable(claims: list[dict], datasets: dict[str, str]) -> str:
    """Why a claim, or some of its comparisons, cannot be judged at this scale."""
    lines = []
    for claim in claims:
        alike: dict[str, list[str]] = {}
        for dataset, reasons in claim["not_measurable"].items():
            alike.setdefault("; ".join(reasons), []).append(datasets[dataset])
        lines += [f"- {claim['id']}, {' and '.join(titles)}: {reasons}." for reasons, titles in alike.items()]
    if not lines:
        return ""
    return "\n".join(["## Not measurable at this scale", "", *lines, "", ""])


def _indicators(rows: list[dict], labels: dict) -> str:
    titles = labels["experiments"]
    undecided = {"cannot_tell": "cannot tell", "not_measurable": "not measurable"}
    good = {"holds": "good", "fails": "not good"} | undecided
    rose = {"holds": "rose", "fails": "fell"} | undecided
    right = {True: "yes", False: "no", None: "cannot tell"}
    lines = [
        (
            titles[row["experiment"]],
            labels["datasets"][row["dataset"]],
            good[row["indicator_1"]],
            right[row["indicator_1_right"]],
            good[row["indicator_2"]],
            right[row["indicator_2_right"]],
            rose[row["hr_at_5_rose"]]
            + ("" if row["hr_at_5_change"] is None else f" ({row['hr_at_5_change']:+.3f})")
            + ("" if row["retriever_of"] == row["experiment"] else f", in {titles[row['retriever_of']]}"),
        )
        for row in rows
    ]
    headings = (
        "Reader of",
        "Dataset",
        "Indicator 1",
        "Right?",
        "Indicator 2",
        "Right?",
        "HR@5 of the retriever it taught",
    )
    return grid(headings, lines)


def _evidence(claim: dict, datasets: dict[str, str]) -> str:
    """The paper's sentence, the comparisons as a table, and what they add up to."""
    rows = [
        (
            datasets[entry["dataset"]],
            entry["claimed"],
            entry["numbers"],
            entry["interval"].removeprefix("95 % interval "),
            plain(entry["verdict"]),
        )
        for entry in claim["ci"]
    ]
    table = grid(("Dataset", "Claimed", "Found", "95 % interval", "Verdict"), rows) + "\n\n" if rows else ""
    rest = [
        line for line in claim["evidence"] if "(of " in line or line.startswith("Beyond") or ": cannot tell, no" in line
    ]
    return (
        f"### {claim['id']}: {plain(claim['verdict'])}\n\n> {claim['quote']} ({claim['section']})\n\n"
        f"{table}" + "\n".join(f"- {line}" for line in rest)
    )
