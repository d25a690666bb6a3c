"""Attention distillation in retrieval-augmented generation: all that can be tested without Snakemake.

Rooms, from the ground up; a room imports only those above it in this list::

    files records metrics provenance   whole files, what stages hand on, EM and hits, where a number came from
    settings                           what config and scales may say, and which experiment starts from which
    jobs                               threads, logs, GPUs, room on disk; hashes of a job's code and of what users give
    data                               generated worlds, public sources, users' files, the corpus on disk
    models                             readers, the retriever, attention of eq. 1, small models made here
    retrieval                          vectors to the k nearest passages
    planning                           disk, memory and hours of a run, before it begins
    training                           what a reader is shown, what a retriever learns from, the loop
    analysis                           answers, attention dumps, token-level numbers, intervals
    reporting                          tables, figures and verdicts; no torch
"""
