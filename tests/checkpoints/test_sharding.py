"""Optimizer state in files: every way to save meets every way to load, and every damage an error of one line."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import io
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from launching import run, torchrun
from torch import Tensor, nn
from torch.distributed.checkpoint import FileSystemWriter
from torch.optim import Optimizer
from torch.utils._pytree import tree_flatten_with_path
from workers.sharded_checkpoint import (
    END,
    KINDS,
    SAVED_AT,
    TORCH_RADAM,
    Model,
    make_model,
    make_optimizer,
    steps_of,
    train,
    weights_of,
)

from hf_radam import RAdam, cli, load_optimizer, save_optimizer
from hf_radam.checkpoints import CheckpointError, read_checkpoint, save_load

HERE = Path(__file__).parent
DEEPSPEED = HERE / "data" / "deepspeed"
# Weights of about 1 after 8 steps of about 2e-2 in float32: sums over ranks are rounded in another order (6e-8 a step).
TOLERANCE = 1e-6
# What the same steps give without loading anything is off by this at least; else the tests above would show nothing.
CONTROL = 1e-2

LAYOUTS = ("fsdp", "tp")
ZEROS = ("zero1", "zero2", "zero3")
SAVES = ("sharded", "full", *(f"accelerate_{kind}" for kind in KINDS))
WAYS = (*SAVES, "sharded_by_accelerate", "full_by_accelerate")
# Saved by torch's RAdam and loaded in ours, and the other way.
INTERCHANGES = (*(f"torch_{kind}" for kind in KINDS), *(f"{kind}_in_torch" for kind in KINDS))
CLASSES: dict[str, Callable[..., Optimizer]] = {
    "hf_radam.RAdam": RAdam,
    "torch.optim.RAdam": TORCH_RADAM,
    "torch.optim.AdamW": torch.optim.AdamW,
}
layouts = pytest.mark.parametrize("layout", LAYOUTS)
whole_or_sharded = pytest.mark.parametrize("full", [False, True])


def main(arguments: list[str]) -> int:
    """`hf-radam checkpoint`; returns its exit code."""
    return cli.main(["checkpoint", *arguments])


def launch(processes: int, script: str, *arguments: object) -> None:
    run([*torchrun(processes), str(HERE.parent / "workers" / script), *map(str, arguments)], Path.cwd())


@pytest.fixture(scope="session")
def saves(once: Callable[[str, Callable[[Path], None]], Path]) -> Callable[[str], Path]:
    """What two processes of a layout left, by "layout/save"; committed saves of DeepSpeed, by "zero1" and so on."""

    def save(path: Path) -> None:
        for layout in LAYOUTS:
            (path / layout).mkdir()
        launch(2, "sharded_checkpoint.py", "save", path, *LAYOUTS)

    return lambda name: DEEPSPEED / name if name.startswith("zero") else once("saves", save) / name


def difference(weights: dict[str, Tensor], others: dict[str, Tensor]) -> float:
    assert weights.keys() == others.keys()
    return max((weights[name] - others[name]).abs().max().item() for name in weights)


def resumed(
    folder: Path, load: Callable[[nn.Module, Optimizer], None], cls: Callable[..., Optimizer] = RAdam
) -> dict[str, Tensor]:
    """The weights after going on in one process from what two processes saved."""
    model = make_model(torch.load(folder / "saved.pt"))
    optimizer = make_optimizer(model, cls)
    load(model, optimizer)
    train(model, optimizer, range(SAVED_AT, END))
    return weights_of(model)


def trained(cls: Callable[..., Optimizer] = RAdam, **options: Any) -> tuple[Model, Optimizer]:
    """A model and its optimizer at the step of the saves, in one process."""
    model = make_model()
    optimizer = make_optimizer(model, cls, **options)
    train(model, optimizer, range(SAVED_AT))
    return model, optimizer


def saved(cls: Callable[..., Optimizer] = RAdam, full: bool = False, **options: Any) -> tuple[Model, Optimizer]:
    """The same, with the optimizer's state in the folder `saved`."""
    model, optimizer = trained(cls, **options)
    save_optimizer(model, optimizer, "saved", full=full)
    return model, optimizer


@layouts
@pytest.mark.parametrize("way", [*WAYS, *INTERCHANGES])
def test_same_processes_go_on(saves: Callable[[str], Path], layout: str, way: str) -> None:
    """Bit for bit with the same class."""
    folder = saves(layout)
    off = difference(torch.load(folder / f"{way}_on_2_{layout}.pt"), torch.load(folder / "uninterrupted.pt"))
    assert off < TOLERANCE if way in INTERCHANGES else off == 0


