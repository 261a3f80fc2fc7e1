/* Capturing a stream: what is issued becomes nodes of a graph. Other streams join by waiting for events. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "exports.h"

struct Capture {
    uint64_t id;
    Stream *origin;
    pthread_t thread;
    hipStreamCaptureMode mode;
    bool invalid;
    Graph *graph;
    NodeSet streams; /* of Stream *, the set being the same for any pointer */
    Capture *next;
};

static Capture *captures; /* under lock() */
static atomic_int capturing;
static _Thread_local hipStreamCaptureMode thread_mode = hipStreamCaptureModeGlobal;

/* --- sets of pointers ------------------------------------------------------------------------------------------ */

bool set_add(NodeSet *set, Node *node) {
    for (size_t i = 0; i < set->count; i++)
        if (set->node[i] == node) return true;
    Node **grown = realloc(set->node, (set->count + 1) * sizeof *grown);
    if (!grown) return false;
    set->node = grown;
    set->node[set->count++] = node;
    return true;
}

bool set_join(NodeSet *set, const NodeSet *other) {
    for (size_t i = 0; i < other->count; i++)
        if (!set_add(set, other->node[i])) return false;
    return true;
}

void set_clear(NodeSet *set) {
    free(set->node);
    *set = (NodeSet){NULL, 0};
}

/* --- what is allowed ------------------------------------------------------------------------------------------- */

/* source: the rules of hipThreadExchangeStreamCaptureMode. */
static bool forbids(const Capture *c) {
    bool mine = pthread_equal(c->thread, pthread_self());
    if (thread_mode == hipStreamCaptureModeRelaxed || c->mode == hipStreamCaptureModeRelaxed) return false;
    return mine || (thread_mode == hipStreamCaptureModeGlobal && c->mode == hipStreamCaptureModeGlobal);
}

hipError_t capture_check(unsigned unsafe) {
    if (!unsafe || !capturing) return hipSuccess;
    hipError_t error = hipSuccess;
    lock();
    for (Capture *c = captures; c; c = c->next)
        if (forbids(c)) c->invalid = true, error = hipErrorStreamCaptureUnsupported;
    unlock();
    return error;
}

/* The legacy stream waits for blocking streams, so work there would depend on a capture. */
static hipError_t check_legacy(void) {
    hipError_t error = hipSuccess;
    lock();
    for (Capture *c = captures; c; c = c->next)
        for (size_t i = 0; i < c->streams.count; i++)
            if (!(((Stream *)c->streams.node[i])->flags & hipStreamNonBlocking))
                c->invalid = true, error = hipErrorStreamCaptureImplicit;
    unlock();
    return error;
}

hipError_t stream_for_work(hipStream_t handle, Stream **stream) {
    hipError_t error = stream_of(handle, stream);
    if (error || !capturing) return error;
    if (is_legacy(*stream)) return check_legacy();
    return (*stream)->capture && (*stream)->capture->invalid ? hipErrorStreamCaptureInvalidated : hipSuccess;
}

hipError_t stream_for_query(hipStream_t handle, Stream **stream) {
    hipError_t error = stream_for_work(handle, stream);
    if (error || !(*stream)->capture) return error;
    (*stream)->capture->invalid = true;
    return hipErrorStreamCaptureUnsupported;
}

/* --- building --------------------------------------------------------------------------------------------------- */

hipError_t capture_work(Stream *stream, Node *node) {
    lock();
    Capture *c = stream->capture;
    for (size_t i = 0; i < stream->tail.count; i++)
        if (!set_add(&node->after, stream->tail.node[i])) c->invalid = true;
    hipError_t error = c->invalid ? hipErrorOutOfMemory : graph_append(c->graph, node);
    set_clear(&stream->tail);
    if (!error && !set_add(&stream->tail, node)) c->invalid = true;
    unlock();
    if (error) node_free(node);
    return error;
}

hipError_t capture_record(Stream *stream, Event *event) {
    lock();
    set_clear(&event->tail);
    event->capture = stream->capture->id, event->recorded = false;
    bool done = set_join(&event->tail, &stream->tail);
    unlock();
    return done ? hipSuccess : hipErrorOutOfMemory;
}

static Capture *capture_numbered(uint64_t id) {
    Capture *c = captures;
    while (c && c->id != id) c = c->next;
    return c;
}

static hipError_t wait_for(Stream *stream, const Event *event) {
    Capture *theirs = capture_numbered(event->capture);
    if (!event->capture) { /* an event from outside the capture */
        if (!event->recorded) return hipSuccess;
        stream->capture->invalid = true;
        return hipErrorStreamCaptureIsolation;
    }
    if (!theirs) return hipErrorCapturedEvent;
    if (is_legacy(stream)) {
        theirs->invalid = true;
        return hipErrorStreamCaptureImplicit;
    }
    if (stream->capture && stream->capture != theirs) {
        stream->capture->invalid = theirs->invalid = true;
        return hipErrorStreamCaptureMerge;
    }
    stream->capture = theirs;
    bool done = set_add(&theirs->streams, (Node *)stream) && set_join(&stream->tail, &event->tail);
    return done ? hipSuccess : hipErrorOutOfMemory;
}

hipError_t capture_wait(Stream *stream, const Event *event) {
    lock();
    hipError_t error = wait_for(stream, event);
    unlock();
    return error;
}

/* --- begin and end ----------------------------------------------------------------------------------------------- */

