/* Modules: code objects that the worker has loaded, and what it says is in them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "call.h"
#include "exports.h"

/* --- how long is an image? hipModuleLoadData is not told --------------------------------------------------------- */

typedef struct {
    const unsigned char *start;
    uint64_t room; /* bytes that there are at most */
} Image;

static uint64_t u64(const unsigned char *at) {
    uint64_t value;
    memcpy(&value, at, 8);
    return value;
}
static uint64_t u16(const unsigned char *at) { return (uint64_t)at[0] | (uint64_t)at[1] << 8; }
static uint64_t most(uint64_t a, uint64_t b) { return a > b ? a : b; }

static bool within(Image image, uint64_t at, uint64_t size) {
    return at <= image.room && size <= image.room - at;
}

/* Bytes of the image, if they are there: an offset in a damaged one may point anywhere. */
static bool take(Image image, uint64_t at, void *to, size_t size) {
    return within(image, at, size) && host_copy(to, image.start + at, size);
}

/* The end so far, or that of a part if it is later; 0 if the part is not within the image. */
static uint64_t later(Image image, uint64_t end, uint64_t at, uint64_t size) {
    return end && within(image, at, size) ? most(end, at + size) : 0;
}

/* source: System V ABI, ELF-64 header: e_phoff, e_shoff, e_phentsize, e_phnum, e_shentsize, e_shnum. */
static uint64_t elf_bytes(Image image) {
    unsigned char elf[64], row[64];
    if (!take(image, 0, elf, sizeof elf)) return 0;
    uint64_t programs = u64(elf + 32), sections = u64(elf + 40), program_size = u16(elf + 54),
             program_count = u16(elf + 56);
    uint64_t section_size = u16(elf + 58), section_count = u16(elf + 60);
    if (program_size < 56 || (section_count && section_size < 64)) return 0;
    uint64_t end = later(image, sizeof elf, programs, program_size * program_count);
    end = later(image, end, sections, section_size * section_count);
    for (uint64_t i = 0; end && i < program_count; i++)
        end = take(image, programs + i * program_size, row, 56) ? later(image, end, u64(row + 8), u64(row + 32))
                                                                : 0;
    for (uint64_t i = 0; end && i < section_count; i++) {
        if (!take(image, sections + i * section_size, row, 64)) return 0;
        if (row[4] != 8) /* SHT_NOBITS takes no room in the file */
            end = later(image, end, u64(row + 24), u64(row + 32));
    }
    return end;
}

/* source: clang, "Clang Offload Bundler", bundled code object layout. */
static uint64_t bundle_bytes(Image image) {
    unsigned char head[32], row[24];
    if (!take(image, 0, head, sizeof head) || u64(head + 24) > 64) return 0;
    uint64_t entries = u64(head + 24), at = sizeof head, end = at;
    for (uint64_t i = 0; end && i < entries; i++) {
        if (!take(image, at, row, sizeof row)) return 0;
        at += sizeof row;
        end = later(image, end, u64(row), u64(row + 8));
        end = later(image, end, at, u64(row + 16)); /* the entry's name */
        at += u64(row + 16);
    }
    return end;
}

/* 0 for what is none, is damaged, or does not fit. */
static uint64_t image_bytes(Image image) {
    unsigned char magic[24];
    if (!take(image, 0, magic, sizeof magic)) return 0;
    if (!memcmp(magic, "\177ELF\2\1", 6)) return elf_bytes(image);
    return memcmp(magic, "__CLANG_OFFLOAD_BUNDLE__", 24) ? 0 : bundle_bytes(image);
}

/* A copy of the image, or NULL and why. Only a copy is known to be there to the last byte. */
static void *image_copy(Image image, uint64_t *size, hipError_t *error) {
    *size = image_bytes(image);
    void *copy = *size ? malloc(*size) : NULL;
    *error = *size && !copy ? hipErrorOutOfMemory : hipSuccess;
    if (copy && host_copy(copy, image.start, *size)) return copy;
    free(copy);
    if (*error) return NULL;
    tell("a module's image is neither an ELF code object nor an offload bundle, or is damaged");
    *error = hipErrorInvalidImage;
    return NULL;
}

/* --- what the worker says: one line a thing, as petitgen/driver/protocol.py states ------------------------------- */

/* A new last function of the module, or NULL. */
static Function *new_function(Module *module, const char *name) {
    Function *f = calloc(1, sizeof *f),
             **grown = realloc(module->function, (module->functions + 1) * sizeof *grown);
    if (grown) module->function = grown;
    if (!f || !grown || !(f->name = strdup(name)) || !object_add(f, FUNCTION)) {
        if (f) free(f->name);
        free(f);
        return NULL;
    }
    f->module = module, f->index = module->functions;
    return module->function[module->functions++] = f;
}

