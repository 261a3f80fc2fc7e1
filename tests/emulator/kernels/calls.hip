__attribute__((noinline)) __attribute__((device)) u32 fibonacci(u32 n) {
  return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

KERNEL recursive(u32 *out, u32 n) {
  u32 i = gid();
  if (i < n) out[i] = fibonacci(i & 7);
}

__attribute__((noinline)) __attribute__((device)) void put(u32 *to, const u32 *from) { *to = *from; }

KERNEL copied(u32 *out, const u32 *in) { put(out + gid(), in + gid()); }

struct __attribute__((packed)) Packed {
  unsigned char tag;
  u32 word;
  unsigned short half;
  u64 wide;
};

KERNEL packed(const Packed *in, Packed *out, u32 n) {
  SHARED Packed rows[64];
  u32 i = gid();
  if (i < n) rows[tid()] = in[i];
  barrier();
  if (i >= n) return;
  Packed p = rows[tid()];
  p.word += p.tag;
  p.wide ^= p.half;
  out[i] = p;
}
