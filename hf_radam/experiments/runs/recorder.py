"""In the process of a script that is compared: records the training that `launching` asked for, in its Trainer."""

from __future__ import annotations

import copy
import functools
import json
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import PartialState
from transformers import TrainerCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from hf_radam.experiments.environment import reset_peak_memory
from hf_radam.experiments.folder import ASKED, BEGUN, FACTS, MESSAGES, RECORDING
from hf_radam.experiments.records import compact
from hf_radam.experiments.runs import history
from hf_radam.experiments.runs.gradients import GradientHistograms
from hf_radam.experiments.runs.launching import FOLDER, Job, Tell
from hf_radam.experiments.schema import UserError
from hf_radam.experiments.script_data import key_of
from hf_radam.files import one_line, write_whole
from hf_radam.libraries import full_name
from hf_radam.registry import list_optimizers
from hf_radam.training import callbacks
from hf_radam.training.arguments import name_of, registered
from hf_radam.training.callbacks import innermost, spec_in_use


def follow(trainer_class: Any) -> None:
    """Have Transformers' Trainer, on which all others build, record what is asked for, in a process of its own."""
    job = Job(**json.loads(Path(os.environ[FOLDER], ASKED).read_text(encoding="utf-8")))

    def tell(message: Mapping[str, Any]) -> None:
        with Path(job.folder, MESSAGES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(message) + "\n")

    record(trainer_class, job, tell)
    threading.Thread(target=_follow_parent, args=(os.getppid(),), daemon=True).start()


