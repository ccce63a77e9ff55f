"""A server of chat completions on this machine that misbehaves as it is told."""

import contextlib
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Quiet(ThreadingHTTPServer):
    """Says nothing of clients that are gone, such as killed ones."""

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Server:
    """`faults(prompt, try)` names what happens to the n-th try (from 1) of a prompt; None is an answer, `says TEXT` one
    of that text, and `slow says TEXT` the same later."""

    def __init__(self, faults: Callable[[str, int], str | None] = lambda prompt, n: None) -> None:
        self.faults = faults
        self.asked: Counter[str] = Counter()
        self.answered: list[str] = []
        self.says: Callable[[str], str] = lambda prompt: f"said to {prompt}"
        """What an answer to a prompt is."""
        self.counts: Callable[[str, str], tuple[int, int]] = lambda prompt, text: (7, 3)
        """Tokens of a prompt and of its answer."""
        self.charged: Counter[str] = Counter()
        """Tokens of the answers that were sent whole, by their kinds in `usage`."""
        self.keys: set[str | None] = set()
        self.models: list[str] = []
        """That it lists; empty: it knows no such question."""
        self.most_at_once = self._at_once = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # a body behind its headers would wait for what the client sends next

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with server._lock:
                    server._at_once += 1
                    server.most_at_once = max(server.most_at_once, server._at_once)
                try:
                    server._answer(self, body)
                finally:
                    with server._lock:
                        server._at_once -= 1

            def do_GET(self) -> None:
                listed = json.dumps({"object": "list", "data": [{"id": m, "object": "model"} for m in server.models]})
                self.send_response(200 if server.models else 404)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(listed)))
                self.end_headers()
                self.wfile.write(listed.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.http = _Quiet(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def _answer(self, handler: BaseHTTPRequestHandler, body: dict) -> None:
        prompt = body["messages"][-1]["content"]
        with self._lock:
            self.asked[prompt] += 1
            self.keys.add(handler.headers["authorization"])
            fault = self.faults(prompt, self.asked[prompt])
        if fault is not None and fault.startswith("slow says "):
            time.sleep(0.1)
            fault = fault.removeprefix("slow ")
        text = self.says(prompt)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        whole = {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
        read, written = self.counts(prompt, text)
        whole["usage"] = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        status, content, headers = 200, json.dumps(whole).encode(), {}
        if fault == "hang up":
            handler.close_connection = True
            return
        if fault == "slow":
            time.sleep(0.6)
        elif fault == "drip":
            self._drip(handler, content)
            return
        elif fault == "half json":
            content = content[: len(content) // 2]
        elif fault == "half body":
            headers["content-length"] = str(2 * len(content))
            handler.close_connection = True
        elif fault == "text":
            content = b"<html>gateway</html>"
        elif fault == "no choices":
            content = json.dumps({**whole, "choices": []}).encode()
        elif fault == "clipped":
            content = json.dumps({**whole, "choices": [{**choice, "finish_reason": "length"}]}).encode()
        elif fault is not None and fault.startswith("says "):
            content = json.dumps(whole).replace(json.dumps(text), json.dumps(fault[5:])).encode()
        elif fault is not None:  # "STATUS" or "STATUS wait SECONDS"
            code, _, wait = fault.partition(" wait ")
            status, content = int(code), json.dumps({"error": {"message": f"no, {code}"}}).encode()
            headers = {"retry-after": wait} if wait else {}
        else:
            with self._lock:
                self.answered.append(prompt)
                self.charged.update(prompt_tokens=read, completion_tokens=written)
        with contextlib.suppress(OSError):
            handler.send_response(status)
            handler.send_header("content-type", "text/html" if fault == "text" else "application/json")
            for name, value in {"content-length": str(len(content)), **headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(content)

    def _drip(self, handler: BaseHTTPRequestHandler, content: bytes) -> None:
        """A byte now and then: no read of the client's waits long."""
        with contextlib.suppress(OSError):
            handler.send_response(200)
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", str(len(content)))
            handler.end_headers()
            for at in range(len(content)):
                handler.wfile.write(content[at : at + 1])
                handler.wfile.flush()
                time.sleep(0.05)


@contextlib.contextmanager
def serving(faults: Callable[[str, int], str | None] = lambda prompt, n: None) -> Iterator[Server]:
    server = Server(faults)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()
