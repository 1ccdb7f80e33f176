/* Makes system calls that no program in a sandbox may make, and says what each gave: "name ERRNO" or "name done".
 * Arguments are such that even a call that is let through changes nothing outside this process. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static void say(const char *name, long result) {
    printf("%s %s\n", name, result == -1 ? strerrorname_np(errno) : "done");
    fflush(stdout);
}

#define TRY(name, ...) say(#name, syscall(SYS_##name, ##__VA_ARGS__))

static void make_socket(const char *name, int family, int type, int protocol) {
    say(name, socket(family, type, protocol));
}

static void namespaces_and_mounts(void) {
    TRY(unshare, CLONE_NEWUSER);
    TRY(unshare, CLONE_NEWNS);
    TRY(unshare, CLONE_NEWNET);
    TRY(setns, 0, 0);
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(0);
    say("clone", pid);
    TRY(clone3, NULL, 0);
    TRY(mount, "none", "/tmp", "tmpfs", 0, NULL);
    TRY(umount2, "/tmp", 2);
    TRY(pivot_root, ".", ".");
    TRY(chroot, "/tmp");
    TRY(open_tree, -100, "/", 1);
    TRY(move_mount, -1, "", -1, "", 0);
    TRY(fsopen, "tmpfs", 0);
    TRY(fspick, -100, "/tmp", 0);
    TRY(mount_setattr, -1, "", 0, NULL, 0);
    TRY(name_to_handle_at, -100, "/", NULL, NULL, 0);
    TRY(open_by_handle_at, -1, NULL, 0);
    mknod("/sandbox/probe", S_IFREG | 0600, 0); /* an ordinary file may be made this way */
    say("mknod", mknod("/sandbox/disk", S_IFBLK | 0600, makedev(8, 0)));
    say("mknod", mknod("/sandbox/mem", S_IFCHR | 0600, makedev(1, 1)));
}

static void kernel(void) {
    TRY(io_uring_setup, 1, NULL);
    TRY(io_uring_enter, -1, 0, 0, 0, NULL, 0);
    TRY(io_uring_register, -1, 0, NULL, 0);
    TRY(bpf, 0, NULL, 0);
    TRY(userfaultfd, 1);
    TRY(perf_event_open, NULL, 0, -1, -1, 0);
    TRY(keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0);
    TRY(add_key, "user", "isol8", "x", 1, KEY_SPEC_PROCESS_KEYRING);
    TRY(request_key, "user", "isol8", NULL, 0);
    TRY(fanotify_init, 0, 0);
    TRY(memfd_secret, 0);
    TRY(init_module, NULL, 0, "");
    TRY(finit_module, -1, "", 0);
    TRY(delete_module, "", 0);
    TRY(kexec_load, 0, 1, NULL, 0);
    TRY(reboot, 0, 0, 0, NULL);
    TRY(swapon, "", 0);
    TRY(acct, "");
    TRY(syslog, 3, NULL, 0);
    TRY(quotactl, 0, "", 0, NULL);
    TRY(sethostname, "x", 1);
    TRY(clock_adjtime, -1, NULL);
    TRY(personality, 0x0400000);
    TRY(vhangup);
#ifdef __x86_64__
    TRY(iopl, 3);
    TRY(ioperm, 0x80, 1, 1);
    TRY(modify_ldt, 0, NULL, 0);
#endif
}

static void other_processes(void) {
    char byte = 'x';
    TRY(ptrace, PTRACE_TRACEME, 0, NULL, NULL);
    TRY(ptrace, PTRACE_ATTACH, 1, NULL, NULL);
    TRY(process_vm_readv, 1, NULL, 0, NULL, 0, 0);
    TRY(process_vm_writev, 1, NULL, 0, NULL, 0, 0);
    TRY(kcmp, getpid(), 1, 0, 0, 0);
    TRY(pidfd_getfd, -1, 0, 0);
    TRY(prlimit64, 1, 7, NULL, NULL);
    TRY(move_pages, 1, 0, NULL, NULL, NULL, 0);
    say("ioctl", syscall(SYS_ioctl, 0, 0x5412, &byte));
}

static void sockets(void) {
    make_socket("packet", 17, SOCK_RAW, 0);
    make_socket("vsock", 40, SOCK_STREAM, 0);
    make_socket("alg", 38, SOCK_SEQPACKET, 0);
    make_socket("xdp", 44, SOCK_RAW, 0);
    make_socket("key", 15, SOCK_RAW, 2);
    make_socket("can", 29, SOCK_RAW, 1);
    make_socket("tipc", 30, SOCK_SEQPACKET, 0);
    make_socket("bluetooth", 31, SOCK_RAW, 1);
    make_socket("smc", 43, SOCK_STREAM, 0);
    make_socket("rds", 21, SOCK_SEQPACKET, 0);
    make_socket("nfnetlink", AF_NETLINK, SOCK_RAW, 12);
    make_socket("audit", AF_NETLINK, SOCK_RAW, 9);
    make_socket("uevent", AF_NETLINK, SOCK_RAW, 15);
    make_socket("raw", AF_INET, SOCK_RAW, 1);
    make_socket("raw6", AF_INET6, SOCK_RAW, 58);
}

#ifdef __x86_64__
static void other_tables(void) {
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory"); /* getpid of the 32-bit table */
    errno = -result;
    say("i386", result < 0 ? -1 : 0);
    TRY(getpid);
    say("x32", syscall(0x40000000 | SYS_getpid));
}
#else
static void other_tables(void) {}
#endif

int main(void) {
    namespaces_and_mounts();
    kernel();
    other_processes();
    sockets();
    other_tables();
    return 0;
}
