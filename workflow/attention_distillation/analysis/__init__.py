"""From trained models to answers, attention dumps, token-level numbers and intervals."""

TARGETS = ("answer", "question")
"""What tokens are compared with: the answer, and the nouns of the question."""
PERCENTILES = (90, 95)
"""Percentiles of similarity above which tokens are near a target."""
