// What depends on where the image and the arguments are placed.
KERNEL three_ints(const int *a, const int *b, int *out, int x, int y, int z) {
  u32 i = tid();
  out[i] = a[i] * x + b[i] * y + z;
}

#define FUNCTION extern "C" __attribute__((device, noinline))
FUNCTION int twice(int v) { return 2 * v; }
FUNCTION int square(int v) { return v * v; }
FUNCTION int negated(int v) { return -v; }
typedef int (*Function)(int);
extern "C" __attribute__((constant)) const Function functions[3] = {twice, square, negated};

KERNEL by_function(const u32 *pick, const int *in, int *out) {
  u32 i = tid();
  out[i] = functions[pick[i]](in[i]);
}

__attribute__((constant)) int primes[8] = {2, 3, 5, 7, 11, 13, 17, 19};
__attribute__((device)) int state[2] = {100, 1000};
extern "C" __attribute__((constant)) const int *const pointers[3] = {primes, primes + 3, state + 1};

KERNEL by_pointer(const u32 *pick, int *out) {
  u32 i = tid();
  out[i] = *pointers[pick[i]];
}
