"""A claim of a paper with our number beside it, and the table of all of them: RESULTS.md."""
