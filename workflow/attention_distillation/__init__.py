"""Attention distillation in retrieval-augmented generation: all that can be tested without Snakemake.

Rooms, from the ground up, each importing only those above it in this list::

    records statistics attention evaluation fingerprint     files, numbers, eq. 1, EM and hits
    validation retriever readers token_analysis downloads   strict keys, the two models, tokens, public files
    settings runtime index archives hub                     what config may say, jobs, search
    signals context miniature sources labels                P_ATTN, prompts, where data comes from
    optimiser replicas                                      float32 weights of bfloat16 models, several GPUs
    training training_job inference pretraining             the loop, answers and dumps, small models
    claims tables typesetting judging figures               what people read; no torch
"""
