"""Attention distillation in retrieval-augmented generation: all that can be tested without Snakemake.

Rooms, each importing only those before it::

    records settings statistics attention retriever
    sources miniature index evaluation token_analysis tables readers
    signals pretraining figures claims
    training
"""
