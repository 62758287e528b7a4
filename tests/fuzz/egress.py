"""A guard in this process: who would connect or look up a name outside of loopback is stopped and noted."""

import sys
from collections.abc import Sequence

LOOPBACK = ("127.", "::1", "localhost")

_NAMED = {"socket.connect": 1, "socket.sendto": 1, "socket.getaddrinfo": 0, "socket.gethostbyname": 0}


class Guard:
    """What was tried. Cannot be taken off again: an audit hook stays as long as its process."""

    def __init__(self) -> None:
        self.outside: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: Sequence[object]) -> None:
        if event not in _NAMED:
            return
        target = arguments[_NAMED[event]]
        host = target[0] if isinstance(target, tuple) else target
        text = host.decode(errors="replace") if isinstance(host, bytes) else host
        if text is None or (isinstance(text, str) and (text.startswith(LOOPBACK) or text.startswith("/"))):
            return
        self.outside.append(f"{event} {text!r}")
        raise ConnectionRefusedError(f"outside of loopback: {text!r}")
