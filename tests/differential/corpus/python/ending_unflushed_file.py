import os

child = os.fork()
if child:
    _, status = os.waitpid(child, 0)
    with open("left.txt") as file:
        print(os.waitstatus_to_exitcode(status), file.read())
else:
    left = open("left.txt", "w")
    left.write("nobody closed this")
