"""A search over a gallery in secret shares at three servers: what hiding scores costs without an encrypted gallery.

    search = Search(share_out(vectors), width)
    bits = search.matches(probe, threshold)

Every number is the sum of three shares mod 2^16, of which each server holds two (replicated secret sharing; Araki et
al., CCS 2016). Scores are products of shares and need no message; score - threshold is turned from shares of a number
into shares of its bits, and its sign is taken by an adder over shared bits (ABY3, Mohassel and Rindal, CCS 2018). Iris
codes are searched this way in use today (Bloemen et al., arXiv 2405.04463). Written from the published descriptions,
with nothing copied. It is a lower limit: no sockets, signatures or logs, and where there was a choice, the cheaper way.

What has to be trusted: three servers that follow the protocol and of which no two put their shares together. Two that
do read the whole gallery and every probe, now or from old disks, as nothing is encrypted and there is no key to refresh
or revoke. A server that lies changes answers and no one notices. One that is down stops the search: all three work on
each query. Messages are counted here, not sent: between servers they would need channels that nobody else reads.
"""

from __future__ import annotations

from benchmarks.peers.shared.search import Search
from benchmarks.peers.shared.shares import share_out

__all__ = ["Search", "share_out"]
