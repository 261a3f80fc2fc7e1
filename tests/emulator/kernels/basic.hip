KERNEL saxpy(const float *x, float *y, float a, u32 n) {
  u32 i = gid();
  if (i < n) y[i] = a * x[i] + y[i];
}

KERNEL ids(u32 *out, u32 width, u32 height) {
  u32 x = __builtin_amdgcn_workgroup_id_x() * 4 + __builtin_amdgcn_workitem_id_x();
  u32 y = __builtin_amdgcn_workgroup_id_y() * 3 + __builtin_amdgcn_workitem_id_y();
  u32 z = __builtin_amdgcn_workgroup_id_z() * 2 + __builtin_amdgcn_workitem_id_z();
  out[(z * height + y) * width + x] = x | y << 8 | z << 16;
}

KERNEL implicit(u32 *out) {
  if (gid() == 0) {
    auto *p = (__attribute__((address_space(4))) u32 *)__builtin_amdgcn_implicitarg_ptr();
    auto *q = (__attribute__((address_space(4))) u32 *)__builtin_amdgcn_dispatch_ptr();
    for (int i = 0; i < 6; i++) out[i] = p[i];
    for (int i = 0; i < 6; i++) out[6 + i] = q[i];
  }
}

KERNEL bytes(const unsigned char *b, const signed char *sb, const unsigned short *h, const short *sh, int *out,
             unsigned char *bo, unsigned short *ho, u32 n) {
  u32 i = gid();
  if (i >= n) return;
  out[i] = b[i] + 3 * sb[i] + 5 * h[i] + 7 * sh[i];
  bo[n - 1 - i] = b[i] ^ 0x55;
  ho[n - 1 - i] = h[i] + sh[i];
}

struct Pair { int a; double b; };
KERNEL by_value(Pair p, char c, double *out) { out[tid()] = p.a + p.b * c; }

__attribute__((constant)) int table[16] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3};
__attribute__((device)) int counter = 40;

KERNEL rodata(const u32 *in, int *out) {
  u32 i = gid();
  int v = table[in[i] & 15];
  switch (in[i] % 11) {
    case 0: v += 17; break;
    case 1: v *= 23; break;
    case 2: v ^= 0x1234; break;
    case 3: v -= 99; break;
    case 4: v = v * v; break;
    case 5: v = ~v; break;
    case 6: v <<= 5; break;
    case 7: v = -v; break;
    case 8: v |= 0x8000; break;
    default: v = 7;
  }
  out[i] = v;
}

KERNEL bump(int *out) {
  if (gid() == 0) { counter += 2; out[0] = counter; }
}

KERNEL collatz(const u32 *in, u32 *steps, u32 n) {
  u32 i = gid();
  if (i >= n) return;
  u64 v = in[i];
  u32 count = 0;
  while (v != 1) {
    if (v & 1) v = 3 * v + 1; else v >>= 1;
    count++;
  }
  steps[i] = count;
}

KERNEL nested(const int *in, int *out, u32 n) {
  u32 i = gid();
  if (i >= n) return;
  int acc = 0;
  for (int a = 0; a < in[i]; a++) {
    if (a % 3 == 1) continue;
    for (int b = a; b > 0; b -= 2) {
      if ((a * b) % 7 == 5) break;
      acc += a ^ b;
    }
    if (acc > 1000) { acc = -acc; break; }
  }
  out[i] = acc;
}
