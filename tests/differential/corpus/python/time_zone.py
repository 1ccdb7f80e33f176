import datetime
import time
import zoneinfo

print(time.tzname, time.timezone, time.daylight)
print(datetime.datetime.fromtimestamp(0), time.strftime("%c %Z", time.localtime(86400 * 200)))
print(datetime.datetime(2026, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo("Europe/Zurich")).isoformat())
