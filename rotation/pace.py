"""How fast ARM is asked: its buckets of reads and writes, kept here as well, so that nothing is refused.

For each identity and subscription ARM has a bucket of 250 reads that refills at 25 a second, and one of 200
writes that refills at 10 a second:
https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling
"""

import asyncio


class Pace:
    """Turns at one such bucket of every subscription.

    It is kept a tenth smaller and a twentieth slower than ARM's: what was sent at our pace may arrive at
    another. Other processes of the same identity are not known here; where they use up ARM's bucket, its 429
    is a refusal like any other.
    """

    def __init__(self, burst: int, a_second: float) -> None:
        self.burst = burst * 0.9
        self.a_second = a_second * 0.95
        self._full_at: dict[str, float] = {}

    async def turn(self, subscription: str, until: float) -> bool:
        """Wait for a turn; False, at once, where none comes by `until` on the event loop's clock."""
        now = asyncio.get_running_loop().time()
        full_at = max(now, self._full_at.get(subscription, now)) + 1 / self.a_second
        begins = max(now, full_at - self.burst / self.a_second)
        if begins > until:
            return False
        self._full_at[subscription] = full_at
        await asyncio.sleep(begins - now)
        return True

    def holds(self, seconds: float) -> int:
        """So many turns a full bucket has in that time."""
        return int(self.burst + self.a_second * seconds)


def reads() -> Pace:
    """ARM's reads."""
    return Pace(250, 25)


def writes() -> Pace:
    """ARM's writes."""
    return Pace(200, 10)
