"""`--optim radam_8bit` and its like in the real Trainer: Transformers' class, options and groups, rectified."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from adamw_kernels import KERNELS, apart, kernels, needs
from transformers import BertForSequenceClassification, TrainingArguments
from transformers.training_args import OptimizerNames

from hf_radam import RAdamTrainer, RAdamTrainingArguments, get_optimizer, list_optimizers
from hf_radam.derived import _of_transformers, ask_transformers, installed, library_of
from hf_radam.rectification import rectification
from hf_radam.rectified import RectifiedMixin
from hf_radam.training.trainer_card import describe_optimizer, describe_training

LOW_RANK = {"optim_target_modules": "all-linear"}
NAMES = {
    "bitsandbytes 8": ("radam_8bit", {}),
    "bitsandbytes 32": ("paged_radam_32bit", {}),
    "bitsandbytes paged 8": ("paged_radam_8bit", {}),
    "torchao 8": ("radam_torch_8bit", {}),
    "torchao 4": ("radam_torch_4bit", {}),
    "galore": ("galore_radam", LOW_RANK),
    "apollo": ("apollo_radam", LOW_RANK),
    "torch fused": ("radam_torch_fused", {}),
}


def model() -> BertForSequenceClassification:
    return tiny.bert(vocab_size=100, hidden_size=64, intermediate_size=64)


def build(name: str, of: Any = None, **changes: Any) -> Any:
    return RAdamTrainer(of or model(), tiny.arguments(optim=name, **changes)).create_optimizer()


def test_the_rule_gives_every_name() -> None:
    names = set(list_optimizers())
    for like in (member.value for member in OptimizerNames if "adamw" in member.value):
        without = any(part in like for part in ("layerwise", "stable", "grok"))
        assert without or like.replace("adamw", "radam") in {*names, *OptimizerNames}, like
    assert {"radam_torch_fp8", "radam_kahan", "radam_deepspeed_cpu"} <= names


def test_names_read_from_the_source_are_those_of_the_enumeration() -> None:
    assert _of_transformers() == [member.value for member in OptimizerNames]


@pytest.mark.parametrize("kernel", kernels(*NAMES))
def test_only_the_class_is_exchanged(kernel: str) -> None:
    name, arguments = NAMES[kernel]
    ours = build(name, **arguments)
    like = get_optimizer(name).like
    plain = RAdamTrainer(model(), TrainingArguments(**tiny.options(optim=like, **arguments))).create_optimizer()
    assert isinstance(ours, RectifiedMixin)
    assert isinstance(ours, type(plain))
    for mine, theirs in zip(ours.param_groups, plain.param_groups, strict=True):
        assert {k: v for k, v in mine.items() if k != "params"} == {k: v for k, v in theirs.items() if k != "params"}
        assert [p.shape for p in mine["params"]] == [p.shape for p in theirs["params"]]


@pytest.mark.parametrize("kernel", kernels("bitsandbytes 8"))
def test_embeddings_keep_32_bits(kernel: str) -> None:
    optimizer = build(NAMES[kernel][0])
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.ones_like(p)
    optimizer.step()
    bits = {tuple(p.shape): state["state1"].dtype for p, state in optimizer.state.items()}
    assert bits[100, 64] == torch.float32  # of 6,400 elements; without the exception those of 4,096 are in 8 bits
    assert bits[64, 64] == torch.uint8


# Names, and how far each may end from the run with 32 bits, then in bf16 weights, whose rounding takes one step whole
# and another not at all and so makes more of a difference. A code of v with a zero shows as 2 to 120.
LOW_BITS = {
    "bitsandbytes 8": ("radam_8bit", 0.05, 0.1),
    "bitsandbytes paged 8": ("paged_radam_8bit", 0.05, 0.1),
    "torchao 8": ("radam_torch_8bit", 0.15, 0.2),
    "torchao fp8": ("radam_torch_fp8", 0.35, 0.35),
    "torchao 4": ("radam_torch_4bit", 0.65, 0.75),  # 16 numbers for a moment
}


@pytest.mark.parametrize("way", ["new", "resumed", "bf16"])
@pytest.mark.parametrize("kernel", kernels(*LOW_BITS))
def test_low_bits_go_where_32_bits_go(kernel: str, way: str) -> None:
    """Resumed: from the plain class's checkpoint, whose moments are those of an earlier version's RAdam as well."""
    name, *most = LOW_BITS[kernel]

    def radam(model: Any, name: str = name) -> Any:
        return build(name, model, learning_rate=1e-3)

    def plain(model: Any) -> Any:
        like = radam(model)
        groups = [{key: group[key] for key in ("params", "weight_decay")} for group in like.param_groups]
        blocks = {"block_size": like.block_size} if kernel.startswith("torchao") else {}
        return KERNELS[kernel].load()(groups, lr=1e-3, **KERNELS[kernel].options, **blocks)

    dtype = torch.bfloat16 if way == "bf16" else torch.float32
    off = apart(radam, lambda model: radam(model, "radam"), plain if way == "resumed" else None, dtype)
    assert off <= most[way == "bf16"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("radam_kahan", {}, marks=needs("optimi")),
        pytest.param("radam_torch_8bit", {"bf16_stochastic_round": True}, marks=needs("torchao")),
    ],
)
def test_small_steps_move_bf16_weights(name: str, options: dict[str, Any]) -> None:
    """Rounding to the nearest would undo each of them."""
    weights = torch.nn.Parameter(torch.ones(64, 64, dtype=torch.bfloat16))
    optimizer = get_optimizer(name)([weights], lr=1e-4, betas=(0.9, 0.9), **options)
    for _ in range(200):
        weights.grad = torch.ones_like(weights)
        optimizer.step()
    assert 1 - weights.float().mean().item() == pytest.approx(200 * 1e-4, rel=0.1)


@pytest.mark.parametrize("kernel", kernels("torch fused", "bitsandbytes 8"))
def test_options_reach_the_flags_and_the_class_or_are_refused(kernel: str) -> None:
    name = NAMES[kernel][0]
    optimizer = build(name, optim_args="degenerated_to_sgd=false,betas=(0.8,0.99)")
    assert not optimizer.degenerated_to_sgd
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.99)
    with pytest.raises(ValueError, match=f"unknown option of optimizer '{name}': 'min_8bit'"):
        build(name, optim_args="min_8bit=16")
    with pytest.raises(ValueError, match="set weight_decay there"):
        build(name, optim_args="weight_decay=0.2")
    if kernel == "bitsandbytes 8":
        assert build(name, optim_args="min_8bit_size=16").args.min_8bit_size == 16


@pytest.mark.parametrize("kernel", kernels("galore"))
def test_groups_of_low_rank_take_their_options(kernel: str) -> None:
    optimizer = build(NAMES[kernel][0], optim_args="rank=4,degenerated_to_sgd=false", **LOW_RANK)
    assert [group.get("rank") for group in optimizer.param_groups] == [None, 4]
    assert optimizer.kernel.eps_on == "sqrt(v)"


@pytest.mark.parametrize("kernel", kernels("bitsandbytes 8"))
def test_names_build_outside_of_a_trainer(kernel: str) -> None:
    params = [torch.nn.Parameter(torch.ones(4))]
    optimizer: Any = get_optimizer(NAMES[kernel][0])(params, lr=1e-2, optimized_update=False)
    assert (optimizer.args.optim_bits, optimizer.optimized_update) == (8, False)
    assert ask_transformers("paged_adamw_8bit")[1]["is_paged"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [pytest.param("radam_kahan", marks=needs("optimi"))])
def test_a_radam_of_another_library_is_told_as_one(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """r_t in the log, advice, card, and the warning about lost state."""
    args = tiny.arguments(
        optim=name, max_steps=7, save_strategy="steps", save_steps=6, adam_beta2=0.99, save_only_model=True
    )
    trainer = RAdamTrainer(model(), args, train_dataset=tiny.DATA)
    trainer.train()
    r = [entry["rectification"] for entry in trainer.state.log_history if "loss" in entry]
    assert r == [rectification(step, 0.99) or 0.0 for step in range(1, 8)]
    assert "RAdam with beta2=0.99 uses" in caplog.text
    assert describe_optimizer(trainer.optimizer)[1]["betas"] == [(0.9, 0.99)]
    card = describe_training(trainer)
    assert card["rectification"].endswith("after 7 updates")
    assert "step=" not in card["optimizer"]
    assert card["warmup"] == "none"
    with pytest.warns(UserWarning, match="resumes at step 6, but the checkpoint has no optimizer state"):
        RAdamTrainer(model(), args, train_dataset=tiny.DATA).train(resume_from_checkpoint="out/checkpoint-6")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("galore_radam_layerwise", "builds an optimizer per parameter; use 'galore_radam'"),
        ("stable_radam", "the step of stable_adamw is not AdamW's; use 'radam_kahan'"),
        ("radam_8bt", "did you mean 'radam_8bit'"),
    ],
)
def test_names_without_a_radam_are_refused_with_the_reason(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RAdamTrainingArguments("out", optim=name)
    with pytest.raises(ValueError, match=message):
        get_optimizer(name)


@pytest.mark.skipif(installed("torch_xla"), reason="about a library that is not installed")
def test_missing_libraries_are_listed_with_what_to_install() -> None:
    spec = get_optimizer("radam_torch_xla")
    assert (spec.library, spec.extra) == ("torch_xla", "torch_xla")
    with pytest.raises(ImportError, match="'radam_torch_xla' needs 'torch_xla': pip install"):
        spec.load()
    assert library_of("adamw_torch_4bit")[1] == "hf_radam[torchao]"
