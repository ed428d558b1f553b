/* The memory bandwidth of OMP_NUM_THREADS threads in GB/s: the triad of McCalpin's STREAM, best of ten sweeps
   over three arrays of 256 MiB each. Counts 24 bytes an entry, as STREAM does: not the line that a store reads first.

       cc -O3 -march=native -fopenmp bandwidth.c -o bandwidth && OMP_NUM_THREADS=2 ./bandwidth */

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    const long n = 1L << 25;
    double *a = malloc(n * sizeof *a), *b = malloc(n * sizeof *b), *c = malloc(n * sizeof *c);
    if (!a || !b || !c) return 1;
    /* Each thread touches first what it will use. */
#pragma omp parallel for schedule(static)
    for (long i = 0; i < n; i++) { a[i] = 0.0; b[i] = 1.0; c[i] = 2.0; }
    double best = 1e30;
    for (int sweep = 0; sweep < 10; sweep++) {
        const double began = omp_get_wtime(), factor = 0.5 + sweep;
#pragma omp parallel for schedule(static)
        for (long i = 0; i < n; i++) a[i] = b[i] + factor * c[i];
        const double seconds = omp_get_wtime() - began;
        if (seconds < best) best = seconds;
    }
    /* Reading the result keeps the compiler from leaving the loop out. */
    if (a[n / 2] != 1.0 + 2.0 * 9.5) return 2;
    printf("%.1f\n", 24e-9 * n / best);
    return 0;
}
