/* Executable graphs: a graph's own copy, in an order that its edges allow, run as often as wanted. */
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "exports.h"

typedef struct GraphExec {
    Graph *graph;
} GraphExec; /* its nodes know which node they were made from */

/* Every node after those it comes after; the order of adding where that leaves a choice. False for a cycle. */
static bool sort(Node **node, size_t count) {
    for (size_t i = 0; i < count; i++) node[i]->mark = 0;
    for (size_t done = 0; done < count; done++) {
        size_t next = done;
        for (; next < count; next++) {
            bool ready = true;
            for (size_t j = 0; j < node[next]->after.count; j++)
                ready = ready && node[next]->after.node[j]->mark;
            if (ready) break;
        }
        if (next == count) return false;
        Node *chosen = node[next];
        memmove(node + done + 1, node + done, (next - done) * sizeof *node);
        node[done] = chosen, chosen->mark = 1;
    }
    return true;
}

static hipError_t run(const Node *node) {
    hipError_t error = hipSuccess;
    switch (node->type) {
        case hipGraphNodeTypeKernel: return kernel_run(&node->kernel);
        case hipGraphNodeTypeMemcpy:
            error = copy_check(&node->copy);
            return error ? error : copy_run(&node->copy);
        case hipGraphNodeTypeMemset:
            if (!(error = fill_check(&node->fill))) fill_run(&node->fill);
            return error;
        case hipGraphNodeTypeHost: node->host.fn(node->host.userData); return hipSuccess;
        default: return hipSuccess;
    }
}

/* The node of the executable graph that was made from `node`, or NULL. */
static Node *executable(const GraphExec *exec, const Node *node) {
    if (!object_is(exec, GRAPH_EXEC) || !object_is(node, NODE)) return NULL;
    for (size_t i = 0; i < exec->graph->nodes; i++)
        if (exec->graph->node[i]->origin == node) return exec->graph->node[i];
    return NULL;
}

hipError_t serve_hipGraphInstantiateWithFlags(hipGraphExec_t *made, hipGraph_t graph,
                                              unsigned long long flags) {
    (void)flags; /* about uploading, launching from the device and freeing: nothing to do here */
    if (!made || !object_is(graph, GRAPH)) return hipErrorInvalidValue;
    lock();
    Graph *copy = graph_copy(graph);
    for (size_t i = 0; copy && i < copy->nodes; i++) copy->node[i]->origin = graph->node[i];
    bool sorted = copy && sort(copy->node, copy->nodes);
    unlock();
    GraphExec *exec = calloc(1, sizeof *exec);
    if (!sorted || !exec || !object_add(exec, GRAPH_EXEC)) {
        if (copy) graph_free(copy);
        free(exec);
        return copy && !sorted ? hipErrorInvalidValue : hipErrorOutOfMemory;
    }
    exec->graph = copy;
    *made = exec;
    return hipSuccess;
}

hipError_t serve_hipGraphInstantiate(hipGraphExec_t *made, hipGraph_t graph, hipGraphNode_t *wrong, char *log,
                                     size_t room) {
    if (wrong) *wrong = NULL;
    if (log && room) *log = 0;
    return serve_hipGraphInstantiateWithFlags(made, graph, 0);
}

hipError_t serve_hipGraphExecDestroy(hipGraphExec_t exec) {
    if (!object_remove(exec, GRAPH_EXEC)) return hipErrorInvalidValue;
    graph_free(exec->graph);
    free(exec);
    return hipSuccess;
}

hipError_t serve_hipGraphUpload(hipGraphExec_t exec, hipStream_t stream) {
    Stream *s;
    return object_is(exec, GRAPH_EXEC) ? stream_of(stream, &s) : hipErrorInvalidValue;
}

hipError_t serve_hipGraphLaunch(hipGraphExec_t exec, hipStream_t stream) {
    Stream *s;
    if (!object_is(exec, GRAPH_EXEC)) return hipErrorInvalidValue;
    hipError_t error = stream_for_query(stream, &s); /* a graph inside a graph is not served */
    for (size_t i = 0; !error && i < exec->graph->nodes; i++) error = run(exec->graph->node[i]);
    return error;
}

hipError_t serve_hipGraphExecKernelNodeSetParams(hipGraphExec_t exec, hipGraphNode_t node,
                                                 const hipKernelNodeParams *params) {
    Node *ours = executable(exec, node);
    return ours ? serve_hipGraphKernelNodeSetParams(ours, params) : hipErrorInvalidValue;
}

hipError_t serve_hipGraphExecMemcpyNodeSetParams1D(hipGraphExec_t exec, hipGraphNode_t node, void *to,
                                                   const void *from, size_t size, hipMemcpyKind kind) {
    Node *ours = executable(exec, node);
    return ours ? serve_hipGraphMemcpyNodeSetParams1D(ours, to, from, size, kind) : hipErrorInvalidValue;
}

hipError_t serve_hipGraphExecMemsetNodeSetParams(hipGraphExec_t exec, hipGraphNode_t node,
                                                 const hipMemsetParams *params) {
    Node *ours = executable(exec, node);
    return ours ? serve_hipGraphMemsetNodeSetParams(ours, params) : hipErrorInvalidValue;
}
