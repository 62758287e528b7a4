"""Storage queues: functions that messages trigger, and messages that functions put.

As the Storage extension (5.x) does it: batches of `batchSize`, and more while at most `newBatchThreshold`
run; a message is invisible while it is worked on; one that fails comes again, and after `maxDequeueCount`
times goes to the queue's poison queue. The queues are in memory, or those of a storage emulator where the
setting of the connection leads to one (`storage.py`).
"""

import asyncio
import json
import logging
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from azure.functions.meta import Datum

from sandbox.host.index import Function
from sandbox.host.invocation import Invoker

log = logging.getLogger("host.queues")
INVISIBLE = timedelta(minutes=10)
KEPT = timedelta(days=7)
_LONGEST_MESSAGE = 48 * 1024  # of 64 KiB, because messages are encoded in Base64
_POLL_SECONDS = 0.05
_IDLE_SECONDS = 0.02
_FAILED_POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was received, or as it waits."""

    id: str
    text: str
    dequeue_count: int
    pop_receipt: str
    inserted: datetime
    expires: datetime
    visible: datetime

    def metadata(self) -> dict[str, Datum]:
        """What the trigger tells the function beside the text."""
        texts = {
            "Id": self.id,
            "PopReceipt": self.pop_receipt,
            "InsertionTime": self.inserted.isoformat(),
            "ExpirationTime": self.expires.isoformat(),
            "NextVisibleTime": self.visible.isoformat(),
            "QueueTrigger": self.text,
        }
        counted = {"DequeueCount": Datum(self.dequeue_count, "int")}
        return {name: Datum(text, "string") for name, text in texts.items()} | counted


class Queue(Protocol):
    """A storage queue."""

    async def put(self, text: str) -> None:
        """Add a message; the queue is made where there is none."""

    async def receive(self, most: int) -> list[Message]:
        """Take messages that are visible, and hide them for a while."""

    async def peek(self) -> list[Message]:
        """The first messages that are visible, without taking them."""

    async def release(self, message: Message) -> None:
        """Make a message visible again, now."""

    async def delete(self, message: Message) -> None:
        """Remove a message."""


class MemoryQueue:
    """Implements `Queue` in this process."""

    def __init__(self) -> None:
        self._messages: dict[str, Message] = {}

    async def put(self, text: str) -> None:
        """Add a message."""
        now = datetime.now(UTC)
        message = Message(str(uuid.uuid4()), text, 0, "", now, now + KEPT, now)
        self._messages[message.id] = message

    async def receive(self, most: int) -> list[Message]:
        """Take messages that are visible, and hide them for a while."""
        now = datetime.now(UTC)
        taken = [
            replace(
                message,
                dequeue_count=message.dequeue_count + 1,
                pop_receipt=uuid.uuid4().hex,
                visible=now + INVISIBLE,
            )
            for message in (await self.peek())[:most]
        ]
        self._messages |= {message.id: message for message in taken}
        return taken

    async def peek(self) -> list[Message]:
        """The messages that are visible, without taking them."""
        now = datetime.now(UTC)
        return [message for message in self._messages.values() if message.visible <= now]

    async def release(self, message: Message) -> None:
        """Make a message visible again, now."""
        if self._is_ours(message):
            self._messages[message.id] = replace(message, visible=datetime.now(UTC))

    async def delete(self, message: Message) -> None:
        """Remove a message, unless somebody else has taken it since."""
        if self._is_ours(message):
            del self._messages[message.id]

    def _is_ours(self, message: Message) -> bool:
        known = self._messages.get(message.id)
        return known is not None and known.pop_receipt == message.pop_receipt


@dataclass(frozen=True, slots=True)
class Options:
    """The section `extensions.queues` of host.json."""

    batch_size: int = 16
    new_batch_threshold: int = 8
    most_dequeues: int = 5

    @classmethod
    def from_host_json(cls, app_directory: Path) -> "Options":
        """What the app says, or the defaults."""
        path = app_directory / "host.json"
        settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        said = settings.get("extensions", {}).get("queues", {})
        default = cls()
        return cls(
            said.get("batchSize", default.batch_size),
            said.get("newBatchThreshold", default.new_batch_threshold),
            said.get("maxDequeueCount", default.most_dequeues),
        )


class Queues:
    """All queues of the app, and the functions that listen to them."""

    def __init__(self, invoker: Invoker, options: Options) -> None:
        self._invoker = invoker
        self._options = options
        self._queues: dict[str, Queue] = {}
        self._listening: list[tuple[Function, Queue]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._held = 0

    def add(self, function: Function) -> None:
        """Have a function triggered by its queue."""
        queue = self.named(function.trigger["queueName"], function.trigger["connection"])
        self._listening.append((function, queue))

    def named(self, name: str, connection: str = "AzureWebJobsStorage") -> Queue:
        """A queue of the account that an app setting names; without an emulator it is in memory."""
        if name not in self._queues:
            setting = os.environ.get(connection, "")
            if "QueueEndpoint=" in setting:
                from sandbox.host.storage import StorageQueue

                self._queues[name] = StorageQueue(setting, name)
            else:
                self._queues[name] = MemoryQueue()
        return self._queues[name]

    async def put(self, binding: Mapping[str, str], data: Datum) -> None:
        """What a function has set for an output binding: a message, or a list of them.

        Raises:
            ValueError: a message is longer than a queue takes.
        """
        queue = self.named(binding["queueName"], binding["connection"])
        for text in _messages(data):
            if len(text.encode()) > _LONGEST_MESSAGE:
                raise ValueError(f"a message of {len(text.encode()):,} bytes does not fit into a queue")
            await queue.put(text)

    def start(self) -> None:
        """Let the functions listen that are not switched off."""
        self._tasks = [
            asyncio.create_task(self._listen(function, queue))
            for function, queue in self._listening
            if not function.disabled
        ]

    async def empty(self) -> None:
        """Return when no listening function has anything to do."""
        listening = [queue for function, queue in self._listening if not function.disabled]
        # Asking is the only way to know of a queue that others fill too.
        while self._held or any([await queue.peek() for queue in listening]):  # noqa: ASYNC110 - others fill it too
            await asyncio.sleep(_IDLE_SECONDS)

    def stop(self) -> None:
        """No further message; an invocation that runs already goes on."""
        for task in self._tasks:
            task.cancel()

    async def _listen(self, function: Function, queue: Queue) -> None:
        running: set[asyncio.Task[None]] = set()
        while True:
            room = len(running) <= self._options.new_batch_threshold
            try:
                taken = await queue.receive(self._options.batch_size) if room else []
            except OSError as error:
                log.warning("The queue of %s cannot be read: %s", function.name, error)
                await asyncio.sleep(_FAILED_POLL_SECONDS)
                continue
            for message in taken:
                self._held += 1
                task = asyncio.create_task(self._work_on(function, queue, message))
                running.add(task)
                task.add_done_callback(running.discard)
            if not taken:
                await asyncio.sleep(_POLL_SECONDS)

    async def _work_on(self, function: Function, queue: Queue, message: Message) -> None:
        try:
            outcome = await self._invoker.start(
                function, Datum(message.text, "string"), metadata=message.metadata()
            )
            if outcome.ok:
                await queue.delete(message)
            elif message.dequeue_count >= self._options.most_dequeues:
                poison = f"{function.trigger['queueName']}-poison"
                log.error("Message has reached MaxDequeueCount of %d. Moving message to queue '%s'.",
                          self._options.most_dequeues, poison)  # fmt: skip
                await self.named(poison, function.trigger["connection"]).put(message.text)
                await queue.delete(message)
            else:
                await queue.release(message)
        finally:
            self._held -= 1


def _messages(data: Datum) -> Iterable[str]:
    if data.type != "json":
        return [data.value if isinstance(data.value, str) else data.value.decode()]
    said = json.loads(data.value)
    return [
        each if isinstance(each, str) else str(each["body"])
        for each in (said if isinstance(said, list) else [said])
    ]
