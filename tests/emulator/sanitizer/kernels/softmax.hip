// Softmax of rows of 256, with exponentials and a division. Across lanes by DPP, across waves through LDS.
template <int control> DEVICE float moved(float x) {
  const int bits = __builtin_bit_cast(int, x);
  return __builtin_bit_cast(float, __builtin_amdgcn_update_dpp(bits, bits, control, 15, 15, false));
}
template <bool maximum> DEVICE float both(float x, float y) { return maximum ? __builtin_fmaxf(x, y) : x + y; }
SHARED static float part[4];
template <bool maximum> DEVICE float over_workgroup(float x) {
  x = both<maximum>(x, moved<0x128>(x));  // row_ror:8, 4, 2 and 1: the 16 lanes of a row have the same
  x = both<maximum>(x, moved<0x124>(x));
  x = both<maximum>(x, moved<0x122>(x));
  x = both<maximum>(x, moved<0x121>(x));
  const int bits = __builtin_bit_cast(int, x);
  for (int row = 0; row < 64; row += 16) {
    const float other = __builtin_bit_cast(float, __builtin_amdgcn_readlane(bits, row));
    x = row ? both<maximum>(x, other) : other;
  }
  if (lane() == 0) part[tid() / 64] = x;
  barrier();
  const float result = both<maximum>(both<maximum>(part[0], part[1]), both<maximum>(part[2], part[3]));
  barrier();
  return result;
}
KERNEL softmax(const float *in, float *out, u32 rows) {
  for (u32 row = 0; row < rows; ++row) {
    const u32 i = row * 256 + tid();
    const float x = in[i];
    const float e = __builtin_amdgcn_exp2f((x - over_workgroup<true>(x)) * 1.44269504f);
    out[i] = e / over_workgroup<false>(e);
  }
}
