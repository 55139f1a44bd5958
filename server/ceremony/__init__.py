"""The key ceremony without a dealer between three machines: one process of each organisation, over mutual TLS.

- introduction.py, preparing.py, settings.py: what organisations know of each other before, and have for themselves;
- meeting.py, links.py: the calls between them;
- holding.py: the session (crypto/ceremony) over these calls;
- record.py, keeping.py: what is signed at the end, and how it comes to be on all three disks or on none;
- joining.py: all of it, from the configuration to the installation.
"""