static bool add_function(Module *module, char *line) {
    char *next = NULL, *name = strtok_r(line, " ", &next);
    Function *f = name ? new_function(module, name) : NULL;
    if (!f) return false;
    uint32_t *fields[] = {&f->kernarg_bytes, &f->max_threads, &f->vgprs,    &f->sgprs,
                          &f->lds,           &f->scratch,     &f->arguments};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        *fields[i] = (uint32_t)strtoul(next, &next, 10);
    f->argument = calloc(f->arguments + 1, sizeof *f->argument);
    for (uint32_t i = 0; f->argument && i < f->arguments; i++) {
        f->argument[i].offset = (uint32_t)strtoul(next, &next, 10);
        f->argument[i].size = (uint32_t)strtoul(next, &next, 10);
        f->explicit_bytes = (uint32_t)most(f->explicit_bytes, f->argument[i].offset + f->argument[i].size);
    }
    return f->argument;
}

static bool add_variable(Module *module, char *line) {
    Variable *grown = realloc(module->variable, (module->variables + 1) * sizeof *grown);
    char *next = NULL, *name = strtok_r(line, " ", &next);
    if (grown) module->variable = grown;
    if (!grown || !name || !(name = strdup(name))) return false;
    uint64_t address = strtoull(next, &next, 10), size = strtoull(next, &next, 10);
    module->variable[module->variables++] = (Variable){name, address, size};
    return true;
}

static bool read_description(Module *module, char *text) {
    bool right = true;
    char *next = NULL;
    for (char *line = strtok_r(text, "\n", &next); line && right; line = strtok_r(NULL, "\n", &next)) {
        if (!strncmp(line, "kernel ", 7))
            right = add_function(module, line + 7);
        else if (!strncmp(line, "variable ", 9))
            right = add_variable(module, line + 9);
        else if (!strncmp(line, "image ", 6)) {
            char *end;
            module->image = strtoull(line + 6, &end, 10), module->image_bytes = strtoull(end, NULL, 10);
            arena_note_image(module->image, module->image_bytes, module->device);
        }
    }
    return right;
}

/* --- load and unload ---------------------------------------------------------------------------------------------- */

static hipError_t load_into(Module *module, const void *image, size_t size) {
    char *description = NULL;
    hipError_t error =
        config()->noop ? hipSuccess : worker_load(module->device, module->id, image, size, &description);
    if (!error && description && !read_description(module, description)) error = hipErrorOutOfMemory;
    free(description);
    return error;
}

hipError_t module_from_image(const void *start, size_t room, Module **made) {
    static uint64_t last_id;
    uint64_t size;
    hipError_t error;
    void *image = image_copy((Image){start, room}, &size, &error);
    if (error) return error;
    Module *module = calloc(1, sizeof *module);
    if (!module || !object_add(module, MODULE)) {
        free(module), free(image);
        return hipErrorOutOfMemory;
    }
    lock();
    module->id = ++last_id, module->device = current_device;
    unlock();
    forked_state_matters();
    error = load_into(module, image, size);
    free(image);
    if (error)
        object_remove(module, MODULE), module_destroy(module);
    else
        *made = module;
    return error;
}

void module_destroy(Module *module) {
    for (uint32_t i = 0; i < module->functions; i++) {
        object_remove(module->function[i], FUNCTION);
        free(module->function[i]->argument), free(module->function[i]->name), free(module->function[i]);
    }
    for (uint32_t i = 0; i < module->variables; i++) free(module->variable[i].name);
    if (module->image) arena_forget_image(module->image);
    if (!config()->noop) worker_unload(module->id);
    free(module->function), free(module->variable), free(module);
}

hipError_t serve_hipModuleLoadData(hipModule_t *module, const void *image) {
    return module && image ? module_from_image(image, LARGEST_IMAGE, module) : hipErrorInvalidValue;
}

hipError_t serve_hipModuleLoadDataEx(hipModule_t *module, const void *image, unsigned options, int *names,
                                     void **values) {
    (void)options, (void)names, (void)values; /* about compiling, which is done */
    return serve_hipModuleLoadData(module, image);
}