def record(trainer_class: Any, job: Job, tell: Tell) -> None:
    """Have Transformers' Trainer record the training that is asked for, and call `tell` on the main process."""
    recorder = _Recorder(job, tell)
    train = trainer_class.train

    @functools.wraps(train)
    def recorded(self: Any, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        return recorder.train(self, resume_from_checkpoint, lambda checkpoint: train(self, checkpoint, *args, **kwargs))

    trainer_class.train = recorded
    logging.getLogger(callbacks.__name__).setLevel(logging.ERROR)  # the report says what its advice says


def _follow_parent(parent: int) -> None:
    """End with the parent: a launcher's processes have sessions of their own, and would train on without it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


class _Recorder(TrainerCallback):
    """Joins the training that is asked for; writes down what happens there, or stops it and says why."""

    trainer: Any
    """The one that is recorded."""
    started = seconds = 0.0

    def __init__(self, job: Job, tell: Tell) -> None:
        self.job, self.folder, self._tell = job, Path(job.folder), tell
        self.trainings, self.ended = 0, False
        self.tested: dict[str, Any] = {}

    def tell(self, **message: Any) -> None:
        if PartialState().is_main_process:
            self._tell(message)

    def stop(self, reason: str) -> NoReturn:
        """End the process, and say why."""
        self.tell(error=reason)
        sys.exit(f"error: {reason}")

    def train(self, trainer: Any, checkpoint: Any, train: Callable[[Any], Any]) -> Any:
        """Train, and record it if this is the training that was asked for."""
        self.trainings += 1
        if self.trainings != (self.job.trainer or 1):
            if self.job.trainer is None:
                self.stop("the script trains more than once; say which training is compared: --trainer 1 or 2")
            return train(checkpoint)
        if PartialState().is_main_process:
            try:
                (self.folder / BEGUN).touch(exist_ok=False)
            except FileExistsError:
                self.stop("the script trains in several processes of its own; compare one that trains once")
        self.trainer, trainer.args = trainer, self._arguments(trainer.args)
        for callback in (self, *([GradientHistograms()] if self.job.record_every == 1 else [])):
            trainer.add_callback(callback)
        own = history.resume_point(Path(trainer.args.output_dir))
        reset_peak_memory()
        try:
            done = train(checkpoint if own is None else own)
        except UserError as error:
            self.stop(one_line(error))
        best = trainer.args.load_best_model_at_end  # it is in place now, and not what was evaluated last
        if (best or self._lacks_an_evaluation()) and trainer.args.eval_strategy != IntervalStrategy.NO:
            trainer.evaluate()
        return done

    def _arguments(self, given: Any) -> Any:
        """The Trainer's own, which log each update and save what a broken run goes on from."""
        args = copy.copy(given)
        args.logging_strategy, args.logging_steps, args.logging_nan_inf_filter = IntervalStrategy.STEPS, 1, False
        if self.job.trainer is not None:  # the others' checkpoints are not ours
            args.output_dir = os.path.join(args.output_dir, f"training-{self.trainings}")
        args.save_only_model = False
        if not args.load_best_model_at_end:  # else the script saves what it loads at the end
            args.save_strategy, args.save_total_limit = SaveStrategy.STEPS, args.save_total_limit or 1
        return args

    def _lacks_an_evaluation(self) -> bool:
        """Whether a training that ended well was not evaluated at its end."""
        state = self.trainer.state
        last = [entry for entry in state.log_history if entry["step"] == state.global_step]
        finite = all(math.isfinite(entry.get("loss", 0.0)) for entry in last)
        return finite and not any(key.startswith("eval_") for entry in last for key in entry)

    def on_train_begin(self, args: Any, state: Any, control: Any, lr_scheduler: Any = None, **_: Any) -> None:
        """Refuse what was not asked for, once the schedule is there and a checkpoint is loaded."""
        name, optimizer, demanded = name_of(args.optim), self.trainer.optimizer, {**self.job.demanded}
        if "optim" in demanded and registered(name) and spec_in_use(args, optimizer) is None:
            raise UserError(
                f"the script ignores --optim: it was given {name} and trains with "
                f"{full_name(type(innermost(optimizer)))}; have it build what --optim names"
            )
        if dropped := [] if registered(name) else [*history.unheeded(optimizer, self.job.optim_args)]:
            raise UserError(
                f"Transformers ignores the option {dropped[0][0]!r} of {name!r}; leave it out, or take a registered "
                f"optimizer: {', '.join(list_optimizers())}"
            )
        warmup = args.get_warmup_steps(state.max_steps)
        if 0 < demanded.get("warmup_steps", 0) < 1:
            demanded["warmup_steps"] = math.ceil(demanded["warmup_steps"] * state.max_steps)
        own = {"optim": name, "seed": args.seed, "max_steps": state.max_steps, "warmup_steps": warmup}
        for key, asked, found in history.unheeded(optimizer, demanded, **own):
            if found is not None:  # else this optimizer knows no such option
                raise UserError(
                    f"the script ignores --{key}: it was given {asked} and its Trainer has {found}; name the script's "
                    "own flag in data.flags, or make the script use it"
                )
        if warmup and warmup >= state.max_steps:
            raise UserError(f"warmup_steps {warmup} must be less than the script's {state.max_steps} updates")
        if not args.load_best_model_at_end:
            state.save_steps = self.job.save_steps or math.ceil(state.max_steps / 4)
        history.add_untuned_warmup(getattr(lr_scheduler, "scheduler", lr_scheduler), self.job.warmup, self.job.recipe)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        """Stop the clock, when the device has done its work."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self.started
        control.should_log = True  # whatever a script's own callback says
        if state.global_step >= state.max_steps and not args.load_best_model_at_end:
            control.should_save = False  # a run that went on from its last step would take one more
        if control.should_save and optimizer is not None:
            optimizer.eval()  # of schedule-free ones the averaged weights are saved; training goes on from both alike

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Write the time beside the loss; stop a run whose loss is no number."""
        if history.is_update(logs):
            state.log_history[-1]["seconds"] = self.seconds
            self.tell(step=state.global_step, loss=logs["loss"])
            if not math.isfinite(logs["loss"]):
                control.should_training_stop, control.should_save = True, False

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        """Refuse a metric that is not there as early as that shows; a script may evaluate after its training."""
        if f"eval_{self.job.metric}" not in metrics and "eval_loss" in metrics:
            names = {key.removeprefix("eval_") for key in metrics if key.startswith("eval_")} - history.NOISE
            self.stop(f"the script evaluates no {self.job.metric!r}; set metric to one of {', '.join(sorted(names))}")
        self.write()

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        """Keep what is only measured at the end, on a test set."""
        found = {key.removeprefix("test_"): value for key, value in metrics.items() if key.startswith("test_")}
        self.tested |= {key_of(name): value for name, value in found.items() if name not in {*history.NOISE, "loss"}}
        self.write()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write what the script's own evaluations will complete."""
        self.ended = True
        self.write()

    def write(self) -> None:
        """What there is to record by now; nothing before the training has ended, or if no update was made."""
        if not self.ended or not PartialState().is_main_process:
            return
        state, args, job = self.trainer.state, self.trainer.args, self.job
        curves = history.curves_of(state.log_history)
        if not curves["step"]:
            return
        evaluations = history.evaluations_of(state.log_history, job.eval_steps, curves["step"][-1], job.metric)
        told = Path(args.output_dir, FACTS)
        facts = json.loads(told.read_text(encoding="utf-8")) if told.is_file() else {}
        notes, whole = [], history.is_finite(curves)
        if state.global_step < state.max_steps and whole:
            notes.append(f"the script ended it after {state.global_step} of {state.max_steps} updates")
        if args.load_best_model_at_end and (best := state.best_global_step):
            notes.append(f"its last evaluation is that of the script's best model, of update {best}")
        last = {key: values[-1] for key, values in evaluations.items() if key != "step" and values}
        final = {**self.tested, **last} if whole else dict.fromkeys([*self.tested, *last, "loss"], math.nan)
        fields = history.measured(self.trainer, curves, evaluations, job.record_every)
        content = {**fields, "notes": notes, "facts": facts, "final": final}
        write_whole(self.folder / RECORDING, json.dumps(compact(content)))
