def run():
    try:
        [][0]
    except IndexError:
        raise KeyError("no context") from None


run()
