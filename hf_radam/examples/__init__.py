"""Training scripts: what `python scripts/translation.py` and `hf-radam compare` run."""
