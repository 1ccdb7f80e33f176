import os
import resource
import sys

print(os.getcwd(), oct(os.umask(0o22)), sorted(os.listdir(".")), os.getpgid(0) > 0, os.getsid(0) > 0)
print(os.nice(0), os.sched_getscheduler(0), os.getgroups(), os.getuid() == os.geteuid() > 0, os.getgid() > 0)
print(open("/proc/self/cmdline").read().split("\0"), open("/proc/self/comm").read())
print(os.readlink("/proc/self/exe"), os.readlink("/proc/self/cwd"), os.access("/sandbox", os.W_OK | os.X_OK))
print([line.split() for line in open("/proc/self/status") if line.startswith(("CapEff", "CapPrm", "CapAmb", "TracerPid"))])
print(os.stat(__file__).st_size, os.stat(__file__).st_uid == os.getuid(), os.path.realpath(__file__))
print(len(os.listdir("/proc/self/task")), sys.implementation.cache_tag, os.path.exists("__pycache__"))
