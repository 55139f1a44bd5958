"""POSIX access lists (acl(5)) of files that hold a secret.

With such a list the group's bits of a mode are no rights of the group, but the most that anybody named in the list may
have. systemd makes a credential readable for the user of a service by such a list where the file system has them, and
`ls` shows 0440.
"""

from __future__ import annotations

import os
import struct
from enum import IntEnum

#: Where Linux keeps the list, in the form of linux/posix_acl_xattr.h: a version, then entries of tag, rights and id.
ATTRIBUTE = "system.posix_acl_access"
VERSION = 2
HEADER, ENTRY = struct.Struct("<I"), struct.Struct("<HHI")


class Tag(IntEnum):
    """Whom an entry is about."""

    OWNER = 0x01
    USER = 0x02
    OWNING_GROUP = 0x04
    GROUP = 0x08
    MOST = 0x10
    OTHERS = 0x20


def is_for_this_user_alone(descriptor: int) -> bool:
    """Return whether an open file has an access list, and no right in it is of any but its owner and this user."""
    if not hasattr(os, "getxattr"):
        return False
    try:
        found = os.getxattr(descriptor, ATTRIBUTE)
    except OSError:
        return False  # none, or the file system has none
    if len(found) < HEADER.size or (len(found) - HEADER.size) % ENTRY.size or HEADER.unpack_from(found)[0] != VERSION:
        return False
    return all(
        rights == 0 or tag in (Tag.OWNER, Tag.MOST) or (tag == Tag.USER and user == os.geteuid())
        for tag, rights, user in ENTRY.iter_unpack(found[HEADER.size :])
    )
