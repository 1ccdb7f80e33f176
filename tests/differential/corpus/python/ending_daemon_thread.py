import threading

begun, held = threading.Event(), threading.Lock()
held.acquire()
thread = threading.Thread(target=lambda: (begun.set(), held.acquire()), daemon=True)
thread.start()
begun.wait()
print("end of file")
