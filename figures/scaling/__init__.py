"""Compute-optimal training."""
