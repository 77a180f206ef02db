"""Greedy, sampled and assisted generation, each one compiled program for a whole batch."""
