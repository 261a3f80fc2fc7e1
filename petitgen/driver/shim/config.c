/* The environment, and the models of device it can name. */
#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "virtual.h"

/* source: AMD Instinct MI300X data sheet (304 CUs in 8 XCDs, 2100 MHz, 8192-bit HBM3 at 2.6 GHz DDR, 4 MB L2 an XCD);
   AMD Instinct MI250X data sheet, one of the two GCDs (110 CUs, 1700 MHz, 4096-bit HBM2e at 1.6 GHz, 8 MB L2). */
static const Model models[] = {
    {"gfx942", "gfx942:sramecc+:xnack-", "Virtual MI300X (petitgen emulator)", 304, 8, 2100000, 1300000, 8192,
     4 << 20},
    {"gfx90a", "gfx90a:sramecc+:xnack-", "Virtual MI250X (petitgen emulator)", 110, 1, 1700000, 1600000, 4096,
     8 << 20},
};

static Config settings;
static char wrong[256];

static const Model *model_named(const char *name, size_t length) {
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (strlen(models[i].arch) == length && !strncmp(models[i].arch, name, length)) return &models[i];
    return NULL;
}

static void read_devices(const char *text) {
    while (*text) {
        size_t length = strcspn(text, ",");
        const Model *model = model_named(text, length);
        if (!model || settings.devices == MAX_DEVICES) {
            snprintf(wrong, sizeof wrong,
                     "PETITGEN_VIRTUAL_DEVICES: '%.*s': up to %d of gfx942 and gfx90a, with commas between",
                     (int)length, text, MAX_DEVICES);
            settings.wrong = wrong;
            return;
        }
        settings.model[settings.devices++] = model;
        text += length + (text[length] == ',');
    }
}

static size_t read_size(const char *text) {
    char *end;
    double number = strtod(text, &end);
    const char *units = "KMGT", *unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
    if (end == text || !(number > 0) || (*end && (!unit || end[1])) || number * 1024 > (double)(1ull << 56)) {
        snprintf(wrong, sizeof wrong,
                 "PETITGEN_VIRTUAL_MEMORY: '%s': bytes of each device, with K, M, G or T", text);
        settings.wrong = wrong;
        return 0;
    }
    for (int times = unit ? (int)(unit - units) + 1 : 0; times; times--) number *= 1024;
    if (number > (double)(4ull << 40)) number = (double)(4ull << 40);
    return (size_t)number;
}

/* The worker reads the number itself; here it is only looked at, so that the first call says what is wrong. */
static void check_limit(const char *text) {
    size_t digits = strspn(text, "0123456789");
    if (!text[digits] && digits <= 18 && strtoull(text, NULL, 10) > 0) return;
    snprintf(wrong, sizeof wrong, "PETITGEN_VIRTUAL_LIMIT: '%s': most wave-instructions of a launch, 1 or more", text);
    settings.wrong = wrong;
}

static bool truth(const char *name) {
    const char *value = getenv(name);
    return value && *value && strcmp(value, "0");
}

static void read_environment(void) {
    const char *devices = getenv("PETITGEN_VIRTUAL_DEVICES"), *memory = getenv("PETITGEN_VIRTUAL_MEMORY"),
               *limit = getenv("PETITGEN_VIRTUAL_LIMIT");
    read_devices(devices ? devices : "gfx942");
    settings.memory = read_size(memory && *memory ? memory : "16G");
    if (limit && *limit) check_limit(limit);
    settings.noop = truth("PETITGEN_VIRTUAL_NOOP");
}

const Config *config(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, read_environment);
    return &settings;
}
