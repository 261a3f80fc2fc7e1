/* What happens around every call: fork check, made-up failures, sticky errors, capture rules, the last error. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "call.h"

#define MAX_FAILURES 32
#define MAX_CALLS 512

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local hipError_t last;
static atomic_int device_error[MAX_DEVICES];

/* --- fork ---------------------------------------------------------------------------------------------- */

static atomic_bool state_matters, forked;

static void after_fork(void) {
    forked = state_matters;
    log_after_fork();
}

static void watch_forks(void) { pthread_atfork(NULL, NULL, after_fork); }

void forked_state_matters(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    state_matters = true;
}

static hipError_t check_process(void) {
    static atomic_bool told;
    if (forked) {
        if (!atomic_exchange(&told, true))
            tell("this process was forked after its parent had used HIP, which HIP does not support: "
                 "fork before the first HIP call, or use multiprocessing's \"spawn\"");
        return hipErrorNotInitialized;
    }
    if (config()->wrong) {
        if (!atomic_exchange(&told, true)) tell("%s", config()->wrong);
        return hipErrorNoDevice;
    }
    return hipSuccess;
}

/* --- failures made on purpose ---------------------------------------------------------------------------- */

typedef struct {
    char name[64];
    long nth, seen;
    hipError_t error;
} Failure;
static Failure failures[MAX_FAILURES];
static int failure_count;
static atomic_bool failures_armed;
static atomic_long calls_made[MAX_CALLS];

