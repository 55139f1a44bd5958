"""TLS 1.3 alone, in processes that are Veilmatch's own: its command line, so all daemons, ceremonies and recoveries.

gRPC for Python has no setting for the least version of TLS. It has one for the ciphers of those before 1.3, in the
environment, and reads it once, as it is imported. A program that uses the SDK has its own environment, and other
connections over gRPC as it may be, so the SDK leaves it alone (docs/certificates.md, TLS 1.3 alone).
"""

from __future__ import annotations

import os

CIPHERS_VARIABLE = "GRPC_SSL_CIPHER_SUITES"
#: Goes with a key that both ends were given, and never with a certificate: no party here can agree on it.
NO_CIPHER = "ECDHE-PSK-AES256-CBC-SHA"


def speak_nothing_before_tls_1_3() -> None:
    """Have this process, and those that it starts, speak TLS 1.3 alone over gRPC; to be called before gRPC is imported.

    What the environment says is replaced: nothing of Veilmatch needs an earlier version.
    """
    os.environ[CIPHERS_VARIABLE] = NO_CIPHER
