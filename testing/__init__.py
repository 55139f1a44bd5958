"""For the tests of programs that use Veilmatch: a whole installation on this machine, with real cryptography.

    from veilmatch.testing import LocalInstallation, made_up_embedding

    with LocalInstallation() as installation, installation.client() as client:
        client.enrol_embedding("ada", made_up_embedding("ada"), model="made up")
        assert client.verify_embedding("ada", made_up_embedding("ada", photo=2), model="made up")

What answers are the daemons that organisations run, with a key that is too small to protect anybody: seconds to start,
and milliseconds to ask. Nothing else here is smaller or simpler than in earnest. Needs the extra `server`; photos need
`device` and the face models too. docs/testing.md.
"""

from __future__ import annotations

from veilmatch.testing.faces import made_up_embedding
from veilmatch.testing.installation import LocalInstallation

__all__ = ["LocalInstallation", "made_up_embedding"]
