/* A stand-in for the driver's libnvidia-ml.so.1, played from environment variables.
 *
 * STUB_INIT        return code of nvmlInit (9: driver not loaded)
 * STUB_COUNT       boards (default 1)
 * STUB_SAMPLES     utilisation of the samples that appear 10 ms apart from the first question on, "40,60"
 * STUB_RATE        present utilisation in percent, for drivers without samples
 * STUB_POWER       milliwatts; the energy counter grows with them in steps of 100 ms
 * STUB_PROCESSES   "self:1000,77:2000" pid and bytes; bytes of -1: not available
 * STUB_MIG         1: partitioned; "MIG-<n>" is a partition of board n, with 1 GiB in use
 * STUB_MIXED       1: every board is of another make
 * STUB_VALUES      "double": samples of another type
 * STUB_THROTTLE    bits
 * STUB_FAIL        names of functions that answer STUB_CODE (default 3: not supported), between commas
 * STUB_LOST_AFTER  questions for memory before the board is lost
 * Compiled with -DOLD it lacks what drivers before 510 lack.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned gpu, memory; } rates_t;
typedef struct { unsigned pid; unsigned long long bytes; unsigned gi, ci; } process_t;
typedef struct { unsigned long long stamp; union { double d; unsigned ui; unsigned long long ull; } value; } sample_t;

static long number(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

static unsigned long long now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000ULL + t.tv_nsec / 1000;
}

static int failing(const char *name) {
    const char *text = getenv("STUB_FAIL");
    return text && strstr(text, name) ? (int)number("STUB_CODE", 3) : 0;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return (int)number("STUB_INIT", 0); }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = (unsigned)number("STUB_COUNT", 1); return failing("Count"); }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    *device = (void *)(size_t)(index + 1);
    return 0;
}

int nvmlDeviceGetName(void *device, char *name, unsigned length) {
    snprintf(name, length, number("STUB_MIXED", 0) ? "Stub Board %c" : "Stub Board", 'A' + (int)(size_t)device - 1);
    return failing("Name");
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned length) {
    snprintf(uuid, length, "GPU-%08x", (unsigned)(size_t)device);
    return 0;
}

int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    static long asked = 0;
    if (++asked > number("STUB_LOST_AFTER", 1000000)) return 15;
    memory->total = 8ULL << 30;
    memory->used = ((size_t)device >= 100 ? 1ULL : 3ULL) << 30;
    memory->free = 5ULL << 30;
    return failing("Memory");
}

static int processes(unsigned *count, process_t *found) {
    static char text[1000];
    unsigned n = 0;
    snprintf(text, sizeof text, "%s", getenv("STUB_PROCESSES") ? getenv("STUB_PROCESSES") : "");
    for (char *part = strtok(text, ","); part; part = strtok(NULL, ",")) {
        if (found && n < *count) {
            char *bytes = strchr(part, ':') + 1;
            found[n].pid = strncmp(part, "self", 4) ? (unsigned)atol(part) : (unsigned)getpid();
            found[n].bytes = (unsigned long long)atoll(bytes);
        }
        n++;
    }
    int small = !found && n > 0;
    *count = n;
    return small ? 7 : 0;
}

int nvmlDeviceGetComputeRunningProcesses_v2(void *device, unsigned *count, process_t *found) {
    (void)device;
    return failing("Processes") ? failing("Processes") : processes(count, found);
}

int nvmlDeviceGetUtilizationRates(void *device, rates_t *rates) {
    (void)device;
    rates->gpu = (unsigned)number("STUB_RATE", 0);
    rates->memory = 0;
    return failing("Rates");
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
    (void)device;
    *milliwatts = (unsigned)number("STUB_POWER", 100000);
    return failing("Power");
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons) {
    (void)device;
    *reasons = (unsigned long long)number("STUB_THROTTLE", 0);
    return failing("Throttle");
}

#ifndef OLD
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process_t *found) {
    return nvmlDeviceGetComputeRunningProcesses_v2(device, count, found);
}

int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *reasons) {
    return nvmlDeviceGetCurrentClocksThrottleReasons(device, reasons);
}

int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
    (void)device;
    *current = *pending = (unsigned)number("STUB_MIG", 0);
    return failing("Mig");
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    if (strncmp(uuid, "MIG-", 4)) return 6;
    *device = (void *)(size_t)(101 + atol(uuid + 4));
    return 0;
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *partition, void **device) {
    *device = (void *)((size_t)partition - 100);
    return 0;
}

int nvmlDeviceGetIndex(void *device, unsigned *index) {
    *index = (unsigned)(size_t)device - 1;
    return 0;
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
    (void)device;
    *millijoules = 5000000 + now_us() / 100000 * (unsigned long long)number("STUB_POWER", 100000) / 10;
    return failing("Energy");
}

int nvmlDeviceGetSamples(void *device, int type, unsigned long long after, int *value_type, unsigned *count,
                         sample_t *samples) {
    static unsigned long long first = 0;
    unsigned long long now = now_us();
    unsigned n = 0;
    char text[1000];
    (void)device;
    (void)type;
    if (failing("Samples")) return failing("Samples");
    if (!first) first = now;
    int is_double = getenv("STUB_VALUES") && !strcmp(getenv("STUB_VALUES"), "double");
    *value_type = is_double ? 0 : 1;
    snprintf(text, sizeof text, "%s", getenv("STUB_SAMPLES") ? getenv("STUB_SAMPLES") : "");
    unsigned long long stamp = first;
    for (char *part = strtok(text, ","); part; part = strtok(NULL, ",")) {
        stamp += 10000;
        if (stamp <= after || stamp > now) continue;
        if (samples && n < *count) {
            samples[n].stamp = stamp;
            if (is_double) samples[n].value.d = atof(part);
            else samples[n].value.ui = (unsigned)atol(part);
        }
        n++;
    }
    *count = n;
    return n ? 0 : 6;
}
#endif
