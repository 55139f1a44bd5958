"""What each kind of database went through: a folder for each, a script for each revision (docs/storage.md).

Alembic reads the scripts as files; nobody imports them. The name of a revision is a number that goes up, so that
a database can be told to be newer than the code. The first one of each kind is idempotent: it is also what brings a
database from before there were revisions to the first one.
"""
