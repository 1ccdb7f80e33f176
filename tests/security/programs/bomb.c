/* Uses up one thing until the kernel says no, prints how far it came, and holds on to it: bomb KIND [MARK [MS]] */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void *idle(void *unused) {
    for (;;)
        pause();
    return unused;
}

static void *spin(void *unused) {
    for (;;)
        __asm__ volatile("");
    return unused;
}

static long threads(void *(*work)(void *), long most) {
    pthread_attr_t attributes;
    pthread_t thread;
    long made = 0;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 16384);
    while (made < most && pthread_create(&thread, &attributes, work, NULL) == 0)
        made++;
    return made;
}

static void forks(void) {
    for (;;)
        fork();
}

static void heap(void) {
    for (size_t size = 1 << 20;; size = 1 << 20)
        memset(malloc(size), 1, size);
}

static void shared(void) {
    const size_t size = 1 << 20;
    for (;;)
        memset(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), 1, size);
}

/* Five ways to outlive a time limit, at once. Every process keeps the mark in its command line. */
static void dodge(void) {
    sigset_t all;
    sigfillset(&all);
    if (fork() == 0) { /* a session of its own */
        setsid();
        idle(NULL);
    }
    if (fork() == 0) { /* an orphan */
        if (fork() == 0)
            idle(NULL);
        _exit(0);
    }
    if (fork() == 0) { /* blocks and ignores all that can be */
        sigprocmask(SIG_BLOCK, &all, NULL);
        for (int number = 1; number < 65; number++)
            signal(number, SIG_IGN);
        idle(NULL);
    }
    if (fork() == 0) { /* stopped */
        raise(SIGSTOP);
        idle(NULL);
    }
    if (fork() == 0) /* a parent that waits inside vfork */
        if (vfork() == 0)
            for (;;)
                pause();
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    puts("dodged");
    fflush(stdout);
}

int main(int count, char **argument) {
    const char *kind = count > 1 ? argument[1] : "";
    if (!strcmp(kind, "fork"))
        forks();
    else if (!strcmp(kind, "heap"))
        heap();
    else if (!strcmp(kind, "shared"))
        shared();
    else if (!strcmp(kind, "thread"))
        printf("%ld\n", threads(idle, 100000));
    else if (!strcmp(kind, "spin"))
        threads(spin, 4), sleep(3600);
    else if (!strcmp(kind, "dodge"))
        dodge(), sleep(3600);
    else if (!strcmp(kind, "leave"))
        dodge(), usleep(count > 3 ? 1000 * atoi(argument[3]) : 0); /* long enough to be seen */
    return 0;
}