@layouts
@pytest.mark.parametrize("way", [*SAVES, *INTERCHANGES])
def test_one_process_goes_on(saves: Callable[[str], Path], layout: str, way: str) -> None:
    folder, kind = saves(layout), way.removesuffix("_in_torch")
    cls, save = (RAdam, way) if kind == way else (TORCH_RADAM, f"accelerate_{kind}")
    weights = resumed(folder, lambda model, optimizer: load_optimizer(model, optimizer, folder / save), cls)
    assert difference(weights, torch.load(folder / "uninterrupted.pt")) < TOLERANCE


@layouts
def test_without_loading_the_tests_above_would_fail(saves: Callable[[str], Path], layout: str) -> None:
    folder = saves(layout)
    assert difference(resumed(folder, lambda *_: None), torch.load(folder / "uninterrupted.pt")) > CONTROL


@pytest.mark.slow
def test_four_processes_go_on(saves: Callable[[str], Path]) -> None:
    folder = saves("fsdp")
    launch(4, "sharded_checkpoint.py", "resume", folder.parent, "fsdp")
    for way in (*WAYS, *INTERCHANGES):
        weights = torch.load(folder / f"{way}_on_4_fsdp.pt")
        assert difference(weights, torch.load(folder / "uninterrupted.pt")) < TOLERANCE, way


def check_consolidated(path: Path, counts_for_all: bool) -> None:
    assert main(["consolidate", str(path), "optimizer.pt"]) == 0
    own, consolidated = trained()[1].state_dict(), torch.load("optimizer.pt")
    assert consolidated["param_groups"] == own["param_groups"]
    for number, state in own["state"].items():
        found = consolidated["state"][number]
        assert found["step"] == (SAVED_AT if counts_for_all else state["step"])
        for key in ("exp_avg", "exp_avg_sq"):
            assert found[key].shape == state[key].shape
            assert (found[key] - state[key]).abs().max() < TOLERANCE
    for cls in CLASSES.values():
        make_optimizer(make_model(), cls).load_state_dict(consolidated)


@pytest.mark.parametrize("name", [*(f"{layout}/{save}" for layout in LAYOUTS for save in SAVES), *ZEROS])
def test_consolidated_is_the_state_of_one_process(saves: Callable[[str], Path], name: str) -> None:
    check_consolidated(saves(name), counts_for_all=name in ZEROS)  # ZeRO's, with a gradient or without


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_deepspeed_as_installed(tmp_path: Path, stage: int) -> None:
    launch(2, "deepspeed_checkpoint.py", stage, tmp_path / "saved")
    check_consolidated(tmp_path / "saved" / f"global_step{SAVED_AT}", counts_for_all=True)


# What `inspect` must say of each kind, beside what all have in common.
INSPECTED = {
    "fsdp/sharded": ["sharded by torch.distributed.checkpoint", "processes   2"],
    "fsdp/full": ["one file, parameters by name (FULL_STATE_DICT)", "files       1"],
    **{name: [f"DeepSpeed ZeRO-{name[-1]}", "processes   2"] for name in ZEROS},
}


@pytest.mark.parametrize("name", INSPECTED)
def test_inspect(saves: Callable[[str], Path], capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["inspect", str(saves(name))]) == 0
    text = capsys.readouterr().out
    for part in (
        *INSPECTED[name],
        "exp_avg (float32), exp_avg_sq (float32), step (float32); 832 B",  # 2 * 99 moments and 10 steps
        "loads in    hf_radam.RAdam, torch.optim.RAdam, torch.optim.AdamW",
        "group 0     4 parameters, 4 with state of 74 elements",
        "weight_decay=0.1, lr=0.02, betas=(0.9, 0.999)",
        "group 1     6 parameters, 6 with state of 25 elements",
        "4; as RAdam: start-up (momentum SGD), rho_t = 4.00",
    ):
        assert part in text


def test_inspect_knows_the_phase(capsys: pytest.CaptureFixture[str]) -> None:
    model, optimizer = trained()
    train(model, optimizer, range(SAVED_AT, 6))
    torch.save(optimizer.state_dict(), "optimizer.pt")
    torch.save({}, "rng_state_0.pth")
    assert main(["inspect", "."]) == 0
    text = capsys.readouterr().out
    assert "as RAdam: rectified, r_t = 0.0258, rho_t = 5.99" in text
    assert "parameters by number (one process or DDP)" in text
    assert "processes   1" in text


