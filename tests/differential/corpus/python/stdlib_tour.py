import bz2
import csv
import decimal
import fractions
import heapq
import io
import itertools
import json
import lzma
import pathlib
import re
import sqlite3
import ssl
import statistics
import struct
import tempfile
import zlib

print(json.dumps({"a": [1, 2.5, None]}), decimal.Decimal("0.1") + 1, fractions.Fraction(1, 3))
print(re.findall(r"\w+", "a b c"), list(itertools.permutations("abc", 2))[:3], heapq.nsmallest(2, [3, 1, 2]))
print(zlib.crc32(b"x"), len(bz2.compress(b"x" * 100)), len(lzma.compress(b"x" * 100)), struct.pack(">I", 7))
database = sqlite3.connect(":memory:")
print(database.execute("select 1 + 1, sqlite_version() <> ''").fetchall(), statistics.mean([1, 2, 4]))
print(len(ssl.create_default_context().get_ca_certs()) > 10, ssl.get_default_verify_paths().cafile)
with tempfile.NamedTemporaryFile("w+") as file:
    print(pathlib.Path(file.name).parent, tempfile.gettempdir())
writer = csv.writer(io.StringIO())
writer.writerow(["a", "b"])
