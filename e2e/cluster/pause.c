/* First process of every pod of the local cluster: holds the pod's namespaces open, reaps the
 * children that it inherits when processes share them, and ends when it is asked to. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

int main(void) {
    sigset_t watched;
    sigemptyset(&watched);
    sigaddset(&watched, SIGCHLD);
    sigaddset(&watched, SIGINT);
    sigaddset(&watched, SIGTERM);
    /* The first process of a namespace gets only signals that it asked for. Blocked and awaited,
     * none can slip in between a look and a sleep. */
    if (sigprocmask(SIG_BLOCK, &watched, NULL) != 0)
        return EXIT_FAILURE;
    for (;;) {
        int arrived = sigwaitinfo(&watched, NULL);
        if (arrived == SIGINT || arrived == SIGTERM)
            return EXIT_SUCCESS;
        /* One SIGCHLD may stand for several children. */
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
}
