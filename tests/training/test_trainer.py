"""The Trainer mixins, through Transformers' real Trainer on a tiny model."""

from __future__ import annotations

import copy
import logging
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import Gradients, advance, parameters
from safetensors.torch import load_file
from tiny import DATA, STEPS, arguments, model, options, ours, plain, trained, unwrapped, weights
from torch.optim import lr_scheduler
from transformers import (
    Adafactor,
    HfArgumentParser,
    Seq2SeqTrainer,
    Trainer,
    TrainerState,
    TrainingArguments,
    get_constant_schedule,
    get_linear_schedule_with_warmup,
)
from transformers.trainer_utils import HPSearchBackend

from hf_radam import (
    RAdam,
    RAdamArgumentsMixin,
    RAdamSeq2SeqTrainer,
    RAdamSeq2SeqTrainingArguments,
    RAdamTrainer,
    RAdamTrainerMixin,
    RAdamTrainingArguments,
    RectificationCallback,
    rectification,
)
from hf_radam.training import loss_scale
from hf_radam.training.callbacks import StartCallback, rectification_progress


def mixed(base: Any) -> Any:
    """Our mixin on top of a Trainer."""
    return type("Mine", (RAdamTrainerMixin, base), {})


def test_equals_torch_radam_in_a_plain_trainer() -> None:
    theirs = plain(max_grad_norm=1e9)
    theirs.optimizer_cls_and_kwargs = torch.optim.RAdam, {"lr": 1e-3, "decoupled_weight_decay": True}
    found = trained(ours(max_grad_norm=1e9))
    assert (found - trained(theirs)).abs().max() < 1e-7  # float32 rounding in 12 steps of 1e-3


@pytest.mark.parametrize(
    ("optim_args", "expected"),
    [
        ("degenerated_to_sgd=false,foreach=true", {"betas": (0.8, 0.98), "eps": 1e-6, "foreach": True}),
        ("betas=(0.9,0.99),weight_decay=0.5,eps=1e-5", {"betas": (0.9, 0.99), "eps": 1e-5, "foreach": None}),
    ],
)
def test_every_field_of_the_command_line_reaches_the_optimizer_and_optim_args_win(
    optim_args: str, expected: dict[str, Any]
) -> None:
    parser = HfArgumentParser(RAdamTrainingArguments)  # pyright: ignore[reportArgumentType]
    line = "--output_dir out --report_to none --optim radam --adam_beta1 0.8 --adam_beta2 0.98 --adam_epsilon 1e-6"
    line += f" --learning_rate 1e-3 --weight_decay 0.1 --optim_args {optim_args}"
    (args,) = parser.parse_args_into_dataclasses(line.split())
    optimizer: Any = RAdamTrainer(model(), args).create_optimizer()
    assert type(optimizer) is RAdam
    assert optimizer.degenerated_to_sgd == ("degenerated" not in optim_args)
    for group, decay in zip(optimizer.param_groups, (0.5 if "decay" in optim_args else 0.1, 0.0), strict=True):
        assert {key: group[key] for key in ("lr", "weight_decay", *expected)} == {
            "lr": 1e-3, "weight_decay": decay, **expected
        }  # fmt: skip


class PassesOn(Trainer):
    def create_optimizer(self, model: Any = None) -> Any:
        return super().create_optimizer(model)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("trainer_class", [RAdamTrainer, mixed(PassesOn)])
def test_decay_groups_are_those_of_transformers_without_empty_ones(trainer_class: Any, frozen: bool) -> None:
    network = model()
    for name, p in network.named_parameters():
        p.requires_grad_(not frozen or name.endswith("bias"))
    theirs = Trainer(network, TrainingArguments(**options())).create_optimizer().param_groups
    found = trainer_class(network, arguments()).create_optimizer().param_groups
    for a, b in zip(found, [group for group in theirs if group["params"]], strict=True):
        assert a["weight_decay"] == b["weight_decay"]
        assert all(p is q for p, q in zip(a["params"], b["params"], strict=True))


@pytest.mark.parametrize("name", ["adamw_torch_fused", "adamw_torch", "adafactor", "sgd"])
def test_vanilla_names_are_unchanged(name: str) -> None:
    theirs = trained(plain(optim=name))
    assert torch.equal(trained(ours(optim=name)), theirs)
    by_keyword = RAdamTrainer(model(), TrainingArguments(**options()), train_dataset=DATA, optim=name)
    assert torch.equal(trained(by_keyword), theirs)
    assert by_keyword.optimizer_cls_and_kwargs is None


