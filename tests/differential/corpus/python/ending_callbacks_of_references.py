import json
import weakref


class Thing:
    pass


kept = [Thing(), Thing(), Thing()]
proxy = weakref.proxy(kept[0], lambda _: print("the proxy is told"))
reference = weakref.ref(kept[1], lambda _: print("the reference is told"))
registry = weakref.WeakValueDictionary(thing=kept[2])
print(json.dumps({"end": "of file"}))
