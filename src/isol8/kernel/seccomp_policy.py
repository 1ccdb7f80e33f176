"""Which system calls sandboxed programs may make: reviewed data, an allowlist.

Starts from what Docker's default profile allows an unprivileged container, less what interpreters do not need.
A call that is not listed fails with EPERM; one that is newer than this table fails with ENOSYS, so that libraries
fall back as on an older kernel. Each group has its reason; `seccomp.py` compiles it.
"""

from __future__ import annotations

ALLOWED: tuple[tuple[str, str], ...] = (
    (
        "reading and writing what is open",
        """
        read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close close_range dup
        dup2 dup3 fcntl flock fsync fdatasync sync syncfs sync_file_range ftruncate truncate fallocate
        sendfile splice tee vmsplice copy_file_range readahead fadvise64 cachestat
        """,
    ),
    (
        "files and directories by name: the mounts and the user id decide what can be reached",
        """
        open openat openat2 creat access faccessat faccessat2 stat lstat fstat newfstatat statx statfs
        fstatfs getdents getdents64 getcwd chdir fchdir mkdir mkdirat rmdir rename renameat renameat2 link
        linkat unlink unlinkat symlink symlinkat readlink readlinkat chmod fchmod fchmodat fchmodat2 chown
        fchown lchown fchownat umask utime utimes utimensat futimesat mknod mknodat
        """,
    ),
    (
        "extended attributes: cp, tar and rsync ask for them",
        """
        getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr setxattr lsetxattr fsetxattr
        removexattr lremovexattr fremovexattr
        """,
    ),
    (
        "memory of the process itself, charged to the sandbox's cgroup",
        """
        brk mmap munmap mremap mprotect madvise process_madvise msync mincore mlock mlock2 munlock mlockall
        munlockall memfd_create membarrier pkey_alloc pkey_free pkey_mprotect get_mempolicy set_mempolicy
        mbind map_shadow_stack mseal
        """,
    ),
    (
        "processes and threads of the sandbox: the pid namespace bounds whom they reach, the cgroup how many",
        """
        fork vfork execve execveat exit exit_group wait4 waitid kill tkill tgkill getpid getppid gettid
        getpgid setpgid getpgrp getsid setsid set_tid_address set_robust_list get_robust_list rseq
        arch_prctl prctl pidfd_open pidfd_send_signal getrlimit setrlimit getrusage times
        getpriority setpriority ioprio_get ioprio_set capget capset
        """,
    ),
    (
        "user and group ids: without capabilities only those the process has already",
        """
        getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid
        setresuid setresgid setfsuid setfsgid setgroups
        """,
    ),
    (
        "scheduling of itself: no realtime without capabilities",
        """
        sched_yield sched_getaffinity sched_setaffinity sched_getparam sched_setparam sched_getscheduler
        sched_setscheduler sched_getattr sched_setattr sched_get_priority_max sched_get_priority_min
        sched_rr_get_interval getcpu
        """,
    ),
    (
        "signals",
        """
        rt_sigaction rt_sigprocmask rt_sigpending rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn
        rt_sigsuspend rt_sigtimedwait sigaltstack signalfd signalfd4 pause restart_syscall alarm getitimer
        setitimer
        """,
    ),
    (
        "time: reading it, sleeping, timers",
        """
        clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time timer_create timer_delete
        timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime
        """,
    ),
    (
        "waiting for many things",
        """
        poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
        eventfd eventfd2 futex futex_waitv futex_wait futex_wake futex_requeue inotify_init inotify_init1
        inotify_add_watch inotify_rm_watch
        """,
    ),
    (
        "pipes",
        """
        pipe pipe2
        """,
    ),
    (
        "sockets: families are checked below, and the network namespace has loopback alone",
        """
        socketpair bind connect listen accept accept4 getsockname getpeername getsockopt setsockopt sendto
        recvfrom sendmsg recvmsg sendmmsg recvmmsg shutdown
        """,
    ),
    (
        "System V and POSIX ipc: the ipc namespace is the sandbox's own",
        """
        shmget shmat shmdt shmctl semget semop semtimedop semctl msgget msgsnd msgrcv msgctl mq_open
        mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
        """,
    ),
    (
        "POSIX asynchronous io: databases and some runtimes probe it",
        """
        io_setup io_destroy io_getevents io_submit io_cancel
        """,
    ),
    (
        "restricting itself further, and asking what this machine is",
        """
        seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self uname sysinfo getrandom
        """,
    ),
)

# Decided by their arguments in `seccomp.py`, or answered specially.
CONDITIONAL_NAMES = ("clone", "clone3", "socket", "personality", "ioctl", "prlimit64", "fanotify_mark", "ptrace")

# socket(2) families: local; IPv4 and IPv6, with the protocols that programs speak (the usual one of a type, ICMP, TCP,
# UDP, ICMPv6), not those whose kernel module a mere socket would load (SCTP, DCCP, L2TP), and with types below 4, that
# is streams, datagrams and raw; netlink for the route protocol alone (getifaddrs needs it).
LOCAL_FAMILY = 1
INTERNET_FAMILIES = (2, 10)
INTERNET_PROTOCOLS = (0, 1, 6, 17, 58)
UNUSUAL_SOCKET_TYPES = 0xC
NETLINK_FAMILY = 16
NETLINK_ROUTE = 0

# personality(2): PER_LINUX, PER_LINUX32, ADDR_NO_RANDOMIZE (debuggers), UNAME26, and the query.
PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)

# ioctl(2) that put words into another reader's terminal: TIOCSTI, TIOCLINUX, TIOCSETD.
DENIED_IOCTLS = (0x5412, 0x541C, 0x5423)

# prlimit(2) of process 1: the kernel asks for the same user id alone, and a runner that may open no file is lost.
RUNNER_PID = 1

# fanotify_mark(2), FAN_MARK_REMOVE and nothing else: a runner takes its gate away. No program has a group to mark for.
MARK_REMOVE = 0x2

# ptrace(2), to learn of a program's end (exit_stops.py): for that alone, the taking up of the first process after the
# runner, which is the program; and what only the tracer of a process that has stopped can do.
TRACE_SEIZE, TRACE_EXIT, FIRST_PID = 0x4206, 0x40, 2
TRACE_PEEK_USER, TRACE_DETACH, TRACE_GET_EVENT_MESSAGE = 3, 17, 0x4201
# Of what it can do to one, only that it goes on without a signal, and that it stops at no instruction any more.
TRACE_POKE_USER, TRACE_CONTINUE, BREAKPOINTS = 6, 7, 904  # u_debugreg[7] in struct user

# clone(2) flags that make namespaces: user, mount, cgroup, uts, ipc, pid, net, time.
NAMESPACE_FLAGS = 0x10000000 | 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000 | 0x00000080

# Highest number this table was reviewed against (Linux 6.16); above it the answer is ENOSYS.
LAST_REVIEWED = 467
