import subprocess
import sys

print(sys.stdin.readline(), end="", flush=True)
subprocess.run([sys.executable, "-c", "import sys; print('child', repr(sys.stdin.read()))"], check=True)
print(subprocess.run("cat", shell=True, input="given\n", text=True, capture_output=True))
