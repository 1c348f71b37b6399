"""A model behind TLS and HTTP/2 that takes every call and answers none until it gets SIGUSR1; then all, late ones at once.
Prints its port first, and for each line on stdin how many calls wait. Needs the package h2."""
import asyncio
import json
import signal
import ssl
import sys

import h2.config
import h2.connection
import h2.events
import h2.settings

ANSWER = json.dumps({"id": "x", "object": "chat.completion", "created": 1, "model": "gpt-mock", "choices": [
    {"index": 0, "message": {"role": "assistant", "content": "Done."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}).encode()
STREAMED = "".join("data: %s\n\n" % part for part in (
    json.dumps({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "gpt-mock", "choices": [
        {"index": 0, "delta": {"role": "assistant", "content": "Done."}, "finish_reason": None}]}),
    json.dumps({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "gpt-mock", "choices": [
        {"index": 0, "delta": {}, "finish_reason": "stop"}]}), "[DONE]")).encode()
released, connections = False, set()


class Peer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.waiting, self.streamed = transport, set(), set()
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values={
            h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 100000, h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 65535})
        self.h2.initiate_connection()
        connections.add(self)
        transport.write(self.h2.data_to_send())

    def connection_lost(self, reason):
        connections.discard(self)

    def answer(self, stream):
        streamed = stream in self.streamed
        self.h2.send_headers(stream, [(":status", "200"), ("content-type", "text/event-stream" if streamed else "application/json")])
        self.h2.send_data(stream, STREAMED if streamed else ANSWER, end_stream=True)

    def data_received(self, data):
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if b'"stream":true' in event.data.replace(b" ", b""):
                    self.streamed.add(event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                self.waiting.discard(event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                if released:
                    self.answer(event.stream_id)
                else:
                    self.waiting.add(event.stream_id)
        self.transport.write(self.h2.data_to_send())


def release():
    global released
    released = True
    for peer in list(connections):
        for stream in peer.waiting:
            peer.answer(stream)
        peer.waiting.clear()
        peer.transport.write(peer.h2.data_to_send())


async def main(cert, key):
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["h2"])
    server = await loop.create_server(Peer, "127.0.0.1", 0, ssl=context)
    loop.add_signal_handler(signal.SIGUSR1, release)
    print(server.sockets[0].getsockname()[1], flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(sum(len(peer.waiting) for peer in connections), flush=True)


asyncio.run(main(*sys.argv[1:3]))
