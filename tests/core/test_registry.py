"""Names, options, and the strings they are read from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import parameters, train

from hf_radam import RAdam, cli, get_optimizer, list_optimizers, register_optimizer, registry
from hf_radam.spec import parse_optim_args


@pytest.fixture(autouse=True)
def _restore_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


@pytest.mark.parametrize("name", registry._REGISTRY)
def test_every_name_trains(name: str) -> None:
    before, after = parameters(torch.float32), parameters(torch.float32)
    options: dict[str, Any] = {"freeze_steps": 2} if name == "adam_2k" else {}
    train(get_optimizer(name), after, steps=10, **options)
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_defaults_and_options() -> None:
    no_sgd = get_optimizer("radam_no_sgd")(parameters())
    assert isinstance(no_sgd, RAdam)
    assert not no_sgd.degenerated_to_sgd
    assert get_optimizer("adam_eps")(parameters()).param_groups[0]["eps"] == 1e-4
    assert get_optimizer("adam_eps")(parameters(), eps=1e-2).param_groups[0]["eps"] == 1e-2


def test_register() -> None:
    spec = register_optimizer("lazy", "torch.optim:SGD", defaults={"momentum": 0.5}, warmup_free=True)
    assert "lazy" in list_optimizers()
    assert get_optimizer("lazy") is spec
    assert spec(parameters(), lr=0.1).param_groups[0]["momentum"] == 0.5
    with pytest.raises(ValueError, match="registered already; choose another name or pass overwrite=True"):
        register_optimizer("lazy", torch.optim.SGD)
    assert register_optimizer("lazy", torch.optim.SGD, overwrite=True).target is torch.optim.SGD
    with pytest.raises(ValueError, match=r"package\.module:Class"):
        register_optimizer("other", "torch.optim.SGD")


def test_a_class_that_passes_options_on() -> None:
    class Mine(RAdam):
        def __init__(self, params: Any, **options: Any) -> None:
            super().__init__(params, **options)

    spec = register_optimizer("mine", Mine)
    assert {"lr", "betas", "degenerated_to_sgd"} <= set(spec.options())
    with pytest.raises(ValueError, match="unknown option of optimizer 'mine': 'degenerate'"):
        spec(parameters(), degenerate=1)


def test_missing_dependency_names_what_to_install() -> None:
    spec = register_optimizer("far", "no_such_package:Optimizer", extra="no-such-package")
    with pytest.raises(ImportError, match="pip install 'no-such-package'"):
        spec(parameters())


def radam(**options: Any) -> Any:
    return lambda: get_optimizer("radam")(parameters(), **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: get_optimizer("radm"), "unknown optimizer 'radm'; did you mean 'radam'"),
        (radam(warmup=3), "unknown option of optimizer 'radam': 'warmup'.* valid"),
        (radam(amsgrad="flase"), "'amsgrad' of optimizer 'radam' must be true or"),
        (radam(eps="tiny"), "'eps' of optimizer 'radam' must be a number"),
        (radam(fused="flase"), "'fused' of optimizer 'radam' must be true, false or"),
        (radam(lr=True), "'lr' of optimizer 'radam' must be a number, got True"),
        (radam(betas=0.9), "'betas' of optimizer 'radam' must be a tuple"),
        (lambda: parse_optim_args("betas=(0.9,0.98)),eps=1"), "closing bracket without an opening one"),
        (lambda: parse_optim_args("eps"), "must read 'key=value,key=value', but one entry is 'eps'"),
        (lambda: parse_optim_args("eps=1,eps=2"), "gives 'eps' twice"),
    ],
)
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, {}),
        ("", {}),
        ("degenerated_to_sgd=False", {"degenerated_to_sgd": False}),
        (" betas = (0.9, 0.98) , eps=1e-6,", {"betas": (0.9, 0.98), "eps": 1e-6}),
        ("betas=[0.9,0.98],foreach=none,kind=slow", {"betas": (0.9, 0.98), "foreach": None, "kind": "slow"}),
    ],
)
def test_parse_optim_args(text: str | None, expected: dict[str, Any]) -> None:
    assert parse_optim_args(text) == expected


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["optimizers", "--all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines if line.startswith("  ")) == sorted(list_optimizers())
