"""The sealed file of an organisation's certification key, `certifier.key`, under the passphrase of its key share.

CERTIFIER_FILE.seal(Path("certifier.key"), certifier, public, passphrase)
certifier = CERTIFIER_FILE.unseal(Path("certifier.key"), "a", public, passphrase)
"""

from __future__ import annotations

from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.server.installation.certifying.certifier import Certifier
from veilmatch.server.installation.signing_file import SigningFile

CERTIFIER_FILE = SigningFile(b"VMCERT01", "certification key", Certifier.from_secret_bytes, PublicFile.organisation)
seal_certifier, unseal_certifier = CERTIFIER_FILE.seal, CERTIFIER_FILE.unseal
require_sealed_certifier, reseal_certifier = CERTIFIER_FILE.require_sealed, CERTIFIER_FILE.reseal
