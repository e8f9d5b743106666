"""The N-th allocation of the server fails, for every N of what a broker's client does: refused cleanly or done, and every promise that was
made is kept: messages at QoS 1 and 2 to sessions that come and go, subscriptions, retained messages, wills.

    STEPS=200 allocations of each kind of step (default 150)
"""
import os
import sys
import time

import contract
import fault
import open_broker

STEPS = int(os.environ.get("STEPS", "150"))


def sweep(server, nth, c, piece):
    """A step of `piece` with the first, the second, ... allocation from its beginning failing. How many failed."""
    before = nth.failed
    for n in range(1, STEPS + 1):
        nth.arm(n)
        c.work(1, [piece])
        nth.disarm()
        if server.process.poll() is not None:
            raise AssertionError(f"{type(piece).__name__}: the server ended with {server.process.returncode} when allocation {n} failed\n{server.log()[-3000:]}")
        c.work(1, [piece])  # whatever happened, the next one is served
    return nth.failed - before


def main():
    nth = fault.NthMalloc()
    # One I/O thread: what a step allocates is the same each time.
    with open_broker.Server(release=True, env=nth.env, args=("--io-threads", "1")) as s:
        c = contract.Contract(s.ports["mqtt"], timeout=2)
        assert c.work(20), "the steps themselves do not work"
        for piece in c.pieces:
            begin, acked = time.monotonic(), piece.acked
            failed = sweep(s, nth, c, piece)
            print(f"{type(piece).__name__}: {failed} allocations failed, {piece.acked - acked} of {2 * STEPS} steps acknowledged "
                  f"({time.monotonic() - begin:.1f} s)", flush=True)
            assert failed > 10 and piece.acked - acked > STEPS // 2, "the fault or the steps did not take place"
        broken = c.verify()
        assert not broken, broken
        s.kill()
        s.start()
        broken = c.verify()
        assert not broken, broken
    nth.close()
    print(f"promises kept: {c}")


if __name__ == "__main__":
    sys.exit(main())
