/* Events. Their times are this machine's clock: how long the emulation took, not what a GPU would take. */
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "call.h"
#include "exports.h"

enum { KNOWN_FLAGS = 0x1 | 0x2 | 0x4 | 0x20000000 | 0x40000000 | (int)0x80000000 };

double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

hipError_t serve_hipEventCreateWithFlags(hipEvent_t *event, unsigned flags) {
    if (!event || flags & ~(unsigned)KNOWN_FLAGS) return hipErrorInvalidValue;
    Event *fresh = calloc(1, sizeof *fresh);
    if (!fresh || !object_add(fresh, EVENT)) {
        free(fresh);
        return hipErrorOutOfMemory;
    }
    fresh->device = current_device, fresh->flags = flags;
    forked_state_matters();
    *event = fresh;
    return hipSuccess;
}

hipError_t serve_hipEventCreate(hipEvent_t *event) { return serve_hipEventCreateWithFlags(event, 0); }

hipError_t serve_hipEventDestroy(hipEvent_t event) {
    if (!object_remove(event, EVENT)) return hipErrorInvalidHandle;
    set_clear(&event->tail);
    free(event);
    return hipSuccess;
}

hipError_t serve_hipEventRecord(hipEvent_t event, hipStream_t stream) {
    Stream *s;
    if (!object_is(event, EVENT)) return hipErrorInvalidHandle;
    hipError_t error = stream_for_work(stream, &s);
    if (error) return error;
    if (s->capture) return capture_record(s, event);
    if (event->device != s->device) return hipErrorInvalidHandle;
    lock();
    event->capture = 0, event->recorded = true, event->seconds = now();
    unlock();
    return hipSuccess;
}

hipError_t serve_hipEventRecordWithFlags(hipEvent_t event, hipStream_t stream, unsigned flags) {
    return flags > 1 ? hipErrorInvalidValue : serve_hipEventRecord(event, stream);
}

hipError_t serve_hipEventSynchronize(hipEvent_t event) {
    if (!object_is(event, EVENT)) return hipErrorInvalidHandle;
    return event->capture ? hipErrorCapturedEvent : hipSuccess;
}

hipError_t serve_hipEventQuery(hipEvent_t event) { return serve_hipEventSynchronize(event); }

hipError_t serve_hipEventElapsedTime(float *milliseconds, hipEvent_t start, hipEvent_t stop) {
    if (!milliseconds) return hipErrorInvalidValue;
    if (!object_is(start, EVENT) || !object_is(stop, EVENT)) return hipErrorInvalidHandle;
    if ((start->flags | stop->flags) & hipEventDisableTiming || !start->recorded || !stop->recorded)
        return hipErrorInvalidHandle;
    if (start->capture || stop->capture) return hipErrorCapturedEvent;
    static atomic_bool told;
    if (!atomic_exchange(&told, true))
        tell("hipEventElapsedTime: the times of events are emulation time, not a GPU's (said once)");
    *milliseconds = (float)((stop->seconds - start->seconds) * 1e3);
    return hipSuccess;
}

hipError_t serve_hipStreamWaitEvent(hipStream_t stream, hipEvent_t event, unsigned flags) {
    Stream *s;
    if (flags > 1) return hipErrorInvalidValue;
    if (!object_is(event, EVENT)) return hipErrorInvalidHandle;
    hipError_t error = stream_of(stream, &s);
    return error || !(s->capture || event->capture) ? error : capture_wait(s, event);
}
