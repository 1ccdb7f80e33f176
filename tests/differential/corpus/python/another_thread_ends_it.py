import os
import threading
import time

for _ in range(5):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("before", flush=True)
threading.Thread(target=os._exit, args=(300 + 7,)).start()
time.sleep(60)
