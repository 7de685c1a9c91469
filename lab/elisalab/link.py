# SPDX-License-Identifier: BSD-3-Clause
"""The command link to an agent in the emulated host: lab/agent/link.h, seen from outside."""

import queue
import struct
import threading
import time

END, ESC, ESC_END, ESC_ESC = 0xC0, 0xDB, 0xDC, 0xDD
LINK_MAX = 8192
RUN_PTY, RUN_STDIN = 0x01, 0x02


def _crc_table() -> list:
    table = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
        table.append(crc & 0xFFFF)
    return table


_CRC = _crc_table()


def crc16(data: bytes) -> int:
    crc = 0xFFFF
    for byte in data:
        crc = (crc << 8 & 0xFFFF) ^ _CRC[crc >> 8 ^ byte]
    return crc


def encode(kind: str, seq: int, ident: int, payload: bytes = b"") -> bytes:
    if len(payload) > LINK_MAX:
        raise ValueError(f"a frame holds {LINK_MAX} bytes, not {len(payload)}")
    raw = struct.pack("<cBH", kind.encode(), seq, ident) + payload
    raw += struct.pack("<H", crc16(raw))
    raw = raw.replace(bytes([ESC]), bytes([ESC, ESC_ESC])).replace(bytes([END]), bytes([ESC, ESC_END]))
    return bytes([END]) + raw + bytes([END])


class Decoder:
    """Bytes in, whole frames (kind, seq, id, payload) out; damaged frames are dropped and counted."""

    def __init__(self):
        self.buffer = bytearray()
        self.dropped = 0

    def feed(self, data: bytes) -> list:
        frames = []
        for i, part in enumerate(pieces := data.split(bytes([END]))):
            self.buffer += part
            if i == len(pieces) - 1:
                break
            raw = bytes(self.buffer).replace(bytes([ESC, ESC_END]), bytes([END]))
            raw = raw.replace(bytes([ESC, ESC_ESC]), bytes([ESC]))
            self.buffer.clear()
            if not raw:
                continue
            if len(raw) < 6 or crc16(raw[:-2]) != int.from_bytes(raw[-2:], "little"):
                self.dropped += 1
                continue
            kind, seq, ident = struct.unpack("<cBH", raw[:4])
            frames.append((kind.decode("latin-1"), seq, ident, raw[4:-2]))
        return frames


class LinkDown(Exception):
    """The other side of the link is gone."""


class Job:
    """One command on the other side. Events: ("out", bytes), then one ("exit", status)."""

    def __init__(self, link, ident: int):
        self.link = link
        self.ident = ident
        self.events = queue.Queue()
        self.status = None

    def signal(self, number: int) -> None:
        self.link.command("K", self.ident, bytes([number]))

    def stdin(self, data: bytes) -> None:
        self.link.command("I", self.ident, data)


class AgentLink:
    """Jobs on an agent behind a connected socket. Thread-safe."""

    ACK_TIMEOUT = 5.0
    TRIES = 12

    def __init__(self, sock):
        self.sock = sock
        self.jobs = {}
        self.seq = 0
        self.next_id = 0
        self.acked = threading.Condition()
        self.last_ack = None
        self.sending = threading.Lock()
        self.hello = threading.Event()
        self.down = threading.Event()
        threading.Thread(target=self._reader, daemon=True).start()

    def _reader(self) -> None:
        decoder = Decoder()
        while True:
            try:
                data = self.sock.recv(65536)
            except OSError:
                data = b""
            if not data:
                break
            for frame in decoder.feed(data):
                self._frame(*frame)
        self.down.set()
        with self.acked:
            self.acked.notify_all()
        for job in list(self.jobs.values()):
            job.events.put(("down", None))

    def _frame(self, kind: str, seq: int, ident: int, payload: bytes) -> None:
        if kind == "A":
            with self.acked:
                self.last_ack = seq
                self.acked.notify_all()
        elif kind == "H":
            self.hello.set()
        elif kind == "O" and ident in self.jobs:
            self.jobs[ident].events.put(("out", payload))
        elif kind == "X" and ident in self.jobs and len(payload) == 2:
            status = payload[1] if payload[0] == ord("e") else 128 + payload[1]
            self.jobs[ident].events.put(("exit", status))

    def command(self, kind: str, ident: int, payload: bytes = b"") -> None:
        """Sends one command and waits for its acknowledgement, repeating it when that is late."""
        with self.sending:
            self.seq = (self.seq + 1) & 0xFF
            frame = encode(kind, self.seq, ident, payload)
            # each byte takes some 90 us of the emulated machine's time
            patience = self.ACK_TIMEOUT + len(frame) / 1000
            for _ in range(self.TRIES):
                self._send(frame)
                deadline = time.monotonic() + patience
                with self.acked:
                    while self.last_ack != self.seq and not self.down.is_set():
                        left = deadline - time.monotonic()
                        if left <= 0:
                            break
                        self.acked.wait(left)
                    if self.last_ack == self.seq:
                        return
                if self.down.is_set():
                    raise LinkDown("the emulated host ended")
        raise LinkDown("the agent in the emulated host does not answer")

    def _send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError as e:
            raise LinkDown(f"the emulated host ended: {e}") from e

    def run(self, command: str, flags: int = 0, size: tuple = (24, 80)) -> Job:
        self.next_id = self.next_id % 0xFFFE + 1
        job = Job(self, self.next_id)
        self.jobs[job.ident] = job
        payload = struct.pack("<BHH", flags, *size) + command.encode()
        if len(payload) > LINK_MAX:
            raise ValueError(f"a command may have {LINK_MAX - 5} bytes, this one has {len(payload) - 5}")
        self.command("R", job.ident, payload)
        return job

    def ping(self) -> None:
        self._send(encode("P", 0, 0))

    def quit(self) -> None:
        """Asks the machine to end; does not wait."""
        self._send(encode("Q", (self.seq + 1) & 0xFF, 0))
