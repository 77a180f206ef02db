"""Synthetic documents first, real text after.

PREREGISTRATION.md has what was decided before the first run.
"""
