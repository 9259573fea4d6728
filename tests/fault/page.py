# SPDX-License-Identifier: Apache-2.0
"""The page of fault.h, as inject writes and reads it."""
import mmap
import struct

MEMORY, DESCRIPTOR, TASK = 1, 2, 4
ALL = MEMORY | DESCRIPTOR | TASK
ORDERS = struct.Struct("=4IQ16s")
REPORT = struct.Struct("=2Q2I24s")
FRAME = struct.Struct("=24sQ")
FRAMES = 24


def text(raw):
    return raw.split(b"\0")[0].decode(errors="replace")


class Page:
    def __init__(self, path):
        self.path = path
        with open(path, "w+b") as f:
            f.truncate(4096)
            self.map = mmap.mmap(f.fileno(), 4096)

    def order(self, verb, kinds=ALL, at=0, for_good=False, forked=True, armed=True):
        """The next call is the first; what was reported is forgotten."""
        self.map[:4] = bytes(4)
        self.map[ORDERS.size:4096] = bytes(4096 - ORDERS.size)
        self.map[:ORDERS.size] = ORDERS.pack(0, kinds, for_good, forked, at, verb.encode())
        if armed:
            self.arm(True)

    def arm(self, on):
        self.map[:4] = struct.pack("=I", on)

    def report(self):
        """Calls, failed ones, a helper's signal, what failed, who called it: [(file, offset)]."""
        calls, failed, sig, n, what = REPORT.unpack_from(self.map, ORDERS.size)
        frames = []
        for i in range(min(n, FRAMES)):
            file, offset = FRAME.unpack_from(self.map, ORDERS.size + REPORT.size + i * FRAME.size)
            frames.append((text(file), offset))
        return calls, failed, sig, text(what), frames
