"""A Hub in one process: as much of its HTTP protocol as huggingface_hub asks for when it uploads and downloads.

    with HubServer(tmp_path) as hub:
        hub.fail("POST /api/repos/create", status=503)
        # run a client with HF_ENDPOINT=hub.endpoint and HF_TOKEN=hub.token

Everything is kept in memory, but for what Xet stores, which lies under the given folder. The server believes nothing:
digests of uploads are checked.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

# What the Hub keeps as LFS objects, as far as the tests have such files.
LFS_ENDINGS = (".safetensors", ".png")
FILES = r"(?P<prefix>/datasets|/spaces)?/(?P<id>[^/]+/[^/]+)"
REPO = r"/(?P<kind>models|datasets|spaces)/(?P<id>[^/]+/[^/]+)"


@dataclass
class File:
    """One file of a commit; `content` is None where Xet has it."""

    sha256: str
    size: int
    content: bytes | None
    lfs: bool

    @property
    def oid(self) -> str:
        """What the client compares with to see whether the file has changed."""
        if self.lfs:
            return self.sha256
        assert self.content is not None
        return hashlib.sha1(b"blob %d\0" % self.size + self.content).hexdigest()


@dataclass
class Commit:
    """One commit: its id, and all files."""

    oid: str
    files: dict[str, File]
    message: str


@dataclass
class Repo:
    """A repo and its branches; those of pull requests are `refs/pr/NUMBER`."""

    private: bool
    branches: dict[str, list[Commit]]


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


class HubServer:
    """The server; a context manager that runs it in threads of this process."""

    token = "hf_" + "testtoken" * 4
    """Of the user `me`, a member of `team`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.log: list[str] = []
        self.faults: list[tuple[str, int, float]] = []
        self.reached = threading.Event()
        """Set when a request hits a fault."""
        self.lock = threading.RLock()

    def __enter__(self) -> HubServer:
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def fail(self, pattern: str, status: int = 0, hang: float = 0) -> None:
        """Answer requests whose "METHOD path" matches with a status, or after `hang` seconds with nothing."""
        self.faults.append((pattern, status, hang))

    def heal(self) -> None:
        """No faults any more, and an empty log."""
        self.faults.clear()
        self.log.clear()
        self.reached.clear()

    def files(self, repo_id: str, kind: str = "models", revision: str = "main") -> dict[str, File]:
        """The files of a branch."""
        return self.repos[kind, repo_id].branches[revision][-1].files

    def history(self, repo_id: str, kind: str = "models", revision: str = "main") -> list[str]:
        """The messages of a branch's commits, the oldest first."""
        return [commit.message for commit in self.repos[kind, repo_id].branches[revision]]


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = f"{self.command} {unquote(urlsplit(self.path).path)}"
        with self.hub.lock:
            self.hub.log.append(request)
        for pattern, status, hang in self.hub.faults:
            if re.search(pattern, request):
                self.hub.reached.set()
                if status:
                    self._send(status, {"error": "as the test wishes"})
                else:
                    time.sleep(hang)
                    self.close_connection = True
                return
        try:
            with self.hub.lock:
                self._route(request, body)
        except Refused as refusal:
            headers = {"X-Error-Message": str(refusal), **({"X-Error-Code": refusal.code} if refusal.code else {})}
            self._send(refusal.status, {"error": str(refusal)}, headers)

    do_POST = do_PUT = do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        payload = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(payload)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)

    def _route(self, request: str, body: bytes) -> None:
        routes = {
            r"POST /api/repos/create": self._create,
            r"GET /api/whoami-v2": self._whoami,
            r"POST /api/validate-yaml": self._validate,
            rf"POST /api{REPO}/preupload/(?P<revision>.+)": self._preupload,
            rf"GET /api{REPO}/xet-(?P<right>read|write)-token/(?P<revision>.+)": self._xet_token,
            rf"POST /api{REPO}/commit/(?P<revision>.+)": self._commit,
            rf"POST /api{REPO}/discussions": self._pull_request,
            rf"GET /api{REPO}/discussions/(?P<number>\d+)": self._discussion,
            rf"GET /api{REPO}/tree/(?P<revision>.+)": self._tree,
            rf"GET /api{REPO}/revision/(?P<revision>.+)": self._info,
            rf"GET /api{REPO}": self._info,
            rf"POST {FILES}\.git/info/lfs/objects/batch": self._lfs_batch,
            r"PUT /objects/(?P<oid>\w+)": self._lfs_put,
            rf"(GET|HEAD) {FILES}/resolve/(?P<revision>refs/pr/\d+|[^/]+)/(?P<path>.+)": self._resolve,
        }
        for pattern, handler in routes.items():
            if match := re.fullmatch(pattern, request):
                handler(match.groupdict(), body)
                return
        raise Refused(404, f"the test server knows no {request}")

    def _user(self) -> str:
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            raise Refused(401, "Invalid username or password.")
        return "me"

    def _may_write(self, repo_id: str) -> None:
        self._user()
        if repo_id.split("/")[0] not in ("me", "team"):
            raise Refused(403, "You don't have the rights to write in this namespace.")

    def _whoami(self, _: Any, __: bytes) -> None:
        self._send(200, {"type": "user", "name": self._user(), "orgs": [{"name": "team"}]})

    def _create(self, _: Any, body: bytes) -> None:
        asked = json.loads(body)
        kind = asked.get("type", "model") + "s"
        repo_id = f"{asked.get('organization') or 'me'}/{asked['name']}"
        self._may_write(repo_id)
        url = f"{self.hub.endpoint}/{'' if kind == 'models' else kind + '/'}{repo_id}"
        if (kind, repo_id) in self.hub.repos:
            self._send(409, {"error": "You already created this repo", "url": url})
            return
        first = Commit("0" * 40, {".gitattributes": _file(b"*.safetensors filter=lfs\n")}, "initial commit")
        self.hub.repos[kind, repo_id] = Repo(asked.get("visibility") == "private", {"main": [first]})
        self._send(200, {"url": url})

    def _repo(self, about: dict[str, str]) -> Repo:
        kind = about.get("kind") or (about.get("prefix") or "models").strip("/")
        repo = self.hub.repos.get((kind, about["id"]))
        if repo is None:
            raise Refused(404, "Repository not found", "RepoNotFound")
        return repo

    def _head(self, about: dict[str, str]) -> Commit:
        branches, revision = self._repo(about).branches, about.get("revision") or "main"
        known = {commit.oid: commit for branch in branches.values() for commit in branch}
        known |= {name: branch[-1] for name, branch in branches.items()}
        if revision not in known:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return known[revision]

    def _info(self, about: dict[str, str], _: bytes) -> None:
        head = self._head(about)
        content = {"id": about["id"], "sha": head.oid, "private": self._repo(about).private, "tags": []}
        self._send(200, {**content, "siblings": [{"rfilename": path} for path in head.files]})

    def _tree(self, about: dict[str, str], _: bytes) -> None:
        entries = []
        for path, file in self._head(about).files.items():
            entry: dict[str, Any] = {"type": "file", "path": path, "size": file.size, "oid": file.oid}
            if file.lfs:
                entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 130}
            entries.append(entry)
        self._send(200, entries)

    def _pull_request(self, about: dict[str, str], _: bytes) -> None:
        branches = self._repo(about).branches
        number = len(branches)
        branches[f"refs/pr/{number}"] = list(branches["main"])
        self._send(200, {"num": number})

    def _discussion(self, about: dict[str, str], _: bytes) -> None:
        self._send(200, {
            "num": int(about["number"]), "title": "any", "author": {"name": "me"},
            "status": "draft", "events": [], "createdAt": "2026-01-01T00:00:00.000Z",
            "repo": {"name": about["id"], "type": about["kind"][:-1]}, "isPullRequest": True,
            "changes": {"base": "refs/heads/main"}, "filesWithConflicts": [],
        })  # fmt: skip

    def _validate(self, _: Any, body: bytes) -> None:
        asked = json.loads(body)
        errors = [{"message": message} for message in metadata_errors(asked["content"], asked["repoType"])]
        self._send(400 if errors else 200, {"errors": errors, "warnings": []})

    def _preupload(self, about: dict[str, str], body: bytes) -> None:
        self._may_write(about["id"])
        head, asked = self._head(about), json.loads(body)
        ignored = [line for line in asked.get("gitIgnore", "").splitlines() if line]
        answers = []
        for path in (file["path"] for file in asked["files"]):
            mode = "lfs" if path.endswith(LFS_ENDINGS) else "regular"
            known = {"oid": head.files[path].oid} if path in head.files else {}
            ignore = any(fnmatch.fnmatch(path.split("/")[-1], rule) for rule in ignored)
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": ignore, **known})
        self._send(200, {"files": answers})

    def _xet_token(self, about: dict[str, str], _: bytes) -> None:
        folder = self.hub.folder / "xet"
        folder.mkdir(exist_ok=True)
        self._send(200, {"casUrl": f"local://{folder}", "exp": int(time.time()) + 3600, "accessToken": "xet"})

    def _lfs_batch(self, about: dict[str, str], body: bytes) -> None:
        self._may_write(about["id"])
        answers = []
        for wanted in json.loads(body)["objects"]:
            upload = {"href": f"{self.hub.endpoint}/objects/{wanted['oid']}"}
            known = wanted["oid"] in self.hub.objects
            answers.append(wanted if known else {**wanted, "actions": {"upload": upload}})
        self._send(200, {"transfer": "basic", "objects": answers})

    def _lfs_put(self, about: dict[str, str], body: bytes) -> None:
        if hashlib.sha256(body).hexdigest() != about["oid"]:
            raise Refused(400, "the content is another")
        self.hub.objects[about["oid"]] = body
        self._send(200, {})

    def _commit(self, about: dict[str, str], body: bytes) -> None:
        self._may_write(about["id"])
        head = self._head(about)
        lines = [json.loads(line) for line in body.splitlines()]
        header, files = lines[0]["value"], dict(head.files)
        if header.get("parentCommit", head.oid) != head.oid:
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = _file(base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                content = self.hub.objects.get(value["oid"])
                if content is None and not (self.hub.folder / "xet").is_dir():
                    raise Refused(400, f"{value['path']}: its content was never uploaded")
                files[value["path"]] = File(value["oid"], value["size"], content, lfs=True)
            elif line["key"] == "deletedFile":
                del files[value["path"]]
            else:
                raise Refused(400, f"unknown operation {line['key']}")
        branch = self._repo(about).branches[about["revision"]]
        oid = hashlib.sha1(body + head.oid.encode()).hexdigest()
        branch.append(Commit(oid, files, header["summary"]))
        self._send(200, {"commitUrl": f"{self.hub.endpoint}/{about['id']}/commit/{oid}", "commitOid": oid})

    def _resolve(self, about: dict[str, str], _: bytes) -> None:
        head = self._head(about)
        file = head.files.get(about["path"])
        if file is None:
            raise Refused(404, "Entry not found", "EntryNotFound")
        assert file.content is not None, "what Xet keeps, this server cannot give back"
        headers = {"X-Repo-Commit": head.oid, "ETag": f'"{file.oid}"'}
        if file.lfs:
            headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
        self._send(200, file.content, headers)


def _file(content: bytes) -> File:
    return File(hashlib.sha256(content).hexdigest(), len(content), content, lfs=False)


def metadata_errors(card: str, repo_type: str) -> list[str]:
    """What the Hub refuses in a card's metadata, as far as we know."""
    found = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    try:
        metadata = yaml.safe_load(found[1]) if found else {}
    except yaml.YAMLError as error:
        return [f"bad YAML: {error}"]
    errors = [] if isinstance(metadata.get("license"), str | None) else ['"license" must be a string']
    if repo_type == "model":
        for result in [r for model in metadata.get("model-index", []) for r in model.get("results", [])]:
            required = [("task", "type"), ("dataset", "type"), ("dataset", "name")]
            errors += [f'"{part}.{key}" is required' for part, key in required if not result.get(part, {}).get(key)]
            for metric in result.get("metrics", []):
                errors += [f'"metrics.{key}" is required' for key in ("type", "value") if metric.get(key) is None]
    if not re.fullmatch(r"[a-z0-9.-]+", metadata.get("license") or "other"):
        errors.append('"license" must be one of a list')
    return errors
