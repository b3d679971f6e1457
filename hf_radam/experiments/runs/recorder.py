"""In the process of a script that is compared: records the training that `launching` asked for, in its Trainer."""

from __future__ import annotations

import copy
import functools
import json
import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from transformers import TrainerCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from hf_radam.experiments.environment import reset_peak_memory
from hf_radam.experiments.runs.history import (
    TRAINER_NOISE,
    add_untuned_warmup,
    columns,
    curves_of,
    is_finite,
    measured,
    observers,
    resume_point,
    unheeded,
)
from hf_radam.experiments.runs.launching import BEGUN, FACTS, MESSAGES, RECORDING, REQUEST, Request, Tell
from hf_radam.experiments.schema import UserError
from hf_radam.experiments.script_data import key_of
from hf_radam.files import is_full_disk, one_line, write_whole
from hf_radam.libraries import full_name
from hf_radam.registry import list_optimizers
from hf_radam.training.arguments import name_of, registered
from hf_radam.training.callbacks import innermost, spec_in_use

# What each evaluation reports of itself.
_NOISE = {"loss", "samples", *TRAINER_NOISE}


def follow(trainer_class: Any) -> None:
    """Have the class record the training that is asked for, in a process of its own.

    Args:
        trainer_class: Transformers' Trainer, on which all others build.
    """
    request = Request.read(Path(os.environ[REQUEST]))

    def tell(message: Mapping[str, Any]) -> None:
        with Path(request.folder, MESSAGES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(message) + "\n")

    record(trainer_class, request, tell)
    threading.Thread(target=_follow_parent, args=(os.getppid(),), daemon=True).start()