def test_the_name_comes_from_a_keyword_or_from_arguments_of_ours() -> None:
    args = TrainingArguments(**options())
    trainer = mixed(Trainer)(model(), args, optim="radam")
    assert type(trainer.create_optimizer()) is RAdam
    assert trainer.args.optim == "radam"
    assert args.optim != "radam"
    seq2seq = RAdamSeq2SeqTrainer(model(), RAdamSeq2SeqTrainingArguments(**options()), train_dataset=DATA)
    assert isinstance(seq2seq, Seq2SeqTrainer)
    assert type(seq2seq.create_optimizer()) is RAdam


def test_a_trainer_that_also_trains_its_loss() -> None:
    """As Sentence Transformers' does: it names the parameter groups in the options of the optimizer."""
    loss = torch.nn.Linear(2, 2)

    class WithLoss(Trainer):
        def get_optimizer_cls_and_kwargs(self, args: Any, model: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            cls, kwargs = Trainer.get_optimizer_cls_and_kwargs(args, model)
            groups = [
                {"params": [loss.weight], "weight_decay": self.args.weight_decay},
                {"params": [loss.bias], "weight_decay": 0.0},
            ]
            return cls, {**kwargs, "optimizer_dict": groups}

    groups = mixed(WithLoss)(model(), TrainingArguments(**options()), optim="radam").create_optimizer().param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert [group["params"] for group in groups] == [[loss.weight], [loss.bias]]


def test_mixin_on_another_arguments_class() -> None:
    @dataclass
    class Arguments(RAdamArgumentsMixin, TrainingArguments):
        mine: int = 1

    args = Arguments(**options(optim="radam_no_sgd"))
    assert args.optim == "radam_no_sgd"
    assert '"optim": "radam_no_sgd"' in args.to_json_string()
    assert Arguments(**options()).optim == RAdamTrainingArguments("out", report_to="none").optim == "radam"
    assert Arguments(**options(optim="adafactor")).optim == "adafactor"


def test_set_optimizer() -> None:
    args = arguments().set_optimizer("radam_no_sgd", learning_rate=1e-2, beta2=0.99)
    assert (args.optim, args.learning_rate, args.adam_beta2) == ("radam_no_sgd", 1e-2, 0.99)
    assert args.set_optimizer("adafactor").optim == "adafactor"
    before = vars(args).copy()
    refused: list[tuple[str, Any]] = [("radam", {"args": "no_such=1"}), ("radm", {}), ("radam", {"no_such": 1})]
    for name, more in refused:
        with pytest.raises((ValueError, TypeError), match=r"no_such|did you mean 'radam'"):
            args.set_optimizer(name, **more)
    assert vars(args) == before


def test_arguments_are_rebuilt_as_another_class() -> None:
    """As TRL makes an SFTConfig of them."""
    args = arguments(optim="radam_no_sgd", optim_args="eps=1e-6")
    assert TrainingArguments(**args.to_dict()).optim == "radam_no_sgd"
    with pytest.raises(ValueError, match="did you mean 'radam'"):
        TrainingArguments(**{**args.to_dict(), "optim": "radm"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optim": "radm"}, "unknown optimizer 'radm'; did you mean 'radam'"),
        ({"optim_args": "degenerate_to_sgd=false"}, "did you mean 'degenerated_to_sgd'"),
        ({"optim_args": "amsgrad=ture"}, "'amsgrad' of optimizer 'radam' must be true or false"),
    ],
)
def test_bad_arguments_are_refused_early(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arguments(**changes)


def test_optim_keyword_excludes_other_choices() -> None:
    with pytest.raises(ValueError, match="both choose the optimizer"):
        RAdamTrainer(model(), arguments(), optim="radam", optimizer_cls_and_kwargs=(torch.optim.SGD, {"lr": 0.1}))
    given = torch.optim.SGD(model().parameters(), lr=0.1)
    with pytest.raises(ValueError, match="both choose the optimizer"):
        RAdamTrainer(model(), arguments(), optim="radam", optimizers=(given, None))
    warmup = RAdamTrainer(model(), arguments(warmup_steps=4), optimizers=(given, None), train_dataset=DATA)
    warmup.train()  # no warning: the optimizer in use is no RAdam
    assert RAdamTrainer(model(), arguments(), optimizers=(given, None)).create_optimizer() is given


def test_model_init_and_changed_arguments() -> None:
    trainer = RAdamTrainer(model_init=model, args=arguments(), train_dataset=DATA)
    first = trained(trainer)
    assert torch.equal(trained(trainer), first)
    trainer.args.learning_rate = 1e-2
    assert not torch.equal(trained(trainer), first)
    assert unwrapped(trainer).defaults["lr"] == 1e-2


@pytest.mark.parametrize("saved_after", [3, 8])
def test_resume_is_bitwise(saved_after: int) -> None:
    saving = {"save_strategy": "steps", "save_steps": saved_after, "lr_scheduler_type": "cosine"}
    straight = trained(ours(**saving))
    checkpoint = Path("out") / f"checkpoint-{saved_after}"
    assert torch.equal(trained(ours(**saving), resume_from_checkpoint=str(checkpoint)), straight)
    (checkpoint / "optimizer.pt").unlink()  # the control: the state does matter
    with pytest.warns(UserWarning, match=f"resumes at step {saved_after}, but the checkpoint has no optimizer state"):
        assert not torch.equal(trained(ours(**saving), resume_from_checkpoint=str(checkpoint)), straight)


def test_warmup_with_a_warmup_free_optimizer_warns_once() -> None:
    trainer = ours(warmup_steps=4)
    with pytest.warns(UserWarning, match="'radam' already starts slowly; 4 warmup steps") as warned:  # noqa: PT031
        for _ in range(2):
            trainer.train()
    assert len([w for w in warned if "warmup steps reduce" in str(w.message)]) == 1


@pytest.mark.parametrize("is_ours", [True, False], ids=["our_trainer", "callback_in_a_plain_trainer"])
def test_rectification_is_logged(is_ours: bool) -> None:
    trainer = ours(adam_beta2=0.99) if is_ours else plain()
    if not is_ours:
        trainer.add_callback(RectificationCallback())
        trainer.optimizer_cls_and_kwargs = torch.optim.RAdam, {"lr": 1e-3, "betas": (0.9, 0.99)}
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    for step, entry in enumerate(logs, start=1):
        assert entry["rectification"] == (rectification.rectification(step, 0.99) or 0.0)
        assert entry["rho"] == rectification.rho(step, 0.99)
    assert len(logs) == STEPS


def test_rectification_of_the_first_group_that_steps() -> None:
    used, unused = parameters(shapes=[(2,), (3,)])
    optimizer = RAdam([{"params": [unused]}, {"params": [used], "betas": (0.9, 0.99)}])
    advance(optimizer, [used], 7, Gradients())
    logs: dict[str, Any] = {"loss": 1.0}
    state = TrainerState(log_history=[{}])
    RectificationCallback().on_log(None, state, None, logs=logs, optimizer=optimizer)
    assert logs["rectification"] == rectification.rectification(7, 0.99)


def test_progress_is_known_where_groups_are_empty_between_steps() -> None:
    """As under ZeRO-3."""
    params = parameters()
    advance(optimizer := RAdam(params, betas=(0.9, 0.99)), params, 7)
    optimizer.param_groups[0]["params"] = []
    assert rectification_progress(optimizer) == (7, 0.99)


F = torch.nn.functional


class Classifier(torch.nn.Module):
    """Takes the number of items, and ignores it."""

    def __init__(self, loss: str = "mean") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.loss = torch.nn.Linear(4, 3), loss

    def forward(self, x: torch.Tensor, labels: torch.Tensor, **more: Any) -> dict[str, torch.Tensor]:
        logits = self.layer(x)
        if self.loss == "in training alone" and not self.training:  # as of torchvision's detectors
            return {"logits": logits}
        return {"loss": LOSSES[self.loss](logits, labels, more if self.training else {}), "logits": logits}


def of_gradients(logits: torch.Tensor, labels: torch.Tensor, _: Any) -> torch.Tensor:
    assert logits.requires_grad
    return F.cross_entropy(logits, labels)


def by_number(logits: torch.Tensor, labels: torch.Tensor, more: Any) -> torch.Tensor:
    items = more.get("num_items_in_batch")
    return F.cross_entropy(logits, labels, reduction="sum") / (len(labels) if items is None else items)


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor, Any], torch.Tensor]] = {
    "mean": lambda logits, labels, _: F.cross_entropy(logits, labels),
    "in training alone": lambda logits, labels, _: F.cross_entropy(logits, labels),
    # As of a conditional random field: the parts add up by themselves.
    "sum": lambda logits, labels, _: F.cross_entropy(logits, labels, reduction="sum") / 8,
    "by number": by_number,  # while it trains, as with a fused loss
    "of gradients": of_gradients,  # cannot be asked without
}