# Optimizers that RAdam does not continue: (shapes and numbers in a state, options of the group, what `inspect` says).
UNKNOWN: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "AdEMAMix": (
        {"step": 2, "exp_avg": (3,), "exp_avg_slow": (2, 3), "exp_avg_sq": (3,)}, {"betas": (0.9, 0.999, 0.9999)},
        ["avg [(3,)], exp_avg_slow [(2, 3)], exp_avg_sq [(3,)]", " step 2\n", "loads in    the optimizer that wrote"],
    ),
    "Lion": ({"exp_avg": (3,)}, {"betas": (0.9, 0.99)}, ["exp_avg [(3,)]", "no step is counted"]),
    "Schedule-Free": ({"z": (3,), "exp_avg_sq": (3,)}, {"k": 5, "betas": (0.9, 0.99)}, ["z [(3,)]", " step 5\n"]),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_inspect_of_an_unknown_optimizer(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shapes, options, parts = UNKNOWN[name]
    state = {key: torch.zeros(value) if isinstance(value, tuple) else value for key, value in shapes.items()}
    torch.save({"state": {0: state}, "param_groups": [{"params": [0], **options}]}, "optimizer.pt")
    assert main(["inspect", "optimizer.pt"]) == 0
    text = capsys.readouterr().out
    assert all(part in text for part in parts)
    assert "as RAdam" not in text


def with_state(**state: Any) -> Any:
    return lambda content: content["state"][0].update(state)


def with_options(**options: Any) -> Any:
    return lambda content: content["param_groups"][0].update(options)


OF_UNKNOWN_FORM = "is damaged or in an unknown format"
# name: (what is done to the state dict of one process, what the error says)
NONSENSE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "nan": (with_state(step=torch.tensor(float("nan"))), "whole number >= 0, got nan); copy the checkpoint again"),
    "huge": (with_state(step=10**400), "whole number >= 0, got 1000"),
    "text": (with_state(step="\x1b[31mfive\n"), "whole number >= 0, got '\\x1b[31mfive\\n'"),
    "vector": (with_state(step=torch.ones(2)), "whole number >= 0, got tensor([1., 1.])"),
    "beta2 of 1": (with_options(betas=(0.9, 1.0)), "betas of group 0 must be two numbers in [0, 1), got (0.9, 1.0)"),
    "beta2 of text": (with_options(betas=(0.9, "x")), "betas of group 0 must be two numbers in [0, 1), got (0.9, 'x')"),
    "params a number": (with_options(params=3), OF_UNKNOWN_FORM),
    "stray state": (lambda content: content["state"].update({99: {}}), "it has state for 99, which is in no group"),
    "unlike moments": (with_state(exp_avg=torch.zeros(2)), "the moments of 0 have two shapes"),
    "state a list": (lambda content: content.update(state=[1]), OF_UNKNOWN_FORM),
    "state of numbers": (lambda content: content["state"].update({0: 1}), OF_UNKNOWN_FORM),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_well_formed_nonsense_gets_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    act, message = NONSENSE[name]
    content = trained()[1].state_dict()
    act(content)
    torch.save(content, "optimizer.pt")
    started = time.perf_counter()
    assert main(["inspect", "."]) == 2
    assert time.perf_counter() - started < 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: optimizer.pt")
    assert message in err
    assert err[:-1].isprintable()


def test_inspect_prints_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    content = trained()[1].state_dict()
    content["param_groups"][0]["note\x1b[2J"] = "\x1b]0;title\x07\r\nformat  forged\u202e"
    content["state"][0]["\x1b[31m"] = torch.zeros(1)
    torch.save(content, "optimizer.pt")
    assert main(["inspect", "."]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.isprintable() for line in lines)
    assert next(line for line in lines if "forged" in line).startswith("            weight_decay=0.1")


class Evil:
    """What a pickle can do to whoever reads it."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("pwned",)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path, bit: int) -> None:
    """Turn one bit over; as an index, from the end if it is negative."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def put(content: Any) -> Callable[[Path], Any]:
    return lambda path: torch.save(content, path)


# name: (what is copied, of which a file, what is done to that, what the error says)
DAMAGES: dict[str, tuple[str, str, Callable[[Path], Any], str]] = {
    "shard missing": ("fsdp/sharded", "*.distcp", Path.unlink, ", one of 2 shards, is missing"),
    "shard truncated": ("fsdp/sharded", "*.distcp", truncate, "is truncated"),
    "shard overwritten": ("fsdp/sharded", "*.distcp", lambda f: f.write_bytes(b"x" * f.stat().st_size), "is damaged"),
    "no metadata": ("fsdp/sharded", ".metadata", Path.unlink, ".metadata is missing"),
    "metadata truncated": ("fsdp/sharded", ".metadata", truncate, ".metadata is damaged"),
    "metadata sealed wrongly": ("fsdp/sharded", ".metadata", lambda f: flip(f, -8), "its checksum differs"),
    "metadata with an end": ("fsdp/sharded", ".metadata", lambda f: flip(f, 8 * -20), "has extra bytes at its end"),
    "flattened": ("fsdp/flat", ".metadata", Path.touch, "was saved with flatten_optimizer_state_dict; save it without"),
    "metadata with code": (
        "fsdp/sharded", ".metadata", lambda f: f.write_bytes(pickle.dumps(Evil())), "which does not belong there"
    ),
    "full truncated": ("fsdp/full", "*.bin", truncate, OF_UNKNOWN_FORM),
    "full with code": ("fsdp/full", "*.bin", put(Evil()), "holds posix.mkdir, which is not loaded for safety"),
    "other groups": ("fsdp/full", "*.bin", put({"state": [], "param_groups": {}}), OF_UNKNOWN_FORM),
    "no optimizer": ("fsdp/full", "*.bin", put({"a": 1}), "is not an optimizer's state_dict"),
    "two forms": ("fsdp/full", "*.bin", lambda f: torch.save({}, f.with_suffix(".pt")), "has optimizer.bin and optim"),
    "empty folder": ("fsdp/full", "*.bin", Path.unlink, "has no optimizer state"),
    "output folder": (
        "fsdp/full", "*.bin", lambda f: [f.unlink(), f.with_name("checkpoint-3").mkdir()], "checkpoints (checkpoint-3)"
    ),
    "nothing": ("fsdp/full", "*.bin", lambda f: shutil.rmtree(f.parent), "does not exist; give a checkpoint's"),
    "zero shard missing": ("zero2", "*optim_states.pt", Path.unlink, "has 1 of 2 shards"),
    "zero without names": ("zero2", "mp_rank*", Path.unlink, "which names the parameters"),
    "zero with code": ("zero2", "*optim_states.pt", put(Evil()), "which is not loaded for safety"),
    "zero of another kind": ("zero2", "mp_rank*", put({}), "in an unknown format (KeyError: 'param_shapes')"),
    "zero with tensor parallelism": (
        "zero2", "*optim_states.pt", lambda f: f.rename(f.with_name("zero_pp_rank_0_mp_rank_01_optim_states.pt")),
        "split by tensor or expert parallelism",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damage(saves: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    kind, pattern, damage, message = DAMAGES[name]
    shutil.copytree(saves(kind), "copy")
    damage(sorted(Path("copy").rglob(pattern))[-1])
    for command in (["inspect", "copy"], ["consolidate", "copy", "out/optimizer.pt"]):
        assert main(command) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert message in err
    assert {path.name for path in tmp_path.iterdir()} <= {"copy"}

    model = make_model()
    optimizer = make_optimizer(model)
    with pytest.raises(CheckpointError):
        load_optimizer(model, optimizer, "copy")
    assert not optimizer.state  # as new


def test_consolidate_never_overwrites(capsys: pytest.CaptureFixture[str]) -> None:
    Path("optimizer.pt").write_text("precious")
    assert main(["consolidate", str(DEEPSPEED / "zero2"), "optimizer.pt"]) == 2
    assert capsys.readouterr().err == "error: optimizer.pt exists; give the name of a new file\n"
    assert Path("optimizer.pt").read_text() == "precious"


def test_consolidate_leaves_no_half_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full_disk(_: Any, path: Path) -> None:
        path.write_text("half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    assert main(["consolidate", str(DEEPSPEED / "zero2"), "optimizer.pt"]) == 2
    assert capsys.readouterr().err == "error: no space left on device\n"
    assert not list(Path().iterdir())


@whole_or_sharded
def test_a_failed_save_leaves_the_earlier_one(full: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, optimizer = saved(full=full)
    train(model, optimizer, [SAVED_AT])
    to_memory, fresh = torch.save, make_optimizer(model)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    def full_disk(*args: Any) -> None:
        if isinstance(args[-1], io.BytesIO):
            return to_memory(*args)
        raise OSError(errno.ENOSPC, "No space left on device")

    def is_there(step: int) -> bool:
        load_optimizer(model, fresh, "saved")
        return steps_of(fresh) == {step}

    with monkeypatch.context() as patch:
        patch.setattr(save_load, "_replace", killed)  # all is written, nothing is in its place
        with pytest.raises(KeyboardInterrupt):
            save_optimizer(model, optimizer, "saved", full=full)
    if not full:  # killed between the two renames of a folder
        Path("saved/optimizer_0").rename("saved/.optimizer_0.old")
    assert is_there(SAVED_AT)
    with monkeypatch.context() as patch:
        patch.setattr(*((torch, "save") if full else (FileSystemWriter, "write_data")), full_disk)
        with pytest.raises(CheckpointError, match=r"process 0 cannot write to saved \(.*left on device\); make room"):
            save_optimizer(model, optimizer, "saved", full=full)
    alone = ["optimizer.bin" if full else "optimizer_0"]
    assert [path.name for path in Path("saved").iterdir()] == alone
    assert is_there(SAVED_AT)
    save_optimizer(model, optimizer, "saved", full=full)
    assert [path.name for path in Path("saved").iterdir()] == alone
    assert is_there(SAVED_AT + 1)


@whole_or_sharded
@pytest.mark.parametrize("to", CLASSES)
@pytest.mark.parametrize("by", CLASSES)
def test_classes_interchange(by: str, to: str, full: bool) -> None:
    """Moments and step carry over, by name, into a used optimizer.

    torch's RAdam and AdamW have no state of a parameter without gradients.
    """
    model, optimizer = saved(CLASSES[by], full, betas=(0.8, 0.99))
    reference = make_optimizer(model, CLASSES[to])
    reference.load_state_dict(optimizer.state_dict())

    other_model, other = trained(CLASSES[to])
    train(other_model, other, [SAVED_AT])
    other_model.load_state_dict(weights_of(model))
    load_optimizer(other_model, other, "saved")
    assert other.param_groups[0]["betas"] == (0.8, 0.99)
    train(model, reference, range(SAVED_AT, END))
    train(other_model, other, range(SAVED_AT, END))
    assert difference(weights_of(other_model), weights_of(model)) == 0
    assert steps_of(other) == {END}


def test_groups_may_be_split_as_their_options_agree() -> None:
    model, optimizer = saved()
    others = [
        {"params": [p for p in model.parameters() if p.requires_grad and p.ndim > 1]},
        {"params": list(model.norm.parameters())},
        {"params": [p for n, p in model.named_parameters() if p.requires_grad and p.ndim == 1 and "norm" not in n]},
    ]
    other = RAdam(others)
    load_optimizer(model, other, "saved")
    assert [group["weight_decay"] for group in other.param_groups] == [0.1, 0.0, 0.0]
    for p, state in other.state.items():
        assert torch.equal(state["exp_avg"], optimizer.state[p]["exp_avg"])


def narrow_model() -> Model:
    model = make_model()
    model.second = nn.Linear(3, 7)
    return model


# name: (model, optimizer of it, what the error says)
UNFIT: dict[str, tuple[Callable[[], Any], Callable[[Any], Optimizer], str]] = {
    "other groups": (make_model, lambda m: RAdam(p for p in m.parameters() if p.requires_grad), "in 2 groups"),
    "fewer": (make_model, lambda m: RAdam(m.norm.parameters()), "has 'first.weight', which the optimizer lacks"),
    "more": (make_model, lambda m: RAdam(m.frozen.parameters()), "lacks 'frozen.weight'; build"),
    "other shapes": (narrow_model, make_optimizer, "of 'second.weight' with the shape (14, 3), not (7, 3)"),
}


@whole_or_sharded
@pytest.mark.parametrize("name", UNFIT)
def test_a_checkpoint_that_does_not_fit(name: str, full: bool) -> None:
    saved(full=full)
    make, optimizer_of, message = UNFIT[name]
    model = make()
    optimizer = optimizer_of(model)
    before = weights_of(model)
    with pytest.raises(CheckpointError) as caught:
        load_optimizer(model, optimizer, "saved")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not optimizer.state
    assert difference(weights_of(model), before) == 0


def test_misuse() -> None:
    model, optimizer = trained()
    new = make_optimizer(model)
    with pytest.raises(ValueError, match="no state before its first step; save it after a step"):
        save_optimizer(model, new, "saved")
    with pytest.raises(ValueError, match="the optimizer has a parameter that the model lacks"):
        save_optimizer(make_model(), optimizer, "saved")
    with pytest.raises(TypeError, match="under DeepSpeed use the engine's"):
        save_optimizer(model, object(), "saved")  # pyright: ignore[reportArgumentType]
    save_optimizer(model, optimizer, "saved")
    with pytest.raises(ValueError, match="optimizer_0 exists"):
        save_optimizer(model, optimizer, "saved", full=True)
    torch.save(optimizer.state_dict(), "optimizer.pt")
    with pytest.raises(CheckpointError, match="numbers its parameters"):
        load_optimizer(model, new, "optimizer.pt")
    torch.save({"state": {}, "param_groups": [{"params": ["first.weight"]}]}, "optimizer.bin")
    with pytest.raises(CheckpointError, match="saved before the first step"):
        load_optimizer(model, new, "optimizer.bin")
    with pytest.raises(CheckpointError, match="is DeepSpeed's"):
        load_optimizer(model, new, DEEPSPEED / "zero2")
    assert not new.state
    optimizer.state[model.first.weight]["projector"] = Evil()
    with pytest.raises(
        ValueError, match=r"the optimizer holds posix\.mkdir, which is not loaded .*; keep only tensors"
    ):
        save_optimizer(model, optimizer, "another")
    assert not Path("another").exists()


def test_wrapped_by_accelerate() -> None:
    model, optimizer = trained()
    accelerator = Accelerator(cpu=True)
    save_optimizer(model, accelerator.prepare_optimizer(optimizer), "saved")
    new = make_optimizer(model)
    load_optimizer(model, accelerator.prepare_optimizer(new), "saved")
    assert steps_of(new) == {SAVED_AT}


@whole_or_sharded
def test_all_that_load_state_dict_brings(full: bool) -> None:
    """What a group or a state has beyond the options and moments of RAdam, and the state of a frozen layer."""
    model, optimizer = trained()
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)  # notes its initial_lr
    optimizer.param_groups[0].update(lr=np.float64(1e-2) * np.cos(0.1), note={"betas": [1, (2, None)], "on": True})
    optimizer.param_groups[1]["lr"] = torch.tensor([1e-2])
    optimizer.state[model.first.weight].update({"mean": torch.ones(2), "count": 3, "none": None})
    model.first.requires_grad_(False)
    save_optimizer(model, optimizer, "saved", full=full)

    other_model = make_model()
    other = RAdam([{"params": group["params"]} for group in make_optimizer(other_model).param_groups])
    other_model.first.requires_grad_(False)
    other_model(torch.ones(2, 5)).sum().backward()
    load_optimizer(other_model, other, "saved")
    loaded = other.state_dict()
    expected, found = (dict(tree_flatten_with_path(state)[0]) for state in (optimizer.state_dict(), loaded))
    assert found.keys() == expected.keys()
    for path, value in found.items():
        assert torch.equal(value, expected[path]) if isinstance(value, Tensor) else value == expected[path]
    assert isinstance(loaded["param_groups"][0]["betas"], tuple)


@pytest.mark.parametrize("sealed", [True, False])
def test_damage_to_metadata_is_an_error_of_one_kind(sealed: bool) -> None:
    """Every bit of a sealed file counts; without the checksum (Accelerate's saves) some bits change nothing."""
    saved()
    path = Path("saved/optimizer_0/.metadata")
    content = path.read_bytes() if sealed else path.read_bytes().rpartition(b"\nhf_radam")[0]
    read = 0
    for bit in range(0, 8 * len(content), 2999):
        path.write_bytes(content)
        flip(path, bit)
        with contextlib.suppress(CheckpointError):
            read_checkpoint("saved", moments=False)
            read += 1
    assert not (sealed and read)


def test_a_load_that_the_optimizer_refuses_leaves_it_as_it_was() -> None:
    model, _ = saved()
    new = make_optimizer(model)
    before, groups = new.state, new.param_groups

    def refuse(_: Optimizer) -> None:
        raise KeyError("exp_avg")

    new.register_load_state_dict_post_hook(refuse)
    with pytest.raises(CheckpointError, match="does not fit RAdam: 'exp_avg'"):
        load_optimizer(model, new, "saved")
    assert new.state is before
    assert new.param_groups is groups
