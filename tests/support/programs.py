"""The same small program in every language, so that one test can be asked of all runtimes."""

from __future__ import annotations

RUNTIMES = ("python", "node", "bun", "deno", "bash")
EXTENSIONS = {"python": ".py", "node": ".js", "bun": ".ts", "deno": ".ts", "bash": ".sh"}

HELLO = {
    "python": "print('hello')",
    "node": "console.log('hello')",
    "bun": "const word: string = 'hello'; console.log(word)",
    "deno": "const word: string = 'hello'; console.log(word)",
    "bash": "echo hello",
}
EXIT_3 = {
    "python": "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)",
    "node": "console.log('out'); console.error('err'); process.exitCode = 3",
    "bun": "console.log('out'); console.error('err'); process.exit(3)",
    "deno": "console.log('out'); console.error('err'); Deno.exit(3)",
    "bash": "echo out; echo err >&2; exit 3",
}
_ECHO_STDIN_JS = "process.stdout.write('[' + require('fs').readFileSync(0, 'utf8') + ']')"
ECHO_STDIN = {
    "python": "import sys; sys.stdout.write('[' + sys.stdin.read() + ']')",
    "node": _ECHO_STDIN_JS,
    "bun": "process.stdout.write('[' + (await Bun.stdin.text()) + ']')",
    "deno": "const text = await new Response(Deno.stdin.readable).text();"
    "await Deno.stdout.write(new TextEncoder().encode('[' + text + ']'))",
    "bash": 'printf "[%s]" "$(cat)"',
}
PRINT_VARIABLE = {
    "python": "import os; print(os.environ['MY_VAR'])",
    "node": "console.log(process.env.MY_VAR)",
    "bun": "console.log(process.env.MY_VAR)",
    "deno": "console.log(Deno.env.get('MY_VAR'))",
    "bash": 'printf "%s\\n" "$MY_VAR"',
}
COPY_DATA_FILE = {
    "python": "open('/sandbox/out.txt', 'w').write(open('/sandbox/in/data.txt').read().upper())",
    "node": "const fs = require('fs');"
    "fs.writeFileSync('/sandbox/out.txt', fs.readFileSync('in/data.txt', 'utf8').toUpperCase())",
    "bun": "await Bun.write('/sandbox/out.txt', (await Bun.file('in/data.txt').text()).toUpperCase())",
    "deno": "Deno.writeTextFileSync('/sandbox/out.txt', Deno.readTextFileSync('in/data.txt').toUpperCase())",
    "bash": "tr a-z A-Z < in/data.txt > /sandbox/out.txt",
}
# What a program leaves behind that has come as far as it was to come before its time is over.
SPOKEN = "/tmp/spoken"
_HANG_JS = (
    f"console.log('before'); setTimeout(() => {{ require('fs').writeFileSync('{SPOKEN}', ''); for (;;) {{}} }}, 1)"
)
SPEAK_THEN_HANG = {
    "python": f"print('before', flush=True); open('{SPOKEN}', 'w').close()\nwhile True: pass",
    "node": _HANG_JS,
    "bun": _HANG_JS,
    "deno": f"console.log('before'); setTimeout(() => {{ Deno.writeTextFileSync('{SPOKEN}', ''); for (;;) {{}} }}, 1)",
    "bash": f"echo before; : >{SPOKEN}; while :; do :; done",
}
EAT_MEMORY = {
    "python": "print('before', flush=True)\nx = []\nwhile True: x.append(b'x' * 1_000_000)",
    "node": "console.log('before'); const x = []; setTimeout(() => { for (;;) x.push(Buffer.alloc(1_000_000, 1)) }, 1)",
    "bun": "console.log('before'); const x: any[] = []; setTimeout(() => {"
    " for (;;) x.push(new Uint8Array(1_000_000).fill(1)) }, 1)",
    "deno": "console.log('before'); const x: any[] = []; setTimeout(() => {"
    " for (;;) x.push(new Uint8Array(1_000_000).fill(1)) }, 1)",
    "bash": "echo before; x=x; while :; do x=$x$x; done",
}
DIE_BY_SIGKILL = {
    "python": "import os; os.kill(os.getpid(), 9)",
    "node": "process.kill(process.pid, 'SIGKILL'); setInterval(() => {}, 1000)",
    "bun": "process.kill(process.pid, 'SIGKILL'); setInterval(() => {}, 1000)",
    "deno": "Deno.kill(Deno.pid, 'SIGKILL'); setInterval(() => {}, 1000)",
    "bash": "kill -KILL $$",
}
WHERE_AM_I = {
    "python": "import os, sys; print(os.getcwd(), os.path.abspath(sys.argv[0]))",
    "node": "console.log(process.cwd(), process.argv[1])",
    "bun": "console.log(process.cwd(), process.argv[1])",
    "deno": "console.log(Deno.cwd(), new URL(import.meta.url).pathname)",
    "bash": "echo $PWD $0",
}
NO_SUCH_FUNCTION = {
    "python": "undefined_thing()",
    "node": "undefined_thing()",
    "bun": "undefined_thing()",
    "deno": "undefined_thing()",
    "bash": "undefined_thing",
}
FAILURE_CODE = {"python": 1, "node": 1, "bun": 1, "deno": 1, "bash": 127}
