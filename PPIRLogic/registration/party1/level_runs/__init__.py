"""One level of a run, a file for each way to run it."""
