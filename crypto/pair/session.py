"""The session of a pair of key holders: one request, from its lane ciphertexts to shares of what comes out.

A state machine without I/O: `start` and `resume` return what it wants next (messages.Action), the
surroundings do it and resume it with the outcome. Both holders run the same steps:

1. hello: compare what the session is about, make its id from three nonces and its mask from both secrets;
2. convert the lanes: compare digests and fingerprints, reserve triples, exchange openings, mask; the minus
   holder draws the last mask, under which nothing carries or wraps;
3. for enrol, erase and rotate (records.py): prove true openings; the validity gate and a multiplication by its bit for
   what a device encrypted; hand the matcher its shares of the templates. The session ends here;
4. for queries (answers.py): hand the matcher its share of the probe, and run the validity gate while the matchers work;
5. convert the matchers' results in the same way;
6. prove to each other that all conversions of the session were of true values (key_safety.py);
7. decision gate or tournament on the wanted slots; hand over this holder's share of answer AND valid, and of valid.

Rules: no opening leaves before both comparisons succeeded; a triple is reserved before it is used; before the
key-safety check nothing is opened that depends on a conversion (the last mask is uniform, whatever the peer did), and
nothing leaves towards the device. What
comes before it tells nobody anything, whatever was opened: the share of a probe goes to the holder's own matcher and
is uniform also for whoever dealt for this session, the results made from it are encrypted, openings and gate messages
are masked afresh. Validity is opened to no server, in no operation; a message of another kind, number or session ends
in ProtocolError, and a session that ended with an error answers nothing more. DESIGN.md sections 2 to 6.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.encryption.scheme import Scheme
from veilmatch.crypto.errors import CiphertextError, ProtocolError
from veilmatch.crypto.keys.shares import PairShare, SafetyShare
from veilmatch.crypto.pair.answers import query_steps
from veilmatch.crypto.pair.converting import Converter
from veilmatch.crypto.pair.exchange import Exchange, Steps
from veilmatch.crypto.pair.messages import Action, DecisionShare, TemplateShare
from veilmatch.crypto.pair.records import template_steps
from veilmatch.crypto.pair.request import ON_RECORDS, Request
from veilmatch.crypto.secret_access import SecretHolder


class PairSession(SecretHolder):
    """One holder's side. Make one per request, call `start`, then `resume` until `finished`."""

    def __init__(
        self,
        request: Request,
        ciphertexts: Sequence[Integer],
        by_device: NDArray[np.bool_],
        share: PairShare,
        safety: SafetyShare,
        scheme: Scheme,
        coins: bytes,
        mask_secret: bytes,
        floors: tuple[int, int, int],
    ) -> None:
        """ciphertexts: the lanes of n vectors, parsed. by_device: bool[n], all True unless they are records.

        coins, mask_secret: 32 random bytes each, fresh. floors: of triples, bits and products.
        """
        self.request = request
        self.finished = False
        self._ciphertexts = list(ciphertexts)
        self._by_device = by_device
        self._exchange = Exchange(scheme, floors, is_plus=share.is_plus)
        self._converter = Converter(self._exchange, request, share, safety, coins, mask_secret)
        self._steps = self._run()

    @property
    def session_id(self) -> bytes:
        """The id that both holders made, empty before they have."""
        return self._exchange.session_id

    def start(self) -> Action:
        """Return the first action."""
        return self._advance(None)

    def resume(self, outcome: object) -> Action:
        """Return the next action, given the outcome of the last one. Raises the error that ends the session."""
        return self._advance(outcome)

    def _advance(self, outcome: object) -> Action:
        if self.finished:
            raise ProtocolError("the session has ended")
        try:
            action = self._steps.send(outcome)
        except BaseException:
            self.finished = True
            raise
        if isinstance(action, TemplateShare | DecisionShare):
            self.finished = True
        return action

    def _run(self) -> Steps[None]:
        self._check_vectors()
        yield from self._converter.hello()
        request = self.request
        if request.operation == "enrol" or request.operation in ON_RECORDS:
            told = request.operation != "erase"
            yield from template_steps(self._exchange, self._converter, self._ciphertexts, self._by_device, told=told)
        else:
            yield from query_steps(
                self._exchange, self._converter, self._ciphertexts, request.operation, request.threshold
            )

    def _check_vectors(self) -> None:
        size, count = self._exchange.scheme.parameters.lane_ciphertexts, len(self._by_device)
        on_records = self.request.operation in ON_RECORDS
        if count < 1 or len(self._ciphertexts) != count * size or (count > 1 and not on_records):
            raise CiphertextError("number of lane ciphertexts", got=len(self._ciphertexts), expected=count * size)
        if not on_records and not self._by_device.all():
            raise ProtocolError("a vector of a device without its gate", expected="by_device")
