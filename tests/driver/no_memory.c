/* A HIP program whose realloc fails while it is told to: an allocation happens of which the emulator's process cannot
   be told. A launch must not go on as if nothing had been missed; after hipDeviceReset everything works again. */
#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

int hipMalloc(void **, size_t);
int hipModuleLoad(void **, const char *);
int hipModuleGetFunction(void **, void *, const char *);
int hipModuleLaunchKernel(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *,
                          void **, void **);
int hipDeviceReset(void);

static bool failing;

void *realloc(void *old, size_t size) {
    static void *(*real)(void *, size_t);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "realloc");
    return failing ? NULL : real(old, size);
}

static int add(const char *file, bool fail) {
    void *module, *function, *first, *second;
    int one = 1;
    unsigned count = 64;
    if (hipMalloc(&first, 256) || hipModuleLoad(&module, file) || hipModuleGetFunction(&function, module, "add"))
        return -1;
    failing = fail;
    int error = hipMalloc(&second, 256);
    failing = false;
    if (error) return -2;
    void *arguments[] = {&second, &one, &count};
    return hipModuleLaunchKernel(function, 1, 1, 1, 64, 1, 1, 0, NULL, arguments, NULL);
}

int main(int count, char **argument) {
    if (count < 2) return 1;
    int lost = add(argument[1], true), reset = hipDeviceReset(), again = add(argument[1], false);
    printf("%d %d %d\n", lost, reset, again);
    return 0;
}
