import threading
import time

done = threading.Event()


def late():
    done.wait()
    time.sleep(0.05)
    print("after main")


threading.Thread(target=late).start()
threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
print("main ends")
done.set()
