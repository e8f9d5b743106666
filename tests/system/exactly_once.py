"""QoS 2 is exactly once though publishers and subscribers lose their connections at any moment and come back at once, to another thread:
what the old connection still had to say and what the new one says again is one message.
"""
import sys
import tempfile
import time

import ledger
import open_broker


def main():
    work = tempfile.mkdtemp(prefix="muster-once-")
    with open_broker.Server() as s:
        with ledger.Load(f"{work}/account", s.ports["mqtt"], publishers=20, subscribers=2, qos=2, version=0, rate=4000, offline_ms=60, churn=1) as load:
            time.sleep(10)
            load.quiet()
            load.settle()
            figures = load.stop()
        verdict = load.account.at_subscribers()
        assert verdict.problem() is None, verdict.problem()
        assert verdict.acked > 1000 and verdict.unknown == 0, verdict
        print(f"{verdict}; {figures}")


if __name__ == "__main__":
    sys.exit(main())
