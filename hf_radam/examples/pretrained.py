"""The model of a task: a checkpoint, or an architecture of Transformers trained from scratch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, AutoConfig, AutoTokenizer
from transformers.utils import logging

from hf_radam.examples.text import SPECIAL_TOKENS, argument
from hf_radam.experiments.schema import UserError, unknown
from hf_radam.files import one_line

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """A checkpoint to fine-tune (`name_or_path`), or an architecture to train from scratch (`model_type`)."""

    name_or_path: str | None = argument(None, "checkpoint to fine-tune: a name on the Hub, or a folder")
    revision: str | None = argument(None, "its branch, tag or commit")
    model_type: str | None = argument(None, "architecture to train from scratch, such as bert or gpt2")
    ignore_mismatched_sizes: bool = argument(
        False,
        "begin anew where the checkpoint's weights have another shape: its head was for other labels",
    )
    config: Mapping[str, Any] | str | None = argument(
        None, "fields of the configuration that differ from its defaults, or the checkpoint's, as JSON"
    )

    def __post_init__(self) -> None:
        if (self.name_or_path is None) == (self.model_type is None):
            raise UserError("model: give either name_or_path (a checkpoint) or model_type (trained from scratch)")
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

    def tokenizer(self, name: str | None = None) -> Any:
        """The checkpoint's tokenizer, or that of `name`.

        Raises:
            UserError: there is none.
        """
        name = name or str(self.name_or_path)
        try:
            return AutoTokenizer.from_pretrained(name, revision=self.revision if name == self.name_or_path else None)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"no tokenizer in {name!r}: {one_line(error)}") from error

    def build(self, auto_class: Any, purpose: str, tokenizer: Any, **settings: Any) -> Any:
        """The model: the checkpoint's weights, or new ones from the global random state.

        Args:
            auto_class: such as `AutoModelForCausalLM`.
            purpose: what it is for, in messages.
            tokenizer: gives the vocabulary of a model from scratch.
            settings: further fields of the configuration.

        Raises:
            UserError: no such checkpoint, one of another architecture, or weights that do not fit.
        """
        config = self._config(tokenizer, {**self.settings, **settings})
        if type(config) not in auto_class._model_mapping:
            raise UserError(
                f"model: {self.name_or_path or self.model_type} is a {config.model_type} model, which Transformers has "
                f"no {purpose} for; choose another checkpoint or model_type"
            )
        if self.name_or_path is None:
            return new(auto_class.from_config, config)
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()  # of a new head it says so at length
        try:
            model, report = auto_class.from_pretrained(
                self.name_or_path,
                config=config,
                revision=self.revision,
                dtype=torch.float32,  # else that of the checkpoint, half precision perhaps
                output_loading_info=True,
                ignore_mismatched_sizes=self.ignore_mismatched_sizes,
            )
        except (OSError, ValueError, RuntimeError) as error:
            hint = "; give --ignore_mismatched_sizes" if "ignore_mismatched_sizes" in str(error) else ""
            raise UserError(f"model: cannot load {self.name_or_path}: {one_line(error)}{hint}") from error
        finally:
            logging.set_verbosity(verbosity)
        if getattr(model.config, "pad_token_id", None) is None:
            model.config.pad_token_id = tokenizer.pad_token_id
        body = {name for name, _ in model.named_parameters() if name.startswith(f"{model.base_model_prefix}.")}
        missing = body & set(report["missing_keys"])
        if len(missing) > len(body) / 2:
            raise UserError(
                f"model: the weights in {self.name_or_path} are not those of a {config.model_type} model: "
                f"{len(missing)} of {len(body)} are missing, {min(missing)} among them; give another checkpoint"
            )
        return model

    def _config(self, tokenizer: Any, settings: dict[str, Any]) -> Any:
        if self.model_type is not None:
            pad, eos = (SPECIAL_TOKENS.index(token) for token in ("<pad>", "</s>"))
            of_text = {
                "vocab_size": len(tokenizer),
                "pad_token_id": pad if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
                "eos_token_id": eos if tokenizer.eos_token_id is None else tokenizer.eos_token_id,
                "bos_token_id": tokenizer.bos_token_id,
            }
            return new(AutoConfig.for_model, self.model_type, **{**of_text, **settings})
        try:
            return AutoConfig.from_pretrained(str(self.name_or_path), revision=self.revision, **settings)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"model: no checkpoint {self.name_or_path!r}: {one_line(error)}") from error


def new(make: Callable[..., T], *args: Any, **settings: Any) -> T:
    """A configuration or a model of Transformers, which checks few of its settings before it uses them.

    Raises:
        UserError: the settings do not work.
    """
    try:
        return make(*args, **settings)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, ImportError,
            StrictDataclassError) as error:  # fmt: skip
        why = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"model: Transformers cannot make it ({why}); mend its options") from error
