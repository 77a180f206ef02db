"""Ours against the peer that a user would otherwise take, both measured in one run on one machine."""
