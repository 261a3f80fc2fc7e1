/* Around every call: exports.c, which is generated from functions.table, uses this. */
#ifndef PETITGEN_CALL_H
#define PETITGEN_CALL_H

#include "virtual.h"

enum {
    CALL_UNSAFE = 1,  /* not while a stream of this process is captured in global mode */
    CALL_DEVICE = 2,  /* touches the device: returns its error if a kernel has failed */
    CALL_CLEANUP = 4, /* gives something back: does so even when it is made to fail */
    CALL_QUIET = 8    /* about errors: leaves the last error alone and is never made to fail */
};
typedef struct {
    const char *name;
    unsigned flags;
} CallInfo;
typedef struct {
    hipError_t error;
    bool stop;
} CallState;

extern const CallInfo call_table[];
extern const int call_count;
CallState call_begin(int call);
hipError_t call_end(int call, CallState state, hipError_t error);
hipError_t call_unserved(const char *name);
hipError_t last_error(bool clear);

#endif
