import logging
import logging.handlers

logging.warning("root, not configured: %s", 1)
print(logging.root.handlers, logging.root.level, logging.getLogger().manager.loggerDict, logging.raiseExceptions)
logging.getLogger("quiet").info("not shown")
logging.basicConfig(format="%(levelname)s %(name)s %(module)s %(funcName)s %(lineno)d %(processName)s %(threadName)s %(message)s", force=True)
log = logging.getLogger("a.b")


def work():
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("failed")
    log.error("%d", "not a number")


work()
