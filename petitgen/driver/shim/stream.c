/* Streams. Work runs in the thread that issues it, before the call returns, so every order that streams and events ask
   for holds: querying and synchronising find nothing left to do. */
#include <pthread.h>
#include <stdlib.h>

#include "call.h"
#include "exports.h"

static Stream legacy[MAX_DEVICES];
static pthread_key_t per_thread_key;
static pthread_once_t per_thread_once = PTHREAD_ONCE_INIT;

bool is_legacy(const Stream *stream) { return stream >= legacy && stream < legacy + MAX_DEVICES; }

static void end_of_thread(void *data) {
    Stream *streams = data;
    for (int i = 0; i < MAX_DEVICES; i++) capture_leave(&streams[i]);
    free(streams);
}

static void make_key(void) { pthread_key_create(&per_thread_key, end_of_thread); }

static Stream *per_thread(void) {
    pthread_once(&per_thread_once, make_key);
    Stream *streams = pthread_getspecific(per_thread_key);
    if (!streams && (streams = calloc(MAX_DEVICES, sizeof *streams)))
        pthread_setspecific(per_thread_key, streams);
    return streams ? &streams[current_device] : NULL;
}

hipError_t stream_of(hipStream_t handle, Stream **stream) {
    *stream = handle;
    if (!handle || handle == hipStreamLegacy)
        *stream = &legacy[current_device];
    else if (handle == hipStreamPerThread)
        *stream = per_thread();
    else
        return object_is(handle, STREAM) ? hipSuccess : hipErrorInvalidHandle;
    if (!*stream) return hipErrorOutOfMemory;
    (*stream)->device = current_device;
    return hipSuccess;
}

/* --- making and ending --------------------------------------------------------------------------------------- */

hipError_t serve_hipStreamCreateWithPriority(hipStream_t *stream, unsigned flags, int priority) {
    if (!stream || flags & ~(unsigned)hipStreamNonBlocking) return hipErrorInvalidValue;
    Stream *fresh = calloc(1, sizeof *fresh);
    if (!fresh || !object_add(fresh, STREAM)) {
        free(fresh);
        return hipErrorOutOfMemory;
    }
    fresh->device = current_device, fresh->flags = flags;
    fresh->priority = priority < -1 ? -1 : priority > 1 ? 1 : priority;
    forked_state_matters();
    *stream = fresh;
    return hipSuccess;
}

hipError_t serve_hipStreamCreate(hipStream_t *stream) {
    return serve_hipStreamCreateWithPriority(stream, 0, 0);
}
hipError_t serve_hipStreamCreateWithFlags(hipStream_t *stream, unsigned flags) {
    return serve_hipStreamCreateWithPriority(stream, flags, 0);
}

hipError_t serve_hipStreamDestroy(hipStream_t stream) {
    if (!object_remove(stream, STREAM)) return hipErrorInvalidHandle;
    capture_leave(stream);
    free(stream);
    return hipSuccess;
}

/* --- questions ------------------------------------------------------------------------------------------------- */

hipError_t serve_hipStreamSynchronize(hipStream_t stream) {
    Stream *s;
    return stream_for_query(stream, &s);
}

hipError_t serve_hipStreamQuery(hipStream_t stream) { return serve_hipStreamSynchronize(stream); }

hipError_t serve_hipStreamGetFlags(hipStream_t stream, unsigned *flags) {
    Stream *s;
    hipError_t error = flags ? stream_of(stream, &s) : hipErrorInvalidValue;
    if (!error) *flags = s->flags;
    return error;
}

hipError_t serve_hipStreamGetPriority(hipStream_t stream, int *priority) {
    Stream *s;
    hipError_t error = priority ? stream_of(stream, &s) : hipErrorInvalidValue;
    if (!error) *priority = s->priority;
    return error;
}

hipError_t serve_hipStreamGetDevice(hipStream_t stream, hipDevice_t *device) {
    Stream *s;
    hipError_t error = device ? stream_of(stream, &s) : hipErrorInvalidValue;
    if (!error) *device = s->device;
    return error;
}

EXPORT int hipGetStreamDeviceId(hipStream_t stream) {
    Stream *s;
    return stream_of(stream, &s) ? -1 : s->device;
}

/* --- host functions: they run at once, as all work does --------------------------------------------------------- */

hipError_t serve_hipLaunchHostFunc(hipStream_t stream, hipHostFn_t function, void *data) {
    Stream *s;
    hipError_t error = function ? stream_for_work(stream, &s) : hipErrorInvalidValue;
    if (error) return error;
    if (!s->capture) {
        function(data);
        return hipSuccess;
    }
    Node *node = node_new(hipGraphNodeTypeHost);
    if (!node) return hipErrorOutOfMemory;
    node->host = (hipHostNodeParams){function, data};
    return capture_work(s, node);
}

hipError_t serve_hipStreamAddCallback(hipStream_t stream, hipStreamCallback_t function, void *data,
                                      unsigned flags) {
    Stream *s;
    hipError_t error = function && !flags ? stream_for_query(stream, &s) : hipErrorInvalidValue;
    if (!error) function(stream, hipSuccess, data);
    return error;
}
