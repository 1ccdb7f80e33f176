import traceback

for source in ("1/0", "lambda: nope()"):
    try:
        value = eval(source)
        if callable(value):
            value()
    except Exception:
        traceback.print_exc()
code = compile("def g():\n    raise LookupError('from exec')\ng()\n", "<made up>", "exec")
exec(code)
