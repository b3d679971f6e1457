"""Comparison -> records: the sweep, one run, the checks before it, its Trainer."""
