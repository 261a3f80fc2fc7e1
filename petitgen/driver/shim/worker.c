/* The process that runs kernels: started at the first need, spoken to over a socket, one request at a time.

   The protocol is stated in petitgen/driver/protocol.py. Whatever happens to the worker, this side gets an answer or
   the end of the stream, never a hang; and the worker ends when this process does, because its stream ends. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "virtual.h"

enum { REQUEST_CHANGES = 1, REQUEST_LOAD = 2, REQUEST_UNLOAD = 3, REQUEST_LAUNCH = 4 };
enum { SOCKET_IN_WORKER = 3, MEMORY_IN_WORKER = 4 };
typedef struct {
    uint32_t operation, device;
    uint64_t bytes;
} Request;
typedef struct {
    uint32_t status, reserved;
    uint64_t bytes;
} Reply;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* one request at a time */
static int socket_ = -1;
static pid_t worker;

static pthread_mutex_t queue_mutex = PTHREAD_MUTEX_INITIALIZER;
static AllocationChange *queue;
static size_t queued, queue_room;
static bool queueing; /* from the first worker on; a new worker is told everything */
static bool incomplete; /* a change is missing from the queue: the worker must not go on without it */

void worker_note(uint32_t operation, int device, uint64_t address, uint64_t size) {
    pthread_mutex_lock(&queue_mutex);
    if (queueing && queued == queue_room) {
        size_t more = queue_room ? queue_room * 2 : 256;
        AllocationChange *grown = realloc(queue, more * sizeof *grown);
        if (grown) queue = grown, queue_room = more;
    }
    if (queueing && queued < queue_room)
        queue[queued++] = (AllocationChange){operation, (uint32_t)device, address, size};
    else if (queueing)
        incomplete = true;
    pthread_mutex_unlock(&queue_mutex);
}

static bool send_all(const void *data, size_t size) {
    for (const char *at = data; size;) {
        ssize_t sent = send(socket_, at, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return false;
        at += sent, size -= (size_t)sent;
    }
    return true;
}

static bool receive_all(void *data, size_t size) {
    for (char *at = data; size;) {
        ssize_t got = recv(socket_, at, size, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        at += got, size -= (size_t)got;
    }
    return true;
}

/* --- start and end ----------------------------------------------------------------------------------------- */

static void end_of_worker(void) {
    int status = 0;
    pid_t ended = 0;
    close(socket_);
    socket_ = -1;
    for (int patience = 200; patience && !ended;
         patience--) /* the stream ends a little before the process does */
        if (!(ended = waitpid(worker, &status, WNOHANG))) usleep(5000);
    if (!ended) {
        kill(worker, SIGKILL); /* our own child, not yet waited for */
        do ended = waitpid(worker, &status, 0);
        while (ended < 0 && errno == EINTR);
    }
    if (ended == worker && WIFSIGNALED(status))
        tell("the emulator's process was killed by signal %d (%s)", WTERMSIG(status),
             strsignal(WTERMSIG(status)));
    else if (ended == worker && WIFEXITED(status))
        tell("the emulator's process ended with status %d", WEXITSTATUS(status));
    else
        tell("the emulator's process ended unexpectedly");
}

/* The worker's environment: ours, but with its own Python path and without what is meant for this process. */
static char **worker_environment(void) {
    extern char **environ;
    size_t n = 0, kept = 0;
    while (environ[n]) n++;
    char **own = calloc(n + 2, sizeof *own);
    const char *path = getenv("PETITGEN_VIRTUAL_PYTHONPATH");
    if (!own) return NULL;
    for (size_t i = 0; i < n; i++) {
        const char *left_out[] = {"PYTHONPATH=", "PYTHONHOME=", "PYTHONSTARTUP=", "LD_PRELOAD="};
        bool keep = true;
        for (size_t j = 0; j < sizeof left_out / sizeof *left_out; j++)
            keep = keep && strncmp(environ[i], left_out[j], strlen(left_out[j]));
        if (keep) own[kept++] = environ[i];
    }
    if (path && asprintf(&own[kept], "PYTHONPATH=%s", path) < 0) own[kept] = NULL;
    return own;
}

static _Noreturn void become_worker(int ours, int memory, char **arguments, char **environment) {
    /* Between fork and exec: async-signal-safe calls only. Away from the places they go to, first. */
    int high_socket = fcntl(ours, F_DUPFD, 10), high_memory = fcntl(memory, F_DUPFD, 10);
    int nothing = open("/dev/null", O_RDONLY);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    dup2(nothing, STDIN_FILENO);
    dup2(high_socket, SOCKET_IN_WORKER);
    dup2(high_memory, MEMORY_IN_WORKER);
    close(high_socket);
    close(high_memory);
    execvpe(arguments[0], arguments, environment);
    _exit(127);
}

static bool start(void) {
    const Config *c = config();
    char devices[MAX_DEVICES * 8] = "", bytes[32], window[32];
    for (int i = 0; i < c->devices; i++) strcat(strcat(devices, i ? "," : ""), c->model[i]->arch);
    snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)arena_size());
    snprintf(window, sizeof window, "%llu", (unsigned long long)WINDOW);
    const char *python = getenv("PETITGEN_VIRTUAL_PYTHON");
    char *arguments[] = {(char *)(python && *python ? python : "python3"),
                         "-P",
                         "-m",
                         "petitgen.driver.worker",
                         devices,
                         bytes,
                         window,
                         NULL};
    int ends[2];
    char **environment = worker_environment();
    if (!environment || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) {
        free(environment);
        return false;
    }
    worker = fork();
    if (!worker) become_worker(ends[1], arena_descriptor(), arguments, environment);
    close(ends[1]);
    for (size_t i = 0; environment[i]; i++)
        if (!strncmp(environment[i], "PYTHONPATH=", 11)) free(environment[i]);
    free(environment);
    if (worker < 0) {
        close(ends[0]);
        tell("cannot start the emulator's process: %s", strerror(errno));
        return false;
    }
    socket_ = ends[0];
    Reply hello;
    if (receive_all(&hello, sizeof hello)) return true;
    end_of_worker();
    tell("the emulator's process (%s -P -m petitgen.driver.worker) did not start: run the program with "
         "`petitgen virtual -- ...`, "
         "or set PETITGEN_VIRTUAL_PYTHON to a Python that has petitgen",
         arguments[0]);
    return false;
}

