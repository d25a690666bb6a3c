"""Vectors to the k nearest passages."""
