"""The model of a task: a checkpoint, or an architecture of Transformers trained from scratch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig

from hf_radam.examples.text import argument
from hf_radam.experiments.schema import UserError, unknown
from hf_radam.files import one_line


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """A checkpoint to fine-tune (`name_or_path`), or an architecture to train from scratch (`model_type`)."""

    name_or_path: str | None = argument(None, "checkpoint to fine-tune: a name on the Hub, or a folder")
    revision: str | None = argument(None, "its branch, tag or commit")
    model_type: str | None = argument(None, "architecture to train from scratch, such as bert or gpt2")
    ignore_mismatched_sizes: bool = argument(False, "begin weights anew that have another shape, such as a head")
    config: Mapping[str, Any] | str | None = argument(None, "fields of the configuration to change, as JSON")

    def __post_init__(self) -> None:
        if self.name_or_path is not None and self.model_type is not None:
            raise UserError("model: name_or_path (a checkpoint) and model_type (from scratch) exclude each other")
        if self.model_type is not None:
            if self.model_type not in CONFIG_MAPPING:
                raise unknown("model_type", self.model_type, CONFIG_MAPPING, "model")
            default = CONFIG_MAPPING[self.model_type]()
            for key in self.settings:
                if not hasattr(default, key):
                    raise unknown("key in config:", key, default.to_dict(), "model")

    @property
    def settings(self) -> Mapping[str, Any]:
        """The fields that `config` sets; on the command line it is JSON."""
        return json.loads(self.config) if isinstance(self.config, str) else self.config or {}

    def build(self, auto_class: Any, tokenizer: Any, new_head: bool = False, **settings: Any) -> Any:
        """The model: the checkpoint's weights, or new ones from the global random state.

        Args:
            auto_class: such as `AutoModelForCausalLM`.
            tokenizer: gives the vocabulary of a model from scratch.
            new_head: whether a checkpoint may lack the weights above its body.
            settings: further fields of the configuration.

        Raises:
            UserError: a checkpoint of another architecture, or weights that do not fit.
        """
        name = self.name_or_path or self.model_type
        if name is None:
            raise UserError("model: give either name_or_path (a checkpoint) or model_type (trained from scratch)")
        try:
            if self.model_type is not None:
                special = {key: getattr(tokenizer, key) for key in ("pad_token_id", "eos_token_id", "bos_token_id")}
                given = {"vocab_size": len(tokenizer), **special, **self.settings, **settings}
                return auto_class.from_config(AutoConfig.for_model(name, **given))
            model, report = auto_class.from_pretrained(
                name,
                config=AutoConfig.from_pretrained(name, revision=self.revision, **self.settings, **settings),
                revision=self.revision,
                dtype=torch.float32,  # else that of the checkpoint, half precision perhaps
                output_loading_info=True,
                ignore_mismatched_sizes=self.ignore_mismatched_sizes,
            )
        except (ValueError, RuntimeError) as error:  # another architecture, weights of another shape
            said = one_line(error).partition(" Model type should be one of")[0]
            hint = "--ignore_mismatched_sizes" if "ignore_mismatched_sizes" in said else "another model"
            raise UserError(f"model: no {auto_class.__name__} of {name}: {said}; give {hint}") from error
        body = [name for name, _ in model.named_parameters() if name.startswith(f"{model.base_model_prefix}.")]
        missing = set(report["missing_keys"]) & set(body) if new_head else report["missing_keys"]
        if len(missing) > new_head * len(body) / 2:  # a pooler may be new
            raise UserError(
                f"model: the weights in {name} are not those of a {type(model).__name__}: {len(missing)} "
                f"are missing, {min(missing)} among them; give another checkpoint"
            )
        return model
