/* Memory bandwidth of the STREAM kind, written apart from edgeprune/profile/bandwidth.py to check it.
 *
 * Usage: stream ARRAY_BYTES THREADS REPEATS
 * Prints one JSON object: bytes per second, best and median over the repeats, of
 *   read:  sum of a              (one array)
 *   triad: a[i] = b[i] + s*c[i]  (three arrays, STREAM counting: the write-allocate of a is not counted)
 * Each thread owns one part of every array, and touches it first. Compile with
 *   cc -O3 -march=native -pthread stream.c -o stream
 */
#define _POSIX_C_SOURCE 200112L
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double *a, *b, *c;
static size_t count;
static int threads, repeats;
static pthread_barrier_t gate;
static double *read_s, *triad_s;
static volatile double sink;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double sum(const double *x, size_t n) {
    double part[16] = {0};
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++) part[j] += x[i + (size_t)j];
    double total = 0;
    for (; i < n; i++) total += x[i];
    for (int j = 0; j < 16; j++) total += part[j];
    return total;
}

static void triad(double *restrict x, const double *restrict y, const double *restrict z, double s, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = y[i] + s * z[i];
}

static void *work(void *argument) {
    size_t id = (size_t)argument;
    size_t first = count * id / (size_t)threads, last = count * (id + 1) / (size_t)threads, n = last - first;
    for (size_t i = first; i < last; i++) { a[i] = 1.0; b[i] = 2.0; c[i] = 0.5; }
    double total = 0;
    for (int r = -1; r < repeats; r++) { /* the first round warms up */
        pthread_barrier_wait(&gate);
        double start = now();
        total += sum(a + first, n);
        pthread_barrier_wait(&gate);
        if (id == 0 && r >= 0) read_s[r] = now() - start;
    }
    for (int r = -1; r < repeats; r++) {
        pthread_barrier_wait(&gate);
        double start = now();
        triad(a + first, b + first, c + first, 3.0, n);
        pthread_barrier_wait(&gate);
        if (id == 0 && r >= 0) triad_s[r] = now() - start;
    }
    sink = total;
    return NULL;
}

static int ascending(const void *x, const void *y) {
    double d = *(const double *)x - *(const double *)y;
    return (d > 0) - (d < 0);
}

int main(int argc, char **argv) {
    if (argc != 4) { fprintf(stderr, "usage: stream ARRAY_BYTES THREADS REPEATS\n"); return 2; }
    count = (size_t)strtoull(argv[1], NULL, 10) / sizeof(double);
    threads = atoi(argv[2]);
    repeats = atoi(argv[3]);
    size_t bytes = count * sizeof(double);
    if (count < 1 || threads < 1 || repeats < 1 || posix_memalign((void **)&a, 4096, bytes) ||
        posix_memalign((void **)&b, 4096, bytes) || posix_memalign((void **)&c, 4096, bytes)) return 2;
    read_s = calloc((size_t)repeats, sizeof(double));
    triad_s = calloc((size_t)repeats, sizeof(double));
    pthread_t *ids = calloc((size_t)threads, sizeof(pthread_t));
    if (!read_s || !triad_s || !ids) return 2;
    pthread_barrier_init(&gate, NULL, (unsigned)threads);
    for (size_t t = 0; t < (size_t)threads; t++) if (pthread_create(&ids[t], NULL, work, (void *)t)) return 2;
    for (int t = 0; t < threads; t++) pthread_join(ids[t], NULL);
    qsort(read_s, (size_t)repeats, sizeof(double), ascending);
    qsort(triad_s, (size_t)repeats, sizeof(double), ascending);
    double total = (double)bytes;
    printf("{\"read_best\": %.6e, \"read_median\": %.6e, \"triad_best\": %.6e, \"triad_median\": %.6e}\n",
           total / read_s[0], total / read_s[repeats / 2], 3 * total / triad_s[0], 3 * total / triad_s[repeats / 2]);
    return 0;
}