static bool running(void) {
    if (socket_ >= 0) return true;
    if (!start()) return false;
    pthread_mutex_lock(&queue_mutex);
    queueing = true, queued = 0, incomplete = false;
    pthread_mutex_unlock(&queue_mutex);
    arena_replay();
    device_replay_peers();
    return true;
}

/* --- requests ------------------------------------------------------------------------------------------------ */

static bool send_changes(void) {
    pthread_mutex_lock(&queue_mutex);
    AllocationChange *changes = queue;
    Request request = {REQUEST_CHANGES, 0, queued * sizeof *changes};
    bool complete = !incomplete;
    queue = NULL, queued = queue_room = 0;
    pthread_mutex_unlock(&queue_mutex);
    bool sent = complete && (!request.bytes ||
                             (send_all(&request, sizeof request) && send_all(changes, request.bytes)));
    free(changes);
    if (!complete)
        tell("out of host memory: the emulator's process could not be told of an allocation, and is ended");
    return sent;
}

/* Sends a request of two parts (bytes: of both) and waits for the answer; *text is allocated (terminated), or NULL when lost. */
static hipError_t ask(Request request, const void *head, size_t head_bytes, const void *body, char **text) {
    *text = NULL;
    Reply reply;
    bool answered = send_changes() && send_all(&request, sizeof request) && send_all(head, head_bytes) &&
                    send_all(body, request.bytes - head_bytes) && receive_all(&reply, sizeof reply);
    if (answered) {
        *text = malloc(reply.bytes + 1);
        answered = *text && receive_all(*text, reply.bytes);
        if (answered) (*text)[reply.bytes] = 0;
    }
    if (answered) return (hipError_t)reply.status;
    free(*text);
    *text = NULL;
    end_of_worker();
    return hipErrorLaunchFailure;
}

hipError_t worker_load(int device, uint64_t module, const void *image, size_t size, char **description) {
    hipError_t error = arena_ready();
    *description = NULL;
    if (error) return error;
    pthread_mutex_lock(&mutex);
    if (!running())
        error = hipErrorNotInitialized;
    else
        error = ask((Request){REQUEST_LOAD, (uint32_t)device, sizeof module + size}, &module, sizeof module,
                    image, description);
    pthread_mutex_unlock(&mutex);
    if (error && *description) {
        tell("%s", *description);
        free(*description);
        *description = NULL;
    }
    return error;
}

void worker_unload(uint64_t module) {
    char *text = NULL;
    pthread_mutex_lock(&mutex);
    if (socket_ >= 0) ask((Request){REQUEST_UNLOAD, 0, sizeof module}, &module, sizeof module, NULL, &text);
    pthread_mutex_unlock(&mutex);
    free(text);
}

hipError_t worker_launch(const LaunchHeader *header, const void *kernarg, int device) {
    char *text = NULL;
    hipError_t error = hipErrorLaunchFailure;
    pthread_mutex_lock(&mutex);
    if (socket_ < 0)
        tell("the emulator's process is gone, and the modules with it: hipDeviceReset, then load them again");
    else
        error = ask((Request){REQUEST_LAUNCH, (uint32_t)device, sizeof *header + header->kernarg_bytes},
                    header, sizeof *header, kernarg, &text);
    pthread_mutex_unlock(&mutex);
    if (error && text) tell("%s", text);
    free(text);
    return error;
}
