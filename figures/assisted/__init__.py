"""Assisted generation."""
