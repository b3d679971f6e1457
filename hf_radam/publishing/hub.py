"""The only file that uploads: a folder to a repo on the Hub."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from huggingface_hub import Discussion, HfApi, RepoFile, constants, set_client_factory
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status, httpx, validate_repo_id
from huggingface_hub.utils.sha import git_hash, sha_fileobj

from hf_radam.experiments.report.escape import one_line
from hf_radam.experiments.schema import UserError
from hf_radam.publishing.failures import explained
from hf_radam.publishing.folder import MARK, files_below

# What publications of ours consist of: what an earlier one has left in a repo is deleted. Other files are left alone.
_OWNED = re.compile(
    r"(figures|records|data)/.+|(report|index)\.html|[^/]+\.(safetensors|safetensors\.index\.json|spm)|(\w+_)?config\.json"
    r"|tokenizer\.(json|model)|vocab\.(json|txt)|merges\.txt|added_tokens\.json|special_tokens_map\.json"
    r"|chat_template\.(json|jinja)"
)
# What the Hub itself puts into a new repo.
_DEFAULT = frozenset({".gitattributes", "README.md"})
_SLUG = re.compile(r"-[0-9a-f]{24}$")


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where to upload."""

    repo_id: str
    """namespace/name."""
    repo_type: Literal["model", "dataset", "space"] = "model"
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
            raise UserError(f"--repo_id: {one_line(str(error))}") from error
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


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an upload will do to a repo."""

    target: Target
    """Where; with the branch of a pull request that is to be continued."""
    deleted: Sequence[str] = ()
    """Files there that are in the publication no longer."""
    pull_request: str | None = None
    """URL of the one that is to be continued."""


def look(folder: Path, target: Target, message: str) -> Plan:
    """Find out what `publish` will do, and whether it may; changes nothing.

    Args:
        folder: file by file what the repo shall hold.
        target: where.
        message: of the commit, and the title of a pull request.

    Raises:
        UserError: no token; metadata that the Hub refuses; no such collection; a repo with other content.
        NetworkError: as of `publish`.
    """
    api = HfApi()
    with explained(target.repo_id):
        user = api.whoami()["name"]
        if target.collection is not None and _SLUG.search(target.collection):
            api.get_collection(target.collection)
    _check_card(folder / "README.md", target)
    begun = _begun_pull_request(api, target, user, message)
    if begun is not None:
        target = replace(target, create_pr=False, revision=f"refs/pr/{begun.num}")
    return Plan(target=target, deleted=_deleted(api, folder, target), pull_request=begun and begun.url)


def publish(folder: Path, target: Target, message: str, plan: Plan | None = None) -> Published:
    """Upload a folder; what the repo holds already is not sent again.

    Args:
        folder: file by file what the repo shall hold.
        target: where.
        message: of the commit, and the title of a pull request; one of that title is continued.
        plan: what `look` has found, if it has been asked.

    Raises:
        UserError: no token, or one that may not do this; a name that cannot be; metadata that the Hub refuses; a repo
            that holds something else.
        NetworkError: the Hub cannot be reached, is busy or broken, or somebody else committed in between.
    """
    plan = plan or look(folder, target, message)
    target, api = plan.target, HfApi()
    about: dict[str, Any] = {"repo_type": target.repo_type}
    with explained(target.repo_id):
        url = api.create_repo(target.repo_id, private=target.private, exist_ok=True, space_sdk=_sdk(target), **about)
        private = api.repo_info(target.repo_id, **about).private
    if target.private and not private:
        raise UserError(
            f"{target.repo_id} exists and is public; make it private on its settings page, or drop --private"
        )
    ours = [glob.escape(path) for path in plan.deleted]
    with explained(target.repo_id):
        if target.revision is not None and not target.revision.startswith("refs/"):
            api.create_branch(target.repo_id, branch=target.revision, exist_ok=True, **about)
        before = api.repo_info(target.repo_id, revision=target.revision, **about).sha
        commit = api.upload_folder(
            repo_id=target.repo_id,
            folder_path=folder,
            revision=target.revision,
            create_pr=target.create_pr,
            ignore_patterns=[MARK],
            delete_patterns=ours or None,
            commit_message=message,
            **about,
        )
        if target.collection is not None:
            _collect(api, target, target.collection)
    pull_request = commit.pr_url or plan.pull_request
    return Published(url=str(url), commit=commit.oid, changed=commit.oid != before, pull_request=pull_request)


def _sdk(target: Target) -> str | None:
    return "static" if target.repo_type == "space" else None


def _check_card(card: Path, target: Target) -> None:
    """Ask the Hub about the card's metadata. Uploads ask as well, but only when the repo has been made."""
    content = {"content": card.read_text(encoding="utf-8"), "repoType": target.repo_type}
    reasons: list[str] = []
    with explained(target.repo_id):
        answer = get_session().post(f"{constants.ENDPOINT}/api/validate-yaml", json=content, headers=build_hf_headers())
        if answer.status_code == 400:
            reasons = [error["message"] for error in answer.json()["errors"]]
        else:
            hf_raise_for_status(answer)
    if reasons:
        raise UserError(f"the Hub refuses the card: {one_line('; '.join(reasons))}")


