"""A bucket on 127.0.0.1: as much of Google Cloud Storage's JSON API as gcsfs, tensorstore and Orbax ask for."""

import base64
import contextlib
import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

BUCKET = "bucket"


@dataclass
class Stored:
    content: bytes
    generation: int
    updated: float


@dataclass
class FakeBucket:
    """What lies in it, by name, and what was asked of it."""

    objects: dict[str, Stored] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    asked: list[str] = field(default_factory=list)
    port: int = 0
    last: int = 1000
    closed: bool = False
    """Nobody has rights to it any more."""

    @property
    def env(self) -> dict[str, str]:
        url = f"http://127.0.0.1:{self.port}"
        return {
            "STORAGE_EMULATOR_HOST": url,
            "TENSORSTORE_GCS_HTTP_URL": url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
            "GCE_METADATA_HOST": "127.0.0.1:1",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "NO_GCE_CHECK": "true",
            "GOOGLE_CLOUD_PROJECT": "none",
        }

    def put(self, name: str, content: bytes, updated: float | None = None) -> Stored:
        with self.lock:
            self.last += 1
            self.objects[name] = Stored(content, self.last, time.time() if updated is None else updated)
            return self.objects[name]

    def texts(self, below: str = "") -> dict[str, bytes]:
        """Contents by name, of all objects below a name."""
        with self.lock:
            return {n.removeprefix(below): o.content for n, o in sorted(self.objects.items()) if n.startswith(below)}


