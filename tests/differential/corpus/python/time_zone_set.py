import datetime
import os
import time

print(os.environ["TZ"], time.tzname, datetime.datetime.fromtimestamp(0))
time.tzset()
print(time.tzname)