hipError_t serve_hipStreamBeginCapture(hipStream_t stream, hipStreamCaptureMode mode) {
    static uint64_t last_id;
    Stream *s;
    if (mode > hipStreamCaptureModeRelaxed) return hipErrorInvalidValue;
    hipError_t error = stream_of(stream, &s);
    if (error) return error;
    if (is_legacy(s)) return hipErrorStreamCaptureUnsupported;
    Capture *c = calloc(1, sizeof *c);
    Graph *graph = calloc(1, sizeof *graph);
    if (!c || !graph || !set_add(&c->streams, (Node *)s)) {
        free(c), free(graph);
        return hipErrorOutOfMemory;
    }
    lock();
    bool taken = s->capture;
    if (!taken) {
        c->id = ++last_id, c->origin = s, c->thread = pthread_self(), c->mode = mode, c->graph = graph,
        c->next = captures;
        captures = c, s->capture = c;
        capturing++;
    }
    unlock();
    if (taken) set_clear(&c->streams), free(c), free(graph);
    return taken ? hipErrorIllegalState : hipSuccess;
}

static void mark_all(const NodeSet *set) {
    for (size_t i = 0; i < set->count; i++) set->node[i]->mark = 1;
}

/* Does everything captured come before what the origin does next? A node comes after nodes captured before it only, so
   from the last to the first each one's mark is final when it is reached. */
static bool joined(Capture *c) {
    for (size_t i = 0; i < c->graph->nodes; i++) c->graph->node[i]->mark = 0;
    mark_all(&c->origin->tail);
    for (size_t i = c->graph->nodes; i-- > 0;) {
        if (!c->graph->node[i]->mark) return false;
        mark_all(&c->graph->node[i]->after);
    }
    return true;
}

/* Under lock(). The graph is the caller's. */
static void dissolve(Capture *c) {
    Capture **at = &captures;
    while (*at != c) at = &(*at)->next;
    *at = c->next;
    for (size_t i = 0; i < c->streams.count; i++) {
        Stream *s = (Stream *)c->streams.node[i];
        s->capture = NULL;
        set_clear(&s->tail);
    }
    set_clear(&c->streams);
    free(c);
    capturing--;
}

hipError_t serve_hipStreamEndCapture(hipStream_t stream, hipGraph_t *graph) {
    Stream *s;
    if (!graph) return hipErrorInvalidValue;
    *graph = NULL;
    hipError_t error = stream_of(stream, &s);
    if (error) return error;
    lock();
    Capture *c = s->capture;
    if (!c)
        error = hipErrorIllegalState;
    else if (c->origin != s)
        error = hipErrorStreamCaptureUnmatched;
    else if (c->mode != hipStreamCaptureModeRelaxed && !pthread_equal(c->thread, pthread_self()))
        error = hipErrorStreamCaptureWrongThread;
    if (error) {
        unlock();
        return error;
    }
    error = c->invalid  ? hipErrorStreamCaptureInvalidated
            : joined(c) ? hipSuccess
                        : hipErrorStreamCaptureUnjoined;
    Graph *made = c->graph;
    dissolve(c);
    unlock();
    if (!error && !object_add(made, GRAPH)) error = hipErrorOutOfMemory;
    if (error)
        graph_free(made);
    else
        *graph = made;
    return error;
}

void capture_leave(Stream *stream) {
    Graph *left = NULL;
    lock();
    Capture *c = stream->capture;
    if (c && c->origin == stream)
        left = c->graph, dissolve(c);
    else if (c) {
        c->invalid = true;
        for (size_t i = 0; i < c->streams.count; i++)
            if ((Stream *)c->streams.node[i] == stream)
                c->streams.node[i] = c->streams.node[--c->streams.count];
    }
    set_clear(&stream->tail);
    unlock();
    if (left) graph_free(left);
}

/* --- questions ----------------------------------------------------------------------------------------------------- */

hipError_t serve_hipStreamGetCaptureInfo_v2(hipStream_t stream, hipStreamCaptureStatus *status,
                                            unsigned long long *id, hipGraph_t *graph,
                                            const hipGraphNode_t **dependencies, size_t *count) {
    Stream *s;
    hipError_t error = status ? stream_of(stream, &s) : hipErrorInvalidValue;
    if (error) return error;
    if (is_legacy(s) && (error = check_legacy())) return error;
    lock();
    const Capture *c = s->capture;
    *status = !c           ? hipStreamCaptureStatusNone
              : c->invalid ? hipStreamCaptureStatusInvalidated
                           : hipStreamCaptureStatusActive;
    if (id) *id = c ? c->id : 0;
    if (graph) *graph = c ? c->graph : NULL;
    if (dependencies) *dependencies = c ? s->tail.node : NULL;
    if (count) *count = c ? s->tail.count : 0;
    unlock();
    return hipSuccess;
}

hipError_t serve_hipStreamGetCaptureInfo(hipStream_t stream, hipStreamCaptureStatus *status,
                                         unsigned long long *id) {
    return serve_hipStreamGetCaptureInfo_v2(stream, status, id, NULL, NULL, NULL);
}

hipError_t serve_hipStreamIsCapturing(hipStream_t stream, hipStreamCaptureStatus *status) {
    return serve_hipStreamGetCaptureInfo_v2(stream, status, NULL, NULL, NULL, NULL);
}

hipError_t serve_hipThreadExchangeStreamCaptureMode(hipStreamCaptureMode *mode) {
    if (!mode || *mode > hipStreamCaptureModeRelaxed) return hipErrorInvalidValue;
    hipStreamCaptureMode before = thread_mode;
    thread_mode = *mode, *mode = before;
    return hipSuccess;
}
