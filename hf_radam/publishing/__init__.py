"""From a results folder of `hf-radam compare` to a page on the Hub."""
