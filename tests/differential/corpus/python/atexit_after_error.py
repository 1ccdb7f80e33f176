import atexit


@atexit.register
def goodbye():
    print("goodbye")
    raise SystemExit(5)


raise ValueError("the exit code is 1")
