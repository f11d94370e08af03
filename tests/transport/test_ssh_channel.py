"""Two ends of a stream, joined in memory: every byte arrives, in order, and an end only if it was one."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import Any

import pytest
from asyncssh import ProtocolError
from asyncssh.packet import SSHPacket
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.scripted import until
from tunnelkit.net.pump import Pump
from tunnelkit.transport import ssh_channel
from tunnelkit.transport.ssh_answers import refusal, refusal_text
from tunnelkit.transport.ssh_channel import PACKET_SIZE, WINDOW, SshStream
from tunnelkit.transport.ssh_congestion import Congestion

DATA, EXTENDED, EOF, CLOSE = 94, 95, 96, 97


class User:
    """Notes what it is told; takes nothing while ``full``."""

    def __init__(self, stream: SshStream) -> None:
        self.stream = stream
        self.data = bytearray()
        self.events: list[str] = []
        self.full = False
        stream.use(self)

    def payload(self, data: memoryview | bytes) -> None:
        assert data
        self.data += data
        if self.full:
            self.stream.pause()

    def ended(self) -> None:
        self.events.append("ended")

    def refused(self, code: str, what: str) -> None:
        self.events.append(f"refused {code}")

    def aborted(self, code: str) -> None:
        self.events.append(code)

    def drained(self) -> None:
        if self.events[-1:] != ["drained"]:
            self.events.append("drained")


class End:
    """A connection with one channel; its packets wait in ``sent`` until :meth:`deliver`."""

    def __init__(self, pump: Pump) -> None:
        self.congestion = Congestion()
        self.sent: deque[tuple[int, bytes]] = deque()
        self.removed = 0
        self.stream = SshStream(pump, self)
        self.user = User(self.stream)
        self.other: End

    def add_channel(self, chan: Any) -> int:
        return 7

    def remove_channel(self, recv_chan: int) -> None:
        self.removed += 1

    def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None:
        assert self.removed == 0
        self.sent.append((pkttype, b"".join(args)))

    def deliver(self) -> None:
        """Bring one packet to the other side."""
        kind, data = self.sent.popleft()
        packet = SSHPacket(bytes((kind,)) + data)
        packet.get_byte()
        packet.get_uint32()
        if kind == DATA:
            assert len(data) - 8 <= PACKET_SIZE
        self.other.stream.process_packet(kind, 0, packet)


def pair(pump: Pump) -> tuple[End, End]:
    one, two = End(pump), End(pump)
    one.other, two.other = two, one
    for end in (one, two):
        end.stream.process_open_confirmation(7, WINDOW, PACKET_SIZE, SSHPacket(b""))
        end.user.events.clear()
    return one, two


def settle(*ends: End) -> None:
    while any(end.sent for end in ends):
        for end in ends:
            if end.sent:
                end.deliver()


async def test_both_ends_and_the_number_is_free() -> None:
    pump = Pump(asyncio.get_running_loop())
    one, two = pair(pump)
    assert one.stream.send(b"a" * 100_000)
    one.stream.end(delivered=False)
    settle(one, two)
    assert two.user.data == b"a" * 100_000
    assert two.user.events == ["ended"]
    two.stream.send(b"answer")
    two.stream.end(delivered=True)
    settle(one, two)
    assert (one.user.data, one.user.events) == (b"answer", ["ended"])
    one.stream.delivered()
    settle(one, two)
    assert (one.removed, two.removed) == (1, 1)
    pump.close()


async def test_a_window_fills_and_opens_again() -> None:
    pump = Pump(asyncio.get_running_loop())
    one, two = pair(pump)
    two.user.full = True
    two.stream.pause()
    assert not one.stream.send(bytes(WINDOW + 5))
    one.stream.end(delivered=False)
    settle(one, two)
    assert not two.user.data
    two.user.full = False
    two.stream.resume()
    await until(lambda: (settle(one, two), two.user.events)[1])
    assert len(two.user.data) == WINDOW + 5
    assert two.user.events == ["ended"]
    pump.close()


@pytest.mark.parametrize("clean", [True, False])
async def test_an_end_and_a_close_while_nobody_takes_anything(clean: bool) -> None:
    """An end that came before the close is an end; without one it is an abort, after all that came."""
    pump = Pump(asyncio.get_running_loop())
    one, two = pair(pump)
    two.stream.pause()
    one.stream.send(b"before")
    if clean:
        two.stream.end(delivered=False)
        one.stream.end(delivered=True)
    else:
        one.stream.cancel("reset")
    settle(one, two)
    assert two.user.events == ([] if clean else ["reset"])
    two.stream.resume()
    await asyncio.sleep(0)
    assert two.user.data == b"before"
    assert two.user.events == (["ended"] if clean else ["reset"])
    pump.close()


async def test_an_abort_lets_out_what_came_before_as_long_as_it_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ssh_channel, "CANCEL_INTERVAL", 0.01)
    monkeypatch.setattr(ssh_channel, "CANCEL_PATIENCE", 0.05)
    pump = Pump(asyncio.get_running_loop())
    one, two = pair(pump)
    two.stream.pause()
    one.stream.send(bytes(WINDOW + 5))
    one.stream.cancel("stalled")
    settle(one, two)
    assert two.user.events == []
    await until(lambda: one.sent)
    settle(one, two)
    assert len(two.user.data) == WINDOW
    assert two.user.events == ["reset"]
    pump.close()


async def test_congestion_stops_and_wakes_everybody() -> None:
    pump = Pump(asyncio.get_running_loop())
    one, two = pair(pump)
    one.congestion.paused = True
    assert not one.stream.send(b"later")
    assert not one.sent
    one.congestion.resume()
    settle(one, two)
    assert two.user.data == b"later"
    assert one.user.events == ["drained"]
    pump.close()


async def test_a_cancelled_opening_is_closed_once_it_is_answered() -> None:
    pump = Pump(asyncio.get_running_loop())
    end = End(pump)
    end.stream._request("x", b"")
    end.stream.send(b"early")
    end.stream.cancel("gone")
    end.stream.process_open_confirmation(3, WINDOW, PACKET_SIZE, SSHPacket(b""))
    assert [kind for kind, _ in end.sent] == [90, CLOSE]
    assert end.user.events == []
    pump.close()


async def test_the_connection_ends() -> None:
    pump = Pump(asyncio.get_running_loop())
    for opened, code in ((True, "closed"), (False, "unanswered")):
        end = End(pump)
        if opened:
            end.stream.process_open_confirmation(3, WINDOW, PACKET_SIZE, SSHPacket(b""))
            end.user.events.clear()
        end.stream.process_connection_close(None)
        assert (end.user.events, end.removed) == ([code], 1)
    pump.close()


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (DATA, struct.pack(">I", 5) + b"four"),
        (DATA, struct.pack(">I", 0xFFFFFFFF)),
        (DATA, struct.pack(">I", WINDOW + 1) + bytes(WINDOW + 1)),
        (EXTENDED, struct.pack(">II", 1, 1) + b"x"),
        (93, struct.pack(">I", 0xFFFFFFFF)),
        (EOF, b"more"),
        (99, b""),
    ],
)
async def test_nonsense_is_a_protocol_error(kind: int, data: bytes) -> None:
    pump = Pump(asyncio.get_running_loop())
    one, _ = pair(pump)
    packet = SSHPacket(bytes((kind,)) + struct.pack(">I", 7) + data)
    packet.get_byte()
    packet.get_uint32()
    with pytest.raises((ProtocolError, asyncio.CancelledError, Exception)) as raised:
        one.stream.process_packet(kind, 0, packet)
    assert type(raised.value).__name__ in ("ProtocolError", "PacketDecodeError")
    pump.close()


Step = tuple[int, str, int]
steps = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["send", "deliver", "pause", "resume", "congest", "relieve", "end"]),
        st.integers(1, 300_000),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_any_order_keeps_every_byte_and_both_ends(script: list[Step]) -> None:
    async def play() -> None:
        pump = Pump(asyncio.get_running_loop())
        ends = pair(pump)
        sent = [bytearray(), bytearray()]
        ended = [False, False]
        for side, what, size in script:
            end = ends[side]
            if what == "send" and not ended[side]:
                data = bytes((len(sent[side]) + size) % 251 for _ in range(1)) * size
                sent[side] += data
                end.stream.send(data)
            elif what == "deliver" and end.sent:
                end.deliver()
            elif what == "pause":
                end.stream.pause()
            elif what == "resume":
                end.stream.resume()
                await asyncio.sleep(0)
            elif what == "congest":
                end.congestion.paused = True
            elif what == "relieve":
                end.congestion.resume()
            elif what == "end" and not ended[side]:
                ended[side] = True
                end.stream.end(delivered=False)
        for end in ends:
            end.congestion.resume()
            end.stream.resume()
        for end, over in zip(ends, ended, strict=True):
            if not over:
                end.stream.end(delivered=False)
        for _ in range(200):
            settle(*ends)
            await asyncio.sleep(0)
        for side, end in enumerate(ends):
            assert end.user.data == sent[1 - side]
            assert [event for event in end.user.events if event != "drained"] == ["ended"]
            end.stream.delivered()
        settle(*ends)
        assert [end.removed for end in ends] == [1, 1]
        pump.close()

    asyncio.run(play())


@given(st.text())
def test_the_words_of_a_refusal(text: str) -> None:
    code, what = refusal(text)
    assert code
    assert (code, what) == ("service_refused", text) or text == refusal_text(code, what)
    assert refusal(refusal_text("service_timeout", text)) == ("service_timeout", text)
