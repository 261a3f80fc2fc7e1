/* Graphs: work that is described first and run later. Running is in graph_exec.c. */
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "exports.h"

/* --- nodes ----------------------------------------------------------------------------------------------------------- */

Node *node_new(hipGraphNodeType type) {
    Node *node = calloc(1, sizeof *node);
    if (node && !object_add(node, NODE)) {
        free(node);
        return NULL;
    }
    if (node) node->type = type;
    return node;
}

void node_free(Node *node) {
    object_remove(node, NODE);
    set_clear(&node->after);
    free(node->kernel.kernarg);
    free(node);
}

static hipError_t set_kernel(KernelWork *kernel, const hipKernelNodeParams *p) {
    hipFunction_t function;
    KernelWork fresh;
    if (!p || !p->func) return hipErrorInvalidValue;
    hipError_t error = any_function(p->func, &function);
    if (!error)
        error = kernel_work(&fresh, function, p->gridDim, p->blockDim, p->sharedMemBytes, p->kernelParams,
                            p->extra);
    if (error) return error;
    free(kernel->kernarg);
    *kernel = fresh;
    return hipSuccess;
}

static hipError_t set_fill(FillWork *fill, const hipMemsetParams *p) {
    if (!p) return hipErrorInvalidValue;
    FillWork fresh = {p->dst, p->value, p->elementSize, p->width, p->height ? p->height : 1, p->pitch};
    hipError_t error = fill_check(&fresh);
    if (!error) *fill = fresh;
    return error;
}

/* --- graphs ---------------------------------------------------------------------------------------------------------- */

hipError_t graph_append(Graph *graph, Node *node) {
    Node **grown = realloc(graph->node, (graph->nodes + 1) * sizeof *grown);
    if (!grown) return hipErrorOutOfMemory;
    graph->node = grown;
    graph->node[graph->nodes++] = node;
    node->graph = graph;
    return hipSuccess;
}

void graph_free(Graph *graph) {
    for (size_t i = 0; i < graph->nodes; i++) node_free(graph->node[i]);
    free(graph->node);
    free(graph);
}

static Node *copy_node(const Node *from) {
    Node *node = node_new(from->type);
    if (!node) return NULL;
    node->kernel = from->kernel, node->copy = from->copy, node->fill = from->fill, node->host = from->host;
    node->kernel.kernarg = NULL;
    if (from->kernel.kernarg && (node->kernel.kernarg = malloc(from->kernel.bytes + 1)))
        memcpy(node->kernel.kernarg, from->kernel.kernarg, from->kernel.bytes);
    if (from->kernel.kernarg && !node->kernel.kernarg) {
        node_free(node);
        return NULL;
    }
    return node;
}

/* A copy, node i of one being node i of the other: `mark` carries the number. */
Graph *graph_copy(const Graph *from) {
    Graph *graph = calloc(1, sizeof *graph);
    bool done = graph != NULL;
    for (size_t i = 0; done && i < from->nodes; i++) {
        Node *node = copy_node(from->node[i]);
        done = node && !graph_append(graph, node);
        if (node && !done) node_free(node);
        from->node[i]->mark = i;
    }
    for (size_t i = 0; done && i < from->nodes; i++)
        for (size_t j = 0; done && j < from->node[i]->after.count; j++)
            done = set_add(&graph->node[i]->after, graph->node[from->node[i]->after.node[j]->mark]);
    if (!done && graph) graph_free(graph);
    return done ? graph : NULL;
}

hipError_t serve_hipGraphCreate(hipGraph_t *graph, unsigned flags) {
    if (!graph || flags) return hipErrorInvalidValue;
    Graph *fresh = calloc(1, sizeof *fresh);
    if (!fresh || !object_add(fresh, GRAPH)) {
        free(fresh);
        return hipErrorOutOfMemory;
    }
    *graph = fresh;
    return hipSuccess;
}

hipError_t serve_hipGraphDestroy(hipGraph_t graph) {
    if (!object_remove(graph, GRAPH)) return hipErrorInvalidValue;
    graph_free(graph);
    return hipSuccess;
}

hipError_t serve_hipGraphClone(hipGraph_t *clone, hipGraph_t graph) {
    if (!clone || !object_is(graph, GRAPH)) return hipErrorInvalidValue;
    lock();
    Graph *copy = graph_copy(graph);
    unlock();
    if (!copy || !object_add(copy, GRAPH)) {
        if (copy) graph_free(copy);
        return hipErrorOutOfMemory;
    }
    *clone = copy;
    return hipSuccess;
}

/* --- adding ------------------------------------------------------------------------------------------------------------ */

