import inspect
import sys
import traceback


def depth():
    frame, count = sys._getframe(), 0
    while frame:
        count += 1
        frame = frame.f_back
    return count


def deeper():
    traceback.print_stack()
    for info in inspect.stack():
        print(info.filename, info.lineno, info.function, info.code_context)
    return depth()


print(depth(), deeper())
print(sys._getframe().f_back, sys._getframe().f_code, sys._getframe().f_globals is globals())
print(sys._getframe().f_code.co_filename, sys._getframe().f_code.co_name, sys._current_frames().keys().__len__())
print(inspect.getsource(depth))
print(inspect.getfile(depth), inspect.getmodule(depth), inspect.getmodulename(__file__))
