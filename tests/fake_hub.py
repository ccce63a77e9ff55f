"""Stand-ins of the Hugging Face hub: its server on this machine alone, and a cache as its package lays it out."""

import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from selfevo_jax import hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def cached(cache, kind, id, files, revision="main", commit=COMMIT):
    """A snapshot of a repository in a cache; `files`: name -> content."""
    folder = cache / f"{kind}s--{id.replace('/', '--')}"
    for name, content in files.items():
        file = folder / "snapshots" / commit / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    ref = folder / "refs" / revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(commit)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self._answer(body=True)

    def do_HEAD(self):
        self._answer(body=False)

    def log_message(self, *args):
        pass

    def _answer(self, body):
        path = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        self.server.asked.append("/".join(path))
        status, content, headers = self._found(path)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _found(self, path):
        asks = path[0] == "api"
        path = path[1:] if asks else path
        kind = path.pop(0) if path[0] in ("models", "datasets") else "models"
        id, what, revision, name = "/".join(path[:2]), path[2], path[3], "/".join(path[4:])
        revisions = self.server.repositories.get((kind, id))
        if revisions is None or revisions == "gated":
            code = "RepoNotFound" if revisions is None else "GatedRepo"
            return (404 if revisions is None else 403), b"{}", {"X-Error-Code": code}
        files = next((held for key, held in revisions.items() if revision in (key, _commit(held))), None)
        if files is None:
            return 404, b"{}", {"X-Error-Code": "RevisionNotFound"}
        if asks and what == "revision":
            return _json({"id": id, "sha": _commit(files), "siblings": [{"rfilename": name} for name in files]})
        if asks:
            return _json([{"type": "file", "path": n, "size": len(c), "oid": _oid(c)} for n, c in files.items()])
        if name not in files:
            return 404, b"", {"X-Error-Code": "EntryNotFound"}
        return 200, files[name], {"ETag": f'"{_oid(files[name])}"', "X-Repo-Commit": _commit(files)}


def _json(tree):
    return 200, json.dumps(tree).encode(), {"Content-Type": "application/json"}


def _oid(content):
    return hashlib.sha1(content).hexdigest()


def _commit(files):
    return _oid(repr(sorted((name, _oid(content)) for name, content in files.items())).encode())


@contextlib.contextmanager
def serving(repositories):
    """A server of repositories, `(models or datasets, id) -> {revision -> {name -> content}}`, or "gated"."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.repositories, server.asked = repositories, []
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def use(monkeypatch, cache, server=None):
    """Points the package at a cache, and at a server, or at none, as in a process of its own."""
    from huggingface_hub import constants

    hub._snapshot.cache_clear()
    hub._listing.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", server is None)
    if server is not None:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
