import os
import sys

raw = b"\xff\xfename"
name = os.fsdecode(raw)
open(name, "w").close()
print(ascii(sorted(os.listdir("."))), os.listdir(b".")[0] in (raw, b"main.py"))
print(name, file=sys.stderr)
sys.stdout.buffer.write(b"raw \xff\xc3\x28 bytes\n")
sys.stdout.flush()
sys.stdout.reconfigure(errors="surrogateescape")
print(name)
print(ascii(os.environ.get("ODD", "")), ascii(sys.argv))