def resource(name: str, stored: Stored) -> dict:
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(stored.updated)) + f"{stored.updated % 1:.3f}Z"[1:]
    return {
        "kind": "storage#object",
        "bucket": BUCKET,
        "name": name,
        "size": str(len(stored.content)),
        "generation": str(stored.generation),
        "metageneration": "1",
        "contentType": "application/octet-stream",
        "md5Hash": base64.b64encode(hashlib.md5(stored.content).digest()).decode(),
        "updated": when,
        "timeCreated": when,
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    bucket: FakeBucket
    sessions: dict[str, dict]

    def log_message(self, *_: object) -> None:
        pass

    def _do(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.bucket.lock:
            self.bucket.asked.append(f"{self.command} {unquote(self.path)}")
            status, headers, content = answer(self, self.command, url.path, query, dict(self.headers), body)
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _do


Answer = tuple[int, dict[str, str], bytes]


def said(tree: object, status: int = 200) -> Answer:
    return status, {"Content-Type": "application/json"}, json.dumps(tree).encode()


def no(status: int, message: str) -> Answer:
    return said({"error": {"code": status, "message": message, "errors": []}}, status)


def unmet(query: dict[str, str], stored: Stored | None) -> int | None:
    """The status of a condition that does not hold."""
    there = 0 if stored is None else stored.generation
    if "ifGenerationMatch" in query and int(query["ifGenerationMatch"]) != there:
        return 412
    if "ifGenerationNotMatch" in query and int(query["ifGenerationNotMatch"]) == there:
        return 304
    return None


def answer(handler: Handler, method: str, path: str, query: dict, headers: dict, body: bytes) -> Answer:
    bucket = handler.bucket
    if path == "/batch/storage/v1":
        return batch(handler, headers, body)
    if path.startswith("/session/"):
        return resume(handler, path.rpartition("/")[2], headers, body)
    found = re.fullmatch(
        r"(?P<kind>/upload|/download)?/storage/v1/b/(?P<bucket>[^/]+)(?P<rest>(/o.*|/storageLayout)?)", path
    )
    if found is None or found["bucket"] != BUCKET:
        return no(404, f"nothing at {path}")
    if bucket.closed:
        return no(403, "no rights to the bucket")
    rest = found["rest"]
    if rest in ("", "/storageLayout"):
        return said(
            {"kind": "storage#bucket", "name": BUCKET, "id": BUCKET, "location": "HERE", "locationType": "region"}
        )
    if found["kind"] == "/upload":
        return upload(handler, query, headers, body)
    if rest == "/o":
        return listing(bucket, query)
    copied = re.fullmatch(r"/o/(?P<name>[^/]+)/(rewriteTo|copyTo)/b/[^/]+/o/(?P<to>[^/]+)", rest)
    if copied is not None:
        stored = bucket.objects.get(unquote(copied["name"]))
        if stored is None:
            return no(404, "no such object")
        name = unquote(copied["to"])
        made = resource(name, bucket.put(name, stored.content))
        return said(
            {"kind": "storage#rewriteResponse", "done": True, "resource": made} if "rewriteTo" in rest else made
        )
    name = unquote(rest.removeprefix("/o/"))
    stored = bucket.objects.get(name)
    if (status := unmet(query, stored)) is not None:
        return no(status, "condition not met")
    if stored is None:
        return no(404, f"no such object: {name}")
    if method == "DELETE":
        del bucket.objects[name]
        return 204, {}, b""
    if query.get("alt") != "media" and found["kind"] != "/download":
        return said(resource(name, stored))
    return media(stored, headers)


def media(stored: Stored, headers: dict) -> Answer:
    about = {
        "Content-Type": "application/octet-stream",
        "x-goog-generation": str(stored.generation),
        "x-goog-stored-content-length": str(len(stored.content)),
    }
    span = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("Range", "") or headers.get("range", ""))
    if span is None:
        return 200, about, stored.content
    size = len(stored.content)
    if span[1]:
        first, last = int(span[1]), min(int(span[2]) if span[2] else size - 1, size - 1)
    else:
        first, last = max(0, size - int(span[2])), size - 1
    if first >= size:
        return no(416, "past the end")
    about["Content-Range"] = f"bytes {first}-{last}/{size}"
    return 206, about, stored.content[first : last + 1]


def listing(bucket: FakeBucket, query: dict) -> Answer:
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
    begin, end = max(query.get("startOffset", ""), query.get("pageToken", "")), query.get("endOffset")
    most, items, prefixes, following = int(query.get("maxResults", 1000)), [], [], None
    for name in sorted(bucket.objects):
        if not name.startswith(prefix) or name < begin or (end and name >= end):
            continue
        folder = (
            name[: name.index(delimiter, len(prefix)) + 1] if delimiter and delimiter in name[len(prefix) :] else None
        )
        if folder is not None and folder in prefixes:
            continue
        if len(items) + len(prefixes) == most:
            following = name
            break
        if folder is None:
            items.append(resource(name, bucket.objects[name]))
        else:
            prefixes.append(folder)
    tree: dict = {"kind": "storage#objects", "items": items, "prefixes": prefixes}
    return said(tree | ({"nextPageToken": following} if following else {}))


def upload(handler: Handler, query: dict, headers: dict, body: bytes) -> Answer:
    kind, name = query.get("uploadType"), query.get("name", "")
    if kind == "resumable":
        name = name or json.loads(body)["name"]
        key = str(len(handler.sessions))
        handler.sessions[key] = {"name": name, "query": query, "content": b""}
        return 200, {"Location": f"http://127.0.0.1:{handler.bucket.port}/session/{key}"}, b""
    if kind == "multipart":
        given = next(value for key, value in headers.items() if key.lower() == "content-type")
        first, second = parts(given, body)
        name, body = name or json.loads(first[1])["name"], second[1]
    return store(handler.bucket, name, query, body)


def store(bucket: FakeBucket, name: str, query: dict, content: bytes) -> Answer:
    if (status := unmet(query, bucket.objects.get(name))) is not None:
        return no(status, "condition not met")
    return said(resource(name, bucket.put(name, content)))


def resume(handler: Handler, key: str, headers: dict, body: bytes) -> Answer:
    session = handler.sessions[key]
    session["content"] += body
    span = next((value for name, value in headers.items() if name.lower() == "content-range"), "")
    if span.endswith("/*"):
        return 308, {"Range": f"bytes=0-{len(session['content']) - 1}"}, b""
    return store(handler.bucket, session["name"], session["query"], session["content"])


def parts(kind: str, body: bytes) -> list[tuple[bytes, bytes]]:
    """Headers and contents of a multipart body."""
    mark = re.search(r'boundary="?([^";]+)"?', kind)
    assert mark is not None
    found = []
    for part in re.split(rb"\r?\n--" + re.escape(mark[1].encode()), b"\n" + body)[1:-1]:
        pieces = re.split(rb"\r?\n\r?\n", part.removeprefix(b"\r").removeprefix(b"\n"), maxsplit=1)
        found.append((pieces[0], pieces[1]))
    return found


def batch(handler: Handler, headers: dict, body: bytes) -> Answer:
    given = next(value for key, value in headers.items() if key.lower() == "content-type")
    out = b""
    for _, content in parts(given, body):
        line = content.lstrip().split(b"\n")[0].decode().split()
        url = urlsplit(line[1])
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        status, _, inner = answer(handler, line[0], url.path, query, {}, b"")
        out += b"--answer\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 %d X\r\n" % status
        out += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(inner), inner)
    return 200, {"Content-Type": "multipart/mixed; boundary=answer"}, out + b"--answer--\r\n"


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no fault; its traceback would land in the output of the command under test."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextlib.contextmanager
def serve() -> Iterator[FakeBucket]:
    bucket = FakeBucket()
    handler = type("OfBucket", (Handler,), {"bucket": bucket, "sessions": {}})
    server = Server(("127.0.0.1", 0), handler)
    bucket.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