static hipError_t add(hipGraphNode_t *made, hipGraph_t graph, const hipGraphNode_t *after, size_t count,
                      Node *node) {
    hipError_t error = node ? hipSuccess : hipErrorOutOfMemory;
    for (size_t i = 0; !error && i < count; i++) {
        if (!object_is(after[i], NODE) || after[i]->graph != graph)
            error = hipErrorInvalidValue;
        else if (!set_add(&node->after, after[i]))
            error = hipErrorOutOfMemory;
    }
    if (!error) error = graph_append(graph, node);
    if (error && node) node_free(node);
    if (!error) *made = node;
    return error;
}

static hipError_t check_place(hipGraphNode_t *made, hipGraph_t graph, const hipGraphNode_t *after,
                              size_t count) {
    return made && object_is(graph, GRAPH) && (after || !count) ? hipSuccess : hipErrorInvalidValue;
}

hipError_t serve_hipGraphAddEmptyNode(hipGraphNode_t *made, hipGraph_t graph, const hipGraphNode_t *after,
                                      size_t count) {
    hipError_t error = check_place(made, graph, after, count);
    return error ? error : add(made, graph, after, count, node_new(hipGraphNodeTypeEmpty));
}

hipError_t serve_hipGraphAddKernelNode(hipGraphNode_t *made, hipGraph_t graph, const hipGraphNode_t *after,
                                       size_t count, const hipKernelNodeParams *params) {
    KernelWork work = {0};
    hipError_t error = check_place(made, graph, after, count);
    if (!error) error = set_kernel(&work, params);
    if (error) return error;
    Node *node = node_new(hipGraphNodeTypeKernel);
    if (node)
        node->kernel = work;
    else
        free(work.kernarg);
    return add(made, graph, after, count, node);
}

static hipError_t add_copy(hipGraphNode_t *made, hipGraph_t graph, const hipGraphNode_t *after, size_t count,
                           CopyWork work) {
    hipError_t error = check_place(made, graph, after, count);
    if (!error) error = copy_check(&work);
    if (error) return error;
    Node *node = node_new(hipGraphNodeTypeMemcpy);
    if (node) node->copy = work;
    return add(made, graph, after, count, node);
}

hipError_t serve_hipGraphAddMemcpyNode(hipGraphNode_t *made, hipGraph_t graph, const hipGraphNode_t *after,
                                       size_t count, const hipMemcpy3DParms *params) {
    CopyWork work;
    hipError_t error = copy_from_3d(params, &work);
    return error ? error : add_copy(made, graph, after, count, work);
}

hipError_t serve_hipGraphAddMemcpyNode1D(hipGraphNode_t *made, hipGraph_t graph, const hipGraphNode_t *after,
                                         size_t count, void *to, const void *from, size_t size,
                                         hipMemcpyKind kind) {
    return add_copy(made, graph, after, count,
                    (CopyWork){.to = to,
                               .from = from,
                               .width = size,
                               .height = 1,
                               .depth = 1,
                               .to_pitch = size,
                               .from_pitch = size,
                               .kind = kind});
}

hipError_t serve_hipGraphAddMemsetNode(hipGraphNode_t *made, hipGraph_t graph, const hipGraphNode_t *after,
                                       size_t count, const hipMemsetParams *params) {
    FillWork work;
    hipError_t error = check_place(made, graph, after, count);
    if (!error) error = set_fill(&work, params);
    if (error) return error;
    Node *node = node_new(hipGraphNodeTypeMemset);
    if (node) node->fill = work;
    return add(made, graph, after, count, node);
}

hipError_t serve_hipGraphAddHostNode(hipGraphNode_t *made, hipGraph_t graph, const hipGraphNode_t *after,
                                     size_t count, const hipHostNodeParams *params) {
    hipError_t error = check_place(made, graph, after, count);
    if (error || !params || !params->fn) return error ? error : hipErrorInvalidValue;
    Node *node = node_new(hipGraphNodeTypeHost);
    if (node) node->host = *params;
    return add(made, graph, after, count, node);
}

hipError_t serve_hipGraphAddDependencies(hipGraph_t graph, const hipGraphNode_t *from,
                                         const hipGraphNode_t *to, size_t count) {
    if (!object_is(graph, GRAPH) || (count && (!from || !to))) return hipErrorInvalidValue;
    for (size_t i = 0; i < count; i++) {
        bool right = object_is(from[i], NODE) && object_is(to[i], NODE) && from[i] != to[i] &&
                     from[i]->graph == graph && to[i]->graph == graph;
        if (!right) return hipErrorInvalidValue;
        if (!set_add(&to[i]->after, from[i])) return hipErrorOutOfMemory;
    }
    return hipSuccess;
}