class Drawing(Classifier):
    """Draws from every generator, keeps statistics, and tells its modes: `eval()` merges LoRA in some libraries."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(4)
        self.draws: torch.Tensor
        self.register_buffer("draws", torch.zeros(3))
        self.modes: list[bool] = []

    def train(self, mode: bool = True) -> Any:
        self.modes.append(mode)
        return super().train(mode)

    def forward(self, x: torch.Tensor, labels: torch.Tensor, **more: Any) -> dict[str, torch.Tensor]:
        self.draws += torch.tensor([torch.rand(()).item(), random.random(), np.random.rand()])
        return super().forward(self.norm(x), labels, **more)


class OwnLoss(Trainer):
    """A loss in the signature of the user's choice."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        outputs = model(**inputs)
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]


class ByPosition(RAdamTrainer):
    def compute_loss(self, model: Any, inputs: Any, return_outputs: Any = False, num_items_in_batch: Any = None) -> Any:
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


class InAutocast(RAdamTrainer):
    """Whose weights, cast without gradients, must not be those of the training."""

    def compute_loss_context_manager(self) -> Any:
        return torch.autocast("cpu", torch.bfloat16)


TRAINERS = {"own": mixed(OwnLoss), "by_position": ByPosition, "autocast": InAutocast}

EXAMPLES = [{"x": torch.randn(4, generator=torch.Generator().manual_seed(i)), "labels": i % 3} for i in range(32)]


