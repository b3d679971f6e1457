"""Losses and metrics that are averages over tokens."""

from __future__ import annotations

from typing import Any

import torch


def token_sums(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Per example: summed negative log-likelihood in nats, correct tokens, tokens.

    Args:
        logits: shape (batch, tokens, vocabulary).
        labels: shape (batch, tokens); -100 is ignored.

    Returns:
        Shape (batch, 3).
    """
    mask = labels != -100
    log_probs = logits.float().log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    correct = (logits.argmax(-1) == labels) & mask
    return torch.stack([-(log_probs * mask).sum(-1), correct.sum(-1).float(), mask.sum(-1).float()], dim=-1)


def token_means(sums: Any) -> dict[str, float]:
    """Averages over all tokens of what `token_sums` gave, as an array of shape (examples, 3)."""
    nll, correct, tokens = sums.astype("float64").sum(0)
    return {"nll": float(nll / tokens), "token_accuracy": float(correct / tokens)}