static hipError_t error_named(const char *text) {
    char *end;
    long number = strtol(text, &end, 10);
    if (*text && !*end) return (hipError_t)number;
#define X(value, name, words) \
    if (!strcmp(text, #name)) return name;
    HIP_ERRORS(X)
#undef X
    return hipSuccess;
}

static bool read_failure(const char *text, size_t length, Failure *failure) {
    char copy[192], error[64] = "hipErrorUnknown";
    if (length >= sizeof copy) return false;
    memcpy(copy, text, length);
    copy[length] = 0;
    *failure = (Failure){.nth = 0};
    int fields = sscanf(copy, " %63[^: ] : %ld : %63[^: ]", failure->name, &failure->nth, error);
    failure->error = error_named(error);
    return fields >= 2 && failure->nth > 0 && failure->error != hipSuccess;
}

/* "hipMalloc:3" or "hipMalloc:3:hipErrorOutOfMemory", several with commas; "*" counts calls of any function.
   Counting starts anew. NULL or "" stops failing. Returns how many were understood, -1 if one was not. */
EXPORT int petitgen_virtual_fail(const char *text) {
    pthread_mutex_lock(&mutex);
    failure_count = 0;
    bool right = true;
    for (const char *at = text ? text : ""; *at && right;) {
        size_t length = strcspn(at, ",");
        right = failure_count < MAX_FAILURES && read_failure(at, length, &failures[failure_count]);
        failure_count += right;
        at += length + (at[length] == ',');
    }
    if (!right) failure_count = 0;
    int understood = right ? failure_count : -1;
    failures_armed = failure_count > 0;
    for (int i = 0; i < MAX_CALLS; i++) calls_made[i] = 0;
    pthread_mutex_unlock(&mutex);
    if (!right)
        tell("PETITGEN_VIRTUAL_FAIL: '%s': function:count or function:count:error, with commas between",
             text);
    return understood;
}

/* --- which calls have worked, for who wants to know that all are tested ------------------------------------ */

static const char *worked_path;
static atomic_bool worked[MAX_CALLS];

/* At once and not at the end, which some processes do not live to see. */
static void note_worked(int call) {
    if (atomic_exchange_explicit(&worked[call], true, memory_order_relaxed)) return;
    char line[128];
    int length = snprintf(line, sizeof line, "%s\n", call_table[call].name);
    int file = open(worked_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file < 0 || write(file, line, (size_t)length) != length)
        tell("PETITGEN_VIRTUAL_CALLS: %s: %s", worked_path, strerror(errno));
    if (file >= 0) close(file);
}

static void read_environment(void) {
    worked_path = getenv("PETITGEN_VIRTUAL_CALLS");
    if (worked_path && !(*worked_path && (worked_path = strdup(worked_path)))) worked_path = NULL;
    const char *text = getenv("PETITGEN_VIRTUAL_FAIL");
    if (text && *text) petitgen_virtual_fail(text);
}

static hipError_t made_to_fail(int call) {
    hipError_t error = hipSuccess;
    pthread_mutex_lock(&mutex);
    for (int i = 0; i < failure_count; i++) {
        Failure *f = &failures[i];
        if ((!strcmp(f->name, "*") || !strcmp(f->name, call_table[call].name)) && ++f->seen == f->nth)
            error = f->error;
    }
    pthread_mutex_unlock(&mutex);
    if (error)
        tell("%s: made to fail with error %d (PETITGEN_VIRTUAL_FAIL)", call_table[call].name, (int)error);
    return error;
}

/* Calls of `name` so far, since the last petitgen_virtual_fail(); of every function for NULL. -1: not served. */
EXPORT long petitgen_virtual_calls(const char *name) {
    long sum = name ? -1 : 0;
    for (int i = 0; i < call_count; i++) {
        if (!name && !(call_table[i].flags & CALL_QUIET)) sum += calls_made[i];
        if (name && !strcmp(name, call_table[i].name)) return calls_made[i];
    }
    return sum;
}

/* What is alive: "allocations", "streams", "events", "modules", "graphs" (with executable ones) or "bytes". */
EXPORT long petitgen_virtual_live(const char *what) {
    if (!strcmp(what, "allocations")) return arena_live();
    if (!strcmp(what, "streams")) return object_count(STREAM);
    if (!strcmp(what, "events")) return object_count(EVENT);
    if (!strcmp(what, "modules")) return object_count(MODULE);
    if (!strcmp(what, "graphs")) return object_count(GRAPH) + object_count(GRAPH_EXEC);
    if (strcmp(what, "bytes")) return -1;
    long bytes = 0;
    for (int device = HOST_MEMORY; device < config()->devices; device++) bytes += (long)arena_used(device);
    return bytes;
}

/* --- errors ---------------------------------------------------------------------------------------------- */

void device_failed(int device, hipError_t error) { device_error[device] = (int)error; }
void device_healed(int device) { device_error[device] = hipSuccess; }

hipError_t last_error(bool clear) {
    hipError_t error = last;
    if (!error && current_device < MAX_DEVICES) error = (hipError_t)device_error[current_device];
    if (clear) last = hipSuccess;
    return error;
}

CallState call_begin(int call) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    unsigned flags = call_table[call].flags;
    pthread_once(&once, read_environment);
    atomic_fetch_add_explicit(&calls_made[call], 1, memory_order_relaxed);
    CallState state = {check_process(), false};
    state.stop = state.error != hipSuccess;
    if (state.stop || flags & CALL_QUIET) return state;
    if (failures_armed) state.error = made_to_fail(call);
    if (!state.error) state.error = capture_check(flags & CALL_UNSAFE);
    if (!state.error && flags & CALL_DEVICE) state.error = (hipError_t)device_error[current_device];
    state.stop = state.error && !(flags & CALL_CLEANUP);
    return state;
}

hipError_t call_end(int call, CallState state, hipError_t error) {
    if (state.error) error = state.error;
    if (worked_path && !error) note_worked(call);
    if (call_table[call].flags & CALL_QUIET) return error;
    if (error && error != hipErrorNotReady) last = error;
    return error;
}

hipError_t call_unserved(const char *name) {
    tell("%s is not served by the virtual GPU", name);
    last = hipErrorNotSupported;
    return hipErrorNotSupported;
}

/* --- the lock -------------------------------------------------------------------------------------------- */

static pthread_mutex_t tables = PTHREAD_MUTEX_INITIALIZER;

void lock(void) { pthread_mutex_lock(&tables); }
void unlock(void) { pthread_mutex_unlock(&tables); }
