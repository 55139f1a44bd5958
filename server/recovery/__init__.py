"""New shares of the key, for a fresh machine in the place of a lost one or for all three (docs/recovery.md).

One command at each of the three machines, whose key holders do not run meanwhile, over mutual TLS:

- fresh.py: the folder of a fresh machine, all of it but the share;
- fingerprint.py: by which people know the fresh machine;
- greeting.py: what the three begin with, and who calls whom; the calls are those of a ceremony (server/ceremony);
- seeds.py: what shows that nobody stands between two of them;
- record.py, keeping.py: what is signed at the end, and how new shares come into use at all three or at none;
- recovering.py: all of it, from the configuration of a key holder to its new share.
"""
