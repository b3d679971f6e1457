"""The card of a Trainer names the optimizer that ran; a push keeps private files at home."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tiny
from comparisons import environment, run
from hub_server import HubServer
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback

from hf_radam import RAdamTrainer
from hf_radam.training import trainer_card


def tiny_trainer(folder: Path, **options: Any) -> RAdamTrainer:
    return tiny.ours(output_dir=str(folder), **{"max_steps": 7, "save_strategy": "steps", **options})


CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "radam": (
        {"optim_args": "betas=(0.8,0.98)"},
        ["- optimizer: hf_radam.optimizer.RAdam with lr=0.001, betas=(0.8, 0.98)", "weight_decay=0.1 and 0",
         "degenerated_to_sgd=True", "- rectification: r_t = ", "after 7 updates",
         "- warmup: none\n", "- gradient clipping: norm 1"],
    ),
    "start_up": ({"max_steps": 4, "adam_beta2": 0.99}, ["- rectification: still in start-up", "after 4 updates"]),
    "adam_with_warmup": (
        {"optim": "adam", "warmup_steps": 3, "max_grad_norm": 0.0, "bf16": True},
        ["torch.optim.adamw.AdamW with lr=0.001", "- warmup: 3 updates\n", "clipping: none", "precision: bf16"],
    ),
    "constant": (
        {"optim": "adamw_torch", "lr_scheduler_type": "constant", "warmup_steps": 4},
        ["- warmup: none\n", "- learning_rate: 0.001\n", "- lr_scheduler_type: constant\n"],
    ),
    "schedule_free": (
        {"optim": "schedule_free_radam", "lr_scheduler_type": "constant"},
        ["schedulefree.radam_schedulefree.RAdamScheduleFree with lr=0.001, betas=(0.9, 0.999)"],
    ),
    "of_transformers": ({"optim": "adafactor"}, ["- optimizer: transformers.optimization.Adafactor with lr=0.001"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_card_names_what_ran(name: str, tmp_path: Path) -> None:
    options, expected = CASES[name]
    trainer = tiny_trainer(tmp_path, **options)
    trainer.train()
    trainer.create_model_card()
    card = (tmp_path / "README.md").read_text()
    for text in expected:
        assert text in card
    assert card.count("- optimizer: ") == 1
    assert "Use " not in card, "a line of Transformers about the optimizer is left"
    assert "(https://huggingface.co/)" not in card, "a model from scratch has no origin"
    assert "weight_sum" not in card, "no option, but the optimizer's progress"
    assert ("lr_scheduler_warmup_steps" in card) == (name == "adam_with_warmup")


def test_a_scheduler_that_was_passed_in_is_said(tmp_path: Path) -> None:
    """The arguments say nothing of it, nor of the optimizer's learning rate."""
    trainer = tiny_trainer(tmp_path, warmup_steps=4)
    trainer.optimizer = AdamW(trainer.model.parameters(), lr=0.02)  # pyright: ignore[reportOptionalMemberAccess]
    trainer.lr_scheduler = LambdaLR(trainer.optimizer, lambda _: 0.5)
    trainer.train()
    trainer.create_model_card()
    card = (tmp_path / "README.md").read_text()
    assert "warmup" not in card.partition("hyperparameters were used")[2]
    assert "- lr_scheduler_type: passed in (LambdaLR)\n" in card
    assert "- learning_rate: 0.02\n" in card
    assert "torch.optim.adamw.AdamW with lr=0.02" in card


def test_push_to_hub(tmp_path: Path) -> None:
    """Every checkpoint and the end are pushed: no pickle among it, the right card, and no Space for the logs."""
    tracker = "trackio" if find_spec("trackio") else "none"
    script = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from pathlib import Path; from test_publishing_trainer import tiny_trainer\n"
        "t = tiny_trainer(Path('mine'), push_to_hub=True, hub_model_id='me/tiny', save_steps=4, hub_always_push=True,\n"
        f"                 report_to='{tracker}')\n"
        "t.train(); t.push_to_hub()\n"
    )
    with HubServer(tmp_path) as hub:
        client = environment(
            HF_ENDPOINT=hub.endpoint,
            HF_TOKEN=hub.token,
            HF_HOME=str(tmp_path / "home"),
            HF_HUB_DISABLE_XET="1",
            TRACKIO_DIR=str(tmp_path / "trackio"),
        )
        run([sys.executable, "-c", script, *Path(__file__).parents[:2]], env=client, cwd=tmp_path)
        files = hub.files("me/tiny")
        assert {"README.md", "config.json", "model.safetensors"} <= set(files)
        assert not any(path.endswith(".bin") for path in files)
        assert (tmp_path / "mine" / "training_args.bin").is_file()
        assert len(hub.history("me/tiny")) > 2, "no checkpoint was pushed"
        content = files["README.md"].content
        assert content is not None
        assert b"- optimizer: hf_radam.optimizer.RAdam with lr=0.001" in content
        assert not any("space" in request for request in hub.log)
        assert list(hub.repos) == [("models", "me/tiny")]


class Asked(TrainerCallback):
    """A tracker that publishes its logs with the model, as Trackio does."""

    def on_push_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        raise RuntimeError(f"static Space: {args.trackio_static_space_id}")


def test_a_tracker_is_asked_for_no_space(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path)
    trainer.add_callback(Asked())
    with pytest.raises(RuntimeError, match="static Space: False"):
        trainer.push_to_hub()


def test_a_space_that_was_asked_for_is_kept(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, trackio_static_space_id="me/logs")
    trainer_card._make_no_space(trainer)
    assert trainer.args.trackio_static_space_id == "me/logs"