hipError_t serve_hipModuleLoad(hipModule_t *module, const char *path) {
    if (!module || !path) return hipErrorInvalidValue;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (file < 0 || fstat(file, &status)) {
        if (file >= 0) close(file);
        tell("hipModuleLoad: %s: %s", path, strerror(errno));
        return hipErrorFileNotFound;
    }
    size_t size = (size_t)status.st_size, got = 0;
    unsigned char *image = status.st_size <= LARGEST_IMAGE ? malloc(size + 1) : NULL;
    for (ssize_t n = 1; image && got < size && n > 0; got += n > 0 ? (size_t)n : 0)
        n = read(file, image + got, size - got);
    close(file);
    if (!image) return hipErrorOutOfMemory;
    hipError_t error = hipErrorInvalidImage;
    if (image_bytes((Image){image, got}))
        error = module_from_image(image, got, module);
    else
        tell("hipModuleLoad: %s: not a code object, or cut off or damaged", path);
    free(image);
    return error;
}

hipError_t serve_hipModuleUnload(hipModule_t module) {
    if (!object_remove(module, MODULE)) return hipErrorInvalidHandle;
    module_destroy(module);
    return hipSuccess;
}

/* --- what is in it -------------------------------------------------------------------------------------------------- */

/* Without a worker nobody knows the kernels: every name is one. */
static Function *noop_function(Module *module, const char *name) {
    Function *f = new_function(module, name);
    if (f) f->max_threads = 1024;
    return f;
}

hipError_t serve_hipModuleGetFunction(hipFunction_t *function, hipModule_t module, const char *name) {
    if (!function || !name || !*name) return hipErrorInvalidValue;
    if (!object_is(module, MODULE)) return hipErrorInvalidHandle;
    lock();
    *function = NULL;
    for (uint32_t i = 0; i < module->functions; i++)
        if (!strcmp(module->function[i]->name, name)) *function = module->function[i];
    if (!*function && config()->noop) *function = noop_function(module, name);
    unlock();
    if (!*function)
        tell("hipModuleGetFunction: no kernel '%s' in the module (it has %u)", name, module->functions);
    return *function ? hipSuccess : hipErrorNotFound;
}

hipError_t serve_hipModuleGetFunctionCount(unsigned *count, hipModule_t module) {
    if (!count) return hipErrorInvalidValue;
    if (!object_is(module, MODULE)) return hipErrorInvalidHandle;
    *count = module->functions;
    return hipSuccess;
}

hipError_t serve_hipModuleGetGlobal(hipDeviceptr_t *address, size_t *size, hipModule_t module,
                                    const char *name) {
    if (!name || (!address && !size)) return hipErrorInvalidValue;
    if (!object_is(module, MODULE)) return hipErrorInvalidHandle;
    for (uint32_t i = 0; i < module->variables; i++)
        if (!strcmp(module->variable[i].name, name)) {
            if (address) *address = (void *)module->variable[i].address;
            if (size) *size = module->variable[i].size;
            return hipSuccess;
        }
    return hipErrorNotFound;
}

hipError_t serve_hipFuncGetAttribute(int *value, int attribute, hipFunction_t function) {
    if (!value) return hipErrorInvalidValue;
    if (!object_is(function, FUNCTION)) return hipErrorInvalidDeviceFunction;
    int version = config()->model[function->module->device]->compute_units == 304 ? 94 : 90;
    const int values[] = {(int)function->max_threads,
                          (int)function->lds,
                          0,
                          (int)function->scratch,
                          (int)function->vgprs,
                          version,
                          version,
                          0,
                          65536 - (int)function->lds,
                          0};
    if (attribute < 0 || (size_t)attribute >= sizeof values / sizeof *values) return hipErrorInvalidValue;
    *value = values[attribute];
    return hipSuccess;
}

hipError_t serve_hipFuncSetAttribute(const void *function, int attribute, int value) {
    (void)value; /* all LDS there is may be asked for at any launch */
    hipFunction_t found;
    if (attribute < 8 || attribute > 9) return hipErrorInvalidValue;
    return any_function(function, &found);
}

hipError_t serve_hipFuncSetCacheConfig(const void *function, int setting) {
    return serve_hipFuncSetAttribute(function, 9, setting);
}
hipError_t serve_hipFuncSetSharedMemConfig(const void *function, int setting) {
    return serve_hipFuncSetAttribute(function, 9, setting);
}

hipError_t serve_hipFuncGetAttributes(hipFuncAttributes *attributes, const void *function) {
    hipFunction_t f;
    if (!attributes) return hipErrorInvalidValue;
    hipError_t error = any_function(function, &f);
    if (error) return error;
    *attributes = (hipFuncAttributes){.localSizeBytes = f->scratch,
                                      .sharedSizeBytes = f->lds,
                                      .maxThreadsPerBlock = (int)f->max_threads,
                                      .numRegs = (int)f->vgprs,
                                      .maxDynamicSharedSizeBytes = 65536 - (int)f->lds};
    serve_hipFuncGetAttribute(&attributes->binaryVersion, 6, f);
    attributes->ptxVersion = attributes->binaryVersion;
    return hipSuccess;
}
