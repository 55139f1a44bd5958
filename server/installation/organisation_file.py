"""The sealed file of an organisation's signing key, `organisation.key`: beside both its daemons, one passphrase each.

seal_organisation(Path("organisation.key"), key, public, passphrase)
key = unseal_organisation(Path("organisation.key"), "a", public, passphrase)
"""

from __future__ import annotations

from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.server.ground.organisation import OrganisationKey
from veilmatch.server.installation.signing_file import SigningFile

ORGANISATION_FILE = SigningFile(
    b"VMSIGN01", "organisation's signing key", OrganisationKey.from_secret_bytes, PublicFile.signer
)
seal_organisation, unseal_organisation = ORGANISATION_FILE.seal, ORGANISATION_FILE.unseal
require_sealed_organisation, reseal_organisation = ORGANISATION_FILE.require_sealed, ORGANISATION_FILE.reseal
