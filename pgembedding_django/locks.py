"""The keys of the advisory locks that this package takes in a database, so that no two are one."""

from __future__ import annotations

__all__ = ["CLAIMS", "EXTENSION", "GUARD", "REBUILD", "TABLES"]

#: Of two processes that create the extension at once: "pgem" in ASCII.
EXTENSION = 0x7067656D

#: Of two processes that make LangChain's tables at once: "pgen" in ASCII.
TABLES = 0x7067656E

#: The high half of the keys of a table's readers and writers with pg_embedding, the first of several in a row: "pgem"
#: in ASCII. The low half is the table's oid.
GUARD = 0x7067656D

#: Of a table whose indexes are being rebuilt, "pgre" in ASCII above the table's oid; by itself, of a run that is being
#: recorded. Of the table, since a rebuild gives an index another oid, and two on one table end in a deadlock (40P01).
REBUILD = 0x70677265 << 32

#: Of workers that claim rows of one field, where the server cannot lock the rows: the seed of the hash of its name.
CLAIMS = 0x7067636C
