"""Smaller models: `compression.pruning` removes weights, `compression.block_float` stores numbers in fewer bits.

From Python 3.14 on, the standard library has a package of this name; the project needs an earlier Python.
"""
