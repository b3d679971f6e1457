"""The only file that uploads: a folder to a repo on the Hub, and every failure in one line with its remedy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, constants, set_client_factory
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import get_session, httpx, validate_repo_id

from hf_radam.experiments.typed import UserError

# What the bundle owns in the repo: what lies there and is in it no longer, is deleted. Other files are left alone.
_OWNED = ("figures/*", "records/*", "data/*")
_AGAIN = "the same command completes the job"


class NetworkError(Exception):
    """The network's or the Hub's fault; the message says what to do, scripts print it and exit with 1."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where to upload."""

    repo_id: str
    """namespace/name."""
    repo_type: Literal["model", "dataset"] = "model"
    """Kind of the repo."""
    private: bool = False
    """Whether nobody else may see it."""
    revision: str | None = None
    """Branch, made if missing, or refs/pr/N; by default main."""
    create_pr: bool = False
    """Open a pull request instead of committing to main."""
    collection: str | None = None
    """Slug of a collection to put the repo in, or title of one of the namespace's, made if missing."""

    def __post_init__(self) -> None:
        try:
            validate_repo_id(self.repo_id)
        except HFValidationError as error:
            raise UserError(f"--repo_id: {_line(error)}") from error
        if "/" not in self.repo_id:
            raise UserError(f"--repo_id must be namespace/name, got {self.repo_id!r}; yours is in `hf auth whoami`")
        if self.create_pr and self.revision is not None:
            raise UserError(
                "--create_pr and --revision exclude each other: a pull request has its own branch; drop one"
            )


@dataclass(frozen=True, kw_only=True)
class Published:
    """What an upload did."""

    url: str
    """Of the page."""
    commit: str
    """The last commit there."""
    changed: bool
    """False where the repo held everything already."""
    pull_request: str | None = None
    """Its URL."""


def limit_waiting(seconds: float) -> None:
    """Give every request of huggingface_hub that has no time limit of its own this one, for this process.

    It counts from the last sign of life of the server, so that a slow upload is no hang.
    """
    # The client of huggingface_hub itself, made by its own factory: one line here instead of a copy of its hooks.
    make_client = type(get_session())
    hooks = get_session().event_hooks
    set_client_factory(
        lambda: make_client(event_hooks=hooks, follow_redirects=True, timeout=httpx.Timeout(seconds, connect=10))
    )


def publish(folder: Path, target: Target, message: str) -> Published:
    """Upload a folder; what the repo holds already is not sent again.

    Args:
        folder: file by file what the repo shall hold.
        target: where.
        message: of the commit.

    Raises:
        UserError: no token, or one that may not do this; a name that cannot be; metadata that the Hub refuses.
        NetworkError: the Hub cannot be reached, is busy or broken, or somebody else committed in between.
    """
    api = HfApi()
    with _explained(target):
        api.whoami()
        url = api.create_repo(target.repo_id, repo_type=target.repo_type, private=target.private, exist_ok=True)
        if target.private and not api.repo_info(target.repo_id, repo_type=target.repo_type).private:
            raise UserError(
                f"{target.repo_id} exists and is public; make it private on its settings page, or drop --private"
            )
        if target.revision is not None and not target.revision.startswith("refs/"):
            api.create_branch(target.repo_id, repo_type=target.repo_type, branch=target.revision, exist_ok=True)
        before = api.repo_info(target.repo_id, repo_type=target.repo_type, revision=target.revision).sha
        commit = api.upload_folder(
            repo_id=target.repo_id,
            repo_type=target.repo_type,
            folder_path=folder,
            revision=target.revision,
            create_pr=target.create_pr,
            delete_patterns=list(_OWNED),
            commit_message=message,
        )
        if target.collection is not None:
            _collect(api, target, target.collection)
    return Published(url=str(url), commit=commit.oid, changed=commit.oid != before, pull_request=commit.pr_url)


def _collect(api: HfApi, target: Target, collection: str) -> None:
    if "/" not in collection:
        namespace = target.repo_id.partition("/")[0]
        collection = api.create_collection(collection, namespace=namespace, private=target.private, exists_ok=True).slug
    api.add_collection_item(collection, item_id=target.repo_id, item_type=target.repo_type, exists_ok=True)


@contextmanager
def _explained(target: Target) -> Iterator[None]:
    """Turn what the client raises into one line: the fault, and the remedy."""
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise UserError("no access token: run `hf auth login`, or set HF_TOKEN to a token with write access") from error
    except OfflineModeIsEnabled as error:
        raise UserError("offline mode is on: unset HF_HUB_OFFLINE to upload") from error
    except HfHubHTTPError as error:
        raise _of_status(error, target) from error
    except httpx.TimeoutException as error:
        raise NetworkError(
            f"{constants.ENDPOINT} did not answer in time; {_AGAIN}, or give a longer --timeout"
        ) from error
    except httpx.HTTPError as error:
        raise NetworkError(f"{constants.ENDPOINT} cannot be reached ({_line(error)}); {_AGAIN} later") from error
    except json.JSONDecodeError as error:  # the client reads the answer before it looks at the status
        raise NetworkError(f"{constants.ENDPOINT} answered with something else than JSON; {_AGAIN} later") from error
    except ValueError as error:
        raise UserError(f"the Hub refuses this: {_line(error)}") from error
    except (RuntimeError, ConnectionError, TimeoutError) as error:  # of hf_xet, or of the threads that upload
        raise NetworkError(f"the upload broke off ({_line(error.__cause__ or error)}); {_AGAIN}") from error


def _of_status(error: HfHubHTTPError, target: Target) -> Exception:
    status = error.response.status_code
    said = _line(error.server_message or error.response.reason_phrase)
    if status == 401:
        return UserError("the Hub does not know this access token: run `hf auth login --force`, or set HF_TOKEN anew")
    if status in (402, 403):
        return UserError(
            f"this access token may not write to {target.repo_id} ({said}): use a namespace of yours, or a token with "
            "write access to it"
        )
    if status == 404:
        return UserError(f"not found on the Hub ({said}): check --repo_id, --revision and --collection")
    if status in (409, 412):
        return NetworkError(f"somebody else changed {target.repo_id} at the same time ({said}); {_AGAIN}")
    if status == 429:
        wait = error.response.headers.get("Retry-After")
        return NetworkError(f"the Hub limits how much one may send; {_AGAIN} " + (f"in {wait} s" if wait else "later"))
    if status == 408 or status >= 500:
        return NetworkError(f"the Hub has trouble ({status} {said}); {_AGAIN} later")
    return UserError(f"the Hub refuses this ({status}): {said}")


def _line(text: object) -> str:
    return " ".join(str(text).split())
