"""The session of a pair of key holders: from the lane ciphertexts of a request to shares of what comes out.

It is about one request, or about several verifications that go together (verification.py).

A state machine without I/O: `start` and `resume` return what it wants next (messages.Action), the
surroundings do it and resume it with the outcome. Both holders run the same steps:

1. convert the lanes locally; hello, the minus holder first: compare what the session is about, digests and
   fingerprints; make its id from three nonces and its mask from both secrets; reserve stock; exchange openings, mask;
   the minus holder draws the last mask, under which nothing carries or wraps;
2. for erase and rotate, and for an enrolment whatever is known (records.py): the validity gate and a multiplication by
   its bit for what a device encrypted; hand the matcher its shares of the templates. The session ends here;
3. for verify (verification.py): the records of the subject were converted with the probe. Validity gate, inner products
   and decision on all of them; hand over this holder's share of answer AND valid, and of valid. The session ends here;
4. for searches (answers.py): hand the matcher its share of the probe, begin the validity gate, await the results;
5. convert the matchers' results in the same way, the plus holder speaking first; the other layers of the validity
   gate travel with that;
6. decision gate or tournament on the wanted slots; hand over this holder's share of answer AND valid, and of valid;
7. for an enrolment unless known (unless_known.py): 4 to 6 without handing over, then the multiplication of 2.

Beside the layers of 2, 3 and 6 both prove to each other that all conversions of the session were of true values
(key_safety.py). The holders speak in turn: each sends as soon as it can and receives as late as it can, so that a
turn is one message on the way. docs/protocol.md has the turns as a figure.

Rules: a holder sends no opening before its own comparisons have succeeded; a triple is reserved before it is used;
coins are shown by a holder that has received the last opening of the other; no share leaves towards a device or a
gallery before the other's proof of true openings is right. What leaves before that tells nobody anything, whatever
was opened: fingerprints are hashes of what the other computes itself, openings and gate messages are masked afresh,
the last mask is uniform but for its rule, and the share of a probe in a search goes to the holder's own matcher and is
uniform also for whoever dealt for this session. Validity is opened to no server, in no operation; a message of another
kind, number or session ends in ProtocolError, and a session that ended with an error answers nothing more.
docs/protocol.md, "The pair session".
"""

from __future__ import annotations

from collections.abc import Sequence

from veilmatch.crypto.encryption.scheme import Scheme
from veilmatch.crypto.errors import CiphertextError, ProtocolError
from veilmatch.crypto.keys.shares import PairShare, SafetyShare
from veilmatch.crypto.pair.answers import search_steps
from veilmatch.crypto.pair.converting import Converter
from veilmatch.crypto.pair.exchange import Exchange, Steps
from veilmatch.crypto.pair.messages import Action, Composed, DecisionShare, TemplateShare
from veilmatch.crypto.pair.records import template_steps
from veilmatch.crypto.pair.request import MAX_TEMPLATES, MAX_TOGETHER, ON_RECORDS, Part
from veilmatch.crypto.pair.unless_known import unless_known_steps
from veilmatch.crypto.pair.verification import verification_id, verification_steps
from veilmatch.crypto.requests import MAX_VIEWS
from veilmatch.crypto.secret_access import SecretHolder


class PairSession(SecretHolder):
    """One holder's side. Make one, call `start`, then `resume` until `finished`."""

    def __init__(
        self,
        parts: Sequence[Part | None],
        share: PairShare,
        safety: SafetyShare,
        scheme: Scheme,
        coins: bytes,
        mask_secret: bytes,
        floors: tuple[int, int, int],
    ) -> None:
        """parts: of each request that the session is opened with, in order; at the plus holder None for one that is not
        here. More than one are verifications of one key, epoch and stock.

        coins, mask_secret: 32 random bytes each, fresh. floors: of triples, bits and products.
        """
        self.finished = False
        self._parts = parts
        #: How many have no share of an answer yet.
        self._unanswered = 1
        self._exchange = Exchange(scheme, floors, is_plus=share.is_plus)
        self._converter = Converter(self._exchange, parts, share, safety, coins, mask_secret)
        self._steps = self._run()

    def id_of(self, part: Part) -> bytes:
        """Return the id by which a request knows the session, which others may share; empty before there is one."""
        session_id = self._exchange.session_id
        if not session_id or part.request.operation != "verify":
            return session_id
        return verification_id(session_id, part.request.context())

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
        if isinstance(action, Composed) and action.going:
            self._unanswered = len(action.going)
        if isinstance(action, TemplateShare | DecisionShare):
            self._unanswered -= 1
            self.finished = not self._unanswered
        return action

    def _run(self) -> Steps[None]:
        here = [part for part in self._parts if part is not None]
        if not here or len(self._parts) > MAX_TOGETHER:
            raise ProtocolError("number of requests of a session", got=len(self._parts), expected=f"1..{MAX_TOGETHER}")
        for part in here:
            self._check_vectors(part)
        request = here[0].request
        if len(self._parts) > 1 and any(part.request.operation != "verify" for part in here):
            raise ProtocolError("requests that do not go together", got=request.operation, expected="verify")
        views = here[0].views
        if request.operation == "enrol" and request.threshold:
            yield from unless_known_steps(self._exchange, self._converter, request.threshold, views)
        elif request.operation == "enrol" or request.operation in ON_RECORDS:
            told = request.operation != "erase"
            yield from template_steps(self._exchange, self._converter, here[0].by_device, told=told)
        elif request.operation == "verify":
            yield from verification_steps(self._exchange, self._converter)
        else:
            yield from search_steps(self._exchange, self._converter, request.operation, request.threshold, views)

    def _check_vectors(self, part: Part) -> None:
        size, count = self._exchange.scheme.parameters.lane_ciphertexts, len(part.by_device)
        operation = part.request.operation
        if count < 1 or len(part.ciphertexts) != count * size:
            raise CiphertextError("number of lane ciphertexts", got=len(part.ciphertexts), expected=count * size)
        if operation in ON_RECORDS:
            return
        most = 1 if operation == "enrol" and not part.request.threshold else MAX_VIEWS
        if not 1 <= part.views <= most:
            raise ProtocolError("number of views of a probe", got=part.views, expected=f"1..{most}")
        fewest = part.views + (operation == "verify")
        vectors = range(fewest, part.views + MAX_TEMPLATES + 1 if operation == "verify" else fewest + 1)
        if count not in vectors:
            raise CiphertextError("number of vectors", got=count, expected=f"{vectors[0]}..{vectors[-1]}")
        if not part.by_device[: part.views].all():
            raise ProtocolError("a vector of a device without its gate", expected="by_device")
