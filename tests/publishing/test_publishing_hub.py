"""Uploads, by a real client to a server of our own: complete, repeatable, resumable, and every failure in one line."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from comparisons import environment, run
from hub_server import HubServer
from huggingface_hub import HfApi, RepoCard, constants, set_client_factory
from huggingface_hub.utils._http import default_client_factory
from made_up import write_results
from sketches import sketches

from hf_radam.cli import main
from hf_radam.errors import NetworkError, UserError
from hf_radam.publishing import bundle as bundle_module
from hf_radam.publishing import upload
from hf_radam.publishing.bundle import MARK, build, files_below
from hf_radam.publishing.card import Choice
from hf_radam.publishing.upload import explained, look

# The client's own upload without Xet calls httpx in an old way.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
    pytest.mark.usefixtures("sketched"),
]

PUBLISH = [sys.executable, "-m", "hf_radam", "publish"]
REPO = "me/invented"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    losses: Any = {"adam_warmup": [0.5], "radam": [0.6]}
    return write_results(tmp_path_factory.mktemp("results") / "results", losses)


@pytest.fixture(scope="module")
def built(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with sketches():
        return build(results, tmp_path_factory.mktemp("built") / "hub", Choice(repo_id=REPO)).parent


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Path:
    """What is uploaded, to be changed at will."""
    return Path(shutil.copytree(built, tmp_path / "bundle"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The server, and a client in this process that talks to it, without Xet."""
    with HubServer(tmp_path) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        template = f"{server.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", server.token)
        yield server
    set_client_factory(default_client_factory)


def publish(folder: Path, target: Choice) -> tuple[str, bool]:
    return upload.publish(folder, target, look(folder, target))


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in files_below(folder).items() if path.is_file()}


def client(hub: HubServer, tmp_path: Path, **changes: str) -> dict[str, str]:
    known = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": hub.token, "HF_HOME": str(tmp_path / "home")}
    return environment(**known, HF_HUB_DISABLE_XET="1", **changes)


def test_publish_kill_publish_and_download(results: Path, tmp_path: Path) -> None:
    """As a user types it: killed before the commit, started again, complete; what arrived is what was written."""
    folder = Path(shutil.copytree(results, tmp_path / "results"))
    command, built = [*PUBLISH, folder, "--repo_id", REPO, "--yes"], folder / "hub" / "model"
    with HubServer(tmp_path) as hub:
        hub.fail("POST /api/models/me/invented/commit", hang=60)
        killed = subprocess.Popen([str(part) for part in command], env=client(hub, tmp_path), stdout=subprocess.DEVNULL)
        assert hub.reached.wait(120)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert hub.history(REPO) == ["initial commit"]
        sent = [request for request in hub.log if request.startswith("PUT")]
        assert len(sent) == len(list(built.rglob("*.png"))) + 1, "all figures and the weights"
        hub.heal()
        done = run(command, env=client(hub, tmp_path))
        assert "is up to date" in done.stdout
        assert hub.history(REPO) == ["initial commit", "Publish the comparison"]
        assert not any(request.startswith("PUT") for request in hub.log), "what had arrived was sent again"
        download = "from huggingface_hub import snapshot_download as s; s('me/invented', local_dir='down')"
        run([sys.executable, "-c", download], env=client(hub, tmp_path), cwd=tmp_path)
    arrived = bytes_below(tmp_path / "down")
    del arrived[".gitattributes"]
    assert arrived == bytes_below(built)
    shutil.rmtree(folder / "hub")
    assert bytes_below(folder) == bytes_below(results)


