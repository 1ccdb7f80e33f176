import importlib

register = importlib.import_module("at" + "exit").register
register(print, "called at the end")
register(lambda: register(print, "never called"))
print("end of file")
