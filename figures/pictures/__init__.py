"""Pictures for the notebooks."""
