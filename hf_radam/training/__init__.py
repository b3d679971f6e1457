"""Registered optimizers in Transformers' Trainer: mixins, arguments, callbacks, the loss of split batches, cards."""
