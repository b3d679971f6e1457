"""Recipes: an optimizer together with a warmup rule."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, field
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, PositiveInt
from pydantic.dataclasses import dataclass

from hf_radam.experiments.schema import STRICT, Listed
from hf_radam.rectification import untuned_exponential, untuned_linear

Warmup = Literal["none", "linear", "untuned_linear", "untuned_exponential"]

# Factor on the scheduled learning rate, by step (counted from 1) and beta2.
UNTUNED_WARMUP: dict[Warmup, Callable[[int, float], float]] = {
    "untuned_linear": untuned_linear,
    "untuned_exponential": untuned_exponential,
}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Recipe:
    """One arm of a comparison."""

    name: str
    """What tables and figures call it; unique within a comparison."""
    optimizer: str
    """A name of `python -m hf_radam`, or one of Transformers' own."""
    optim_args: Mapping[str, Any] = field(default_factory=dict)
    """Options of the optimizer."""
    warmup: Warmup = "none"
    """Rule by which the learning rate rises."""
    warmup_steps: Annotated[FiniteFloat, Field(ge=0)] = 0
    """Length of the linear warmup: in updates, or below 1 as a share of the run's updates."""
    max_steps: PositiveInt | None = None
    """Updates, where they are not those of the comparison."""
    learning_rate_scale: Annotated[FiniteFloat, Field(gt=0)] = 1.0
    """Factor on the learning rates of the comparison."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Options of the model that differ from the comparison's: a control, such as pre-LN beside post-LN."""

    seeds: Listed[int] | None = None
    """Which of the comparison's seeds it gets; all by default."""

    def warmup_updates(self, max_steps: int) -> int:
        """Length of the linear warmup in a run of so many updates."""
        return math.ceil(self.warmup_steps * max_steps) if self.warmup_steps < 1 else int(self.warmup_steps)

    def definition(self) -> dict[str, Any]:
        """As results keep it. Fields that older results lack are there only where they are set."""
        fields = asdict(self)
        del fields["seeds"]  # they say which runs there are, not what one is
        if self.warmup_steps == int(self.warmup_steps):
            fields["warmup_steps"] = int(self.warmup_steps)
        for key, default in (("max_steps", None), ("learning_rate_scale", 1.0), ("model", {})):
            if fields[key] == default:
                del fields[key]
        return json.loads(json.dumps(fields, default=str))

    def training(self) -> dict[str, Any]:
        """Training arguments that the optimizer asks for, whatever the comparison says.

        Schedule-free optimizers average the weights in the place of a schedule (Defazio et al., arXiv 2405.15682).
        """
        return {"lr_scheduler_type": "constant"} if self.optimizer.startswith("schedule_free_") else {}


# The recipes of the paper (section 5.3) and of its critics (Ma & Yarats, arXiv 1910.04209), without what must be tuned.
RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(name="adam", optimizer="adam"),
        Recipe(name="adam_warmup", optimizer="adam", warmup="linear"),
        Recipe(name="adam_untuned_linear", optimizer="adam", warmup="untuned_linear"),
        Recipe(name="adam_untuned_exponential", optimizer="adam", warmup="untuned_exponential"),
        Recipe(name="adam_2k", optimizer="adam_2k"),
        Recipe(name="adam_eps", optimizer="adam_eps"),
        Recipe(name="radam", optimizer="radam"),
        Recipe(name="radam_no_sgd", optimizer="radam_no_sgd"),
        Recipe(name="schedule_free_radam", optimizer="schedule_free_radam"),
    )
}
