"""A relay between JAX's own coordination client and process 0, so that the loss of process 0 can be told in words.

The client inside JAX aborts its process with a native stack trace, within milliseconds, when its connection to process
0 closes. Behind this relay it sees no close: the watch has the time to say which process is gone, and ends this one.
"""

from __future__ import annotations

import contextlib
import socket
import threading


class Relay:
    """Listens on a local port and passes each connection on to `(host, port)`; never closes one on its own."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._held: list[socket.socket] = []
        """Local ends whose other end is gone: open as long as this process lives."""
        threading.Thread(target=self._accept, name="hosts-relay", daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.getsockname()[1]}"

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._server.accept()
            except OSError:
                return
            try:
                there = socket.create_connection(self._to, timeout=10)
                there.settimeout(None)
            except OSError:
                here.close()  # not there yet: JAX's client tries again
                continue
            for sock in (here, there):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, target, hold in ((here, there, False), (there, here, True)):
                threading.Thread(
                    target=self._pump, args=(source, target, hold), name="hosts-relay", daemon=True
                ).start()

    def _pump(self, source: socket.socket, target: socket.socket, hold: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        if hold:
            self._held.append(target)
        else:
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._server.close()