def accumulated(kind: str, accumulation: int, loss: str = "mean", **more: Any) -> torch.Tensor:
    changes: dict[str, Any] = {
        "per_device_train_batch_size": 8 // accumulation, "gradient_accumulation_steps": accumulation,
        "max_grad_norm": 0.0, "max_steps": 4, "learning_rate": 0.1, **more,
    }  # fmt: skip
    model, args = Classifier(loss), arguments(**changes)
    optimizers = (RAdam(model.parameters(), lr=0.1), None) if kind == "built_by_the_caller" else (None, None)
    trainer_class: Any = TRAINERS.get(kind, RAdamTrainer)
    return trained(trainer_class(model, args, train_dataset=EXAMPLES, optimizers=optimizers))


@pytest.mark.parametrize("kind", ["built_by_name", "built_by_the_caller", "by_position", "autocast"])
@pytest.mark.parametrize("loss", ["mean", "sum", "by number", "in training alone"])
def test_accumulation_does_not_scale_the_loss(loss: str, kind: str) -> None:
    atol = 1e-3 if kind == "autocast" else 1e-6  # bfloat16 rounds gradients of parts to 3 digits, rates sum to 0.25
    whole, parts = (accumulated(kind, accumulation, loss) for accumulation in (1, 4))
    assert torch.allclose(whole, parts, rtol=0, atol=atol)
    assert not torch.allclose(whole, accumulated(kind, 1, loss, max_steps=1), rtol=0, atol=2 * atol)


@pytest.mark.parametrize(
    ("make", "learning_rate"),
    [(Drawing, 0.0), *((partial(Classifier, loss), 0.1) for loss in ("of gradients", "by number"))],
)
def test_the_question_leaves_no_trace(make: Any, learning_rate: float) -> None:
    """Modes, generators and buffers are those of the plain Trainer; weights too, where nothing is to be weighed."""
    changes: dict[str, Any] = {"gradient_accumulation_steps": 2, "learning_rate": learning_rate, "optim": "sgd"}
    plain, ours = make(), make()
    Trainer(plain, TrainingArguments(**options(**changes)), train_dataset=EXAMPLES).train()  # pyright: ignore[reportArgumentType]
    RAdamTrainer(ours, arguments(**changes), train_dataset=EXAMPLES).train()  # pyright: ignore[reportArgumentType]
    for key, value in plain.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key
    assert getattr(ours, "modes", None) == getattr(plain, "modes", None)


