"""Batches by the number of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler
from transformers import Seq2SeqTrainer

from hf_radam.errors import UserError
from hf_radam.training.trainer import RAdamSeq2SeqTrainer


@dataclass(eq=False, kw_only=True)
class TokenBatches(Sampler[list[int]]):
    """Batches of examples of similar length, for a whole training.

    Tokens are counted with padding, as fairseq's --max-tokens counts them: a batch of n examples, the longest of which
    has l tokens (of source or target, whichever is longer), has n * l. All batches are as large as `tokens` allows;
    the last examples of a pass, too few for a batch, are left out (they are among the shortest, other ones each pass).
    Unlike there, n is not rounded to a multiple of 8, and each pass makes new batches. The seed alone decides their
    order, and which examples of one length meet. Every process takes its share of each batch.

    Raises:
        UserError: the longest examples leave fewer than one to a share, or all examples do not fill one batch.

    Example:
        >>> list(TokenBatches(lengths=[2, 1, 2, 1, 1], tokens=4, steps=1, seed=0))
        [[2, 0]]
    """

    lengths: Sequence[int]
    """Tokens of each example."""
    tokens: int
    """Of one batch, with padding."""
    steps: int
    """Updates of the training, each with one batch."""
    seed: int
    """Of the order."""
    processes: int = 1
    """They share each batch."""
    process: int = 0
    """Which of them this is."""
    accumulation: int = 1
    """Parts into which each share is split."""

    def __post_init__(self) -> None:
        descending = np.sort(self.lengths)[::-1]
        shares, tokens = self.processes * self.accumulation, self.tokens
        if len(descending) and tokens // descending[0] < shares:
            raise UserError(
                f"tokens_per_batch {tokens} has room for {tokens // descending[0]} of the longest examples "
                f"({descending[0]} tokens) and must have for one in each of {shares} parts (processes times "
                "gradient_accumulation_steps); raise it, or lower max_length"
            )
        # Where batches begin and end among the examples, longest first: the same in all passes, whatever the order.
        self._bounds: list[tuple[int, int]] = []
        start = 0
        while start < len(descending) and (end := start + tokens // int(descending[start])) <= len(descending):
            self._bounds.append((start, end))
            start = end
        if not self._bounds:
            raise UserError(f"data: all examples do not fill one batch of {tokens} tokens_per_batch; give more text")

    def __len__(self) -> int:
        return self.steps * self.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        done = passes = 0
        while done < self.steps:
            random = np.random.default_rng([self.seed, passes])
            order = random.permutation(len(self.lengths))
            order = order[np.argsort(-np.asarray(self.lengths)[order], kind="stable")]
            for number in random.permutation(len(self._bounds))[: self.steps - done]:
                start, end = self._bounds[number]
                for part in range(self.accumulation):
                    share = part * self.processes + self.process
                    yield order[start:end][share :: self.processes * self.accumulation].tolist()
                done += 1
            passes += 1


class TranslationTrainer(RAdamSeq2SeqTrainer):
    """Seq2SeqTrainer, with batches of so many tokens where `tokens_per_batch` is set."""

    tokens_per_batch: int | None = None

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches of so many examples, or of so many tokens."""
        if self.tokens_per_batch is None:
            return super().get_train_dataloader()
        args = self.args
        data: Any = self.train_dataset
        batches = TokenBatches(
            lengths=[max(map(len, pair)) for pair in zip(data["input_ids"], data["labels"], strict=True)],
            tokens=self.tokens_per_batch,
            steps=args.max_steps,
            seed=args.seed if args.data_seed is None else args.data_seed,
            processes=args.world_size,
            process=args.process_index,
            accumulation=args.gradient_accumulation_steps,
        )
        return DataLoader(
            data,
            batch_sampler=batches,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            generator=torch.Generator(),  # of the workers' seeds; the global one would move the dropout
        )

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As in Trainer: Seq2SeqTrainer counts twice what fills up the last batch of several processes."""
        return super(Seq2SeqTrainer, self).evaluate(*args, **kwargs)