@pytest.mark.parametrize("xet", [False, True])
def test_only_what_changed_is_sent(xet: bool, bundle: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", not xet)
    target = Choice(repo_id=REPO)
    first = publish(bundle, target)
    assert first[1]
    sizes = {path: file.size for path, file in hub.files(REPO).items() if path not in (".gitattributes", MARK)}
    assert sizes == {path: len(content) for path, content in bytes_below(bundle).items()}

    hub.heal()
    assert publish(bundle, target) == (first[0], False)
    assert not any("commit" in request or request.startswith("PUT") for request in hub.log)

    hub.heal()
    before = {path: file.sha256 for path, file in hub.files(REPO).items()}
    figure = bundle / "figures" / "evaluation.png"
    figure.write_bytes(figure.read_bytes() + b"\0")
    (bundle / "records" / "extra.json").write_text("{}")
    (bundle / "figures" / "evaluation_dark.png").unlink()
    assert publish(bundle, target)[1]
    after = {path: file.sha256 for path, file in hub.files(REPO).items()}
    changed = {path for path in after if after[path] != before.get(path)}
    assert changed == {"figures/evaluation.png", "records/extra.json"}
    assert set(before) - set(after) == {"figures/evaluation_dark.png"}, "what the bundle owns no longer"
    assert sum(request.startswith("PUT") for request in hub.log) == (0 if xet else 1)
    assert len(hub.history(REPO)) == 3


def test_what_an_earlier_publication_left_is_deleted(bundle: Path, hub: HubServer) -> None:
    """Weights with their tokenizer and configuration, too; never what others have put there."""
    stale = ["config.json", "index.html", "model.safetensors", "records/[old]*.json", "tokenizer.json"]
    for path in ("index.html", "records/[old]*.json"):
        (bundle / path).write_text("{}")
    (bundle / MARK).write_text("\n".join(files_below(bundle)))
    target = Choice(repo_id=REPO)
    publish(bundle, target)
    mine = ["notes.md", "mine/model.safetensors", "records/other.json"]
    for path in mine:
        HfApi().upload_file(path_or_fileobj=b"mine", path_in_repo=path, repo_id=REPO)
    for path in stale:
        (bundle / path).unlink()
    (bundle / MARK).write_text("\n".join(files_below(bundle)))
    assert look(bundle, target) == stale
    before = hub.files(REPO)
    publish(bundle, target)
    assert set(before) - set(hub.files(REPO)) == set(stale)
    assert set(mine) < set(hub.files(REPO))


# files of a repo beside .gitattributes, and whether they may stay as they are
STRANGERS: dict[str, tuple[dict[str, bytes], bool]] = {
    "empty": ({}, True),
    "default_card": ({"README.md": b"---\nlicense: mit\n---\n"}, True),
    "nothing_in_the_way": ({"notes.md": b"mine", "records/a.json": b"{}"}, True),
    "a_card_of_somebody": ({"README.md": b"# Mine", "notes.md": b"mine"}, False),
    "weights_of_somebody": ({"model.safetensors": b"mine"}, False),
    "another_comparison_file": ({"comparison.json": b"[1]", "records/a.json": b"{}"}, False),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_files_of_others_are_never_lost(name: str, bundle: Path, hub: HubServer) -> None:
    files, allowed = STRANGERS[name]
    HfApi().create_repo(REPO)
    for path, content in files.items():
        HfApi().upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=REPO)
    before = hub.files(REPO)
    if allowed:
        publish(bundle, Choice(repo_id=REPO))
        assert set(before) < set(hub.files(REPO))
        return
    with pytest.raises(UserError, match=r"holds another (README\.md|model\.safetensors|comparison\.json)"):
        publish(bundle, Choice(repo_id=REPO))
    assert hub.files(REPO) == before


def test_an_upload_that_broke_off_between_commits_is_no_stranger(bundle: Path, hub: HubServer) -> None:
    """Large folders arrive in several commits: the first may lack the file by which we know our own."""
    HfApi().create_repo(REPO)
    some = ["README.md", "model.safetensors", "records/*"]
    HfApi().upload_folder(repo_id=REPO, folder_path=bundle, allow_patterns=some)
    publish(bundle, Choice(repo_id=REPO))
    assert set(bytes_below(bundle)) < set(hub.files(REPO))


def test_where_it_goes(bundle: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A private repo that cannot have been public, a dataset, and a pull request."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    publish(bundle, Choice(repo_id="team/x", private=True))
    assert hub.repos["models", "team/x"].private
    publish(bundle, Choice(repo_id=REPO))
    with pytest.raises(UserError, match="--private needs a private repo"):
        publish(bundle, Choice(repo_id=REPO, private=True))
    assert len(hub.history(REPO)) == 2
    (bundle / "notes.md").write_text("mine")
    publish(bundle, Choice(repo_id="me/y", repo_type="dataset"))
    assert "notes.md" in hub.files("me/y", kind="datasets")
    address, _ = publish(bundle, Choice(repo_id="me/z", create_pr=True))
    assert address.endswith("/discussions/1")
    assert hub.history("me/z") == ["initial commit"]
    assert hub.history("me/z", revision="refs/pr/1") == ["initial commit", "Publish the comparison"]


def test_a_page_is_a_static_space(results: Path, hub: HubServer, tmp_path: Path) -> None:
    """Which holds one file to look at."""
    choice = Choice(repo_id="me/page", repo_type="space")
    card = build(results, tmp_path / "hub", choice)
    assert RepoCard.load(card).data.to_dict()["sdk"] == "static"
    publish(card.parent, choice)
    assert set(hub.files("me/page", kind="spaces")) - {".gitattributes"} == {
        MARK, "README.md", "comparison.json", "index.html",
    }  # fmt: skip
    assert not publish(card.parent, choice)[1]
    assert "<title>Invented</title>" in (card.parent / "index.html").read_text(encoding="utf-8")


# name: fault, flags, environment, exit code, what the one line says
FAILURES: dict[str, tuple[dict[str, Any], list[str], dict[str, str], int, str]] = {
    "no_token": ({}, [], {"HF_TOKEN": ""}, 2, "hf auth login"),
    "bad_token": ({}, [], {"HF_TOKEN": "hf_wrong"}, 2, "may not write to me/invented (401 "),
    "foreign_namespace": ({}, ["--repo_id", "them/x"], {}, 2, "may not write to them/x"),
    "bad_name": ({}, ["--repo_id", "me/a--b"], {}, 2, "--repo_id"),
    "no_namespace": ({}, ["--repo_id", "x"], {}, 2, "namespace/name"),
    "bad_license": ({}, ["--license", "My Own"], {}, 2, "license"),
    "conflict": ({"pattern": "commit/main", "status": 409}, [], {}, 1, "the same command completes the job"),
    "rate_limit": ({"pattern": "whoami", "status": 429}, [], {}, 1, "could not do it now (429 "),
    "hub_down": ({"pattern": "repos/create", "status": 503}, [], {}, 1, "could not do it now (503 "),
    "proxy": ({"pattern": "repos/create", "status": 200}, [], {}, 1, "does not answer as the Hub does"),
    "lfs_refused": ({"pattern": "objects/batch", "status": 403}, [], {}, 2, "may not write"),
    "broken_upload": ({"pattern": "PUT /objects", "status": 400}, [], {}, 1, "the same command completes the job"),
}  # fmt: skip


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, results: Path, built: Path) -> Any:
    """`hf-radam publish` in this process, of what was built before."""
    monkeypatch.setattr(bundle_module, "build", lambda *_: built / "README.md")
    return lambda *flags: main(["publish", str(results), "--repo_id", REPO, *flags])


@pytest.mark.parametrize("name", FAILURES)
def test_failures_end_in_one_line(
    name: str, hub: HubServer, command: Any, results: Path, bundle: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    fault, flags, variables, code, said = FAILURES[name]
    if "--license" in flags:
        card = bundle / "README.md"
        card.write_text(card.read_text().replace("license: apache-2.0", f"license: {flags[-1]}"))
        monkeypatch.setattr(bundle_module, "build", lambda *_: card)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    if fault:
        hub.fail(**fault)
    assert command("--yes", *flags) == code
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert said in error
    assert len(error) < 300
    if name == "bad_license":
        assert not hub.repos, "something was made before it was refused"
    if code == 1:  # the same command completes the job later
        hub.heal()
        assert command("--yes", *flags) == 0
        assert hub.history(REPO)[-1] == "Publish the comparison"


def test_the_host_is_down(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    with HubServer(tmp_path) as gone:
        pass
    monkeypatch.setattr(constants, "ENDPOINT", gone.endpoint)
    monkeypatch.setenv("HF_TOKEN", gone.token)
    assert command("--yes") == 1
    assert "cannot be reached" in capsys.readouterr().err
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert command("--yes") == 2
    assert "unset HF_HUB_OFFLINE" in capsys.readouterr().err
    set_client_factory(default_client_factory)


@pytest.mark.parametrize("bug", [KeyError("x"), ValueError("x"), RuntimeError("x"), AttributeError("x")])
def test_bugs_of_our_own_are_not_called_faults_of_others(
    bug: Exception, bundle: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    HfApi().create_repo(REPO)
    HfApi().upload_file(path_or_fileobj=b"x" * 7, path_in_repo="config.json", repo_id=REPO)
    (bundle / "config.json").write_bytes(b"y" * 7)
    monkeypatch.setattr(upload, "git_hash", Mock(side_effect=bug))
    with pytest.raises(type(bug), match="x"):
        publish(bundle, Choice(repo_id=REPO))


def test_what_xet_says_is_understood() -> None:
    with pytest.raises(NetworkError, match=r"broke off .*broken pipe"), explained(REPO):
        raise RuntimeError("Data processing error: CAS service error: broken pipe")


def test_without_yes_nothing_is_uploaded(command: Any, hub: HubServer, built: Path, capsys: Any) -> None:
    """Not with --dry_run, and not where nobody can be asked."""
    assert command() == 0
    shown = capsys.readouterr().out
    assert "give --yes" in shown
    assert f"card: {built / 'README.md'}" in shown
    assert "records/radam-lr0.001-seed0-" in shown
    assert command("--dry_run", "--yes") == 0
    assert hub.log == []


def test_on_a_terminal_it_asks(
    command: Any, hub: HubServer, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """After it has listed what will be deleted. The end of the input is a no."""
    publish(bundle, Choice(repo_id=REPO))
    (bundle / "figures" / "evaluation_dark.png").unlink()
    (bundle / MARK).write_text("\n".join(files_below(bundle)))
    monkeypatch.setattr(bundle_module, "build", lambda *_: bundle / "README.md")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    for typed, commits in ((EOFError, 1), (["n"], 1), (["y"], 2)):
        monkeypatch.setattr("builtins.input", Mock(side_effect=typed))
        assert command() == 0
        assert "to be deleted on the Hub:\n  figures/evaluation_dark.png\n" in capsys.readouterr().out
        assert len(hub.history(REPO)[1:]) == commits


def test_a_leak_stops_everything(hub: HubServer, results: Path, tmp_path: Path, capsys: Any) -> None:
    leaking = Path(shutil.copytree(results, tmp_path / "leaking"))
    record = next(leaking.glob("records/radam-*"))
    record.write_text(record.read_text().replace("a processor", "/home/ann/cpu"))
    assert main(["publish", str(leaking), "--repo_id", REPO, "--yes"]) == 2
    error = capsys.readouterr().err
    assert "nothing was uploaded" in error
    assert "absolute path" in error
    assert "ann" not in error
    assert hub.log == []