/* --- questions and changes ------------------------------------------------------------------------------------------------ */

static hipError_t list(const Graph *graph, bool roots, hipGraphNode_t *nodes, size_t *count) {
    if (!object_is(graph, GRAPH) || !count) return hipErrorInvalidValue;
    size_t room = nodes ? *count : 0, n = 0;
    for (size_t i = 0; i < graph->nodes; i++) {
        if (roots && graph->node[i]->after.count) continue;
        if (n < room) nodes[n] = graph->node[i];
        n++;
    }
    for (size_t i = n; i < room; i++) nodes[i] = NULL;
    *count = nodes && n > room ? room : n;
    return hipSuccess;
}

hipError_t serve_hipGraphGetNodes(hipGraph_t graph, hipGraphNode_t *nodes, size_t *count) {
    return list(graph, false, nodes, count);
}
hipError_t serve_hipGraphGetRootNodes(hipGraph_t graph, hipGraphNode_t *nodes, size_t *count) {
    return list(graph, true, nodes, count);
}

hipError_t serve_hipGraphGetEdges(hipGraph_t graph, hipGraphNode_t *from, hipGraphNode_t *to, size_t *count) {
    if (!object_is(graph, GRAPH) || !count || !from != !to) return hipErrorInvalidValue;
    size_t room = from ? *count : 0, n = 0;
    for (size_t i = 0; i < graph->nodes; i++)
        for (size_t j = 0; j < graph->node[i]->after.count; j++, n++)
            if (n < room) from[n] = graph->node[i]->after.node[j], to[n] = graph->node[i];
    *count = from && n > room ? room : n;
    return hipSuccess;
}

hipError_t serve_hipGraphNodeGetType(hipGraphNode_t node, hipGraphNodeType *type) {
    if (!type || !object_is(node, NODE)) return hipErrorInvalidValue;
    *type = node->type;
    return hipSuccess;
}

static hipError_t is_node(const Node *node, hipGraphNodeType type) {
    return object_is(node, NODE) && node->type == type ? hipSuccess : hipErrorInvalidValue;
}

hipError_t serve_hipGraphKernelNodeGetParams(hipGraphNode_t node, hipKernelNodeParams *params) {
    if (!params || is_node(node, hipGraphNodeTypeKernel)) return hipErrorInvalidValue;
    const KernelWork *k = &node->kernel;
    *params = (hipKernelNodeParams){k->block, NULL, k->function, k->grid, NULL, k->dynamic_lds};
    return hipSuccess;
}

hipError_t serve_hipGraphKernelNodeSetParams(hipGraphNode_t node, const hipKernelNodeParams *params) {
    hipError_t error = is_node(node, hipGraphNodeTypeKernel);
    return error ? error : set_kernel(&node->kernel, params);
}

hipError_t serve_hipGraphMemsetNodeSetParams(hipGraphNode_t node, const hipMemsetParams *params) {
    hipError_t error = is_node(node, hipGraphNodeTypeMemset);
    return error ? error : set_fill(&node->fill, params);
}

hipError_t serve_hipGraphMemsetNodeGetParams(hipGraphNode_t node, hipMemsetParams *params) {
    if (!params || is_node(node, hipGraphNodeTypeMemset)) return hipErrorInvalidValue;
    const FillWork *f = &node->fill;
    *params = (hipMemsetParams){f->to, f->element, f->height, f->pitch, f->value, f->width};
    return hipSuccess;
}

static hipError_t set_copy(Node *node, void *to, const void *from, size_t size, hipMemcpyKind kind) {
    CopyWork work = {.to = to,
                     .from = from,
                     .width = size,
                     .height = 1,
                     .depth = 1,
                     .to_pitch = size,
                     .from_pitch = size,
                     .kind = kind};
    hipError_t error = copy_check(&work);
    if (!error) node->copy = work;
    return error;
}

hipError_t serve_hipGraphMemcpyNodeSetParams1D(hipGraphNode_t node, void *to, const void *from, size_t size,
                                               hipMemcpyKind kind) {
    hipError_t error = is_node(node, hipGraphNodeTypeMemcpy);
    return error ? error : set_copy(node, to, from, size, kind);
}

hipError_t serve_hipGraphNodeGetDependencies(hipGraphNode_t node, hipGraphNode_t *before, size_t *count) {
    if (!object_is(node, NODE) || !count) return hipErrorInvalidValue;
    for (size_t i = 0; before && i < *count; i++)
        before[i] = i < node->after.count ? node->after.node[i] : NULL;
    *count = before && *count < node->after.count ? *count : node->after.count;
    return hipSuccess;
}
