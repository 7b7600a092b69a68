"""Stands between a Firestore client and its emulator: sees each call, refuses some, loses the answers of others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

SERVICE = "/google.firestore.v1.Firestore/"
STREAMS = ("BatchGetDocuments", "RunQuery")  # calls whose answer is a stream

Forward = Callable[[bytes, Any], Any]


@dataclass
class FirestoreProxy:
    """What has been called and what is to go wrong; by the method's name: Commit, RunQuery, BatchGetDocuments."""

    host: str = ""
    calls: list[tuple[str, bytes]] = field(default_factory=list)
    _refusals: dict[str, list[tuple[grpc.StatusCode, str] | None]] = field(default_factory=dict)
    _lost: list[str] = field(default_factory=list)
    _hanging: list[str] = field(default_factory=list)
    _released: threading.Event = field(default_factory=threading.Event)

    def refuse(
        self, method: str, status: grpc.StatusCode, message: str = "On purpose.", times: int = 1, after: int = 0
    ) -> None:
        """Answer the next calls, or those `after` some that are served, with an error, and do nothing."""
        self._refusals.setdefault(method, []).extend([None] * after + [(status, message)] * times)

    def lose_answer(self, method: str) -> None:
        """Do what the next call asks for, and answer that no server is there."""
        self._lost.append(method)

    def hang(self, method: str) -> None:
        """Never answer the next call."""
        self._hanging.append(method)

    def meet(self, method: str, request: bytes, context: Any, forward: Callable[[], Any]) -> Any:
        """Serve one call."""
        self.calls.append((method, request))
        if method in self._hanging:
            self._hanging.remove(method)
            self._released.wait(60)
        if self._refusals.get(method) and (refusal := self._refusals[method].pop(0)):
            context.abort(*refusal)
        answer = forward()
        if method in self._lost:
            self._lost.remove(method)
            context.abort(grpc.StatusCode.UNAVAILABLE, "The answer was lost, on purpose.")
        return answer

    def release(self) -> None:
        """Let what hangs go."""
        self._released.set()


class _Handler(grpc.GenericRpcHandler):
    """Hands on bytes: nothing here knows Firestore's messages."""

    def __init__(self, proxy: FirestoreProxy, channel: grpc.Channel) -> None:
        self._proxy = proxy
        self._channel = channel

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        path = handler_call_details.method
        method = path.removeprefix(SERVICE)
        streams = method in STREAMS
        call: Any = (self._channel.unary_stream if streams else self._channel.unary_unary)(path)

        def serve(request: bytes, context: Any) -> Any:
            def forward() -> Any:
                answer = call(request, metadata=_kept(context.invocation_metadata()))
                return iter(list(answer)) if streams else answer

            try:
                return self._proxy.meet(method, request, context, forward)
            except grpc.RpcError as error:
                return context.abort(error.code(), error.details())

        if streams:
            return grpc.unary_stream_rpc_method_handler(serve)
        return grpc.unary_unary_rpc_method_handler(serve)


def _kept(metadata: Any) -> list[tuple[str, Any]]:
    """Leave out what the channel to the emulator says for itself."""
    return [(key, value) for key, value in metadata if key not in {"user-agent", "grpc-accept-encoding"}]


@contextmanager
def firestore_proxy(target: str) -> Iterator[FirestoreProxy]:
    """Serve a proxy of the emulator at `target` on a port that the kernel chooses."""
    limits = [("grpc.max_receive_message_length", -1)]
    proxy = FirestoreProxy()
    with ThreadPoolExecutor(16) as pool, grpc.insecure_channel(target, limits) as channel:
        server = grpc.server(pool, [_Handler(proxy, channel)], options=limits)
        proxy.host = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield proxy
        finally:
            proxy.release()
            server.stop(None).wait()