def record(trainer_class: Any, request: Request, tell: Tell) -> None:
    """Have the class record the training that is asked for.

    Args:
        trainer_class: Transformers' Trainer, on which all others build.
        request: which.
        tell: called on the main process.
    """
    recorder = _Recorder(request, tell)
    train, save, save_checkpoint = trainer_class.train, trainer_class.save_model, trainer_class._save_checkpoint

    @functools.wraps(train)
    def recorded(self: Any, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        return recorder.train(self, resume_from_checkpoint, lambda checkpoint: train(self, checkpoint, *args, **kwargs))

    @functools.wraps(save)
    def save_model(self: Any, output_dir: str | None = None, _internal_call: bool = False) -> None:
        what = "" if _internal_call else "the trained model was not kept"
        with recorder.noting_a_full_disk(self, what, Path(output_dir or self.args.output_dir)):
            save(self, output_dir, _internal_call)

    @functools.wraps(save_checkpoint)
    def _save_checkpoint(self: Any, model: Any, trial: Any) -> None:
        step = self.state.global_step
        folder = Path(self._get_output_dir(trial), f"checkpoint-{step}")
        with recorder.noting_a_full_disk(self, f"no checkpoint at update {step}", folder):
            save_checkpoint(self, model, trial)

    trainer_class.train, trainer_class.save_model = recorded, save_model
    trainer_class._save_checkpoint = _save_checkpoint
    trainer_class._hf_radam_gives_advice = False  # the report says it


def _follow_parent(parent: int) -> None:
    """End with the parent: a launcher's processes have sessions of their own, and would train on without it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


class _Recorder:
    def __init__(self, request: Request, tell: Tell) -> None:
        self.request, self.tell = request, tell
        self.folder = Path(request.folder)
        self.trainings, self.ended = 0, False
        self.notes: list[str] = []
        self.tested: dict[str, Any] = {}
        self.facts: dict[str, Any] = {}

    def train(self, trainer: Any, checkpoint: Any, train: Callable[[Any], Any]) -> Any:
        """Train, and record it if this is the training that was asked for."""
        self.trainings += 1
        if self.trainings != (self.request.trainer or 1):
            if self.request.trainer is None:
                self.stop(trainer, "the script trains more than once; say which training is compared: --trainer 1 or 2")
            return train(checkpoint)
        if trainer.is_world_process_zero():
            try:
                (self.folder / BEGUN).touch(exist_ok=False)
            except FileExistsError:
                self.stop(trainer, "the script trains in several processes of its own; compare one that trains once")
        trainer.args = self._arguments(trainer)
        ending = _Ending(self, trainer)
        observed = observers(self.request.record_every, lambda step, loss: self._tell(trainer, step=step, loss=loss))
        for callback in (*observed, ending):
            trainer.add_callback(callback)
        own = resume_point(Path(trainer.args.output_dir))
        reset_peak_memory()
        try:
            done = train(checkpoint if own is None else own)
        except UserError as error:
            self.stop(trainer, one_line(error))
        best = trainer.args.load_best_model_at_end  # it is in place now, and not what was evaluated last
        if (best or ending.lacks_an_evaluation) and trainer.args.eval_strategy != IntervalStrategy.NO:
            trainer.evaluate()
        return done

    def _arguments(self, trainer: Any) -> Any:
        """The Trainer's own, which log each update and save what a broken run goes on from."""
        args = copy.copy(trainer.args)
        args.logging_strategy, args.logging_steps, args.logging_nan_inf_filter = IntervalStrategy.STEPS, 1, False
        if self.request.trainer is not None:  # the others' checkpoints are not ours
            args.output_dir = os.path.join(args.output_dir, f"training-{self.trainings}")
        args.save_only_model = False
        if not args.load_best_model_at_end:  # else the script saves what it loads at the end
            args.save_strategy, args.save_total_limit = SaveStrategy.STEPS, args.save_total_limit or 1
        return args

    def _refuse_deaf(self, trainer: Any, max_steps: int) -> None:
        """End a training that is not what was asked for: by the arguments of the Trainer, and by the optimizer."""
        args, demanded = trainer.args, dict(self.request.demanded)
        own = {"optim": name_of(args.optim), "seed": args.seed, "max_steps": max_steps}
        own["warmup_steps"] = args.get_warmup_steps(max_steps)
        if 0 < demanded.get("warmup_steps", 0) < 1:
            demanded["warmup_steps"] = math.ceil(demanded["warmup_steps"] * max_steps)
        name = name_of(args.optim)
        if registered(name) is None and (dropped := unheeded(trainer.optimizer, self.request.optim_args)):
            raise UserError(
                f"Transformers ignores the option {dropped[0]!r} of {name!r}; leave it out, or take a registered "
                f"optimizer: {', '.join(list_optimizers())}"
            )
        wrong = [(key, demanded[key], own[key]) for key in own if demanded.get(key, own[key]) != own[key]]
        live = unheeded(trainer.optimizer, {key: value for key, value in demanded.items() if key not in own})
        for key, asked, found in [*wrong, *([live] if live and live[2] is not None else [])]:
            raise UserError(
                f"the script ignores --{key}: it was given {asked} and its Trainer has {found}; name the script's own "
                "flag in data.flags, or make the script use it"
            )

    def begin(self, trainer: Any, state: Any, scheduler: Any) -> None:
        """What is known when the training begins."""
        used = spec_in_use(trainer.args, trainer.optimizer)
        if "optim" in self.request.demanded and registered(trainer.args.optim) and used is None:
            built = full_name(type(innermost(trainer.optimizer)))
            raise UserError(
                f"the script ignores --optim: it was given {name_of(trainer.args.optim)} and trains with "
                f"{built}; have it build what --optim names"
            )
        self._refuse_deaf(trainer, state.max_steps)
        if not trainer.args.load_best_model_at_end:
            state.save_steps = self.request.save_steps or math.ceil(state.max_steps / 4)
        warmup = trainer.args.get_warmup_steps(state.max_steps)
        if warmup and warmup >= state.max_steps:
            raise UserError(f"warmup_steps {warmup} must be less than the script's {state.max_steps} updates")
        add_untuned_warmup(getattr(scheduler, "scheduler", scheduler), self.request.warmup, self.request.recipe)

    def write(self, trainer: Any) -> None:
        """What there is to record by now; nothing if no update was made."""
        history = trainer.state.log_history
        curves = curves_of(history)
        if not trainer.is_world_process_zero() or not curves["step"]:
            return
        evaluations = self._evaluations(history, curves["step"][-1])
        last = {key: values[-1] for key, values in evaluations.items() if key != "step" and values}
        final = {**self.tested, **last}
        content = measured(trainer, evaluations, self.request.record_every)
        state, best = trainer.state, trainer.args.load_best_model_at_end and trainer.state.best_global_step
        content["notes"] = [*self.notes]
        if (facts := Path(trainer.args.output_dir, FACTS)).is_file():  # a full disk takes it away
            self.facts = json.loads(facts.read_text(encoding="utf-8"))
        content["facts"] = self.facts
        if state.global_step < state.max_steps and is_finite(curves):
            content["notes"].append(f"the script ended it after {state.global_step} of {state.max_steps} updates")
        if best:
            content["notes"].append(f"its last evaluation is that of the script's best model, of update {best}")
        content["final"] = final if is_finite(curves) else dict.fromkeys([*final, "loss"], math.nan)
        write_whole(self.folder / RECORDING, json.dumps(content))

    def _evaluations(self, history: list[dict[str, Any]], last: int) -> dict[str, list[Any]]:
        """Loss and all else that was evaluated, by the names that records have."""
        every = self.request.eval_steps  # a resumed run has also evaluated where it went on
        # Several data sets are evaluated one after the other, at one step.
        of_steps: dict[int, dict[str, Any]] = {}
        for entry in history:
            if not every or entry["step"] % every == 0 or entry["step"] == last:
                of_steps.setdefault(entry["step"], {"step": entry["step"]}).update(self._with_loss(entry))
        due = [entry for entry in of_steps.values() if "eval_loss" in entry]
        numbers = {
            key.removeprefix("eval_")
            for entry in due
            for key, value in entry.items()
            if key.startswith("eval_") and isinstance(value, (int, float)) and len(key) < 64
        }
        names = sorted(numbers - _NOISE)
        found = columns(due, ["loss", *names], "eval_loss", "eval_")
        return {"loss": [], **{key_of(name): column for name, column in found.items()}}

    def _with_loss(self, entry: dict[str, Any]) -> dict[str, Any]:
        """An entry of the log; of several data sets the loss is that of the one that runs are judged by."""
        losses = [value for key, value in entry.items() if key.startswith("eval_") and key.endswith("_loss")]
        return {"eval_loss": losses[0], **entry} if f"eval_{self.request.metric}" in entry and losses else entry

    def _tell(self, trainer: Any, **message: Any) -> None:
        if trainer.is_world_process_zero():
            self.tell(message)

    @contextmanager
    def noting_a_full_disk(self, trainer: Any, what: str, folder: Path) -> Iterator[None]:
        """Go on where the disk is full: note it for the record, and delete what has been half written."""
        try:
            yield
        except Exception as error:  # safetensors and tokenizers raise classes of their own
            if not what or not is_full_disk(error):
                raise
            self.notes.append(f"{what}: the disk was full")
            if self.folder in folder.parents:
                shutil.rmtree(folder, ignore_errors=True)
            if self.ended:
                self.write(trainer)

    def stop(self, trainer: Any, reason: str) -> NoReturn:
        """End the process, and say why."""
        self._tell(trainer, error=reason)
        sys.exit(f"error: {reason}")


class _Ending(TrainerCallback):
    """Begins and ends the record of one Trainer."""

    def __init__(self, recorder: _Recorder, trainer: Any) -> None:
        self.recorder, self.trainer = recorder, trainer

    @property
    def lacks_an_evaluation(self) -> bool:
        """Whether a training that ended well was not evaluated at its end."""
        state = self.trainer.state
        last = [entry for entry in state.log_history if entry["step"] == state.global_step]
        finite = all(math.isfinite(entry.get("loss", 0.0)) for entry in last)
        return finite and not any(key.startswith("eval_") for entry in last for key in entry)

    def on_train_begin(self, args: Any, state: Any, control: Any, lr_scheduler: Any = None, **_: Any) -> None:
        """Once the schedule is there, and a checkpoint is loaded."""
        self.recorder.begin(self.trainer, state, lr_scheduler)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        """Refuse a metric that is not there as early as that shows; a script may evaluate after its training."""
        name = self.recorder.request.metric
        if f"eval_{name}" not in metrics and "eval_loss" in metrics:
            names = {key.removeprefix("eval_") for key in metrics if key.startswith("eval_")} - {*TRAINER_NOISE}
            reason = f"metric {name!r} is nothing that the script evaluates; it has {', '.join(sorted(names))}"
            self.recorder.stop(self.trainer, reason)
        if self.recorder.ended:
            self.recorder.write(self.trainer)

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        """Keep what is only measured at the end, on a test set."""
        found = {key.removeprefix("test_"): value for key, value in metrics.items() if key.startswith("test_")}
        self.recorder.tested |= {key_of(name): value for name, value in found.items() if name not in _NOISE}
        if self.recorder.ended:
            self.recorder.write(self.trainer)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write what the script's own evaluations will complete."""
        self.recorder.ended = True
        self.recorder.write(self.trainer)