def _begun_pull_request(api: HfApi, target: Target, user: str, title: str) -> Discussion | None:
    if not target.create_pr:
        return None
    with explained(target.repo_id):
        try:
            ours = list(
                api.get_repo_discussions(
                    target.repo_id, repo_type=target.repo_type, author=user, discussion_type="pull_request"
                )
            )
        except RepositoryNotFoundError:
            return None
    return next((d for d in ours if d.title == title and d.author == user and d.status in ("open", "draft")), None)


def _deleted(api: HfApi, folder: Path, target: Target) -> list[str]:
    """What earlier publications have left in the repo; raises where something else would be lost."""
    there, revision = _files(api, target)
    here = files_below(folder)
    if "comparison.json" in there and _is_ours(api, target, revision):
        return sorted(path for path in there if path not in here and _OWNED.fullmatch(path))
    default = {*_DEFAULT, *(("index.html", "style.css") if target.repo_type == "space" else ())}
    kept = default if there.keys() <= default else {".gitattributes"}
    lost = sorted(path for path in there.keys() & here.keys() - kept if not _is_same(there[path], here[path]))
    if lost:
        raise UserError(
            f"{target.repo_id} holds something else than a comparison, and its {', '.join(lost[:3])} would be "
            "overwritten; choose another --repo_id, or remove that there first"
        )
    return []


def _files(api: HfApi, target: Target) -> tuple[Mapping[str, RepoFile], str | None]:
    """The files of the branch, or of main, where a branch that is missing will begin; none of a repo to be made."""
    with explained(target.repo_id):
        try:
            revision = target.revision
            try:
                tree = list(
                    api.list_repo_tree(target.repo_id, repo_type=target.repo_type, revision=revision, recursive=True)
                )
            except RevisionNotFoundError:
                revision = None
                tree = list(api.list_repo_tree(target.repo_id, repo_type=target.repo_type, recursive=True))
        except RepositoryNotFoundError:
            return {}, None
    return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}, revision


def _is_ours(api: HfApi, target: Target, revision: str | None) -> bool:
    with TemporaryDirectory() as folder:
        with explained(target.repo_id):
            path = api.hf_hub_download(
                target.repo_id, "comparison.json", repo_type=target.repo_type, revision=revision, local_dir=folder
            )
        try:
            return {"name", "shared", "recipes"} <= json.loads(Path(path).read_bytes()).keys()
        except (ValueError, AttributeError):
            return False


def _is_same(there: RepoFile, here: Path) -> bool:
    if there.size != here.stat().st_size:
        return False
    if there.lfs is None:
        return there.blob_id == git_hash(here.read_bytes())
    with here.open("rb") as file:
        return there.lfs.sha256 == sha_fileobj(file).hex()


def _collect(api: HfApi, target: Target, collection: str) -> None:
    if not _SLUG.search(collection):
        namespace = target.repo_id.partition("/")[0]
        collection = api.create_collection(collection, namespace=namespace, private=target.private, exists_ok=True).slug
    api.add_collection_item(collection, item_id=target.repo_id, item_type=target.repo_type, exists_ok=True)
