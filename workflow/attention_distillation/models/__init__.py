"""Readers and the retriever, the attention of eq. 1, and small models made here."""
