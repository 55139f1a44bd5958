"""What is left of a device's budgets: this matcher asks the key holder of its organisation, which counts them."""

from __future__ import annotations

import grpc

from veilmatch.crypto.errors import VersionError
from veilmatch.crypto.keys.parties import pairs_without
from veilmatch.crypto.versions import Feature
from veilmatch.protos.v1 import keyholder_pb2, matcher_pb2
from veilmatch.server.matcher.query.matching import Surroundings
from veilmatch.server.transport.status import from_rpc


async def budgets(device: str, on: Surroundings) -> matcher_pb2.BudgetsReply:
    """Return what is left. device: who calls, by its certificate; nobody else may be asked about.

    Raises VersionError if the key holder is of before, UnavailableError if it does not answer, what it refuses.
    """
    name, without = f"keyholder-{on.party}", pairs_without(on.party)
    question = keyholder_pb2.DeviceBudgetsQuestion(device=device)
    try:
        reply = await on.key_holder.DeviceBudgets(question, timeout=on.timeout_s)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            raise VersionError(
                f"{name} has to be updated: it does not tell what is left of budgets",
                got=f"{name} without {Feature.DEVICE_BUDGETS}", expected=str(Feature.DEVICE_BUDGETS), party=name,
                alternatives=without,
            ) from None  # fmt: skip
        raise from_rpc(error, name, without) from None
    return matcher_pb2.BudgetsReply(budgets=reply.budgets)
