"""The only file that uploads: a folder to a repo on the Hub, and every failure in one line with its remedy."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi, RepoCard, RepoFile, constants, errors
from huggingface_hub.utils import httpx
from huggingface_hub.utils.sha import git_hash, sha_fileobj

from hf_radam.errors import NetworkError, UserError
from hf_radam.files import one_line
from hf_radam.publishing.bundle import MARK, files_below
from hf_radam.publishing.card import Choice

_AGAIN = "the same command completes the job later"
# What the Hub itself puts into a new repo.
_DEFAULT = {".gitattributes", "README.md"}


def look(folder: Path, target: Choice) -> list[str]:
    """Find out whether `publish` may upload a folder, and what it will delete; changes nothing.

    Returns:
        The files there that an earlier publication has written and that this one no longer has.

    Raises:
        UserError: no token; metadata that the Hub refuses; a repo with other content.
        NetworkError: as of `publish`.
    """
    api, here, repo = HfApi(), files_below(folder), target.repo_id
    with explained(repo):
        api.whoami()
        RepoCard.load(folder / "README.md").validate(target.repo_type)
        try:
            tree = api.list_repo_tree(repo, repo_type=target.repo_type, recursive=True)
            there = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
        except errors.RepositoryNotFoundError:
            there = {}
        if MARK in there:
            with TemporaryDirectory() as to:
                mark = api.hf_hub_download(repo, MARK, repo_type=target.repo_type, local_dir=to)
                written = Path(mark).read_text(encoding="utf-8").splitlines()
            return sorted(there.keys() & set(written) - here.keys())
    default = _DEFAULT | ({"index.html", "style.css"} if target.repo_type == "space" else set())
    kept = default if there.keys() <= default else {".gitattributes"}
    # An upload that broke off has left some of these files.
    if lost := sorted(path for path in there.keys() & here.keys() - kept if not _is_same(there[path], here[path])):
        raise UserError(
            f"only what `publish` has written is overwritten, and {repo} holds another {', '.join(lost[:3])}; choose "
            "another --repo_id, or remove that there first"
        )
    return []


def _is_same(there: RepoFile, here: Path) -> bool:
    if there.lfs is None:
        return there.size == here.stat().st_size and there.blob_id == git_hash(here.read_bytes())
    with here.open("rb") as file:
        return there.lfs.sha256 == sha_fileobj(file).hex()


def publish(folder: Path, target: Choice, deleted: list[str]) -> tuple[str, bool]:
    """Upload a folder and delete what `look` has found; what the repo holds already is not sent again.

    Returns:
        The address of the page, or of the pull request, and whether anything has changed there.

    Raises:
        UserError: a token that may not do this; a repo that is public and shall be private.
        NetworkError: the Hub cannot be reached, is busy or broken, or somebody else committed in between.
    """
    api, repo, kind = HfApi(), target.repo_id, target.repo_type
    with explained(repo):
        sdk = "static" if kind == "space" else None
        url = api.create_repo(repo, repo_type=kind, private=target.private, exist_ok=True, space_sdk=sdk)
        before = api.repo_info(repo, repo_type=kind)
        if target.private and not before.private:
            raise UserError(
                f"--private needs a private repo, and {repo} is public; make it private on its settings page, or drop "
                "--private"
            )
        commit = api.upload_folder(
            repo_id=repo, repo_type=kind, folder_path=folder, create_pr=target.create_pr,
            delete_patterns=[glob.escape(path) for path in deleted] or None, commit_message="Publish the comparison",
        )  # fmt: skip
    return commit.pr_url or str(url), commit.oid != before.sha


@contextmanager
def explained(repo_id: str) -> Iterator[None]:
    """Turn what the client raises into one line: the fault, and the remedy.

    Raises:
        UserError: the user's fault.
        NetworkError: the network's or the Hub's.
    """
    try:
        yield
    except errors.LocalTokenNotFoundError as error:
        raise UserError("no access token: run `hf auth login`, or set HF_TOKEN to a token with write access") from error
    except errors.OfflineModeIsEnabled as error:
        raise UserError("offline mode is on: unset HF_HUB_OFFLINE to upload") from error
    except errors.HfHubHTTPError as error:
        raise _of_status(error, repo_id) from error
    except (httpx.HTTPError, json.JSONDecodeError, KeyError) as error:  # of the network, or of a proxy's own answer
        why = f"cannot be reached, or does not answer as the Hub does ({one_line(error)})"
        raise NetworkError(f"{constants.ENDPOINT} {why}; {_AGAIN}") from error
    except ValueError as error:
        raise UserError(f"the Hub refuses this: {one_line(error)}") from error
    except (RuntimeError, ConnectionError, TimeoutError) as error:  # of hf_xet, or of the threads that upload
        if re.search(r"\b40[13]\b", str(error.__cause__ or error)):
            raise UserError(f"this access token may not upload to {repo_id}: use one with write access") from error
        raise NetworkError(f"the upload broke off ({one_line(error.__cause__ or error)}); {_AGAIN}") from error


def _of_status(error: errors.HfHubHTTPError, repo_id: str) -> Exception:
    status = error.response.status_code
    said = f"{status} {one_line(error.server_message or error.response.reason_phrase)}"
    if status in (401, 402, 403):
        return UserError(
            f"this access token may not write to {repo_id} ({said}): `hf auth login --force` with one that may"
        )
    if status in (408, 409, 412, 429) or status >= 500:
        return NetworkError(f"the Hub could not do it now ({said}); {_AGAIN}")
    return UserError(f"the Hub refuses this ({said}): check --repo_id")
