/* Names and texts of errors, and the last one. */
#include "call.h"
#include "exports.h"

EXPORT const char *hipGetErrorName(hipError_t error) {
    switch ((int)error) {
#define X(number, name, text) \
    case number: return #name;
        HIP_ERRORS(X)
#undef X
        default: return "hipErrorUnknown";
    }
}

EXPORT const char *hipGetErrorString(hipError_t error) {
    switch ((int)error) {
#define X(number, name, text) \
    case number: return text;
        HIP_ERRORS(X)
#undef X
        default: return "unknown error";
    }
}

static bool known(hipError_t error) {
    switch ((int)error) {
#define X(number, name, text) case number:
        HIP_ERRORS(X)
#undef X
        return true;
        default: return false;
    }
}

hipError_t serve_hipDrvGetErrorName(hipError_t error, const char **text) {
    if (!text || !known(error)) return hipErrorInvalidValue;
    *text = hipGetErrorName(error);
    return hipSuccess;
}

hipError_t serve_hipDrvGetErrorString(hipError_t error, const char **text) {
    if (!text || !known(error)) return hipErrorInvalidValue;
    *text = hipGetErrorString(error);
    return hipSuccess;
}

hipError_t serve_hipGetLastError(void) { return last_error(true); }
hipError_t serve_hipExtGetLastError(void) { return last_error(true); }
hipError_t serve_hipPeekAtLastError(void) { return last_error(false); }
