"""From a results folder of `scripts/compare.py` to a page on the Hub."""
