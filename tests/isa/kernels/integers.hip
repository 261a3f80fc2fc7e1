// 64-bit integers, division, bit operations, switch (scalar control flow), loops over lanes that diverge.
#define KERNEL extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(1, 256))) void
typedef unsigned long long u64;
KERNEL wide(u64 *out, const u64 *in, long long *other, int n) {
  int i = __builtin_amdgcn_workgroup_id_x() * 256 + __builtin_amdgcn_workitem_id_x();
  u64 a = in[i], b = in[i + n];
  u64 r = a * b + (a << (b & 63)) - (b >> 3);
  r ^= __builtin_popcountll(a) + __builtin_clzll(b | 1) + __builtin_ctzll(a | 2);
  other[i] = (long long)a / ((long long)b | 1) + (r % (b | 1) > a ? other[i] : -other[i + n]);
  out[i] = r;
}
KERNEL choose(int *out, const int *in, int mode, int n) {
  int i = __builtin_amdgcn_workitem_id_x(), v = in[i], steps = 0;
  switch (mode) {
    case 0: v = v * 3 + 1; break;
    case 1: v = v / 7; break;
    case 2: v = __builtin_bitreverse32(v); break;
    case 5: v = v % (mode + n); break;
    default: v = -v;
  }
  while (v > 1 && steps < n) v = v & 1 ? 3 * v + 1 : v >> 1, ++steps;
  out[i] = steps;
}