@pytest.mark.parametrize("device", ["cpu", "cuda:1", "xpu:1"])
def test_the_device_in_use_alone_is_asked_for_its_random_state(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    for kind in ("cuda", "xpu"):  # a machine with several
        monkeypatch.setattr(getattr(torch, kind), "device_count", lambda: 8)
        monkeypatch.setattr(getattr(torch, kind), "get_rng_state", lambda of: asked.append(str(of)))
        monkeypatch.setattr(getattr(torch, kind), "set_rng_state", lambda *_: None)
    with loss_scale._put_back(Classifier(), torch.device(device)):
        pass
    assert asked == ([] if device == "cpu" else [device])


def test_a_loss_of_the_users_own_is_left_alone() -> None:
    """As Transformers has it: four parts, each the mean over its own."""
    start = weights(Classifier())
    moved = [(accumulated("own", accumulation) - start).norm() for accumulation in (1, 4)]
    assert moved[1] > 2 * moved[0]


def test_an_optimizer_without_moments_has_none_to_lose() -> None:
    saving = {"save_strategy": "steps", "save_steps": 3, "optim": "sgd"}
    ours(**saving).train()
    ours(**saving).train(resume_from_checkpoint="out/checkpoint-3")


@pytest.mark.parametrize("first", ["adamw_torch", "radam"])
def test_moments_and_step_carry_over(first: str) -> None:
    """A run of AdamW goes on with RAdam, rectified from its first step on; and one of RAdam with AdamW."""
    then, kind = ("radam", RAdam) if first == "adamw_torch" else ("adamw_torch", torch.optim.AdamW)
    changes = {"save_strategy": "steps", "save_steps": 8, "lr_scheduler_type": "constant", "max_grad_norm": 0.0}
    changes |= {"learning_rate": 1e-2, "per_device_train_batch_size": len(EXAMPLES)}

    def trainer(name: str, **more: Any) -> RAdamTrainer:
        return RAdamTrainer(Classifier(), arguments(optim=name, **changes, **more), train_dataset=EXAMPLES)  # pyright: ignore[reportArgumentType]

    def by_hand(state: dict[str, Any] | None) -> torch.Tensor:
        network: Any = (other := trainer(then)).model
        network.load_state_dict(load_file("out/checkpoint-8/model.safetensors"))
        optimizer = other.create_optimizer()
        if state is not None:
            optimizer.load_state_dict(state)
        for _ in range(8, STEPS):
            network(**torch.utils.data.default_collate(EXAMPLES))["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
        return weights(network)

    trainer(first, max_steps=8).train()
    found = trained(resumed := trainer(then), resume_from_checkpoint="out/checkpoint-8")
    assert type(unwrapped(resumed)) is kind
    assert {int(state["step"]) for state in unwrapped(resumed).state.values()} == {STEPS}
    # Four updates in float32 of a batch whose rows come in another order; without the moments a hundred times that.
    assert (found - by_hand(torch.load("out/checkpoint-8/optimizer.pt"))).abs().max() < 1e-6
    assert (found - by_hand(None)).abs().max() > 1e-4


class Layerwise(Trainer):
    """Groups of its own: one for each parameter, with a learning rate for each."""

    asks = "self"

    def create_optimizer(self, model: Any = None) -> Any:
        asked: Any = {"self": self, "its class": type(self), "Trainer": Trainer}[self.asks]
        cls, options = asked.get_optimizer_cls_and_kwargs(self.args, self.model)
        groups = [
            {"params": [p], "lr": 1e-3 * 0.9**depth, "weight_decay": self.args.weight_decay}
            for depth, (_, p) in enumerate(self.model.named_parameters())  # pyright: ignore[reportOptionalMemberAccess]
        ]
        self.optimizer = cls(groups, **options)
        return self.optimizer


@pytest.mark.parametrize("asks", ["self", "its class", "Trainer"])
@pytest.mark.parametrize("name", ["radam_no_sgd", "adamw_torch"])
def test_a_create_optimizer_of_ones_own_makes_the_groups(name: str, asks: str) -> None:
    Mine = mixed(Layerwise)
    Mine.asks = asks
    before = vars(Trainer)["create_optimizer"], vars(Trainer)["get_optimizer_cls_and_kwargs"]
    args = arguments(optim=name, adam_beta2=0.98)
    optimizer: Any = Mine(model(), args, optim_args={"weight_decay": 0.5} if name != "adamw_torch" else None)
    optimizer = optimizer.create_optimizer()
    assert isinstance(optimizer, RAdam) == (name == "radam_no_sgd")
    assert len(optimizer.param_groups) == len(list(model().parameters()))
    assert [group["lr"] for group in optimizer.param_groups[:2]] == [1e-3, 1e-3 * 0.9]
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.98)}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1 if name == "adamw_torch" else 0.5}
    assert args.weight_decay == 0.1
    assert before == (vars(Trainer)["create_optimizer"], vars(Trainer)["get_optimizer_cls_and_kwargs"])


