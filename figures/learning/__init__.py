"""Learning in context."""
