"""A small Hugging Face hub on the loopback interface: enough of its protocol to upload, commit and download."""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


class HubServer(ThreadingHTTPServer):
    """Repositories in memory: `branches[repo][name]` is a commit hash, `commits[repo][hash]` its files."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.branches: dict[str, dict[str, str]] = {}
        self.commits: dict[str, dict[str, Files]] = {}
        self.private: dict[str, bool] = {}
        self.requests: list[str] = []
        self.after_reply: Callable[[str], None] = lambda path: None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def create(self, repo: str, private: bool = False) -> bool:
        """Make an empty repository with a main branch; False if it exists."""
        if repo in self.commits:
            return False
        self.private[repo] = private
        self.commits[repo] = {}
        self.branches[repo] = {}
        self.commit(repo, "main", {})
        return True

    def commit(self, repo: str, branch: str, files: Files) -> str:
        """Add files to a branch and return the new commit's hash."""
        parent = self.branches[repo].get(branch, "")
        tree = {**self.commits[repo].get(parent, {}), **files}
        named = sorted((name, hashlib.sha256(content).hexdigest()) for name, content in tree.items())
        digest = hashlib.sha1(repr((parent, named)).encode()).hexdigest()
        self.commits[repo][digest] = tree
        self.branches[repo][branch] = digest
        return digest

    def find(self, repo: str, revision: str) -> str | None:
        commit = self.branches.get(repo, {}).get(revision, revision)
        return commit if commit in self.commits.get(repo, {}) else None


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def log_message(self, format, *args):
        self.server.requests.append(f"{self.command} {unquote(self.path)}")

    def _reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, status: int, value: object) -> None:
        self._reply(status, json.dumps(value).encode(), Content_Type="application/json")

    def do_HEAD(self):
        repo, _, rest = unquote(urlsplit(self.path).path).lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        if repo not in self.server.commits:
            return self._reply(404, X_Error_Code="RepoNotFound")
        if (commit := self.server.find(repo, revision)) is None:
            return self._reply(404, X_Error_Code="RevisionNotFound")
        if (body := self.server.commits[repo][commit].get(name)) is None:
            return self._reply(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        # As on the real hub, large files are known by their sha256 and the others by a git hash.
        kind = hashlib.sha256 if name.endswith(".safetensors") else hashlib.sha1
        self._reply(200, body, ETag=f'"{kind(body).hexdigest()}"', X_Repo_Commit=commit)
        self.server.after_reply(self.path)

    do_GET = do_HEAD

    def do_POST(self):
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path == "/api/validate-yaml":
            return self._json(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            made = self.server.create(repo, asked.get("visibility") == "private" or asked.get("private") is True)
            return self._json(200 if made else 409, {"url": f"{self.server.endpoint}/{repo}"})
        organisation, name, action, revision = path.removeprefix("/api/models/").split("/", 3)
        repo = f"{organisation}/{name}"
        if repo not in self.server.commits:
            return self._reply(404, X_Error_Code="RepoNotFound")
        if action == "commit" and revision not in self.server.branches[repo]:
            return self._reply(404, X_Error_Code="RevisionNotFound")
        return getattr(self, f"_{action}")(repo, revision, body)

    def _branch(self, repo: str, revision: str, body: bytes) -> None:
        branches = self.server.branches[repo]
        if revision in branches:
            return self._json(409, {"error": "the branch exists"})
        branches[revision] = branches["main"]
        return self._json(200, {})

    def _preupload(self, repo: str, revision: str, body: bytes) -> None:
        asked = json.loads(body)["files"]
        plain = {"uploadMode": "regular", "shouldIgnore": False}
        self._json(200, {"files": [{"path": file["path"], **plain} for file in asked]})

    def _commit(self, repo: str, revision: str, body: bytes) -> None:
        rows = [json.loads(line) for line in body.splitlines()]
        added = [row["value"] for row in rows if row["key"] == "file"]
        files = {value["path"]: base64.b64decode(value["content"]) for value in added}
        commit = self.server.commit(repo, revision, files)
        self._json(200, {"commitOid": commit, "commitUrl": f"{self.server.endpoint}/{repo}/commit/{commit}"})


@contextmanager
def serve() -> Iterator[HubServer]:
    """Run a hub for the length of the block."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