@pytest.mark.parametrize("start", ["adamw_torch", "radam"])
def test_a_search_tries_every_kind_of_name(start: str) -> None:
    """As Ray hands a trial to Trainer."""
    trainer = RAdamTrainer(model_init=model, args=TrainingArguments(**options(max_steps=1)), train_dataset=DATA)
    trainer.args.optim = start if start == "radam" else trainer.args.optim
    trainer.hp_search_backend = HPSearchBackend.RAY
    for name, kind in (("radam", RAdam), ("adafactor", Adafactor), ("adam", torch.optim.AdamW)):
        trainer._hp_search_setup({"optim": name, "learning_rate": 1e-2})
        trainer.train()
        assert type(unwrapped(trainer)) is kind
        assert unwrapped(trainer).param_groups[0]["initial_lr"] == 1e-2


@pytest.mark.parametrize("name", ["adamw_torch", "adam", "radam"])
def test_the_loss_is_the_same_for_every_optimizer(name: str, caplog: pytest.LogCaptureFixture) -> None:
    changes: dict[str, Any] = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "max_steps": 2}

    def losses(**keywords: Any) -> list[float]:
        args = arguments(**changes, optim=name, learning_rate=0.0, dataloader_drop_last=True)
        trainer = RAdamTrainer(Classifier(), args, train_dataset=EXAMPLES, **keywords)  # pyright: ignore[reportArgumentType]
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    mean = losses()
    assert [record.name for record in caplog.records if "num_items_in_batch" in record.message] == [
        "hf_radam.training.loss_scale"
    ]
    assert losses(whole_batch_loss=False) == pytest.approx([4 * loss for loss in mean], rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "level", "text"),
    [
        ({}, logging.WARNING, "RAdam with beta2=0.999 uses 1% .*12 updates. Consider a higher learning rate"),
        ({"adam_beta2": 0.9, "max_steps": 60}, logging.INFO, r"beta2=0.9 uses 63% of .* these 60 updates$"),
        ({"adam_beta2": 0.9, "max_steps": 60, "lr_scheduler_type": "constant"}, logging.INFO, "uses 77% of"),
        ({"optim": "adam", "warmup_steps": 4}, None, ""),  # nor a warning, which would be an error
    ],
)
def test_advice(changes: dict[str, Any], level: int | None, text: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hf_radam")
    trainer = ours(**changes)
    for _ in range(2):
        trainer.train()
    said = [record for record in caplog.records if record.name == "hf_radam.training.callbacks"]
    assert [record.levelno for record in said] == ([] if level is None else [level])
    assert any("rectification" in entry for entry in trainer.state.log_history) == (level is not None)
    for record in said:
        assert re.search(text, record.message), record.message


# Schedule: whether its course is known without a call of what the user has written.
SCHEDULES: dict[str, tuple[Any, bool]] = {
    "of Transformers": (lambda o, _: get_linear_schedule_with_warmup(o, 2, 12), True),
    "constant": (lambda o, _: get_constant_schedule(o), True),
    "a function": (lr_scheduler.LambdaLR, False),
    "a partial": (lambda o, of_user: lr_scheduler.LambdaLR(o, partial(of_user)), False),
    "multiplicative": (lr_scheduler.MultiplicativeLR, False),
    "exponential": (lambda o, _: lr_scheduler.ExponentialLR(o, 0.9), False),
    "cosine": (lambda o, _: lr_scheduler.CosineAnnealingLR(o, 12), False),
    "plateau": (lambda o, _: lr_scheduler.ReduceLROnPlateau(o), False),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_advice_evaluates_schedules_of_transformers_alone(name: str, caplog: pytest.LogCaptureFixture) -> None:
    make, known = SCHEDULES[name]
    rates = iter([0.5, 0.25, 0.125])  # a function with a memory
    optimizer = RAdam(parameters(), lr=1e-3)
    schedule = make(optimizer, lambda _: next(rates))
    left = len(list(copy.copy(rates)))
    state = TrainerState(max_steps=12)
    StartCallback().on_train_begin(arguments(), state, None, optimizer=optimizer, lr_scheduler=schedule)
    assert len(caplog.records) == known
    assert len(list(rates)) == left
