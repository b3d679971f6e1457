"""Rectified Adam (arXiv 1908.03265) as a first-class optimizer of the Hugging Face stack."""

from hf_radam.optimizer import RAdam as RAdam

__version__ = "0.1.0"
