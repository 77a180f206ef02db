"""Block floating point."""
